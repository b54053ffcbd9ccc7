//! The body of one client's event stream.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use common::http::server::KeyedPermit;
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{chunk::Follower, feed::Feed};
use crate::{
    access::limits::{client::Client, reader::MeteredReader},
    upstream::flow_sampler::Latest,
};

/// The interval of comments on a silent stream, which keep proxies from closing it.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// The permits of an open stream: of the limit for all clients, and of the client's share.
pub(crate) type StreamPermit = (OwnedSemaphorePermit, Option<KeyedPermit<Client>>);

/// The content of a stream.
pub(crate) enum StreamContent {
    /// Changes. The reader is charged for repeated ones.
    Changes {
        feed: Arc<Feed>,
        follower: Follower,
        changes: watch::Receiver<()>,
        reader: MeteredReader,
    },
    /// The event flow.
    Flow(watch::Receiver<Latest>),
}

/// The stream of one client. It takes the next content only after the client has received the previous one,
/// so a slow client costs no more memory.
pub(crate) struct EventStream {
    pub(crate) greeting: Option<Bytes>,
    pub(crate) content: StreamContent,
    pub(crate) shutdown: CancellationToken,
    /// The time of expiry of the token.
    pub(crate) expires: Option<Instant>,
    /// Completes when the browser's user signs out.
    pub(crate) signed_out: Pin<Box<dyn Future<Output = ()> + Send>>,
    pub(crate) _permit: StreamPermit,
}

impl EventStream {
    pub(crate) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, async |mut stream| {
            let text = stream.next().await?;
            Some((Ok::<_, Infallible>(text), stream))
        }))
    }

    /// The next text; `None` at the end: at the shutdown, or when the token has expired or the session has
    /// ended.
    async fn next(&mut self) -> Option<Bytes> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        let expires = self.expires;
        let expired = async {
            match expires {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        if expires.is_some_and(|at| at <= Instant::now()) {
            return None;
        }
        tokio::select! {
            () = expired => return None,
            () = &mut self.signed_out => return None,
            text = self.content.next() => return text,
            () = tokio::time::sleep(HEARTBEAT_INTERVAL) => {}
            () = self.shutdown.cancelled() => return None,
        }
        Some(self.content.heartbeat())
    }
}

impl StreamContent {
    /// Waits for the next text. Cancellation loses nothing.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self {
                Self::Changes { feed, follower, changes, reader } => {
                    let resumes = follower.resumes();
                    let text = feed.ring().next(follower);
                    if let Some(text) = text {
                        if resumes {
                            reader.charge(text.len());
                        }
                        return Some(text);
                    }
                    changes.changed().await.ok()?;
                }
                Self::Flow(samples) => {
                    samples.changed().await.ok()?;
                    if let Some(sample) = &*samples.borrow_and_update() {
                        return Some(sample.event.clone());
                    }
                }
            }
        }
    }

    fn heartbeat(&self) -> Bytes {
        match self {
            Self::Changes { feed, follower, .. } => feed.ring().mark(follower),
            Self::Flow(_) => Bytes::from_static(b":\n\n"),
        }
    }
}
