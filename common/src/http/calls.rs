//! Several calls in one HTTP request: the gateway sends the calls that wait at one moment to
//! order_service together.
//!
//! The request is a JSON array of [`Call`]s. The answer has one line of JSON, a [`CallAnswer`], for
//! each call, in the order in which they are ready. Each call is routed and answered as if it had
//! come alone.

use std::{convert::Infallible, iter};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{FuturesUnordered, once},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::http::{
    problem::Problem,
    request::{BODY_LIMIT, BODY_TIMEOUT, late_body},
    server::survive_panics,
};

/// The method of the request.
pub const METHOD: &str = "POST";
/// The path of the request.
pub const PATH: &str = "/calls";
/// The largest number of calls in one request.
pub const CALLS_MAX: usize = 64;
/// The largest request, in bytes.
pub const REQUEST_LIMIT: usize = CALLS_MAX * BODY_LIMIT;

/// A call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The HTTP method.
    method: String,
    /// The path.
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Call {
    /// The call as text; `None` if a header or the body is not text, so that the call has to be sent
    /// alone.
    pub fn new(method: &str, path: String, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        Some(Self {
            method: method.to_owned(),
            path,
            headers: texts(headers)?,
            body: std::str::from_utf8(body).ok()?.to_owned(),
        })
    }

    fn into_request(self) -> Option<Request> {
        let mut request = Request::builder().method(&*self.method).uri(self.path);
        *request.headers_mut()? = header_map(self.headers)?;
        request.body(Body::from(self.body)).ok()
    }
}

/// The answer to a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallAnswer {
    /// The position of the call in the request, from 0.
    pub call: usize,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl CallAnswer {
    /// The answer as an HTTP response; `None` if it is not valid.
    pub fn into_response(self) -> Option<http::Response<Bytes>> {
        let mut response = http::Response::new(Bytes::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        *response.headers_mut() = header_map(self.headers)?;
        Some(response)
    }
}

fn texts(headers: &HeaderMap) -> Option<Vec<(String, String)>> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    headers.iter().map(text).collect()
}

fn header_map(texts: Vec<(String, String)>) -> Option<HeaderMap> {
    let header = |(name, value): (String, String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    texts.into_iter().map(header).collect()
}

/// Adds the path for several calls to the routes of these calls.
pub fn take_calls(routes: Router) -> Router {
    let service = TowerToHyperService::new(survive_panics(routes.clone()));
    routes.route(PATH, post(move |body: Body| answer_all(service, body)))
}

async fn answer_all(routes: TowerToHyperService<Router>, body: Body) -> Result<Response, Problem> {
    let body = timeout(BODY_TIMEOUT, Limited::new(body, REQUEST_LIMIT).collect()).await;
    let body = body.map_err(|_| late_body())?;
    let body = body.map_err(|_| Problem::bad_request("the calls cannot be read"))?.to_bytes();
    let calls: Vec<Call> = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("these are no calls: {error}")))?;
    if calls.is_empty() || calls.len() > CALLS_MAX {
        return Err(Problem::bad_request(format!("send 1 to {CALLS_MAX} calls")));
    }
    let calls = iter::repeat(routes).zip(calls.into_iter().enumerate());
    let answers: FuturesUnordered<_> =
        calls.map(|(routes, (number, call))| answer(routes, number, call)).collect();
    // Answers that are ready together are sent together.
    let mut lines = answers.ready_chunks(CALLS_MAX).map(|ready| {
        let mut lines = Vec::with_capacity(1_024 * ready.len());
        for answer in ready {
            serde_json::to_writer(&mut lines, &answer).expect("text can be written");
            lines.push(b'\n');
        }
        Ok::<_, Infallible>(Bytes::from(lines))
    });
    // The headers are sent with the first answers.
    let first = lines.next().await.unwrap_or(Ok(Bytes::new()));
    let body = Body::from_stream(once(async { first }).chain(lines));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}

async fn answer(routes: TowerToHyperService<Router>, number: usize, call: Call) -> CallAnswer {
    let response = match call.into_request() {
        Some(request) => routes.call(request).await.unwrap_or_else(|never| match never {}),
        None => Problem::bad_request("this is no call").into_response(),
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec());
    let body = body.ok().and_then(|body| String::from_utf8(body).ok());
    match (texts(&parts.headers), body) {
        (Some(headers), Some(body)) => {
            CallAnswer { call: number, status: parts.status.as_u16(), headers, body }
        }
        _ => CallAnswer { call: number, status: 500, headers: Vec::new(), body: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, put};
    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    fn call(method: &str, path: &str, body: &str) -> Call {
        Call::new(method, path.to_owned(), &HeaderMap::new(), body.as_bytes()).expect("text")
    }

    async fn post(routes: Router, calls: &[Call]) -> http::Response<Body> {
        let service = TowerToHyperService::new(take_calls(routes));
        let body = Body::from(serde_json::to_string(calls).unwrap());
        let request = Request::builder().method("POST").uri(PATH).body(body).unwrap();
        service.call(request).await.unwrap()
    }

    async fn answers(routes: Router, calls: &[Call]) -> Vec<(usize, u16, String)> {
        let body = post(routes, calls).await.into_body().collect().await.unwrap().to_bytes();
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let answers = lines.map(|line| serde_json::from_slice::<CallAnswer>(line).unwrap());
        let mut answers: Vec<_> = answers.map(|it| (it.call, it.status, it.body)).collect();
        answers.sort();
        answers
    }

    #[tokio::test]
    async fn each_call_has_its_own_answer() {
        let routes = Router::new()
            .route("/a", put(|body: String| async move { format!("put \"{body}\"") }))
            .route("/panics", get(async || -> String { panic!("a panic of a handler") }))
            .route("/there", get(async || (StatusCode::CREATED, "there")));
        let calls = [
            call("PUT", "/a", "1"),
            call("GET", "/none", ""),
            call("GET", "/panics", ""),
            call("no method", "/a", ""),
            call("GET", "/there", ""),
        ];
        let answers = answers(routes, &calls).await;
        let statuses: Vec<u16> = answers.iter().map(|it| it.1).collect();
        assert_eq!(statuses, [200, 404, 500, 400, 201]);
        assert_eq!((&*answers[0].2, &*answers[4].2), ("put \"1\"", "there"));
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_another_one() {
        let gate: &'static Semaphore = Box::leak(Box::new(Semaphore::new(0)));
        let slow = async move || gate.acquire().await.map(|_| "slow").unwrap_or_default();
        let routes = Router::new().route("/slow", get(slow)).route("/quick", get("quick"));
        let calls = [call("GET", "/slow", ""), call("GET", "/quick", "")];
        let mut body = post(routes, &calls).await.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first.ends_with(b"\"quick\"}\n"), "{first:?}");
        gate.add_permits(1);
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(second.ends_with(b"\"slow\"}\n"), "{second:?}");
    }

    #[tokio::test]
    async fn too_many_calls_and_none_are_refused() {
        for count in [0, CALLS_MAX + 1] {
            let calls = vec![call("GET", "/", ""); count];
            assert_eq!(post(Router::new(), &calls).await.status(), 400, "{count}");
        }
    }

    #[test]
    fn a_call_that_is_not_text_is_sent_alone() {
        let mut headers = HeaderMap::new();
        assert!(Call::new("POST", "/".to_owned(), &headers, &[0xff]).is_none());
        headers.insert("x", HeaderValue::from_bytes(&[0xff]).unwrap());
        assert!(Call::new("POST", "/".to_owned(), &headers, b"").is_none());
    }
}
