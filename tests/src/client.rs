//! An HTTP client.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::contract::order::Order;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::SOON;

/// A small HTTP client with persistent connections and default headers.
#[derive(Clone, Debug)]
pub struct Client(HyperClient<HttpConnector, Full<Bytes>>, HeaderMap);

impl Default for Client {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(HyperClient::builder(TokioExecutor::new()).build(connector), HeaderMap::new())
    }
}

impl Client {
    /// A client that sends this header with each request.
    pub fn with_header(name: HeaderName, value: &str) -> Self {
        let mut client = Self::default();
        client.1.insert(name, value.parse().expect("it is plain"));
        client
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// There was no complete answer within [`SOON`].
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
        request.headers_mut().extend(self.1.clone());
        let whole = async {
            let answer = self.0.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(SOON, whole).await.map_err(|_| "no answer".to_owned())?
    }

    /// `GET`.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn get(&self, url: &str) -> Result<Answer, String> {
        self.send(request(Method::GET, url, &[], Bytes::new())).await
    }

    /// `POST` of JSON.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn post(
        &self,
        url: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let mut all = vec![(header::CONTENT_TYPE.as_str(), "application/json")];
        all.extend(headers);
        self.send(request(Method::POST, url, &all, body.to_string())).await
    }
}

/// Places an order at any of the gateways and repeats it with its key until it is accepted.
///
/// # Panics
///
/// The order was not accepted in time, or permanently refused.
pub async fn place_until_accepted(
    client: &Client,
    gateways: &[String],
    key: &str,
    body: &Value,
    within: Duration,
) -> Order {
    let ask = Ask { method: Method::POST, path: "/order", key, body: Some(body) };
    let answer = ask.until_answered(client, gateways, within).await;
    assert_eq!(answer.status, StatusCode::OK, "{key}: {}", answer.text());
    answer.parse()
}

/// A request with an `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'a str,
    /// The key.
    pub key: &'a str,
    /// The body, if there is one.
    pub body: Option<&'a Value>,
}

impl Ask<'_> {
    /// Sends the request once.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn once(&self, client: &Client, gateway: &str) -> Result<Answer, String> {
        let mut headers = vec![("Idempotency-Key", self.key)];
        headers.extend(self.body.map(|_| ("Content-Type", "application/json")));
        let body = self.body.map_or_else(Bytes::new, |body| body.to_string().into());
        let url = format!("{gateway}{}", self.path);
        client.send(request(self.method.clone(), &url, &headers, body)).await
    }

    /// Sends the request to any of the gateways and repeats it until the answer is not temporary.
    ///
    /// # Panics
    ///
    /// There was no such answer in time.
    pub async fn until_answered(
        &self,
        client: &Client,
        gateways: &[String],
        within: Duration,
    ) -> Answer {
        let deadline = Instant::now() + within;
        let Self { key, path, .. } = self;
        for gateway in gateways.iter().cycle() {
            let failure = match self.once(client, gateway).await {
                Ok(answer) if !answer.status.is_server_error() => return answer,
                Ok(answer) => match answer.status {
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => answer.text(),
                    status => panic!("{path} {key}: {status}: {}", answer.text()),
                },
                Err(failure) => failure,
            };
            assert!(Instant::now() < deadline, "{path} {key} was never answered: {failure}");
            // The pauses differ, so that refused clients do not return together.
            let pause = u64::from(key.bytes().fold(7, |sum: u8, byte| sum.wrapping_mul(31) ^ byte));
            tokio::time::sleep(Duration::from_millis(1 + pause % 20)).await;
        }
        panic!("there is no gateway")
    }
}

/// A request with these headers and this body.
pub fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let uri: Uri = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).expect("a request")
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The value of a header, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("plain text"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        self.parse()
    }

    /// The answer, which must have this status.
    #[track_caller]
    pub fn with_status(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Asserts that the request was refused for a while, with a problem whose detail contains these parts.
    #[track_caller]
    pub fn assert_unavailable(&self, parts: &[&str]) {
        let problem = self.json();
        assert_eq!(self.status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
        assert_eq!(self.header("retry-after"), "5");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
    }

    /// The parsed JSON body.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }
}

/// The body of `POST /order`.
pub fn order_body(product_ids: &[&str], customer_id: &str) -> Value {
    json!({ "product_ids": product_ids, "customer_id": customer_id })
}

/// Connects to a gateway, sends a request, and reads only the beginning of the answer, as a slow client.
pub async fn unread(gateway: SocketAddr, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("a small buffer");
    let mut client = socket.connect(gateway).await.expect("the gateway accepts");
    client.write_all(request.as_bytes()).await.expect("the request is sent");
    client.read_exact(&mut [0; 12]).await.expect("the answer begins");
    client
}
