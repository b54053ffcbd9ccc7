//! Decides a batch and determines the fate of each input.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::{debug, error, info};

use super::{
    DELETED_REASON, Engine, Job, Lease, Origin, Progress, Setback, Work,
    commit::{KeyKind, Outcome, Refused, Standing},
    group::{Group, group},
};
use crate::{
    clock::now_millis,
    connection::entry::short_reason,
    decision::{Append, Changes, DecideError, Decider, Note, ReadAccess, World},
    logs, planted,
    schema::{
        keys::{self, Key},
        stream::DeadLetter,
    },
    trace_context::trace_id,
};

impl<D: Decider> Engine<D> {
    /// Decides all open jobs and commits. Jobs that are not committed stay open.
    pub(super) async fn decide_and_commit(
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
            // A commit passes the lease on, even without changes.
            Ok(()) if writing.is_empty() && (self.lease != Lease::Held || jobs.is_empty()) => {
                Ok(Vec::new())
            }
            Ok(()) => self.commit(&writing, world, now).await,
            Err(error) => Err(error.into()),
        };
        let done = match done {
            Err(Setback::Link(_)) if planted!("a commit without a reply counts") => {
                Ok(writing.iter().map(|_| Outcome::Committed).collect())
            }
            done => done,
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
            // Nothing was written, so nothing was checked.
            if group.keys.iter().any(|key| world.is_remembered(key))
                && !planted!("a remembered state needs no check")
            {
                group.jobs.iter().for_each(|job| fates[*job] = Fate::Again);
            }
            if group.keys.iter().any(|key| world.foreign(key).is_some()) {
                group.jobs.iter().for_each(|job| fates[*job] = Fate::Lost);
            }
        }
        let all_committed = missed.is_empty()
            && outcomes.iter().all(|it| *it == Outcome::Committed)
            && fates.iter().all(|fate| matches!(fate, Fate::Committed));
        for (group, outcome) in writing.iter().zip(outcomes) {
            let fate = match outcome {
                Outcome::Committed => {
                    for key in &group.keys {
                        world.settle(key, now);
                        // Open inputs read again.
                        if all_committed && let Some(standing) = world.take_standing(key) {
                            self.memory.keep(key.clone(), standing);
                        }
                    }
                    continue;
                }
                Outcome::Conflict(_) if planted!("a conflict counts as a commit") => continue,
                Outcome::Conflict(standing) => {
                    self.metrics.conflicts.inc();
                    if standing.iter().any(|(key, _)| world.is_remembered(key)) {
                        self.memory.distrust();
                    }
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
                    // Together with the earlier jobs the limit would be exceeded; these are decided
                    // again without them.
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
                        // Only these inputs write this key, so the fault is theirs alone.
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
                Fate::Refused if planted!("a refused input counts") => self.finish(job, changes),
                Fate::Refused => self.parked.push(job),
                Fate::Deferred => {
                    progress = progress.max(Progress::Deferred);
                    open.push(job);
                }
                Fate::Lost => {
                    progress = progress.max(Progress::Lost);
                    // The next decision may read other entities.
                    if job.missed.len() > self.limits.missed_keys() {
                        job.missed.drain(..).for_each(|key| world.forget(&key));
                    }
                    open.push(job);
                }
            }
        }
        for job in &*open {
            // All of its entities are read again, at one moment.
            if job.keys.iter().any(|(key, _)| world.is_remembered(key)) {
                let read = job.keys.iter().filter(|(key, _)| world.foreign(key).is_none());
                let read: Vec<Key> = read.map(|(key, _)| key.clone()).collect();
                read.iter().for_each(|key| world.forget(key));
            }
        }
        open.extend(missed);
        Ok(progress)
    }

    /// Records a key that inputs need and that cannot be written: the engine is not ready until it
    /// can.
    fn note_obstacle(&mut self, refused: Refused) {
        self.component.failed(&self.own.error_of("the commit", &refused.reason));
        self.metrics.failures.inc();
        self.obstacles.retain(|known| known.key != refused.key);
        self.obstacles.push(refused);
    }

    fn decide(&self, world: &mut World, job: &mut Job<D>, now: u64) -> Verdict<D::Answer> {
        (job.error, job.dead) = (None, None);
        let input = match &job.work {
            Work::Nothing => return Verdict::Changes(Changes::none()),
            Work::Unreadable(reason) => return Verdict::Unreadable(reason.clone()),
            Work::Deleted => return Verdict::Unreadable(DELETED_REASON.to_owned()),
            Work::Input(input) => input,
        };
        if let Some(named) = job.oversized {
            let limit = self.limits.batch_keys;
            let reason = format!("it concerns {named} entities; the limit is {limit}");
            return Verdict::Unreadable(reason);
        }
        if job.panicked {
            return Verdict::Failed("handling it panicked".to_owned());
        }
        if let Some(reason) = job.keys.iter().find_map(|(key, _)| world.foreign(key)) {
            return Verdict::Failed(reason);
        }
        let decision = catch_unwind(AssertUnwindSafe(|| self.decider.decide(input, world, now)));
        let missing = world.take_missing();
        // The commit checks the entities that the input names. A remembered entity that only another
        // input of the batch named becomes one of them.
        let mut unnamed = world.take_recalled();
        unnamed.retain(|key| {
            !job.keys.iter().any(|(name, access)| name == key && *access != ReadAccess::Peek)
        });
        if !unnamed.is_empty() && !planted!("a remembered state needs no check") {
            job.missed.extend(unnamed);
            job.missed.extend(missing);
            return Verdict::Missed;
        }
        match decision {
            Err(panic) => Verdict::Failed(format!("handling it panicked: {}", panic_text(&*panic))),
            Ok(Err(DecideError::Invalid(reason))) => Verdict::Failed(reason),
            Ok(Err(DecideError::Missing)) if !missing.is_empty() => {
                job.missed.extend(missing);
                Verdict::Missed
            }
            Ok(Err(error @ DecideError::Missing)) => Verdict::Failed(error.to_string()),
            Ok(Ok(mut changes)) => {
                job.tries += 1;
                let may_write = |key: &Key| {
                    job.keys.iter().any(|(name, access)| name == key && *access != ReadAccess::Peek)
                };
                if let Some(put) = changes.puts.iter().find(|put| !may_write(&put.key)) {
                    let key = &put.key;
                    return Verdict::Failed(format!("{key} was written but not named by reads"));
                }
                #[cfg(feature = "simulation")]
                report_decision::<D>(input, world, job, &changes);
                world.apply_traced(&mut changes, job.traceparent.as_deref());
                Verdict::Changes(changes)
            }
        }
    }

