//! Acknowledges in the Redis of another topic, aside: the engine does not wait for it.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tracing::warn;

use super::{PATIENCE, PROBE, xack};
use crate::{
    events::{Stream, Topic},
    ids::EntryId,
    redis_link::{Link, LinkError, RedisUrl},
};

/// How long the end of the process waits for the last ones; what is missed is delivered again.
const LAST: Duration = Duration::from_secs(1);

/// A task with a connection to one server.
pub(super) struct Acknowledger {
    /// Unbounded: what is to be acknowledged was read, and nothing more is read from a server that
    /// is away.
    queue: mpsc::UnboundedSender<(Stream, Vec<EntryId>)>,
    task: JoinHandle<()>,
}

impl Acknowledger {
    pub(super) fn start(url: RedisUrl, reader: Topic) -> Self {
        let (queue, received) = mpsc::unbounded_channel();
        Self { queue, task: tokio::spawn(acknowledge(url, reader, received)) }
    }

    pub(super) fn send(&self, stream: Stream, ids: Vec<EntryId>) {
        // Without the task they are delivered again and find their traces.
        let _ = self.queue.send((stream, ids));
    }

    pub(super) async fn finish(self) {
        drop(self.queue);
        let _ = timeout(LAST, self.task).await;
    }
}

async fn acknowledge(
    url: RedisUrl,
    reader: Topic,
    mut queue: mpsc::UnboundedReceiver<(Stream, Vec<EntryId>)>,
) {
    let mut link = Link::new(url, PATIENCE);
    let mut refused = false;
    while let Some((stream, ids)) = queue.recv().await {
        // The reader of that server tells that it is away, or does not let us in. What it refuses, for
        // want of a group, is not pending either; what it refuses for want of the right is delivered
        // again.
        loop {
            match link.ask("XACK", xack(reader, stream, &ids)).await {
                Ok(_) => refused = false,
                Err(LinkError::Away { .. } | LinkError::Insecure { .. }) => {
                    tokio::time::sleep(PROBE).await;
                    continue;
                }
                Err(LinkError::Denied { command: "AUTH", .. }) => {
                    tokio::time::sleep(PROBE).await;
                    continue;
                }
                Err(error @ LinkError::Denied { .. }) if !refused => {
                    warn!("{error}; this is not said again until one is taken");
                    refused = true;
                }
                Err(_) => {}
            }
            break;
        }
    }
}
