//! Acknowledges in the Redis of another topic, aside: the engine does not wait for it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{PROBE, TIMEOUT};
use crate::{
    connection::{error::ConnectionError, health::Component, link::Link, url::RedisUrl},
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};

/// How long the end of the process waits for the last ones; what is missed is delivered again.
const LAST: Duration = Duration::from_secs(1);

/// A task with a connection to one server.
pub(super) struct Acknowledger {
    /// Unbounded: what is to be acknowledged was read, and nothing more is read from a server that
    /// is away.
    queue: mpsc::UnboundedSender<Due>,
    task: JoinHandle<()>,
}

impl Acknowledger {
    pub(super) fn start(url: RedisUrl, reader: Topic, component: Arc<Component>) -> Self {
        let (queue, received) = mpsc::unbounded_channel();
        Self { queue, task: tokio::spawn(acknowledge(url, reader, component, received)) }
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

/// Entries of a stream.
type Due = (Stream, Vec<EntryId>);

/// What is refused is delivered again, so it is not kept: it might be without end.
async fn acknowledge(
    url: RedisUrl,
    reader: Topic,
    component: Arc<Component>,
    mut queue: mpsc::UnboundedReceiver<Due>,
) {
    let mut link = Link::new(url, TIMEOUT);
    let mut refused = None;
    while let Some((stream, ids)) = next(&mut queue, refused).await {
        match insist(&mut link, &component, &xack(reader, stream, &ids)).await {
            Err(error) if !is_groupless(&error) => {
                component.failed(&error);
                refused = Some(stream);
            }
            // Another stream says nothing of the one that is refused.
            _ if refused.is_some_and(|it| it != stream) => {}
            _ => {
                component.answered();
                refused = None;
            }
        }
    }
}

/// What is to be acknowledged next. After a refusal it is asked, with an entry that there never is,
/// whether acknowledgements are taken again.
async fn next(queue: &mut mpsc::UnboundedReceiver<Due>, refused: Option<Stream>) -> Option<Due> {
    let Some(stream) = refused else { return queue.recv().await };
    match timeout(PROBE, queue.recv()).await {
        Ok(due) => due,
        Err(_) => Some((stream, vec![EntryId::default()])),
    }
}

/// Asks until it is let in and has an answer. That the server is away its reader tells.
async fn insist(
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
        tokio::time::sleep(PROBE).await;
    }
}

/// What is refused for want of a group is not pending either.
fn is_groupless(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Refused { message, .. } if message.contains("NOGROUP"))
}

/// Acknowledges these entries of a stream in the reader's group.
pub(super) fn xack(reader: Topic, stream: Stream, ids: &[EntryId]) -> redis::Cmd {
    let mut command = redis::cmd("XACK");
    command.arg(stream.key()).arg(reader.service());
    for id in ids {
        command.arg(id.to_string());
    }
    command
}
