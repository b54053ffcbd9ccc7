//! What waits for the engine, and the door through which HTTP handlers reach it.

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

/// One input on its way through the engine.
pub(crate) struct Job<D: Decider> {
    pub(crate) work: Work<D::Input>,
    pub(crate) origin: Origin<D::Answer>,
    /// The `traceparent` that it came with.
    pub(crate) trace: Option<Box<str>>,
    /// What identifies its entry, if the fields were cut.
    pub(crate) whole: Option<Whole>,
    /// Its share of the memory that entries in the process may take, in KiB; held until it is finished.
    pub(crate) memory: Option<OwnedSemaphorePermit>,
    /// What it named when it was last asked.
    pub(super) keys: Vec<(Key, ReadAccess)>,
    /// What it looked at without having named it.
    pub(super) missed: Vec<Key>,
    pub(super) panicked: bool,
    /// Whether [`missed`](Self::missed) was emptied because it had grown too long.
    pub(super) narrowed: bool,
    /// How often it was decided.
    pub(super) tries: u32,
    /// How many entities it named, if those are too many.
    pub(super) oversized: Option<usize>,
    pub(super) fault: Option<String>,
    pub(super) dead: Option<String>,
}

/// What is to be handled.
pub(crate) enum Work<I> {
    Input(I),
    /// It does not concern this service: it is only acknowledged.
    Nothing,
    /// It could not be parsed, for this reason.
    Unreadable(String),
    /// Its entry was deleted while it was pending.
    Deleted,
}

/// Where an input came from, and so what becomes of it in the end.
pub(crate) enum Origin<A> {
    /// An entry of a stream: it is acknowledged.
    Entry { stream: Stream, id: EntryId, fields: Fields, provenance: Arc<Provenance> },
    /// A command: its caller is answered.
    Caller { reply: oneshot::Sender<Result<A, String>> },
}

impl<D: Decider> Job<D> {
    pub(crate) fn new(
        work: Work<D::Input>,
        origin: Origin<D::Answer>,
        trace: Option<Box<str>>,
    ) -> Self {
        Self {
            work,
            origin,
            trace,
            whole: None,
            memory: None,
            keys: Vec::new(),
            missed: Vec::new(),
            oversized: None,
            panicked: false,
            narrowed: false,
            tries: 0,
            fault: None,
            dead: None,
        }
    }

    /// What it was read under, if it is an entry.
    pub(super) fn provenance(&self) -> Option<&Provenance> {
        match &self.origin {
            Origin::Entry { provenance, .. } => Some(provenance),
            Origin::Caller { .. } => None,
        }
    }

    /// What it counts in a batch, in KiB.
    pub(super) fn kib(&self) -> usize {
        self.memory.as_ref().map_or(1, OwnedSemaphorePermit::num_permits)
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(&self.origin, Origin::Caller { reply } if reply.is_closed())
    }
}

/// Hands commands to the engine and waits for their answers.
pub struct EngineHandle<D: Decider> {
    queue: mpsc::Sender<Job<D>>,
    engine: Arc<Component>,
    patience: Duration,
}

impl<D: Decider> Clone for EngineHandle<D> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            engine: Arc::clone(&self.engine),
            patience: self.patience,
        }
    }
}

impl<D: Decider> std::fmt::Debug for EngineHandle<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHandle").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// Why a command got no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Redis is away, or the service is stopping.
    #[error("the store is away")]
    Unavailable,
    /// It took too long.
    #[error("the command took too long")]
    TimedOut,
    /// The decision failed.
    #[error("{0}")]
    Fault(String),
}

impl<D: Decider> EngineHandle<D> {
    pub(crate) fn new(
        queue: mpsc::Sender<Job<D>>,
        engine: Arc<Component>,
        patience: Duration,
    ) -> Self {
        Self { queue, engine, patience }
    }

    /// Has the command decided and committed. If the caller stops waiting before it was taken up,
    /// it is dropped; after that it may have had its effect.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; only after [`SubmitError::Fault`] is it certain that nothing was changed.
    pub async fn submit(
        &self,
        input: D::Input,
        trace: Option<Box<str>>,
    ) -> Result<D::Answer, SubmitError> {
        if self.engine.is_away() {
            return Err(SubmitError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job::new(Work::Input(input), Origin::Caller { reply }, trace);
        let handled = tokio::time::timeout(self.patience, async {
            self.queue.send(job).await.map_err(|_| SubmitError::Unavailable)?;
            answer.await.map_err(|_| SubmitError::Unavailable)
        });
        match handled.await {
            Ok(Ok(answer)) => answer.map_err(SubmitError::Fault),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) if self.engine.is_failing() => Err(SubmitError::Unavailable),
            Err(_) => Err(SubmitError::TimedOut),
        }
    }
}
