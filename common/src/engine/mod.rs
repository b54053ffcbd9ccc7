//! The engine: takes the waiting inputs, reads once, decides, commits once, and acknowledges.
//!
//! There is one engine per process. All stream readers and all HTTP handlers feed its bounded
//! queue; the inputs that arrive during a commit form the next batch (group commit). An event is
//! acknowledged only after the script with its effects has succeeded. After a crash in between, the
//! event is delivered again and finds its idempotency record.

mod acknowledgements;
mod acknowledger;
mod commit;
mod decide;
mod group;
mod handle;
mod limits;
mod memory;
pub mod metrics;
mod read;
mod send;
pub mod store_id;
mod timing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use handle::{EngineHandle, SubmitError};
pub(crate) use handle::{Job, Origin, Work};
pub use limits::{BATCH_INPUTS, BATCH_KEYS, Limits};

use self::{
    acknowledger::Acknowledger,
    commit::Refused,
    memory::Memory,
    timing::{PROBE_INTERVAL, REDIS_TIMEOUT},
};
use crate::{
    connection::{
        backoff::Backoff,
        error::ConnectionError,
        health::{Component, Health},
        link::Link,
        permissions,
        startup::await_server,
        topology::Sources,
    },
    decision::{Decider, ReadAccess, World},
    engine::{metrics::EngineMetrics, store_id::Identity},
    planted,
    schema::{entry_id::EntryId, keys::Key, stream::Stream},
};

/// How long an acknowledgement waits for another command to be sent with.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// The name of the acknowledgements in the log.
const ACKS_COMPONENT: &str = "the acknowledgements";
/// The reason in the dead letter of a deleted entry.
const DELETED_REASON: &str =
    "it was deleted while it was pending; whether it had its effect is not known";
/// How often an instance joins the queue for the lease before it continues without: the lease, and
/// its queue with it, may have expired.
const LEASE_WAITS: usize = 2;

/// The engine of one process.
pub(crate) struct Engine<D: Decider> {
    decider: D,
    queue: tokio::sync::mpsc::Receiver<Job<D>>,
    /// Jobs taken from the queue that exceeded the limits of their batch.
    carried: VecDeque<Job<D>>,
    own: Link,
    /// The acknowledgers of other servers, by the index of the server.
    others: BTreeMap<usize, Acknowledger>,
    sources: Sources,
    acks: BTreeMap<Stream, Vec<EntryId>>,
    instance: String,
    component: Arc<Component>,
    /// Fails while an acknowledgement in the own Redis is refused.
    acks_component: Arc<Component>,
    health: Arc<Health>,
    metrics: Arc<EngineMetrics>,
    limits: Limits,
    shutdown: CancellationToken,
    /// The identity of the own store when the entries of this batch were read from it.
    identity: Option<Identity>,
    /// Streams, lists and sorted sets that could not be written at the last attempt.
    obstacles: Vec<Refused>,
    /// Inputs that need one of the obstacles. Other inputs continue meanwhile.
    parked: Vec<Job<D>>,
    /// The time of the last probe of the obstacles.
    probed: Instant,
    /// Entities that instances compete for: a batch with one of them queues for the lease before it
    /// reads.
    contested: BTreeSet<Key>,
    lease: Lease,
    /// The entities that were written last.
    memory: Memory,
    /// Whether Redis failed during the shutdown: unfinished work is left for the next start.
    given_up: bool,
    /// Whether redelivered events are treated as new: only to prove that the tests detect it.
    ignore_records: bool,
}

