//! Changes as server-sent events.
//!
//! `feed` reads the streams once for all clients and appends the messages, encoded once, to the `ring`, from
//! which each client's `stream` is sent. A `cursor` is the position of a client.

mod change;
mod chunk;
mod cursor;
mod feed;
mod ring;
pub(crate) mod stream;
pub(crate) mod view;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    http::{
        problem::Problem,
        server::{KeyedPermit, KeyedPermits},
    },
    process::service::ServiceContext,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::{
    feed::{Feed, StreamReader},
    stream::{StreamContent, StreamPermit},
    view::View,
};
use crate::{
    access::limits::{client::Client, reader::MeteredReader},
    upstream::flow_sampler::Latest,
};

/// The maximum number of open streams; well below the limit of connections, so that other calls succeed.
const OPEN_STREAM_LIMIT: usize = 2_000;
/// The maximum number of open streams of one subject: enough for many tabs.
const STREAMS_PER_SUBJECT: usize = 32;
/// The maximum number of open streams of one address without authentication: many users may share it.
const STREAMS_PER_ADDRESS: usize = OPEN_STREAM_LIMIT / 4;
/// `Retry-After` if there are too many streams, in seconds.
const RETRY_AFTER_SECONDS: u16 = 5;
/// The maximum wait of a page for the position of its event stream.
const POSITION_TIMEOUT: Duration = Duration::from_millis(20);
/// The delay before a client reconnects, in milliseconds.
const RETRY_FIELD: &str = "retry: 2000\n";

/// The event streams of all clients.
#[derive(Debug)]
pub(crate) struct EventStreams {
    feed: Arc<Feed>,
    open: Arc<Semaphore>,
    of_subjects: Arc<KeyedPermits<Client>>,
    of_addresses: Arc<KeyedPermits<Client>>,
    shutdown: CancellationToken,
}

impl EventStreams {
    /// Starts the readers, which read while there are clients.
    pub(crate) fn start(context: &ServiceContext) -> Self {
        let servers = context.sources.servers().len();
        let feed = Arc::new(Feed::new(servers));
        for server in 0..servers {
            let reader = StreamReader::new(&feed, &context.sources, server);
            let shutdown = context.shutdown.clone();
            context.spawn("a reader of changes", async move {
                tokio::select! {
                    () = reader.read_forever() => {}
                    () = shutdown.cancelled() => {}
                }
                Ok(())
            });
        }
        Self {
            feed,
            open: Arc::new(Semaphore::new(OPEN_STREAM_LIMIT)),
            of_subjects: KeyedPermits::new(STREAMS_PER_SUBJECT),
            of_addresses: KeyedPermits::new(STREAMS_PER_ADDRESS),
            shutdown: context.shutdown.clone(),
        }
    }

    /// A permit of the client's share; this machine's share is all streams.
    fn share(&self, client: &Client) -> Result<Option<KeyedPermit<Client>>, Problem> {
        let (share, most) = match client {
            Client::ThisMachine => return Ok(None),
            Client::Address(_) => (&self.of_addresses, STREAMS_PER_ADDRESS),
            Client::Subject(_) => (&self.of_subjects, STREAMS_PER_SUBJECT),
        };
        let crowded = || Problem {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Problem::too_many_requests(format!("you have {most} event streams open already"))
        };
        share.take(client.clone()).map(Some).ok_or_else(crowded)
    }

    /// The `last_event_id` of a page that is about to be rendered: its event stream begins there. `None` if
    /// the position is not known at once: no client has followed before, or Redis does not answer.
    pub(crate) async fn position(&self) -> Option<String> {
        let everything = View { order: None, customer: None, orders: true, addresses: true };
        let joined = tokio::time::timeout(POSITION_TIMEOUT, self.feed.join(everything, None)).await;
        joined.ok()?.ok().map(|joined| joined.from.to_string())
    }

    /// A permit for one more stream of this client.
    ///
    /// # Errors
    ///
    /// 429: the client has too many open. 503: all clients together have.
    pub(crate) fn permit(&self, client: &Client) -> Result<StreamPermit, Problem> {
        let permit = Arc::clone(&self.open).try_acquire_owned().map_err(|_| Problem {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Problem::unavailable("too many event streams are open")
        })?;
        Ok((permit, self.share(client)?))
    }

    /// The changes in this view after the last event that the client received, if it names one; and the
    /// first text of the stream.
    ///
    /// # Errors
    ///
    /// 503: Redis does not answer.
    pub(crate) async fn changes(
        &self,
        view: View,
        last_event_id: Option<&str>,
        reader: MeteredReader,
    ) -> Result<(Bytes, StreamContent), Problem> {
        let joined = self.feed.join(view, last_event_id.map(str::parse)).await;
        let joined =
            joined.map_err(|_| Problem::unavailable("changes cannot be read at the moment"))?;
        let mut greeting = format!("{RETRY_FIELD}id: {}\n\n", joined.from);
        if joined.reset {
            greeting.push_str(ring::RESET_EVENT);
        }
        let (feed, follower, changes) = (Arc::clone(&self.feed), joined.follower, joined.changes);
        Ok((greeting.into(), StreamContent::Changes { feed, follower, changes, reader }))
    }

    /// The event flow, and the first text of the stream.
    pub(crate) fn flow(samples: watch::Receiver<Latest>) -> (Bytes, StreamContent) {
        (Bytes::from(format!("{RETRY_FIELD}\n")), StreamContent::Flow(samples))
    }

    /// Ends all streams when the process shuts down.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }
}
