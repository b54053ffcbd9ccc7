//! Entries that were delivered often: they may have killed processes, so each is handled alone.

use std::{sync::Arc, time::Duration};

use redis::from_redis_value;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::info;

use super::{
    Subscription,
    pending::{self, Pending},
    reader::{Interruption, Reader, Upkeep},
};
use crate::{
    connection::{entry::Fields, error::ConnectionError, link::Link},
    decision::Decider,
    engine::{Job, Origin, Work},
    schema::keys,
};

/// The number of deliveries after which an entry is handled alone: it may have killed processes.
/// Most such entries are harmless: each reconnect and each ordinary restart delivers pending
/// entries again.
const SUSPECT_DELIVERIES: u64 = 5;
/// The number of processes that may die while they handle an entry alone; then it is not read
/// again.
const SUSPECT_DEATHS: u64 = 3;
/// The time after which a process that is still running has survived an entry.
const SUSPECT_TIME: Duration = Duration::from_secs(2);
/// How long a death is remembered, in seconds.
const SUSPECT_SECONDS: u64 = 24 * 3_600;
/// How often a reader checks whether the engine has acknowledged an entry that must not be read.
const ACKNOWLEDGED_POLL: Duration = Duration::from_millis(5);

impl<D: Decider> Reader<D> {
    /// Handles the suspect entries of this consumer alone.
    pub(super) async fn handle_own_suspects(
        &self,
        upkeep: &mut Upkeep,
    ) -> Result<(), Interruption> {
        for subscription in &self.subscriptions {
            let stream = subscription.stream;
            let own = Some(self.instance.as_str());
            let pending = pending::list(&mut upkeep.link, stream, D::TOPIC, own).await?;
            let suspects = pending.into_iter().filter(is_suspect).collect();
            self.handle_alone(upkeep, subscription, suspects).await?;
        }
        Ok(())
    }

    /// Handles entries one by one, while this process reads and handles no other entry. An entry
    /// that still kills processes becomes a dead letter unread.
    pub(super) async fn handle_alone(
        &self,
        upkeep: &mut Upkeep,
        subscription: &Subscription<D::Input>,
        mut suspects: Vec<Pending>,
    ) -> Result<(), Interruption> {
        // A random order: otherwise the first entry would be blamed for any other cause of an early
        // death.
        fastrand::shuffle(&mut suspects);
        let stream = subscription.stream;
        for suspect in suspects {
            let all = self.all_memory().await?;
            let Upkeep { link, own, .. } = upkeep;
            // The acknowledgement may have been in flight.
            let one = std::slice::from_ref(&suspect);
            if pending::still(link, stream, D::TOPIC, one).await?.is_empty() {
                continue;
            }
            let key = keys::suspect(D::TOPIC, stream, suspect.id);
            let deaths = match own.ask("GET", redis::cmd("GET").arg(&key).clone()).await {
                Ok(deaths) => from_redis_value::<Option<u64>>(deaths).ok().flatten().unwrap_or(0),
                // The key holds another type, which is overwritten below.
                Err(ConnectionError::Refused { message, .. }) if message.contains("WRONGTYPE") => 0,
                Err(error) => return Err(error.into()),
            };
            if deaths >= SUSPECT_DEATHS {
                let reason = format!(
                    "it was delivered {} times, and {deaths} processes died while they handled nothing else; \
                     it was not read again",
                    suspect.deliveries
                );
                let (id, fields, provenance) = (suspect.id, Fields::default(), self.provenance());
                let origin = Origin::Entry { stream, id, fields, provenance };
                self.send(Job::new(Work::Unreadable(reason), origin, None), all).await?;
                // While the entry is pending, a read of pending entries would include it.
                while !pending::still(link, stream, D::TOPIC, one).await?.is_empty()
                    && !self.provenance().is_lost()
                {
                    tokio::time::sleep(ACKNOWLEDGED_POLL).await;
                }
                continue;
            }
            info!(%stream, entry = %suspect.id, deliveries = suspect.deliveries, deaths,
                "handling an entry alone");
            remember_deaths(own, &key, deaths + 1).await?;
            let taken = pending::take_over(link, stream, D::TOPIC, &self.instance, one).await?;
            let mut deaths = deaths;
            if let Some(entry) = taken.into_iter().next() {
                let job = self.job(subscription, entry, upkeep.checkpoints.as_ref()).0;
                self.send(job, all).await?;
                // The entry is finished when its share of the memory is free again.
                let finished = tokio::select! {
                    biased;
                    all = self.all_memory() => Some(all?),
                    () = self.is_innocent() => None,
                };
                if finished.is_none() {
                    remember_deaths(&mut upkeep.own, &key, deaths).await?;
                    drop(self.all_memory().await?);
                }
                deaths = 0;
            }
            remember_deaths(&mut upkeep.own, &key, deaths).await?;
        }
        Ok(())
    }

    /// Waits until it is certain that the entry did not kill the process: the process has survived
    /// for a while, or the engine is merely waiting for Redis.
    async fn is_innocent(&self) {
        let start = Instant::now();
        while start.elapsed() < SUSPECT_TIME
            && !self.engine.is_failing()
            && !self.provenance().is_lost()
        {
            tokio::time::sleep(ACKNOWLEDGED_POLL).await;
        }
    }

    /// Acquires the whole memory for entries, so that no other entry is in the process.
    async fn all_memory(&self) -> Result<OwnedSemaphorePermit, Interruption> {
        let all = Arc::clone(&self.memory).acquire_many_owned(self.limits.queue_kib).await;
        all.map_err(|_| Interruption::Closed)
    }
}

pub(super) fn is_suspect(pending: &Pending) -> bool {
    pending.deliveries >= SUSPECT_DELIVERIES
}

async fn remember_deaths(own: &mut Link, key: &str, deaths: u64) -> Result<(), ConnectionError> {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(deaths).arg("EX").arg(SUSPECT_SECONDS);
    own.ask("SET", set).await.map(drop)
}
