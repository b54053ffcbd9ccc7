//! Entries that were delivered often: processes may have died of them, so each is handled alone.

use std::{sync::Arc, time::Duration};

use redis::from_redis_value;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::info;

use super::{
    Subscription,
    pending::{self, Pending},
    reader::{Helper, Interruption, Reader},
};
use crate::{
    connection::{entry::Fields, error::ConnectionError, link::Link},
    decision::Decider,
    engine::{Job, Origin, QUEUE_KIB, Work},
    schema::keys,
};

/// An entry that was delivered this often is handled alone: processes may have died of it. Most did not kill
/// anybody: each reconnect and each innocent restart delivers what is pending once more.
const SUSPECT_DELIVERIES: u64 = 5;
/// An entry is not read again after this number of processes died while they handled nothing else.
const SUSPECT_DEATHS: u64 = 3;
/// A process that has lived for this long with an entry does not die of it.
const SUSPECT_TIME: Duration = Duration::from_secs(2);
/// How long a death is remembered, in seconds.
const SUSPECT_SECONDS: u64 = 24 * 3_600;
/// How often a reader looks whether the engine has acknowledged an entry that must not be read.
const ACKNOWLEDGED_POLL: Duration = Duration::from_millis(5);

impl<D: Decider> Reader<D> {
    /// Handles alone what was often delivered to this consumer.
    pub(super) async fn handle_own_suspects(
        &self,
        helper: &mut Helper,
    ) -> Result<(), Interruption> {
        for subscription in &self.subscriptions {
            let stream = subscription.stream;
            let own = Some(self.instance.as_str());
            let pending = pending::list(&mut helper.link, stream, D::TOPIC, own).await?;
            let suspects = pending.into_iter().filter(is_suspect).collect();
            self.handle_alone(helper, subscription, suspects).await?;
        }
        Ok(())
    }

    /// Handles entries one by one while no other entry is read or handled by this process. One of which
    /// processes died nevertheless becomes a dead letter unread.
    pub(super) async fn handle_alone(
        &self,
        helper: &mut Helper,
        subscription: &Subscription<D::Input>,
        mut suspects: Vec<Pending>,
    ) -> Result<(), Interruption> {
        // Else the first of them would be suspected of whatever else ends processes soon after their start.
        fastrand::shuffle(&mut suspects);
        let stream = subscription.stream;
        for suspect in suspects {
            let all = self.all_memory().await?;
            let Helper { link, own, .. } = helper;
            // Its acknowledgement may have been under way.
            let one = std::slice::from_ref(&suspect);
            if pending::still(link, stream, D::TOPIC, one).await?.is_empty() {
                continue;
            }
            let key = keys::suspect(D::TOPIC, stream, suspect.id);
            let deaths = match own.ask("GET", redis::cmd("GET").arg(&key).clone()).await {
                Ok(deaths) => from_redis_value::<Option<u64>>(deaths).ok().flatten().unwrap_or(0),
                // Something else lies there, which is overwritten below.
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
                // As long as it is pending, reading what is pending would read it.
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
                let job = self.job(subscription, entry, helper.checkpoints.as_ref()).0;
                self.send(job, all).await?;
                // It is finished when its share of the memory is free again.
                let finished = tokio::select! {
                    all = self.all_memory() => Some(all?),
                    () = self.is_innocent() => None,
                };
                if finished.is_none() {
                    remember_deaths(&mut helper.own, &key, deaths).await?;
                    drop(self.all_memory().await?);
                }
                deaths = 0;
            }
            remember_deaths(&mut helper.own, &key, deaths).await?;
        }
        Ok(())
    }

    /// Waits until it is certain that a process does not die of the entry that it handles alone: it has
    /// lived on for a while, or the engine merely waits for Redis.
    async fn is_innocent(&self) {
        let start = Instant::now();
        while start.elapsed() < SUSPECT_TIME
            && !self.engine.is_failing()
            && !self.provenance().is_lost()
        {
            tokio::time::sleep(ACKNOWLEDGED_POLL).await;
        }
    }

    /// All the memory that entries may take: no other is in the process.
    async fn all_memory(&self) -> Result<OwnedSemaphorePermit, Interruption> {
        let all = Arc::clone(&self.memory).acquire_many_owned(QUEUE_KIB).await;
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
