//! A client of server-sent events.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use crate::{SOON, System, request};

/// One server-sent event.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The last received id.
    pub id: String,
    /// The type of the event.
    pub kind: String,
    /// The data.
    pub data: Value,
}

/// A client's event stream.
#[derive(Debug)]
pub struct Events {
    body: BoxBody<Bytes, String>,
    text: String,
    /// The last received `id`, with or without an event.
    pub last: String,
}

/// Opens event streams, each over a connection of its own.
#[derive(Clone, Debug)]
pub struct Browser(HyperClient<HttpConnector, Full<Bytes>>);

impl Default for Browser {
    fn default() -> Self {
        Self(HyperClient::builder(TokioExecutor::new()).build_http())
    }
}

impl Browser {
    /// Sends the request and returns any answer.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn ask(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<BoxBody<Bytes, String>>, String> {
        let answer = self.0.request(request(Method::GET, url, headers, Bytes::new()));
        let answer = answer.await.map_err(|error| error.to_string())?;
        Ok(answer.map(|body| body.map_err(|error| error.to_string()).boxed()))
    }

    /// Opens an event stream; `last` is the last id that was received before.
    ///
    /// # Errors
    ///
    /// The gateway cannot be reached.
    ///
    /// # Panics
    ///
    /// The answer is not an event stream.
    pub async fn open(&self, url: &str, last: Option<&str>) -> Result<Events, String> {
        let headers = last.map(|last| ("Last-Event-ID", last));
        self.open_with(url, headers.as_slice()).await
    }

    /// Opens an event stream with these headers.
    ///
    /// # Errors
    ///
    /// The gateway cannot be reached.
    ///
    /// # Panics
    ///
    /// The answer is not an event stream.
    pub async fn open_with(&self, url: &str, headers: &[(&str, &str)]) -> Result<Events, String> {
        let answer = self.ask(url, headers).await?;
        assert_eq!(answer.status(), StatusCode::OK, "{url}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store, no-transform");
        assert_eq!(header("x-accel-buffering"), "no");
        let mut events =
            Events { body: answer.into_body(), text: String::new(), last: String::new() };
        let greeting = events.block().await.ok_or("no greeting")?;
        assert!(greeting.starts_with("retry: 2000"), "{greeting}");
        Ok(events)
    }
}

impl Events {
    /// Opens the stream at this path of the first gateway.
    pub async fn of(system: &System, path: &str) -> Self {
        let url = format!("{}{path}", system.url());
        Browser::default().open(&url, None).await.expect("a stream")
    }

    /// The next block of lines; none at the end of the stream.
    pub async fn block(&mut self) -> Option<String> {
        let block = loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                break std::mem::replace(&mut self.text, rest);
            }
            let frame = self.body.frame().await?.ok()?;
            let data = frame.into_data().expect("no trailers");
            self.text.push_str(std::str::from_utf8(&data).expect("whole characters"));
        };
        if let Some(id) = field(&block, "id") {
            self.last = id.to_owned();
        }
        Some(block)
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if let Some(data) = field(&block, "data") {
                let kind = field(&block, "event").expect("every event has its kind");
                assert_eq!(block.lines().filter(|line| line.starts_with("data:")).count(), 1);
                let data = serde_json::from_str(data).expect("JSON");
                return Some(Event { id: self.last.clone(), kind: kind.to_owned(), data });
            }
        }
    }

    /// The next event, which must arrive in time.
    pub async fn soon(&mut self) -> Event {
        let next = tokio::time::timeout(SOON, self.next()).await;
        next.expect("an event in time").expect("no end")
    }

    /// All events up to the first wanted one.
    pub async fn until(&mut self, is_wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = vec![self.soon().await];
        while !is_wanted(events.last().expect("there is one")) {
            events.push(self.soon().await);
        }
        events
    }
}

fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
