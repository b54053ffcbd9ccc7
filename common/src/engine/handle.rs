//! The jobs of the engine, and the handle through which HTTP handlers submit commands.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    connection::{
        entry::{Fields, Whole},
        health::Component,
    },
    decision::{Decider, ReadAccess},
    engine::store_id::Provenance,
    schema::{entry_id::EntryId, keys::Key, stream::Stream},
};

/// One input in the engine.
pub(crate) struct Job<D: Decider> {
    pub(crate) work: Work<D::Input>,
    pub(crate) origin: Origin<D::Answer>,
    /// The `traceparent` of the input.
    pub(crate) traceparent: Option<Box<str>>,
    /// The identity of the whole entry, if its fields were cut.
    pub(crate) whole: Option<Whole>,
    /// The job's share of the memory for entries, in KiB; held until the job is finished.
    pub(crate) memory: Option<OwnedSemaphorePermit>,
    /// The entities that it named last.
    pub(super) keys: Vec<(Key, ReadAccess)>,
    /// The entities that it read without having named them.
    pub(super) missed: Vec<Key>,
    pub(super) panicked: bool,
    /// Whether [`missed`](Self::missed) was cleared because it had grown too long.
    pub(super) narrowed: bool,
    /// The number of decisions so far.
    pub(super) tries: u32,
    /// The number of entities that it named, if that is above the limit.
    pub(super) oversized: Option<usize>,
    pub(super) error: Option<String>,
    pub(super) dead: Option<String>,
}

/// The work of a job.
pub(crate) enum Work<I> {
    Input(I),
    /// The entry does not concern this service: it is only acknowledged.
    Nothing,
    /// The entry could not be parsed, for this reason.
    Unreadable(String),
    /// The entry was deleted while it was pending.
    Deleted,
}

/// The origin of an input, which receives the result.
pub(crate) enum Origin<A> {
    /// An entry of a stream, which is acknowledged.
    Entry { stream: Stream, id: EntryId, fields: Fields, provenance: Arc<Provenance> },
    /// A command, whose caller receives an answer.
    Caller { reply: oneshot::Sender<Result<A, String>> },
}

impl<D: Decider> Job<D> {
    pub(crate) fn new(
        work: Work<D::Input>,
        origin: Origin<D::Answer>,
        traceparent: Option<Box<str>>,
    ) -> Self {
        Self {
            work,
            origin,
            traceparent,
            whole: None,
            memory: None,
            keys: Vec::new(),
            missed: Vec::new(),
            oversized: None,
            panicked: false,
            narrowed: false,
            tries: 0,
            error: None,
            dead: None,
        }
    }

    /// The provenance of the input, if it is an entry.
    pub(super) fn provenance(&self) -> Option<&Provenance> {
        match &self.origin {
            Origin::Entry { provenance, .. } => Some(provenance),
            Origin::Caller { .. } => None,
        }
    }

    /// The memory that counts for the limit of a batch, in KiB.
    pub(super) fn kib(&self) -> usize {
        self.memory.as_ref().map_or(1, OwnedSemaphorePermit::num_permits)
    }

    /// Whether the caller has stopped waiting.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(&self.origin, Origin::Caller { reply } if reply.is_closed())
    }
}

/// Submits commands to the engine and waits for their answers.
pub struct EngineHandle<D: Decider> {
    queue: mpsc::Sender<Job<D>>,
    engine: Arc<Component>,
    timeout: Duration,
}

impl<D: Decider> Clone for EngineHandle<D> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), engine: Arc::clone(&self.engine), timeout: self.timeout }
    }
}

impl<D: Decider> std::fmt::Debug for EngineHandle<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHandle").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The reason why a command got no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Redis is away, or the service is stopping.
    #[error("the store is away")]
    Unavailable,
    /// The timeout expired.
    #[error("the command took too long")]
    TimedOut,
    /// The command can have no effect, with the reason: its decision refused it or panicked, or a
    /// key that it would write has another type.
    #[error("{0}")]
    Invalid(String),
}

impl<D: Decider> EngineHandle<D> {
    pub(crate) fn new(
        queue: mpsc::Sender<Job<D>>,
        engine: Arc<Component>,
        timeout: Duration,
    ) -> Self {
        Self { queue, engine, timeout }
    }

    /// Submits the command and waits until it is decided and committed. If the caller stops waiting
    /// before the engine takes the command, it is dropped; after that it may have had its effect.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; only [`SubmitError::Invalid`] guarantees that nothing was changed.
    pub async fn submit(
        &self,
        input: D::Input,
        traceparent: Option<Box<str>>,
    ) -> Result<D::Answer, SubmitError> {
        if self.engine.is_away() {
            return Err(SubmitError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job::new(Work::Input(input), Origin::Caller { reply }, traceparent);
        let handled = tokio::time::timeout(self.timeout, async {
            self.queue.send(job).await.map_err(|_| SubmitError::Unavailable)?;
            answer.await.map_err(|_| SubmitError::Unavailable)
        });
        match handled.await {
            Ok(Ok(answer)) => answer.map_err(SubmitError::Invalid),
            Ok(Err(error)) => Err(error),
            Err(_) if self.engine.is_failing() => Err(SubmitError::Unavailable),
            Err(_) => Err(SubmitError::TimedOut),
        }
    }
}