    /// Refuses a job that cannot be handled: with a dead letter, in a group of its own, or with an
    /// answer to the caller.
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
            Origin::Caller { .. } => job.error = Some(reason),
            Origin::Entry { stream, id, fields, .. } => {
                let reason = short_reason(reason);
                let record = keys::dead_letter(D::TOPIC, *stream, *id);
                // Another value occupies the key. Without its idempotency record the letter may be
                // written twice, but waiting would stop the service.
                let can_be_marked = world.foreign(&record).is_none();
                if can_be_marked {
                    job.keys.push((record.clone(), ReadAccess::Fresh));
                }
                if !world.knows(&record) {
                    world.set_standing(record.clone(), None);
                }
                // An entry may be delivered twice, even within one batch.
                if world
                    .slot(&record)
                    .is_some_and(|slot| slot.version().is_some() || slot.change().is_some())
                {
                    return changes;
                }
                // Readers have already cut the entries that they could not parse.
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
                    stream: D::TOPIC.dead_letters(),
                    json: serde_json::to_string(&letter).expect("it has string keys only"),
                });
                if can_be_marked && !planted!("a dead letter has no record") {
                    world.put_mark(&record);
                }
                job.dead = Some(reason);
            }
        }
        changes
    }

    fn finish(&mut self, job: Job<D>, changes: Changes<D::Answer>) {
        if job.tries > 0 {
            self.metrics.tries.observe(f64::from(job.tries));
        }
        let traceparent = job.traceparent.as_deref();
        for note in &changes.notes {
            log_note(note, traceparent);
        }
        changes.deliveries.iter().for_each(|line| logs::print(line));
        match job.origin {
            Origin::Entry { stream, id, fields, .. } => {
                if let Some(reason) = job.dead {
                    self.metrics.dead_letters.inc();
                    self.metrics.lost_entries.inc_by(matches!(job.work, Work::Deleted).into());
                    let subject = fields.subject(stream).map(tracing::field::display);
                    error!(%stream, entry = %id, reason, subject.id = subject,
                        trace.id = trace_id(traceparent),
                        "an entry cannot be handled; it went to {}", D::TOPIC.dead_letters());
                }
                self.acks.entry(stream).or_default().push(id);
            }
            Origin::Caller { reply } => {
                let answer = match (job.error, changes.answer) {
                    (Some(error), _) => Err(error),
                    (None, Some(answer)) => Ok(answer),
                    (None, None) => Err("the decision has no answer".to_owned()),
                };
                // A caller that disconnected meanwhile repeats the request with the same key.
                let _ = reply.send(answer);
            }
        }
    }
}

/// The fate of an input after the commit of its group.
#[derive(Clone)]
enum Fate {
    Committed,
    Lost,
    Deferred,
    /// A sorted set has reached the limit of the input.
    Full,
    /// A neighbour turned out to change nothing: the input is decided again.
    Again,
    /// A key that every input needs cannot be written: the input is tried again.
    Refused,
    /// A key that only these inputs need cannot be written, for this reason.
    Failed(String),
}

enum Verdict<A> {
    Changes(Changes<A>),
    /// The decision read an entity that was not loaded: it is loaded, and the input decided again.
    Missed,
    /// The work is not a valid input, or the input is too large.
    Unreadable(String),
    /// The decision failed or panicked. If that happens alone, it is the fault of the input.
    Failed(String),
}

#[cfg(feature = "simulation")]
fn report_decision<D: Decider>(
    input: &D::Input,
    world: &World,
    job: &Job<D>,
    changes: &Changes<D::Answer>,
) {
    crate::simulation::decided(|| {
        let named = job.keys.iter().map(|(key, _)| key);
        let document = |key: &Key| world.slot(key).and_then(|slot| slot.document());
        crate::simulation::Decision {
            topic: D::TOPIC.name(),
            input,
            entities: named.map(|key| (key.to_string(), document(key))).collect(),
            puts: changes.puts.iter().map(|put| (put.key.to_string(), put.json())).collect(),
            events: changes.appends.iter().map(|append| append.stream.key()).collect(),
        }
    });
}

fn log_note(note: &Note, traceparent: Option<&str>) {
    let Note { is_detail, subject, text } = note;
    let (trace_id, subject) = (trace_id(traceparent), subject.map(tracing::field::display));
    match is_detail {
        true => debug!(subject.id = subject, trace.id = trace_id, "{text}"),
        false => info!(subject.id = subject, trace.id = trace_id, "{text}"),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
