//! The calls to one instance of order_service. Those that wait at one moment are sent in one
//! request; a lone call goes at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use common::http::{
    calls::{self, CALLS_MAX, Call, CallAnswer, REQUEST_LIMIT},
    request::GATEWAY_SECRET,
};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// The client of all instances.
pub(super) type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// The maximum size of an answer, in bytes: orders of earlier versions may have thousands of steps.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
/// The time for which calls are sent alone to an instance of an earlier version, in milliseconds.
const ALONE_MILLIS: u64 = 60_000;

/// A call with its parts.
pub(super) struct Outgoing {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The result of a call.
type Answer = anyhow::Result<Response<Bytes>>;

struct Waiting {
    call: Outgoing,
    answer: oneshot::Sender<Answer>,
}

/// The calls to one instance.
pub(super) struct Outbox(mpsc::UnboundedSender<Waiting>);

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}

impl Outbox {
    /// Starts the task that sends the calls. `limit` is the time limit of a call.
    pub(super) fn start(client: HttpClient, authority: uri::Authority, limit: Duration) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let instance = Instance { client, authority, alone_until: AtomicU64::new(0), begun };
        tokio::spawn(send_forever(Arc::new(instance), calls, limit));
        Self(sender)
    }

    /// Sends a call, and waits for its answer.
    pub(super) async fn send(&self, call: Outgoing) -> Answer {
        let (answer, answered) = oneshot::channel();
        // The task runs as long as there are senders.
        let _ = self.0.send(Waiting { call, answer });
        answered.await.unwrap_or_else(|_| Err(anyhow!("the answer is missing")))
    }
}

async fn send_forever(
    instance: Arc<Instance>,
    mut calls: mpsc::UnboundedReceiver<Waiting>,
    limit: Duration,
) {
    loop {
        let mut waiting = Vec::new();
        if calls.recv_many(&mut waiting, CALLS_MAX).await == 0 {
            return;
        }
        // A client that has gone was promised nothing.
        waiting.retain(|it| !it.answer.is_closed());
        if !waiting.is_empty() {
            let instance = Arc::clone(&instance);
            // Without the limit, a request to an instance that hangs would never end.
            tokio::spawn(async move { timeout(limit, instance.send(waiting)).await });
        }
    }
}

/// An instance of order_service.
struct Instance {
    client: HttpClient,
    authority: uri::Authority,
    /// The end of the time in which calls are sent alone, in milliseconds.
    alone_until: AtomicU64,
    begun: Instant,
}

