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

/// How long a stream is silent before something is sent, so that all on the way know it is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// What an open stream takes: of the limit for all clients, and of its client's.
pub(crate) type StreamPermit = (OwnedSemaphorePermit, Option<KeyedPermit<Client>>);

/// The content of a stream.
pub(crate) enum StreamContent {
    /// Changes. Those that are sent again are charged to the reader.
    Changes {
        feed: Arc<Feed>,
        follower: Follower,
        changes: watch::Receiver<()>,
        reader: MeteredReader,
    },
    /// How the events flow.
    Flow(watch::Receiver<Latest>),
}

/// One client's stream. It takes nothing from the content before the client has taken what there
/// was, so however slow it is, it costs no more.
pub(crate) struct EventStream {
    pub(crate) greeting: Option<Bytes>,
    pub(crate) content: StreamContent,
    pub(crate) shutdown: CancellationToken,
    /// When the token that opened it expires.
    pub(crate) expires: Option<Instant>,
    /// Until the browser that opened it signs out.
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

    /// What is sent next; `None` at the end: at the shutdown, or when who
    /// listens would have to show a new token.
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
    /// What there is to tell, as soon as there is something. Nothing is lost if it is dropped.
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
