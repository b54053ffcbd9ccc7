//! The engine: takes what lies in its queue, reads once, decides, commits once, acknowledges.
//!
//! One engine runs per process. All stream readers and all HTTP handlers feed its one bounded
//! queue; what queued up while the last commit was under way is the next batch (group commit). An
//! event is acknowledged only after the script that wrote its effects has answered, so whatever
//! crashes in between is delivered again and finds its own trace.

mod acknowledgements;
mod acknowledger;
mod commit;
mod decide;
mod group;
mod handle;
pub mod metrics;
mod read;
mod send;
pub mod store_id;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use handle::{EngineHandle, SubmitError};
pub(crate) use handle::{Job, Origin, Work};

use self::{acknowledger::Acknowledger, commit::Refused};
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
    schema::{entry_id::EntryId, keys::Key, stream::Stream},
};

/// The most inputs in one batch.
pub const BATCH_INPUTS: usize = 256;
/// The most entities that one batch names, unless a single input names more.
pub const BATCH_KEYS: usize = 2_000;
/// The most entities that an input keeps in sight, without having named them, after a conflict.
const MISSED_KEYS: usize = BATCH_KEYS / 4;
/// How many inputs wait for the engine before readers and callers do.
pub const QUEUE: usize = 1_024;
/// The most memory that the entries of one batch take, in KiB, unless a single one takes more.
const BATCH_KIB: usize = 2 * 1_024;
/// The most memory that entries in the process take from being read to being finished, in KiB.
pub(crate) const QUEUE_KIB: u32 = 8 * 1_024;
/// How long an acknowledgement waits for another command to travel with.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// What they are called in the log.
const ACKS: &str = "the acknowledgements";
/// The reason in the dead letter of an entry that is gone.
const DELETED: &str = "it was deleted while it was pending; whether it had its effect is not known";
/// How often a Redis that failed is asked whether it is back.
const PROBE: Duration = Duration::from_millis(100);
/// How long Redis may take to answer a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a lease lasts at most: as long as a large batch may take to be decided again.
const LEASE_MILLIS: u64 = 50;
/// How often an instance joins the queue for the lease before it goes on without: the lease may have run
/// out, and the queue with it.
const LEASE_WAITS: usize = 2;
/// After this number of losses a batch queues for the lease.
const CONTENDED_AFTER: u32 = 2;
/// After this number of losses a batch is halved, so that it is decided sooner.
const HALVE_AFTER: u32 = 2;
/// A batch of this size is not halved.
const SMALL_BATCH: usize = 16;

/// The engine of one process.
pub(crate) struct Engine<D: Decider> {
    decider: D,
    queue: tokio::sync::mpsc::Receiver<Job<D>>,
    /// Taken from the queue, but too many or too large for their batch.
    carried: VecDeque<Job<D>>,
    own: Link,
    /// By the number of the server.
    others: HashMap<usize, Acknowledger>,
    sources: Sources,
    acks: HashMap<Stream, Vec<EntryId>>,
    instance: String,
    component: Arc<Component>,
    /// Fails while an acknowledgement in the own Redis is refused.
    acks_component: Arc<Component>,
    health: Arc<Health>,
    metrics: Arc<EngineMetrics>,
    shutdown: CancellationToken,
    /// The own store as the entries of this batch were read from it.
    identity: Option<Identity>,
    /// Streams, lists and sorted sets that could not be written when they were last tried.
    obstacles: Vec<Refused>,
    /// Inputs that need one of them. Others go on meanwhile.
    parked: Vec<Job<D>>,
    /// When the obstacles were last looked at.
    probed: Instant,
    /// Entities that instances compete for: who decides upon them queues for the lease before it reads.
    contested: HashSet<Key>,
    lease: Lease,
    /// Whether Redis failed during the shutdown: what is left is for the next start.
    given_up: bool,
    /// Whether redelivered events are treated as new ones: only to show that the tests notice.
    ignore_records: bool,
}

impl<D: Decider> Engine<D> {
    /// An engine and the sender that feeds it. It ends when all senders are gone and the queue is
    /// empty.
    pub(crate) fn new(
        decider: D,
        sources: Sources,
        instance: String,
        health: Arc<Health>,
        metrics: Arc<EngineMetrics>,
        shutdown: CancellationToken,
    ) -> (Self, tokio::sync::mpsc::Sender<Job<D>>) {
        let (sender, queue) = tokio::sync::mpsc::channel(QUEUE);
        let own = Link::new(sources.of(D::TOPIC).clone(), TIMEOUT);
        let engine = Self {
            decider,
            queue,
            carried: VecDeque::new(),
            own,
            others: HashMap::new(),
            sources,
            acks: HashMap::new(),
            instance,
            component: health.component("the engine"),
            acks_component: health.background_component(ACKS),
            health,
            metrics,
            shutdown,
            identity: None,
            obstacles: Vec::new(),
            parked: Vec::new(),
            probed: Instant::now(),
            contested: HashSet::new(),
            lease: Lease::NotHeld,
            given_up: false,
            ignore_records: ignore_records(),
        };
        (engine, sender)
    }

    /// Fails while the own Redis does not do what it is asked to.
    pub(crate) fn component(&self) -> Arc<Component> {
        Arc::clone(&self.component)
    }