impl Instance {
    async fn send(&self, waiting: Vec<Waiting>) {
        let Some(request) = self.together(&waiting) else {
            return self.send_alone(waiting).await;
        };
        match self.client.request(request).await {
            Ok(response) if response.status() == StatusCode::OK => {
                pass_answers(response.into_body(), waiting).await;
            }
            // An earlier version of order_service does not take several calls.
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                let until = self.now().saturating_add(ALONE_MILLIS);
                self.alone_until.store(until, Ordering::Relaxed);
                self.send_alone(waiting).await;
            }
            // The instance as a whole refuses, e.g. because of its secret.
            Ok(response) => match collect(response).await {
                Ok(response) => {
                    for Waiting { answer, .. } in waiting {
                        let _ = answer.send(Ok(response.clone()));
                    }
                }
                Err(error) => fail(waiting, &error),
            },
            Err(error) => fail(waiting, &error.into()),
        }
    }

    /// One request for all of these calls; `None` if they have to be sent alone.
    fn together(&self, waiting: &[Waiting]) -> Option<Request<Full<Bytes>>> {
        if waiting.len() < 2 || self.now() < self.alone_until.load(Ordering::Relaxed) {
            return None;
        }
        let text = |it: &Waiting| {
            let Outgoing { method, path, headers, body } = &it.call;
            // The secret is that of the whole request.
            let mut headers = headers.clone();
            headers.remove(GATEWAY_SECRET);
            Call::new(method, path.clone(), &headers, body)
        };
        let calls = waiting.iter().map(text).collect::<Option<Vec<Call>>>()?;
        let body = serde_json::to_vec(&calls).ok().filter(|it| it.len() <= REQUEST_LIMIT)?;
        let mut request = self.request(calls::METHOD, calls::PATH, Bytes::from(body)).ok()?;
        let headers = request.headers_mut();
        if let Some(secret) = waiting[0].call.headers.get(GATEWAY_SECRET) {
            headers.insert(GATEWAY_SECRET, secret.clone());
        }
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        Some(request)
    }

    async fn send_alone(&self, waiting: Vec<Waiting>) {
        join_all(waiting.into_iter().map(async |Waiting { call, answer }| {
            let _ = answer.send(self.send_one(call).await);
        }))
        .await;
    }

    async fn send_one(&self, call: Outgoing) -> Answer {
        let mut request = self.request(call.method, &call.path, call.body)?;
        *request.headers_mut() = call.headers;
        collect(self.client.request(request).await?).await
    }

    fn request(&self, method: &str, path: &str, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
        let uri = Uri::builder().scheme(uri::Scheme::HTTP).authority(self.authority.clone());
        let uri = uri.path_and_query(path).build()?;
        Request::builder().method(method).uri(uri).body(Full::new(body))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn collect(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await;
    let body = body.map_err(|error| anyhow!("reading the answer: {error}"))?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Passes each answer on as soon as it is there. Calls whose answer does not come have failed.
async fn pass_answers(mut body: Incoming, waiting: Vec<Waiting>) {
    let mut waiting: Vec<Option<Waiting>> = waiting.into_iter().map(Some).collect();
    let mut received = BytesMut::new();
    // The part of the received bytes that has no end of a line.
    let mut scanned = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        received.extend_from_slice(&data);
        while let Some(end) = received[scanned..].iter().position(|byte| *byte == b'\n') {
            let line = received.split_to(scanned + end + 1);
            scanned = 0;
            let answer = serde_json::from_slice::<CallAnswer>(&line).ok();
            let Some(answer) = answer.filter(|it| it.call < waiting.len()) else { continue };
            let caller = waiting[answer.call].take();
            if let (Some(caller), Some(response)) = (caller, answer.into_response()) {
                let _ = caller.answer.send(Ok(response));
            }
        }
        scanned = received.len();
        if received.len() > ANSWER_LIMIT {
            break;
        }
    }
}

fn fail(waiting: Vec<Waiting>, error: &anyhow::Error) {
    for Waiting { answer, .. } in waiting {
        let _ = answer.send(Err(anyhow!("{error:#}")));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use axum::{Router, extract::Path, middleware, response::IntoResponse, routing::put};
    use common::http::calls::take_calls;
    use hyper_util::rt::TokioExecutor;
    use tokio::net::TcpListener;

    use super::*;

    const CALLS: usize = 20;

    /// A server of these routes, and the number of requests that it gets.
    async fn serve(routes: Router) -> (uri::Authority, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let routes =
            routes.layer(middleware::map_request(move |request: axum::extract::Request| {
                counter.fetch_add(1, Ordering::Relaxed);
                async { request }
            }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (authority, requests)
    }

    fn outbox(authority: &uri::Authority) -> Outbox {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Outbox::start(client, authority.clone(), Duration::from_secs(30))
    }

    fn call(number: usize, secret: &str, body: &[u8]) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(GATEWAY_SECRET, secret.parse().unwrap());
        headers.insert("x-number", number.into());
        let body = Bytes::copy_from_slice(body);
        Outgoing { method: "PUT", path: format!("/n/{number}"), headers, body }
    }

    /// Answers with its number, its header and its body; every third one is refused.
    fn routes() -> Router {
        let echo = async |Path(number): Path<usize>, headers: HeaderMap, body: Bytes| {
            let given = headers["x-number"].to_str().unwrap().to_owned();
            let status = if number % 3 == 0 { StatusCode::CONFLICT } else { StatusCode::OK };
            (status, [("x-given", given)], body).into_response()
        };
        Router::new().route("/n/{number}", put(echo))
    }

    async fn send_many(outbox: &Outbox) -> Vec<Answer> {
        let body = |number: usize| format!("body \"{number}\"").into_bytes();
        join_all((0..CALLS).map(|number| outbox.send(call(number, "secret", &body(number))))).await
    }

    fn assert_each_has_its_own(answers: Vec<Answer>) {
        for (number, answer) in answers.into_iter().enumerate() {
            let answer = answer.unwrap();
            let status = if number % 3 == 0 { StatusCode::CONFLICT } else { StatusCode::OK };
            assert_eq!(answer.status(), status, "{number}");
            assert_eq!(answer.headers()["x-given"], number.to_string());
            assert_eq!(answer.body(), &format!("body \"{number}\""));
        }
    }

    #[tokio::test]
    async fn calls_that_wait_together_are_one_request_and_each_has_its_own_answer() {
        let (authority, requests) = serve(take_calls(routes())).await;
        assert_each_has_its_own(send_many(&outbox(&authority)).await);
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_instance_that_takes_no_calls_gets_each_alone() {
        let (authority, requests) = serve(routes()).await;
        let outbox = outbox(&authority);
        assert_each_has_its_own(send_many(&outbox).await);
        assert_each_has_its_own(send_many(&outbox).await);
        // It was asked once.
        assert_eq!(requests.load(Ordering::Relaxed), 1 + 2 * CALLS);
    }

    #[tokio::test]
    async fn a_refusal_of_the_whole_request_is_the_answer_to_each_call() {
        let refuse = async || (StatusCode::UNAUTHORIZED, "no").into_response();
        let refusing = Router::new().fallback(refuse);
        let (authority, _) = serve(refusing).await;
        for answer in send_many(&outbox(&authority)).await {
            let answer = answer.unwrap();
            assert_eq!(
                (answer.status(), &answer.body()[..]),
                (StatusCode::UNAUTHORIZED, &b"no"[..])
            );
        }
    }

    #[tokio::test]
    async fn calls_with_other_bytes_than_text_are_sent_alone() {
        let (authority, requests) = serve(take_calls(routes())).await;
        let outbox = outbox(&authority);
        let sent = (1..3).map(|number| outbox.send(call(number, "secret", &[0xff])));
        for answer in join_all(sent).await {
            assert_eq!(answer.unwrap().body(), &[0xff][..]);
        }
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn calls_to_an_instance_that_is_away_fail() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        assert!(send_many(&outbox(&authority)).await.iter().all(Result::is_err));
    }
}
