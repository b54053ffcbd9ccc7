//! Sends commits and checks to the service's own Redis, together with acknowledgements.

use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::{
    Engine, Lease, Setback,
    commit::{self, Call, Caller, Outcome},
    group::Group,
};
use crate::{
    connection::{
        error::ConnectionError,
        replies::{is_error, is_noscript},
    },
    decision::{Decider, World},
    schema::keys::{self, Key},
};

impl<D: Decider> Engine<D> {
    pub(super) async fn commit(
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
        let outcomes = outcomes.ok_or_else(|| self.unexpected_answer("the commit"))?;
        let lost = |outcome: &Outcome| matches!(outcome, Outcome::Conflict(_));
        if self.lease != Lease::Held || !outcomes.iter().any(lost) {
            self.lease = Lease::NotHeld;
        }
        self.obstacles.retain(|obstacle| !call.writes(&obstacle.key));
        Ok(outcomes)
    }

    async fn send_commit(&mut self, call: &Call) -> Result<Value, Setback> {
        let value = self.send_with_acks(vec![call.command.clone()]).await?.pop();
        Ok(value.unwrap_or(Value::Nil))
    }

    /// Finds entities of another type that decisions without an effect took for absent: a read
    /// shows a key of another type as absent. For all other decisions the commit script checks
    /// this.
    pub(super) async fn find_foreign(
        &mut self,
        idle: &[Group],
        world: &mut World,
    ) -> Result<(), ConnectionError> {
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
        let lease_millis =
            if self.lease == Lease::Disregarded { 0 } else { self.limits.lease_millis };
        Caller { topic: D::TOPIC, instance: &self.instance, store, lease_millis }
    }

    async fn load_script(&mut self) -> Result<(), ConnectionError> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(commit::SCRIPT);
        self.own.ask("SCRIPT LOAD", load).await.map(drop)
    }

    /// Sends commands to the own Redis, together with acknowledgements.
    pub(super) async fn send_with_acks(
        &mut self,
        commands: Vec<redis::Cmd>,
    ) -> Result<Vec<Value>, Setback> {
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

    /// Checks that the connection leads to the server process that the engine knows: a restarted
    /// one may have lost the entries to acknowledge and the state that the decisions read.
    pub(super) async fn check_process(&mut self) -> Result<(), Setback> {
        let run_id = self.own.run_id().await?;
        match &self.identity {
            Some(identity) if identity.run_id == run_id => Ok(()),
            _ => Err(Setback::Moved),
        }
    }

    /// Checks whether the own Redis accepts writes again, including the key that it refused last.
    pub(super) async fn probe(&mut self) {
        self.parked.retain(|job| !job.is_abandoned());
        self.probed = Instant::now();
        match self.try_to_write().await {
            Ok(()) => self.answered(),
            Err(error) => self.component.failed(&error),
        }
    }

    async fn try_to_write(&mut self) -> Result<(), ConnectionError> {
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
                return Err(self.unexpected_answer("the commit"));
            };
            if let Some(Value::BulkString(reason)) = reasons.pop() {
                obstacle.reason = String::from_utf8_lossy(&reason).into_owned();
                left = Some(self.own.error_of("the commit", &obstacle.reason));
                self.obstacles.push(obstacle);
            }
        }
        left.map_or(Ok(()), Err)
    }
}
