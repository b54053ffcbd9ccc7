//! The engine: takes what lies in its queue, reads once, decides, commits once, acknowledges.
//!
//! One engine runs per process. All stream readers and all HTTP handlers feed its one bounded
//! queue; what queued up while the last commit was under way is the next batch (group commit). An
//! event is acknowledged only after the script that wrote its effects has answered, so whatever
//! crashes in between is delivered again and finds its own trace.

mod acknowledger;
mod commit;
mod group;
mod queue;

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use queue::{Door, Refusal};
pub(crate) use queue::{Job, Origin, Work};

use self::{
    acknowledger::Acknowledger,
    commit::Outcome,
    group::{Group, group},
};
use crate::{
    config::Sources,
    decision::{Access, Append, Changes, Decider, Halt, Note, Reads, World},
    entry::short_reason,
    events::{DeadLetter, Stream, Topic},
    health::{Health, Part},
    ids::EntryId,
    keys::{self, Key},
    metrics::EngineMetrics,
    redis_link::{Backoff, Link, LinkError, await_server, is_error, is_noscript},
    rights,
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
/// After so many conflicts in a row an input takes turns with the other losers.
const TURN_AFTER: u32 = 2;
/// How long a turn lasts at most.
const TURN_MILLIS: u64 = 25;

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
        let rights = rights::of_owner(D::TOPIC);
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
        let mut jobs: Vec<Job<D>> = self.carried.drain(..).collect();
        let carried = jobs.len();
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
                Err(_) if self.part.is_failing() => self.probe().await,
                Err(_) => self.flush_acks().await,
            }
        }
        self.metrics.batches.inc();
        self.metrics.inputs.inc_by((jobs.len() - carried) as u64);
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
        let mut losses = 0;
        loop {
            // A caller who went away was promised nothing.
            open.retain(|job| !job.is_abandoned());
            if open.is_empty() {
                return failed;
            }
            let done = match self.load(&mut world, &mut open).await {
                Ok(()) => self.decide_and_commit(&mut world, &mut open, alone, &mut failed).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(lost) => {
                    self.part.answered();
                    backoff.reset();
                    losses += u32::from(lost);
                    if lost && losses >= TURN_AFTER {
                        self.take_turn(&open[0]).await;
                    }
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    self.part.failed(&error);
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

    /// Reads what the jobs concern. Jobs beyond the batch's limit are carried to the next one.
    async fn load(&mut self, world: &mut World, open: &mut Vec<Job<D>>) -> Result<(), LinkError> {
        let (mut wanted, mut named) = (Vec::new(), 0);
        for (number, job) in open.iter_mut().enumerate() {
            let Work::Input(input) = &job.work else { continue };
            let mut reads = Reads::default();
            let asked = catch_unwind(AssertUnwindSafe(|| self.decider.reads(input, &mut reads)));
            job.panicked = asked.is_err();
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
        self.read(world, wanted).await?;
        for (key, _) in open.iter().flat_map(|job| &job.keys).filter(|(_, a)| *a == Access::Fresh) {
            if !world.knows(key) {
                world.set_standing(key.clone(), None);
            } else if self.ignore_traces {
                world.hide(key);
            }
        }
        Ok(())
    }

    async fn read(&mut self, world: &mut World, wanted: Vec<Key>) -> Result<(), LinkError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("MGET");
        for key in &wanted {
            command.arg(key.as_str());
        }
        let value = self.send_with_acks(command).await?;
        let Value::Array(values) = self.own.accept("MGET", value)? else {
            return Err(self.strange("MGET"));
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

    /// Decides on all open jobs and commits. Those whose group lost to another instance, and those
    /// that have to see more, stay open; gives whether there were any of the first kind.
    async fn decide_and_commit(
        &mut self,
        world: &mut World,
        open: &mut Vec<Job<D>>,
        alone: bool,
        failed: &mut Vec<Job<D>>,
    ) -> Result<bool, LinkError> {
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
        let outcomes = if writing.is_empty() {
            Vec::new()
        } else {
            match self.commit(&writing, world, now).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    open.extend(jobs);
                    open.extend(missed);
                    return Err(error);
                }
            }
        };
        let mut conflicted = vec![false; jobs.len()];
        for (group, outcome) in writing.iter().zip(outcomes) {
            let standing = match outcome {
                Outcome::Committed => {
                    // Only who missed something looks at the world again.
                    if !missed.is_empty() {
                        group.keys.iter().for_each(|key| world.settle(key, now));
                    }
                    continue;
                }
                Outcome::Conflict(standing) => standing,
            };
            self.metrics.conflicts.inc();
            for key in &group.keys {
                world.revert(key);
            }
            for (key, found) in standing {
                world.set_standing(key, found.as_deref());
            }
            for job in &group.jobs {
                conflicted[*job] = true;
            }
        }
        self.metrics.commits.inc_by((writing.len() + idle.len()) as u64);
        for ((mut job, changes), conflicted) in jobs.into_iter().zip(decided).zip(conflicted) {
            if conflicted {
                // What it looked at may not be what it looks at next time.
                if job.missed.len() > MISSED_KEYS {
                    job.missed.drain(..).for_each(|key| world.forget(&key));
                }
                open.push(job);
            } else {
                self.finish(job, changes);
            }
        }
        let lost = !open.is_empty();
        open.extend(missed);
        Ok(lost)
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
            Origin::Entry { stream, id, fields } => {
                let reason = short_reason(reason);
                let trace = keys::dead_letter(D::TOPIC, *stream, *id);
                job.keys.push((trace.clone(), Access::Fresh));
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
                world.put_mark(&trace);
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
    ) -> Result<Vec<Outcome>, LinkError> {
        let (command, entities) = commit::command(groups, world, now);
        let mut value = self.send_with_acks(command.clone()).await?;
        if is_noscript(&value) {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(commit::SCRIPT);
            self.own.ask("SCRIPT LOAD", load).await?;
            value = self.send_with_acks(command).await?;
        }
        let value = self.own.accept("the commit", value)?;
        commit::outcomes(value, &entities)
            .filter(|outcomes| outcomes.len() == groups.len())
            .ok_or_else(|| self.strange("the commit"))
    }

    fn finish(&mut self, job: Job<D>, changes: Changes<D::Answer>) {
        let trace = job.trace.as_deref();
        for note in &changes.notes {
            tell(note, trace);
        }
        match job.origin {
            Origin::Entry { stream, id, fields } => {
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

    /// Sends a command to the own Redis; acknowledgements travel with it.
    async fn send_with_acks(&mut self, command: redis::Cmd) -> Result<Value, LinkError> {
        let mut pipeline = Pipeline::with_capacity(4);
        let acked = self.own_acks(&mut pipeline);
        pipeline.add_command(command);
        match self.own.send(&pipeline).await {
            Ok(mut values) => {
                let value = values.pop().unwrap_or(Value::Nil);
                self.check_acks(&acked, values);
                self.ack_others();
                Ok(value)
            }
            Err(error) => {
                self.restore_acks(acked);
                Err(error)
            }
        }
    }

    async fn probe(&mut self) {
        match self.own.ask("PING", redis::cmd("PING")).await {
            Ok(_) => self.part.answered(),
            Err(error) => self.part.failed(&error),
        }
    }

    async fn flush_acks(&mut self) {
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

    /// Several losers of one entity take turns, so that none of them starves. Safety rests on the
    /// versions alone: who does not ask, or asks in vain, may still commit.
    async fn take_turn(&mut self, job: &Job<D>) {
        let Some((key, _)) = job.keys.iter().find(|(_, access)| *access != Access::Peek) else {
            return;
        };
        for _ in 0..TURN_MILLIS {
            let mut claim = redis::cmd("SET");
            claim.arg(format!("{{{}}}:turn:{key}", D::TOPIC.name())).arg(&self.instance);
            claim.arg("NX").arg("PX").arg(TURN_MILLIS);
            match self.own.ask("SET", claim).await {
                Ok(Value::Nil) => tokio::time::sleep(Duration::from_millis(1)).await,
                Ok(_) => return,
                Err(error) => return self.part.denied(&error),
            }
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

enum Verdict<A> {
    Changes(Changes<A>),
    /// It looked at what was not loaded: it is loaded, and decided again.
    Missed,
    /// It was never an input, or one too large to be decided upon.
    Unreadable(String),
    /// Its decision failed or panicked: its own fault, if it does so alone.
    Failed(String),
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

/// The trace's id within a `traceparent` (W3C Trace Context: version-trace-parent-flags).
pub fn trace_id(traceparent: Option<&str>) -> Option<&str> {
    traceparent?.split('-').nth(1)
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

/// The clock, in milliseconds since 1970.
pub fn now_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
