//! Reads the entities of a batch: waits for the lease on contested entities, and drops entries
//! whose data was lost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use redis::Value;
use tracing::info;

use super::{
    Engine, Job, LEASE_WAITS, Lease, Setback, Work,
    store_id::{self, Identity},
};
use crate::{
    connection::error::ConnectionError,
    decision::{Decider, ReadAccess, Reads, World},
    planted,
    schema::keys::{self, Key},
};

impl<D: Decider> Engine<D> {
    /// Drops entries whose data was lost, or whose server restarted, after they were read: the
    /// events may never have happened. Entries that still exist are delivered again. Returns whether
    /// the store or its server is another one than before, so that nothing read earlier counts.
    pub(super) async fn drop_lost(
        &mut self,
        open: &mut Vec<Job<D>>,
    ) -> Result<bool, ConnectionError> {
        let mut has_moved = false;
        let run_id = self.own.run_id().await?;
        let is_lost = |identity: &Option<Identity>, job: &Job<D>| {
            job.provenance().is_some_and(|it| it.is_lost() || !it.fits(identity.as_ref()))
        };
        let known = self.identity.as_ref().is_some_and(|identity| identity.run_id == run_id);
        if !known || open.iter().any(|job| is_lost(&self.identity, job)) {
            let mut identity = Some(store_id::identify(&mut self.own, D::TOPIC).await?);
            if open.iter().any(|job| is_lost(&identity, job)) {
                // This connection, and not the reader's, may lead to an outdated server: a demoted
                // primary still answers all previous commands of the engine.
                self.own.renew();
                identity = Some(store_id::identify(&mut self.own, D::TOPIC).await?);
            }
            if self.identity != identity {
                // The effects of the acknowledged entries may be lost.
                let (own, sources) = (self.sources.index(D::TOPIC), &self.sources);
                self.acks.retain(|stream, _| sources.index(stream.topic()) != own);
                self.identity = identity;
                self.memory.clear();
                has_moved = true;
            }
        }
        let before = open.len();
        open.retain(|job| {
            let lost =
                is_lost(&self.identity, job) && !planted!("entries of lost data are handled");
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
                "entries dropped: their data was lost or their Redis restarted after they were \
                 read; those that still exist are delivered again"
            );
        }
        Ok(has_moved)
    }

    /// Reads the entities of the jobs. For contested entities it first acquires the lease.
    pub(super) async fn load(
        &mut self,
        world: &mut World,
        open: &mut Vec<Job<D>>,
        alone: bool,
    ) -> Result<(), Setback> {
        let mut wanted = self.unread(world, open);
        if self.lease == Lease::NotHeld && !self.is_contested(open) {
            self.contested.clear();
        } else if self.lease == Lease::NotHeld {
            *world = World::default();
            self.memory.clear();
            wanted = self.unread(world, open);
            self.acquire_lease(world, wanted).await?;
            if !alone {
                self.add_arrivals(open);
            }
            // New inputs are unchecked, and the data of the others may have been lost while the
            // batch waited.
            if self.drop_lost(open).await? {
                return Err(Setback::Moved);
            }
            wanted = self.unread(world, open);
        }
        if !wanted.is_empty() {
            let values = self.send_with_acks(vec![mget(&wanted)]).await?.pop();
            self.take_in(world, wanted, values)?;
        }
        for (key, _) in
            open.iter().flat_map(|job| &job.keys).filter(|(_, a)| *a == ReadAccess::Fresh)
        {
            if !world.knows(key) {
                world.set_standing(key.clone(), None);
            } else if self.ignore_records {
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
                .any(|(key, access)| *access != ReadAccess::Fresh && self.contested.contains(key))
    }

    /// Queues for the lease on the contested entities, waits for it, and reads.
    async fn acquire_lease(&mut self, world: &mut World, wanted: Vec<Key>) -> Result<(), Setback> {
        let queue = keys::lease_queue(D::TOPIC, &self.instance);
        let mut join = redis::cmd("EVAL");
        join.arg(include_str!("acquire_lease.lua")).arg(2).arg(keys::lease(D::TOPIC)).arg(&queue);
        join.arg(&self.instance).arg(self.limits.lease_millis);
        for key in &self.contested {
            join.arg(key.as_str());
        }
        let mut wait = redis::cmd("BLPOP");
        wait.arg(&queue).arg(self.limits.lease_millis as f64 / 1_000.0);
        let mut values = None;
        self.lease = Lease::Disregarded;
        for _ in 0..LEASE_WAITS {
            let commands = vec![join.clone(), wait.clone(), mget(&wanted)];
            let mut answers = self.send_with_acks(commands).await?;
            values = answers.pop();
            if let Some(Value::Array(_)) = answers.pop() {
                self.lease = Lease::Held;
                if answers.pop() == Some(Value::Int(1)) {
                    // The queue was empty: the next batch does not queue.
                    self.contested.clear();
                }
                break;
            }
            let joined = answers.pop().unwrap_or(Value::Nil);
            if let Err(error) = self.own.accept("EVAL acquire_lease.lua", joined) {
                self.component.denied(&error);
            }
        }
        self.take_in(world, wanted, values)
    }

    /// Determines the entities of the jobs, and returns those that are not in the world yet. Jobs
    /// beyond the batch's limit are carried over to the next batch.
    fn unread(&mut self, world: &mut World, open: &mut Vec<Job<D>>) -> Vec<Key> {
        let (mut wanted, mut named) = (Vec::new(), 0);
        for (number, job) in open.iter_mut().enumerate() {
            let Work::Input(input) = &job.work else { continue };
            let mut reads = Reads::default();
            let asked = catch_unwind(AssertUnwindSafe(|| self.decider.reads(input, &mut reads)));
            job.panicked = asked.is_err();
            if reads.keys.len() + job.missed.len() > self.limits.batch_keys && !job.narrowed {
                // Behind other inputs of its batch it may have read different entities each time.
                // Once, the list is reduced to the entities that it reads from now on.
                job.narrowed = true;
                job.missed.clear();
            }
            let missed = job.missed.iter().map(|key| (key.clone(), ReadAccess::Load));
            job.keys = reads.keys.into_iter().chain(missed).collect();
            if job.keys.len() > self.limits.batch_keys {
                // The input would not fit into one call even alone.
                job.oversized = Some(job.keys.len());
                job.keys.clear();
                continue;
            }
            named += job.keys.len();
            // The number of keys of one script call is limited.
            if named > self.limits.batch_keys && number > 0 {
                open.drain(number..).rev().for_each(|job| self.carried.push_front(job));
                break;
            }
            for (key, access) in &job.keys {
                let read = *access != ReadAccess::Fresh || self.ignore_records;
                // Only what the commit checks may be remembered.
                let is_checked = *access == ReadAccess::Load;
                if is_checked
                    && !world.knows(key)
                    && let Some(standing) = self.memory.recall(key)
                {
                    world.remember(key.clone(), standing);
                }
                if read && (!world.knows(key) || !is_checked && world.is_remembered(key)) {
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
            return Err(self.unexpected_answer("MGET").into());
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
}

fn mget(keys: &[Key]) -> redis::Cmd {
    let mut command = redis::cmd("MGET");
    for key in keys {
        command.arg(key.as_str());
    }
    command
}
