//! Acknowledges entries in the Redis of another topic in a background task: the engine does not
//! wait for it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::timing::{PROBE_INTERVAL, REDIS_TIMEOUT};
use crate::{
    connection::{error::ConnectionError, health::Component, link::Link, url::RedisUrl},
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};

/// How long the shutdown waits for the last acknowledgements; missed entries are delivered again.
const SHUTDOWN_ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// A task with a connection to one server.
pub(super) struct Acknowledger {
    /// Unbounded: every acknowledgement belongs to an entry that was read, and nothing is read from
    /// a server that is away.
    queue: mpsc::UnboundedSender<Due>,
    task: JoinHandle<()>,
}

impl Acknowledger {
    pub(super) fn start(url: RedisUrl, reader: Topic, component: Arc<Component>) -> Self {
        let (queue, received) = mpsc::unbounded_channel();
        Self { queue, task: tokio::spawn(acknowledge(url, reader, component, received)) }
    }

    pub(super) fn send(&self, stream: Stream, ids: Vec<EntryId>) {
        // Without the task the entries are delivered again and find their idempotency records.
        let _ = self.queue.send((stream, ids));
    }

    pub(super) async fn finish(self) {
        drop(self.queue);
        let _ = timeout(SHUTDOWN_ACK_TIMEOUT, self.task).await;
    }
}

/// Entries of a stream to acknowledge.
type Due = (Stream, Vec<EntryId>);

/// Refused acknowledgements are not kept, because their number has no limit: the entries are
/// delivered again.
async fn acknowledge(
    url: RedisUrl,
    reader: Topic,
    component: Arc<Component>,
    mut queue: mpsc::UnboundedReceiver<Due>,
) {
    let mut link = Link::new(url, REDIS_TIMEOUT);
    let mut refused = None;
    while let Some((stream, ids)) = next(&mut queue, refused).await {
        match retry_until_answered(&mut link, &component, &xack(reader, stream, &ids)).await {
            Err(error) if !is_missing_group(&error) => {
                component.failed(&error);
                refused = Some(stream);
            }
            // The success of another stream proves nothing about the refused one.
            _ if refused.is_some_and(|it| it != stream) => {}
            _ => {
                component.answered();
                refused = None;
            }
        }
    }
}

/// The next entries to acknowledge. After a refusal, an acknowledgement of an id that never exists
/// finds out whether the server accepts them again.
async fn next(queue: &mut mpsc::UnboundedReceiver<Due>, refused: Option<Stream>) -> Option<Due> {
    let Some(stream) = refused else { return queue.recv().await };
    match timeout(PROBE_INTERVAL, queue.recv()).await {
        Ok(due) => due,
        Err(_) => Some((stream, vec![EntryId::default()])),
    }
}

/// Retries until the server answers. The reader reports an unreachable server.
async fn retry_until_answered(
    link: &mut Link,
    component: &Component,
    xack: &redis::Cmd,
) -> Result<(), ConnectionError> {
    loop {
        let error = match link.ask("XACK", xack.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error {
            ConnectionError::Away { .. }
            | ConnectionError::NotServing { .. }
            | ConnectionError::Insecure { .. }
            | ConnectionError::Denied { command: "AUTH", .. } => component.denied(&error),
            refused => return Err(refused),
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Whether the group is missing: then nothing is pending in it either.
fn is_missing_group(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Refused { message, .. } if message.contains("NOGROUP"))
}

/// The command that acknowledges these entries in the reader's group.
pub(super) fn xack(reader: Topic, stream: Stream, ids: &[EntryId]) -> redis::Cmd {
    let mut command = redis::cmd("XACK");
    command.arg(stream.key()).arg(reader.service());
    for id in ids {
        command.arg(id.to_string());
    }
    command
}
