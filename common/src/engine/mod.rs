//! The engine: takes what lies in its queue, reads once, decides, commits once, acknowledges.
//!
//! One engine runs per process. All stream readers and all HTTP handlers feed its one bounded
//! queue; what queued up while the last commit was under way is the next batch (group commit). An
//! event is acknowledged only after the script that wrote its effects has answered, so whatever
//! crashes in between is delivered again and finds its own trace.

mod acknowledger;
mod commit;
mod group;
pub mod metrics;
mod queue;
pub mod store_id;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use queue::{Door, Refusal};
pub(crate) use queue::{Job, Origin, Work};

use self::{
    acknowledger::Acknowledger,
    commit::{Call, Caller, KeyKind, Outcome, Refused, Standing},
    group::{Group, group},
};
use crate::{
    clock::now_millis,
    connection::{
        entry::short_reason,
        health::{Health, Part},
        link::{Backoff, Link, LinkError, await_server, is_error, is_noscript},
        permissions,
        topology::Sources,
    },
    contract::{
        events::{DeadLetter, Stream, Topic},
        ids::EntryId,
        keys::{self, Key},
    },
    decision::{Access, Append, Changes, Decider, Halt, Note, Reads, World},
    engine::{metrics::EngineMetrics, store_id::Identity},
    logs,
    trace_context::trace_id,
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
const PATIENCE: Duration = Duration::from_secs(5);
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
    part: Arc<Part>,
    /// Fails while an acknowledgement in the own Redis is refused.
    acks_part: Arc<Part>,
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
    turn: Turn,
    /// Whether Redis failed during the shutdown: what is left is for the next start.
    given_up: bool,
    /// Whether redelivered events are treated as new ones: only to show that the tests notice.
    ignore_traces: bool,
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
        let own = Link::new(sources.of(D::TOPIC).clone(), PATIENCE);
        let engine = Self {
            decider,
            queue,
            carried: VecDeque::new(),
            own,
            others: HashMap::new(),
            sources,
            acks: HashMap::new(),
            instance,
            part: health.part("the engine"),
            acks_part: health.helper(ACKS),
            health,
            metrics,
            shutdown,
            identity: None,
            obstacles: Vec::new(),
            parked: Vec::new(),
            probed: Instant::now(),
            contested: HashSet::new(),
            turn: Turn::None,
            given_up: false,
            ignore_traces: ignore_traces(),
        };
        (engine, sender)
    }

    /// Fails while the own Redis does not do what it is asked to.
    pub(crate) fn part(&self) -> Arc<Part> {
        Arc::clone(&self.part)
    }

    /// Handles batches until all senders are gone, or until Redis fails during the shutdown.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let rights = permissions::of_owner(D::TOPIC);
        if !await_server(&mut self.own, &rights, &self.part, &self.shutdown).await? {
            return Ok(());
        }
        self.part.answered();
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
            let failing = self.part.is_failing() || self.acks_part.is_failing();
            let quiet = match (self.acks.is_empty(), failing) {
                (_, true) => PROBE,
                (false, false) => ACK_DELAY,
                (true, false) => Duration::MAX,
            };
            match tokio::time::timeout(quiet, receive).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(_) if self.part.is_failing() => {
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
        self.turn = Turn::None;
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
                        let loaded = keys.filter(|(_, access)| *access == Access::Load);
                        self.contested = loaded.map(|(key, _)| key.clone()).collect();
                    }
                    if losses > HALVE_AFTER && open.len() > SMALL_BATCH {
                        let rest = open.drain(open.len() / 2..);
                        rest.rev().for_each(|job| self.carried.push_front(job));
                        world = World::default();
                    }
                }
                Err(Setback::Moved) => {
                    self.turn = Turn::None;
                    self.identity = None;
                    world = World::default();
                    moves += 1;
                    if moves > 1 {
                        backoff.wait().await;
                    }
                }
                Err(Setback::Link(error)) => {
                    self.metrics.failures.inc();
                    self.part.failed(&error);
                    self.turn = Turn::None;
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

    /// Drops entries whose data was lost, or whose server was started anew, after they were read:
    /// what they say may never have happened. Those that still exist are delivered again.
    async fn drop_lost(&mut self, open: &mut Vec<Job<D>>) -> Result<(), LinkError> {
        let run_id = self.own.run_id().await?;
        let is_lost = |identity: &Option<Identity>, job: &Job<D>| {
            job.provenance().is_some_and(|it| it.is_lost() || !it.fits(identity.as_ref()))
        };
        let known = self.identity.as_ref().is_some_and(|identity| identity.run_id == run_id);
        if !known || open.iter().any(|job| is_lost(&self.identity, job)) {
            let mut identity = Some(store_id::identify(&mut self.own, D::TOPIC).await?);
            if open.iter().any(|job| is_lost(&identity, job)) {
                // It may be this connection, and not the reader's, that leads to a server which is not
                // the one any more: a demoted primary answers all that the engine has asked so far.
                self.own.renew();
                identity = Some(store_id::identify(&mut self.own, D::TOPIC).await?);
            }
            if self.identity != identity {
                // The effects that these acknowledge may be lost.
                let (own, sources) = (self.sources.index(D::TOPIC), &self.sources);
                self.acks.retain(|stream, _| sources.index(stream.topic()) != own);
                self.identity = identity;
            }
        }
        let before = open.len();
        open.retain(|job| {
            let lost = is_lost(&self.identity, job);
            if lost {
                job.provenance().inspect(|it| it.lose());
            }
            !lost
        });
        let entries = before - open.len();
        if entries > 0 {
            self.metrics.dropped.inc_by(entries as u64);
            info!(
                entries,
                "the data from which entries were read is lost, or Redis was started \
                anew: they are dropped, and delivered again where they exist"
            );
        }
        Ok(())
    }

    /// Reads what the jobs concern, when it is this instance's turn if they are about contested entities.
    async fn load(
        &mut self,
        world: &mut World,
        open: &mut Vec<Job<D>>,
        alone: bool,
    ) -> Result<(), Setback> {
        let mut wanted = self.unread(world, open);
        if self.turn == Turn::None && !self.is_contested(open) {
            self.contested.clear();
        } else if self.turn == Turn::None {
            *world = World::default();
            wanted = self.unread(world, open);
            self.take_turn(world, wanted).await?;
            if !alone {
                self.top_up(open);
            }
            // New inputs are unchecked, and the data of the others may have been lost while the batch waited.
            let identity = self.identity.clone();
            self.drop_lost(open).await?;
            if self.identity != identity {
                return Err(Setback::Moved);
            }
            wanted = self.unread(world, open);
        }
        if !wanted.is_empty() {
            let values = self.send_with_acks(vec![mget(&wanted)]).await?.pop();
            self.take_in(world, wanted, values)?;
        }
        for (key, _) in open.iter().flat_map(|job| &job.keys).filter(|(_, a)| *a == Access::Fresh) {
            if !world.knows(key) {
                world.set_standing(key.clone(), None);
            } else if self.ignore_traces {
                world.hide(key);
            }
        }
        Ok(())
    }

    fn is_contested(&self, open: &[Job<D>]) -> bool {
        !self.contested.is_empty()
            && open
                .iter()
                .flat_map(|job| &job.keys)
                .any(|(key, access)| *access != Access::Fresh && self.contested.contains(key))
    }

    /// Queues for the lease on the contested entities, waits for the turn, and reads.
    async fn take_turn(&mut self, world: &mut World, wanted: Vec<Key>) -> Result<(), Setback> {
        let turn = keys::lease_turn(D::TOPIC, &self.instance);
        let mut join = redis::cmd("EVAL");
        join.arg(include_str!("take_turn.lua")).arg(2).arg(keys::lease(D::TOPIC)).arg(&turn);
        join.arg(&self.instance).arg(LEASE_MILLIS);
        for key in &self.contested {
            join.arg(key.as_str());
        }
        let mut wait = redis::cmd("BLPOP");
        wait.arg(&turn).arg(LEASE_MILLIS as f64 / 1_000.0);
        let mut values = None;
        self.turn = Turn::Forced;
        for _ in 0..LEASE_WAITS {
            let commands = vec![join.clone(), wait.clone(), mget(&wanted)];
            let mut answers = self.send_with_acks(commands).await?;
            values = answers.pop();
            if let Some(Value::Array(_)) = answers.pop() {
                self.turn = Turn::Granted;
                if answers.pop() == Some(Value::Int(1)) {
                    // Nobody was before us: the next batch does not queue.
                    self.contested.clear();
                }
                break;
            }
            let joined = answers.pop().unwrap_or(Value::Nil);
            if let Err(error) = self.own.accept("EVAL take_turn.lua", joined) {
                self.part.denied(&error);
            }
        }
        self.take_in(world, wanted, values)
    }

    /// Finds out what the jobs concern, and gives what of it is not in the world yet. Jobs beyond the batch's
    /// limit are carried to the next one.
    fn unread(&mut self, world: &World, open: &mut Vec<Job<D>>) -> Vec<Key> {
        let (mut wanted, mut named) = (Vec::new(), 0);
        for (number, job) in open.iter_mut().enumerate() {
            let Work::Input(input) = &job.work else { continue };
            let mut reads = Reads::default();
            let asked = catch_unwind(AssertUnwindSafe(|| self.decider.reads(input, &mut reads)));
            job.panicked = asked.is_err();
            if reads.keys.len() + job.missed.len() > BATCH_KEYS && !job.narrowed {
                // Behind others in its batch it may have looked at different entities each time: once,
                // only those count that it looks at from now on.
                job.narrowed = true;
                job.missed.clear();
            }
            let missed = job.missed.iter().map(|key| (key.clone(), Access::Load));
            job.keys = reads.keys.into_iter().chain(missed).collect();
            if job.keys.len() > BATCH_KEYS {
                // Not even alone would it fit into one call.
                job.oversized = Some(job.keys.len());
                job.keys.clear();
                continue;
            }
            named += job.keys.len();
            // One script call cannot take any number of keys.
            if named > BATCH_KEYS && number > 0 {
                open.drain(number..).rev().for_each(|job| self.carried.push_front(job));
                break;
            }
            for (key, access) in &job.keys {
                let read = *access != Access::Fresh || self.ignore_traces;
                if read && !world.knows(key) {
                    wanted.push(key.clone());
                }
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    fn take_in(
        &mut self,
        world: &mut World,
        wanted: Vec<Key>,
        values: Option<Value>,
    ) -> Result<(), Setback> {
        let values = self.own.accept("MGET", values.unwrap_or(Value::Nil))?;
        let Value::Array(values) = values else {
            return Err(self.strange("MGET").into());
        };
        for (key, value) in wanted.into_iter().zip(values) {
            match value {
                Value::BulkString(bytes) => {
                    world.set_standing(key, Some(&String::from_utf8_lossy(&bytes)));
                }
                _ => world.set_standing(key, None),
            }
        }
        Ok(())
    }

    /// Decides on all open jobs and commits. Those that are not committed yet stay open.
    async fn decide_and_commit(
        &mut self,
        world: &mut World,
        open: &mut Vec<Job<D>>,
        alone: bool,
        failed: &mut Vec<Job<D>>,
    ) -> Result<Progress, Setback> {
        let now = now_millis();
        let mut decided = Vec::with_capacity(open.len());
        let mut jobs = Vec::with_capacity(open.len());
        let mut missed = Vec::new();
        for mut job in open.drain(..) {
            match self.decide(world, &mut job, now) {
                Verdict::Missed => missed.push(job),
                Verdict::Failed(_) if !alone => failed.push(job),
                Verdict::Failed(reason) | Verdict::Unreadable(reason) => {
                    decided.push(self.refuse(world, &mut job, reason, now));
                    jobs.push(job);
                }
                Verdict::Changes(changes) => {
                    decided.push(changes);
                    jobs.push(job);
                }
            }
        }
        let groups = group(&jobs, &mut decided, world);
        let writes = |group: &Group| {
            !group.appends.is_empty()
                || group
                    .keys
                    .iter()
                    .any(|key| world.slot(key).is_some_and(|slot| slot.change().is_some()))
        };
        let (writing, idle): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(writes);
        let done = match self.find_foreign(&idle, world).await {
            // A commit passes the lease on, even if it has nothing to write.
            Ok(()) if writing.is_empty() && (self.turn != Turn::Granted || jobs.is_empty()) => {
                Ok(Vec::new())
            }
            Ok(()) => self.commit(&writing, world, now).await,
            Err(error) => Err(error.into()),
        };
        let outcomes = match done {
            Ok(outcomes) => outcomes,
            Err(setback) => {
                open.extend(jobs);
                open.extend(missed);
                return Err(setback);
            }
        };
        let mut fates: Vec<Fate> = jobs.iter().map(|_| Fate::Committed).collect();
        for group in &idle {
            if group.keys.iter().any(|key| world.foreign(key).is_some()) {
                group.jobs.iter().for_each(|job| fates[*job] = Fate::Lost);
            }
        }
        let all_committed =
            missed.is_empty() && outcomes.iter().all(|it| *it == Outcome::Committed);
        for (group, outcome) in writing.iter().zip(outcomes) {
            let fate = match outcome {
                Outcome::Committed => {
                    // Inputs that stay open look at the world again.
                    if !all_committed {
                        group.keys.iter().for_each(|key| world.settle(key, now));
                    }
                    continue;
                }
                Outcome::Conflict(standing) => {
                    self.metrics.conflicts.inc();
                    group.keys.iter().for_each(|key| world.revert(key));
                    for (key, found) in standing {
                        match found {
                            Standing::Absent => world.set_standing(key, None),
                            Standing::Stored(text) => world.set_standing(key, Some(&text)),
                            Standing::Foreign(kind) => world.set_foreign(key, &kind),
                        }
                    }
                    Fate::Lost
                }
                Outcome::Full(limit) => {
                    group.keys.iter().for_each(|key| world.revert(key));
                    // With those before it there would be too many; these are decided again without it.
                    group.jobs.iter().for_each(|job| fates[*job] = Fate::Again);
                    group
                        .limits
                        .get(limit)
                        .into_iter()
                        .for_each(|(_, job)| fates[*job] = Fate::Full);
                    continue;
                }
                Outcome::Deferred => {
                    self.metrics.deferrals.inc();
                    group.keys.iter().for_each(|key| world.forget(key));
                    Fate::Deferred
                }
                Outcome::Refused(refused) => {
                    group.keys.iter().for_each(|key| world.revert(key));
                    match refused.kind {
                        // Only these inputs write there, so it is their fault alone.
                        KeyKind::OwnList if !refused.is_denied() => Fate::Failed(refused.reason),
                        _ => {
                            self.note_obstacle(refused);
                            Fate::Refused
                        }
                    }
                }
            };
            group.jobs.iter().for_each(|job| fates[*job] = fate.clone());
        }
        self.metrics.commits.inc_by((writing.len() + idle.len()) as u64);
        let mut progress = Progress::Done;
        for ((mut job, changes), fate) in jobs.into_iter().zip(decided).zip(fates) {
            match fate {
                Fate::Committed => self.finish(job, changes),
                Fate::Full => {
                    let answer = changes.limit.map(|(_, otherwise)| otherwise);
                    self.finish(job, Changes { answer, ..Changes::none() });
                }
                Fate::Again => open.push(job),
                Fate::Failed(reason) if alone => {
                    job.work = Work::Unreadable(reason);
                    open.push(job);
                }
                Fate::Failed(_) => failed.push(job),
                Fate::Refused => self.parked.push(job),
                Fate::Deferred => {
                    progress = progress.max(Progress::Deferred);
                    open.push(job);
                }
                Fate::Lost => {
                    progress = progress.max(Progress::Lost);
                    // What it looked at may not be what it looks at next time.
                    if job.missed.len() > MISSED_KEYS {
                        job.missed.drain(..).for_each(|key| world.forget(&key));
                    }
                    open.push(job);
                }
            }
        }
        open.extend(missed);
        Ok(progress)
    }

    /// A key that inputs need cannot be written: the engine is not ready until it can.
    fn note_obstacle(&mut self, refused: Refused) {
        self.part.failed(&self.own.error_of("the commit", &refused.reason));
        self.metrics.failures.inc();
        self.obstacles.retain(|known| known.key != refused.key);
        self.obstacles.push(refused);
    }

    fn decide(&self, world: &mut World, job: &mut Job<D>, now: u64) -> Verdict<D::Answer> {
        (job.fault, job.dead) = (None, None);
        let input = match &job.work {
            Work::Nothing => return Verdict::Changes(Changes::none()),
            Work::Unreadable(reason) => return Verdict::Unreadable(reason.clone()),
            Work::Deleted => return Verdict::Unreadable(DELETED.to_owned()),
            Work::Input(input) => input,
        };
        if let Some(named) = job.oversized {
            let reason = format!("it concerns {named} entities; {BATCH_KEYS} are the most");
            return Verdict::Unreadable(reason);
        }
        if job.panicked {
            return Verdict::Failed("its handling panicked".to_owned());
        }
        if let Some(reason) = job.keys.iter().find_map(|(key, _)| world.foreign(key)) {
            return Verdict::Failed(reason);
        }
        let decision = catch_unwind(AssertUnwindSafe(|| self.decider.decide(input, world, now)));
        let missing = world.take_missing();
        match decision {
            Err(panic) => {
                Verdict::Failed(format!("its handling panicked: {}", panic_text(&*panic)))
            }
            Ok(Err(Halt::Fault(reason))) => Verdict::Failed(reason),
            Ok(Err(Halt::Missing)) if !missing.is_empty() => {
                job.missed.extend(missing);
                Verdict::Missed
            }
            Ok(Err(halt @ Halt::Missing)) => Verdict::Failed(halt.to_string()),
            Ok(Ok(mut changes)) => {
                job.tries += 1;
                let may_write = |key: &Key| {
                    job.keys.iter().any(|(name, access)| name == key && *access != Access::Peek)
                };
                if let Some(put) = changes.puts.iter().find(|put| !may_write(&put.key)) {
                    let key = &put.key;
                    return Verdict::Failed(format!("{key} was written but not named by reads"));
                }
                world.apply_traced(&mut changes, job.trace.as_deref());
                Verdict::Changes(changes)
            }
        }
    }

    /// What is left to do about a job that cannot be handled: a dead letter, in a group of its own,
    /// or an answer.
    fn refuse(
        &self,
        world: &mut World,
        job: &mut Job<D>,
        reason: String,
        now: u64,
    ) -> Changes<D::Answer> {
        let mut changes = Changes::none();
        job.keys.clear();
        match &mut job.origin {
            Origin::Caller { .. } => job.fault = Some(reason),
            Origin::Entry { stream, id, fields, .. } => {
                let reason = short_reason(reason);
                let trace = keys::dead_letter(D::TOPIC, *stream, *id);
                // Something else lies there. Without its record the letter may be written twice; waiting would
                // stop the service.
                let can_be_marked = world.foreign(&trace).is_none();
                if can_be_marked {
                    job.keys.push((trace.clone(), Access::Fresh));
                }
                if !world.knows(&trace) {
                    world.set_standing(trace.clone(), None);
                }
                // An entry may be delivered twice, also into one batch.
                if world
                    .slot(&trace)
                    .is_some_and(|slot| slot.version().is_some() || slot.change().is_some())
                {
                    return changes;
                }
                // Readers have cut what they could not parse.
                let whole = job.whole.take().or_else(|| fields.cut());
                let letter = DeadLetter {
                    stream: stream.key().to_owned(),
                    entry: id.to_string(),
                    group: D::TOPIC.service().to_owned(),
                    reason: reason.clone(),
                    at: now,
                    fields: fields.to_json(),
                    whole_bytes: whole.as_ref().map(|it| it.bytes as u64),
                    whole_digest: whole.as_ref().map(|it| it.digest.clone()),
                };
                job.whole = whole;
                changes.appends.push(Append {
                    stream: Stream::Dead(D::TOPIC),
                    json: serde_json::to_string(&letter).expect("it has string keys only"),
                });
                if can_be_marked {
                    world.put_mark(&trace);
                }
                job.dead = Some(reason);
            }
        }
        changes
    }

    async fn commit(
        &mut self,
        groups: &[Group],
        world: &World,
        now: u64,
    ) -> Result<Vec<Outcome>, Setback> {
        let caller = self.caller();
        let call = commit::call(&caller, groups, world, now);
        let mut value = self.send_commit(&call).await?;
        if is_noscript(&value) {
            self.load_script().await?;
            value = self.send_commit(&call).await?;
        }
        if is_error(&value, "FENCED") {
            return Err(Setback::Moved);
        }
        let value = self.own.accept("the commit", value)?;
        let outcomes = call.outcomes(value).filter(|outcomes| outcomes.len() == groups.len());
        let outcomes = outcomes.ok_or_else(|| self.strange("the commit"))?;
        let lost = |outcome: &Outcome| matches!(outcome, Outcome::Conflict(_));
        if self.turn != Turn::Granted || !outcomes.iter().any(lost) {
            self.turn = Turn::None;
        }
        self.obstacles.retain(|obstacle| !call.writes(&obstacle.key));
        Ok(outcomes)
    }

    async fn send_commit(&mut self, call: &Call) -> Result<Value, Setback> {
        let value = self.send_with_acks(vec![call.command.clone()]).await?.pop();
        Ok(value.unwrap_or(Value::Nil))
    }

    /// Finds out which entities that decisions without an effect took for absent are something else: a
    /// read shows a key of another type as absent. The script looks at those of all other decisions.
    async fn find_foreign(&mut self, idle: &[Group], world: &mut World) -> Result<(), LinkError> {
        let is_absent = |key: &&Key| {
            world.slot(key).is_some_and(|it| it.version().is_none() && it.change().is_none())
        };
        let absent: Vec<Key> =
            idle.iter().flat_map(|group| &group.keys).filter(is_absent).cloned().collect();
        if absent.is_empty() {
            return Ok(());
        }
        let mut types = Pipeline::with_capacity(absent.len());
        for key in &absent {
            types.cmd("TYPE").arg(key.as_str());
        }
        let types = self.own.send(&types).await?;
        for (key, answer) in absent.into_iter().zip(types) {
            if let Value::SimpleString(kind) = self.own.accept("TYPE", answer)?
                && !matches!(&*kind, "none" | "string")
            {
                world.set_foreign(key, &kind);
            }
        }
        Ok(())
    }

    fn caller(&self) -> Caller<'_> {
        let store = self.identity.as_ref().map_or("", |identity| &identity.store);
        let lease_millis = if self.turn == Turn::Forced { 0 } else { LEASE_MILLIS };
        Caller { topic: D::TOPIC, instance: &self.instance, store, lease_millis }
    }

    async fn load_script(&mut self) -> Result<(), LinkError> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(commit::SCRIPT);
        self.own.ask("SCRIPT LOAD", load).await.map(drop)
    }

    /// Redis did what it was asked to do; the engine works unless there is a key that it cannot write.
    fn answered(&self) {
        if self.obstacles.is_empty() {
            self.part.answered();
        }
    }

    fn finish(&mut self, job: Job<D>, changes: Changes<D::Answer>) {
        if job.tries > 0 {
            self.metrics.tries.observe(f64::from(job.tries));
        }
        let trace = job.trace.as_deref();
        for note in &changes.notes {
            tell(note, trace);
        }
        changes.deliveries.iter().for_each(|line| logs::print(line));
        match job.origin {
            Origin::Entry { stream, id, fields, .. } => {
                if let Some(reason) = job.dead {
                    self.metrics.dead_letters.inc();
                    self.metrics.lost_entries.inc_by(matches!(job.work, Work::Deleted).into());
                    let order = fields.order(stream);
                    error!(%stream, entry = %id, reason, order.id = order,
                        trace.id = trace_id(trace),
                        "an entry cannot be handled; it went to {}", Stream::Dead(D::TOPIC));
                }
                self.acks.entry(stream).or_default().push(id);
            }
            Origin::Caller { reply } => {
                let answer = match (job.fault, changes.answer) {
                    (Some(fault), _) => Err(fault),
                    (None, Some(answer)) => Ok(answer),
                    (None, None) => Err("the decision came without an answer".to_owned()),
                };
                // A caller who went away in the meantime asks again with the same key.
                let _ = reply.send(answer);
            }
        }
    }

    /// Sends commands to the own Redis; acknowledgements travel with them.
    async fn send_with_acks(&mut self, commands: Vec<redis::Cmd>) -> Result<Vec<Value>, Setback> {
        self.check_process().await?;
        let mut pipeline = Pipeline::with_capacity(4);
        let acked = self.own_acks(&mut pipeline);
        for command in commands {
            pipeline.add_command(command);
        }
        match self.own.send(&pipeline).await {
            Ok(mut values) => {
                let answers = values.split_off(acked.len().min(values.len()));
                self.check_acks(&acked, values);
                self.ack_others();
                Ok(answers)
            }
            Err(error) => {
                self.restore_acks(acked);
                Err(error.into())
            }
        }
    }

    /// Sees to it that the connection leads to the process that the engine knows: one that was started
    /// anew may have lost what is to be acknowledged, and what was decided upon.
    async fn check_process(&mut self) -> Result<(), Setback> {
        let run_id = self.own.run_id().await?;
        match &self.identity {
            Some(identity) if identity.run_id == run_id => Ok(()),
            _ => Err(Setback::Moved),
        }
    }

    /// Finds out whether the own Redis takes writes again, also to the key that it did not take last.
    async fn probe(&mut self) {
        self.parked.retain(|job| !job.is_abandoned());
        self.probed = Instant::now();
        match self.try_to_write().await {
            Ok(()) => self.answered(),
            Err(error) => self.part.failed(&error),
        }
    }

    async fn try_to_write(&mut self) -> Result<(), LinkError> {
        let mut write = redis::cmd("SET");
        write.arg(keys::probe(D::TOPIC)).arg("").arg("PX").arg(1);
        self.own.ask("SET", write).await?;
        if self.obstacles.is_empty() {
            return Ok(());
        }
        self.load_script().await?;
        let mut checks = Pipeline::with_capacity(self.obstacles.len());
        for obstacle in &self.obstacles {
            checks.add_command(commit::check(&self.caller(), &obstacle.key, obstacle.kind));
        }
        let mut left = None;
        let mut obstacles = std::mem::take(&mut self.obstacles).into_iter();
        for reply in self.own.send(&checks).await? {
            let Some(mut obstacle) = obstacles.next() else { break };
            let Value::Array(mut reasons) = self.own.accept("the commit", reply)? else {
                return Err(self.strange("the commit"));
            };
            if let Some(Value::BulkString(reason)) = reasons.pop() {
                obstacle.reason = String::from_utf8_lossy(&reason).into_owned();
                left = Some(self.own.error_of("the commit", &obstacle.reason));
                self.obstacles.push(obstacle);
            }
        }
        left.map_or(Ok(()), Err)
    }

    async fn flush_acks(&mut self) {
        match self.check_process().await {
            Ok(()) => {}
            Err(Setback::Moved) => {
                if let Err(error) = self.drop_lost(&mut Vec::new()).await {
                    self.part.failed(&error);
                    tokio::time::sleep(ACK_DELAY).await;
                }
                return;
            }
            Err(Setback::Link(error)) => {
                self.part.failed(&error);
                tokio::time::sleep(ACK_DELAY).await;
                return;
            }
        }
        let mut pipeline = Pipeline::with_capacity(4);
        let acked = self.own_acks(&mut pipeline);
        if !pipeline.is_empty() {
            match self.own.send(&pipeline).await {
                Ok(values) => self.check_acks(&acked, values),
                Err(error) => {
                    self.part.failed(&error);
                    self.restore_acks(acked);
                    tokio::time::sleep(ACK_DELAY).await;
                }
            }
        }
        self.ack_others();
    }

    /// Moves the acknowledgements for streams in the own Redis into the pipeline.
    fn own_acks(&mut self, pipeline: &mut Pipeline) -> Vec<(Stream, Vec<EntryId>)> {
        let own = self.sources.index(D::TOPIC);
        let mut taken = Vec::new();
        let sources = &self.sources;
        self.acks.retain(|stream, ids| {
            let here = sources.index(stream.topic()) == own;
            if here {
                pipeline.add_command(xack(D::TOPIC, *stream, ids));
                taken.push((*stream, std::mem::take(ids)));
            }
            !here
        });
        taken
    }

    fn restore_acks(&mut self, acks: Vec<(Stream, Vec<EntryId>)>) {
        for (stream, ids) in acks {
            self.acks.entry(stream).or_default().extend(ids);
        }
    }

    /// What is not acknowledged is delivered again, and finds its traces. It is asked with an entry that
    /// there never is whether acknowledgements are taken again.
    fn check_acks(&mut self, acked: &[(Stream, Vec<EntryId>)], answers: Vec<Value>) {
        let mut refused = None;
        for ((stream, _), answer) in acked.iter().zip(answers) {
            // After FLUSHALL there is no group to acknowledge to, and nothing pending in it.
            if is_error(&answer, "NOGROUP") {
                continue;
            }
            if let Err(error) = self.own.accept("XACK", answer) {
                self.acks.entry(*stream).or_default().push(EntryId::default());
                refused = Some(error);
            }
        }
        match refused {
            Some(error) => self.acks_part.failed(&error),
            None if !acked.is_empty() => self.acks_part.answered(),
            None => {}
        }
    }

    /// Has the acknowledgements for the Redis of other topics sent, without waiting for it.
    fn ack_others(&mut self) {
        let own = self.sources.index(D::TOPIC);
        let (here, elsewhere): (HashMap<_, _>, HashMap<_, _>) =
            self.acks.drain().partition(|(stream, _)| self.sources.index(stream.topic()) == own);
        self.acks = here;
        for (stream, ids) in elsewhere {
            let server = self.sources.index(stream.topic());
            let acknowledger = self.others.entry(server).or_insert_with(|| {
                let part = self.health.helper(ACKS);
                Acknowledger::start(self.sources.of(stream.topic()).clone(), D::TOPIC, part)
            });
            acknowledger.send(stream, ids);
        }
    }

    fn strange(&self, command: &'static str) -> LinkError {
        LinkError::Refused {
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
enum Turn {
    /// It does not, or has passed it on.
    None,
    /// It does, until it has committed.
    Granted,
    /// It does not, but its holder did not commit in time: the next commit disregards the lease.
    Forced,
}

/// What became of an input's group.
#[derive(Clone)]
enum Fate {
    Committed,
    Lost,
    Deferred,
    /// A sorted set has as many members as the input allows.
    Full,
    /// A neighbour turned out to do nothing: decided again.
    Again,
    /// A key that every input needs cannot be written: tried again.
    Refused,
    /// A key that only these inputs need cannot be written, for this reason.
    Failed(String),
}

/// Why a batch has to be looked at anew.
enum Setback {
    Link(LinkError),
    /// The store, or the server process, is another one than the one that was read from.
    Moved,
}

impl From<LinkError> for Setback {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

enum Verdict<A> {
    Changes(Changes<A>),
    /// It looked at what was not loaded: it is loaded, and decided again.
    Missed,
    /// It was never an input, or one too large to be decided upon.
    Unreadable(String),
    /// Its decision failed or panicked: its own fault, if it does so alone.
    Failed(String),
}

fn mget(keys: &[Key]) -> redis::Cmd {
    let mut command = redis::cmd("MGET");
    for key in keys {
        command.arg(key.as_str());
    }
    command
}

fn xack(reader: Topic, stream: Stream, ids: &[EntryId]) -> redis::Cmd {
    let mut command = redis::cmd("XACK");
    command.arg(stream.key()).arg(reader.service());
    for id in ids {
        command.arg(id.to_string());
    }
    command
}

fn tell(note: &Note, trace: Option<&str>) {
    let trace = trace_id(trace);
    match note.order {
        Some(order) => info!(order.id = %order, trace.id = trace, "{}", note.text),
        None => info!(trace.id = trace, "{}", note.text),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Whether redelivered events are to be treated as new. Exists in debug builds only, for the one
/// test that shows that the auditor notices double effects.
fn ignore_traces() -> bool {
    let ignored = cfg!(debug_assertions) && std::env::var_os("TEST_IGNORE_TRACES").is_some();
    if ignored {
        error!("TEST_IGNORE_TRACES is set: events that are delivered twice take effect twice");
    }
    ignored
}