impl<D: Decider> Engine<D> {
    /// An engine and the sender that feeds it. The engine ends when all senders are dropped and the
    /// queue is empty.
    pub(crate) fn new(
        decider: D,
        sources: Sources,
        instance: String,
        health: Arc<Health>,
        metrics: Arc<EngineMetrics>,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> (Self, tokio::sync::mpsc::Sender<Job<D>>) {
        let (sender, queue) = tokio::sync::mpsc::channel(limits.queue_inputs);
        let own = Link::new(sources.of(D::TOPIC).clone(), REDIS_TIMEOUT);
        let engine = Self {
            decider,
            queue,
            carried: VecDeque::new(),
            own,
            others: BTreeMap::new(),
            sources,
            acks: BTreeMap::new(),
            instance,
            component: health.component("the engine"),
            acks_component: health.background_component(ACKS_COMPONENT),
            health,
            metrics,
            limits,
            shutdown,
            identity: None,
            obstacles: Vec::new(),
            parked: Vec::new(),
            probed: Instant::now(),
            contested: BTreeSet::new(),
            lease: Lease::NotHeld,
            memory: Memory::new(limits.remembered),
            given_up: false,
            ignore_records: ignore_records(),
        };
        (engine, sender)
    }

    /// Fails while the own Redis refuses commands or is away.
    pub(crate) fn component(&self) -> Arc<Component> {
        Arc::clone(&self.component)
    }

    /// Handles batches until all senders are dropped, or until Redis fails during the shutdown.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let required = permissions::of_owner(D::TOPIC, &D::streams());
        if !await_server(&mut self.own, &required, &self.component, &self.shutdown).await? {
            return Ok(());
        }
        self.component.answered();
        while !self.given_up
            && let Some(jobs) = self.take().await
        {
            let failed = self.handle(jobs, false).await;
            // Failed jobs are tried again one by one: the cause may be the decision of another job.
            for job in failed {
                if !self.given_up {
                    self.handle(vec![job], true).await;
                }
            }
        }
        if !self.given_up {
            self.flush_acks().await;
        }
        for other in std::mem::take(&mut self.others).into_values() {
            other.finish().await;
        }
        Ok(())
    }