    /// Handles batches until all senders are gone, or until Redis fails during the shutdown.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let rights = permissions::of_owner(D::TOPIC, &D::streams());
        if !await_server(&mut self.own, &rights, &self.component, &self.shutdown).await? {
            return Ok(());
        }
        self.component.answered();
        while !self.given_up
            && let Some(jobs) = self.take().await
        {
            let failed = self.handle(jobs, false).await;
            // What failed in company is tried alone: the fault may be in what its neighbours had
            // decided.
            for job in failed {
                if !self.given_up {
                    self.handle(vec![job], true).await;
                }
            }
        }
        if !self.given_up {
            self.flush_acks().await;
        }
        for (_, other) in self.others.drain() {
            other.finish().await;
        }
        Ok(())
    }

    /// The next batch, as soon as there is one; acknowledgements go out alone when it is quiet. A
    /// Redis that failed is asked until it answers: commands are refused until then, so none of
    /// them would find out.
    async fn take(&mut self) -> Option<Vec<Job<D>>> {
        if !self.obstacles.is_empty() && self.probed.elapsed() >= PROBE {
            self.probe().await;
        }
        let mut jobs: Vec<Job<D>> = self.carried.drain(..).collect();
        if self.obstacles.is_empty() {
            jobs.append(&mut self.parked);
        }
        let mut counted = jobs.len();
        while jobs.is_empty() {
            let receive = self.queue.recv_many(&mut jobs, BATCH_INPUTS);
            let failing = self.component.is_failing() || self.acks_component.is_failing();
            let quiet = match (self.acks.is_empty(), failing) {
                (_, true) => PROBE,
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
        let mut kib = 0;
        let mut fits = |job: &Job<D>| {
            kib += job.kib();
            kib <= BATCH_KIB
        };
        let count = jobs.iter().map_while(|job| fits(job).then_some(())).count();
        self.carried = jobs.split_off(count.clamp(1, jobs.len())).into();
        Some(jobs)
    }

    /// Sees every job of the batch through, however long it takes, and gives back those whose
    /// decision failed. With `alone`, that is the job's own fault.
    async fn handle(&mut self, jobs: Vec<Job<D>>, alone: bool) -> Vec<Job<D>> {
        let mut world = World::default();
        let mut open = jobs;
        let mut failed = Vec::new();
        let mut backoff = Backoff::default();
        let (mut losses, mut moves) = (0, 0);
        self.lease = Lease::NotHeld;
        loop {
            // A caller who went away was promised nothing.
            open.retain(|job| !job.is_abandoned());
            let done = match self.drop_lost(&mut open).await {
                Ok(()) if open.is_empty() => return failed,
                Ok(()) => match self.load(&mut world, &mut open, alone).await {
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
                    if progress == Progress::Deferred || losses >= CONTENDED_AFTER {
                        let keys = open.iter().flat_map(|job| &job.keys);
                        let loaded = keys.filter(|(_, access)| *access == ReadAccess::Load);
                        self.contested = loaded.map(|(key, _)| key.clone()).collect();
                    }
                    if losses > HALVE_AFTER && open.len() > SMALL_BATCH {
                        let rest = open.drain(open.len() / 2..);
                        rest.rev().for_each(|job| self.carried.push_front(job));
                        world = World::default();
                    }
                }
                Err(Setback::Moved) => {
                    self.lease = Lease::NotHeld;
                    self.identity = None;
                    world = World::default();
                    moves += 1;
                    if moves > 1 {
                        backoff.wait().await;
                    }
                }
                Err(Setback::Link(error)) => {
                    self.metrics.failures.inc();
                    self.component.failed(&error);
                    self.lease = Lease::NotHeld;
                    // What was decided may or may not be written: look again and decide again.
                    world = World::default();
                    if self.shutdown.is_cancelled() {
                        // Nothing is lost: nothing of this was acknowledged or answered.
                        warn!(inputs = open.len(), "leaving unfinished inputs for the next start");
                        self.given_up = true;
                        return Vec::new();
                    }
                    tokio::select! {
                        () = backoff.wait() => {}
                        () = self.shutdown.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Adds inputs that came in while the batch waited for the lease: its turn is worth more that way.
    fn top_up(&mut self, open: &mut Vec<Job<D>>) {
        let mut kib: usize = open.iter().map(Job::kib).sum();
        while open.len() < BATCH_INPUTS
            && kib < BATCH_KIB
            && let Ok(job) = self.queue.try_recv()
        {
            self.metrics.inputs.inc();
            if !job.is_abandoned() {
                kib += job.kib();
                open.push(job);
            }
        }
    }

    /// Redis did what it was asked to do; the engine works unless there is a key that it cannot write.
    fn answered(&self) {
        if self.obstacles.is_empty() {
            self.component.answered();
        }
    }

    fn strange(&self, command: &'static str) -> ConnectionError {
        ConnectionError::Refused {
            address: self.own.address(),
            command,
            message: "the answer is not of the expected form".to_owned(),
        }
    }
}

/// How far a batch came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// All of it is committed, but for inputs that have to see more.
    Done,
    /// Some inputs wait until another instance has committed.
    Deferred,
    /// Some inputs lost to another instance, and know what stands now.
    Lost,
}

/// Whether a batch has the lease on contested entities.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// It does not, or has passed it on.
    NotHeld,
    /// It does, until it has committed.
    Held,
    /// It does not, but its holder did not commit in time: the next commit disregards the lease.
    Disregarded,
}

/// Why a batch has to be looked at anew.
enum Setback {
    Link(ConnectionError),
    /// The store, or the server process, is another one than the one that was read from.
    Moved,
}

impl From<ConnectionError> for Setback {
    fn from(error: ConnectionError) -> Self {
        Self::Link(error)
    }
}

/// Whether redelivered events are to be treated as new. Exists in debug builds only, for the one
/// test that shows that the auditor notices double effects.
fn ignore_records() -> bool {
    let ignored = cfg!(debug_assertions) && std::env::var_os("TEST_IGNORE_RECORDS").is_some();
    if ignored {
        error!("TEST_IGNORE_RECORDS is set: events that are delivered twice take effect twice");
    }
    ignored
}