    /// Returns the next batch as soon as there is one. Without traffic, acknowledgements are sent
    /// alone. A failed Redis is probed until it answers: commands are refused until then, so no
    /// command would notice its recovery.
    async fn take(&mut self) -> Option<Vec<Job<D>>> {
        if !self.obstacles.is_empty() && self.probed.elapsed() >= PROBE_INTERVAL {
            self.probe().await;
        }
        let mut jobs: Vec<Job<D>> = self.carried.drain(..).collect();
        if self.obstacles.is_empty() {
            jobs.append(&mut self.parked);
        }
        let mut counted = jobs.len();
        while jobs.is_empty() {
            let receive = self.queue.recv_many(&mut jobs, self.limits.batch_inputs);
            let failing = self.component.is_failing() || self.acks_component.is_failing();
            let quiet = match (self.acks.is_empty(), failing) {
                (_, true) => PROBE_INTERVAL,
                (false, false) => ACK_DELAY,
                (true, false) => Duration::MAX,
            };
            match tokio::time::timeout(quiet, receive).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(_) if self.component.is_failing() => {
                    self.probe().await;
                    if self.obstacles.is_empty() {
                        jobs.append(&mut self.parked);
                        counted = jobs.len();
                    }
                }
                Err(_) => self.flush_acks().await,
            }
        }
        self.metrics.batches.inc();
        self.metrics.inputs.inc_by((jobs.len() - counted) as u64);
        let batch_kib = self.limits.batch_kib;
        let mut kib = 0;
        let mut fits = |job: &Job<D>| {
            kib += job.kib();
            kib <= batch_kib
        };
        let count = jobs.iter().map_while(|job| fits(job).then_some(())).count();
        self.carried = jobs.split_off(count.clamp(1, jobs.len())).into();
        Some(jobs)
    }

    /// Handles every job of the batch, however long it takes, and returns those whose decision
    /// failed. With `alone`, the fault is the job's own.
    async fn handle(&mut self, jobs: Vec<Job<D>>, alone: bool) -> Vec<Job<D>> {
        let mut world = World::default();
        let mut open = jobs;
        let mut failed = Vec::new();
        let mut backoff = Backoff::default();
        let (mut losses, mut moves) = (0, 0);
        self.lease = Lease::NotHeld;
        self.memory.begin();
        if alone {
            // The stored state may allow what the remembered one did not.
            self.memory.clear();
        }
        if planted!("acknowledged before the commit") {
            for job in &open {
                if let Origin::Entry { stream, id, .. } = &job.origin {
                    self.acks.entry(*stream).or_default().push(*id);
                }
            }
            self.flush_acks().await;
        }
        loop {
            // A caller that has stopped waiting was promised nothing.
            open.retain(|job| !job.is_abandoned());
            let moved = self.drop_lost(&mut open).await;
            if matches!(moved, Ok(true)) {
                world = World::default();
            }
            let done = match moved {
                Ok(_) if open.is_empty() => return failed,
                Ok(_) => match self.load(&mut world, &mut open, alone).await {
                    Ok(()) => {
                        self.decide_and_commit(&mut world, &mut open, alone, &mut failed).await
                    }
                    Err(setback) => Err(setback),
                },
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(progress) => {
                    self.answered();
                    backoff.reset();
                    moves = 0;
                    losses += u32::from(progress == Progress::Lost);
                    if (progress == Progress::Deferred || losses >= self.limits.contended_after)
                        && !planted!("losers do not queue for the lease")
                    {
                        let keys = open.iter().flat_map(|job| &job.keys);
                        let loaded = keys.filter(|(_, access)| *access == ReadAccess::Load);
                        self.contested = loaded.map(|(key, _)| key.clone()).collect();
                    }
                    if losses > self.limits.halve_after && open.len() > self.limits.small_batch {
                        let rest = open.drain(open.len() / 2..);
                        rest.rev().for_each(|job| self.carried.push_front(job));
                        world = World::default();
                    }
                }
                Err(Setback::Moved) => {
                    self.lease = Lease::NotHeld;
                    self.identity = None;
                    world = World::default();
                    self.memory.clear();
                    moves += 1;
                    if moves > 1 {
                        backoff.wait().await;
                    }
                }
                Err(Setback::Link(error)) => {
                    self.metrics.failures.inc();
                    self.component.failed(&error);
                    self.lease = Lease::NotHeld;
                    // The outcome of the commit is unknown: read again and decide again.
                    world = World::default();
                    self.memory.clear();
                    if self.shutdown.is_cancelled() {
                        // Nothing is lost: none of these inputs was acknowledged or answered.
                        warn!(inputs = open.len(), "leaving unfinished inputs for the next start");
                        self.given_up = true;
                        return Vec::new();
                    }
                    tokio::select! {
                        biased;
                        () = backoff.wait() => {}
                        () = self.shutdown.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Adds inputs that arrived while the batch waited for the lease, so that the lease serves more
    /// inputs.
    fn add_arrivals(&mut self, open: &mut Vec<Job<D>>) {
        let mut kib: usize = open.iter().map(Job::kib).sum();
        while open.len() < self.limits.batch_inputs
            && kib < self.limits.batch_kib
            && let Ok(job) = self.queue.try_recv()
        {
            self.metrics.inputs.inc();
            if !job.is_abandoned() {
                kib += job.kib();
                open.push(job);
            }
        }
    }

    /// Records a success of Redis; the engine is ready unless there is a key that it cannot write.
    fn answered(&self) {
        if self.obstacles.is_empty() {
            self.component.answered();
        }
    }

    fn unexpected_answer(&self, command: &'static str) -> ConnectionError {
        ConnectionError::Refused {
            address: self.own.address(),
            command,
            message: "the answer is not of the expected form".to_owned(),
        }
    }
}

/// The progress of a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// All of it is committed, except inputs that have to read more.
    Done,
    /// Some inputs wait until another instance has committed.
    Deferred,
    /// Some inputs lost a conflict, and have received the current values.
    Lost,
}

/// Whether a batch holds the lease on contested entities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// The batch never held the lease, or has passed it on.
    NotHeld,
    /// The batch holds the lease until it commits.
    Held,
    /// The holder of the lease did not commit in time: the next commit disregards the lease.
    Disregarded,
}

/// The reason why a batch starts over.
enum Setback {
    Link(ConnectionError),
    /// The store, or the server process, differs from the one that the batch read from.
    Moved,
}

impl From<ConnectionError> for Setback {
    fn from(error: ConnectionError) -> Self {
        Self::Link(error)
    }
}

/// Whether redelivered events are treated as new. Only debug builds allow it, for the one test that
/// proves that the auditor detects double effects.
fn ignore_records() -> bool {
    let ignored = cfg!(debug_assertions) && std::env::var_os("TEST_IGNORE_RECORDS").is_some();
    if ignored {
        error!("TEST_IGNORE_RECORDS is set: events that are delivered twice take effect twice");
    }
    ignored
}
