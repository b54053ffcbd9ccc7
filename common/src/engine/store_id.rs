//! The identity of a store, which is the data of one owner in its Redis.
//!
//! The identity is part of the data, at [`keys::store`]: a server that merely restarts keeps it; a
//! server that was emptied, or replaced by an empty one, gets a new one. A `run_id` would also
//! change at a restart without data loss, and an address may stay the same after a loss.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::Value;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::{
    clock::{Millis, now_millis},
    connection::{error::ConnectionError, health::Component, link::Link, url::RedisUrl},
    random::new_id,
    schema::{keys, stream::Topic},
};

/// How often the service checks that the store has an identity: FLUSHALL deletes it.
const STORE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The identity of a store, stored as `<UUID> <milliseconds since 1970>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreId {
    /// A random id.
    pub id: Uuid,
    /// The creation time of the store: it contains no effect of earlier events.
    pub began: Millis,
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.began)
    }
}

impl FromStr for StoreId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed =
            text.split_once(' ').and_then(|(id, at)| Some((id.parse().ok()?, at.parse().ok()?)));
        let (id, began) = parsed.ok_or("the identity of a store is `<UUID> <milliseconds>`")?;
        Ok(Self { id, began })
    }
}

impl StoreId {
    /// Parses the answer to `GET` of [`keys::store`]; `None` if there is no store yet.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        match reply {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// An owner's store together with its server process. A FLUSHALL changes the store; a restart
/// changes the process, and may lose the last writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The stored text of the [`StoreId`].
    pub(crate) store: String,
    /// The server's `run_id`.
    pub(crate) run_id: Arc<str>,
}

/// Reads the identity of the owner's store behind this connection, and creates one if it is
/// missing.
///
/// # Errors
///
/// As [`Link::ask`].
pub(crate) async fn identify(link: &mut Link, topic: Topic) -> Result<Identity, ConnectionError> {
    loop {
        let run_id = link.run_id().await?;
        let mut get = redis::cmd("GET");
        get.arg(keys::store(topic));
        let store = match link.ask("GET", get).await? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => {
                begin(link, topic).await?;
                continue;
            }
        };
        // The link may have reconnected in between.
        if link.run_id().await? == run_id {
            return Ok(Identity { store, run_id });
        }
    }
}

/// Creates an identity for the owner's store if it has none.
async fn begin(link: &mut Link, topic: Topic) -> Result<(), ConnectionError> {
    let new = StoreId { id: new_id(), began: now_millis() };
    let mut set = redis::cmd("SETNX");
    set.arg(keys::store(topic)).arg(new.to_string());
    if link.ask("SETNX", set).await? == Value::Int(1) {
        info!(store = %new.id, "the store is empty: created a new store id");
    }
    Ok(())
}

/// The provenance of entries. If their data is lost while they are undecided, they are dropped;
/// those that still exist are delivered again.
#[derive(Debug)]
pub(crate) struct Provenance {
    /// The store and the server process of the entries, if these are the reading service's own: a
    /// commit checks that they are unchanged.
    own: Option<Identity>,
    /// The server and the stores of the entries, if these belong to other owners.
    source: Vec<String>,
    lost: AtomicBool,
}

impl Provenance {
    pub(crate) fn new(own: Option<Identity>, source: Vec<String>) -> Self {
        Self { own, source, lost: AtomicBool::new(false) }
    }

    /// Whether entries that were read under `other` continue those that were read under this
    /// provenance.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.own == other.own && self.source == other.source && !self.is_lost()
    }

    /// Whether the entries were read from this store, or from another owner's.
    pub(crate) fn fits(&self, own: Option<&Identity>) -> bool {
        self.own.is_none() || self.own.as_ref() == own
    }

    /// Drops the entries that were read under this provenance, and makes the reader read again.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Whether the entries are to be dropped.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Creates the identity of the owner's store whenever it is missing.
pub(crate) struct StoreIdKeeper {
    pub(crate) topic: Topic,
    pub(crate) url: RedisUrl,
    /// The health of this task, which is ready once the identity exists. The engine reports an
    /// unreachable Redis.
    pub(crate) component: Arc<Component>,
    pub(crate) shutdown: CancellationToken,
}

impl StoreIdKeeper {
    /// Checks the store until the shutdown, which does not wait for it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.keep_forever() => {}
        }
        Ok(())
    }

    async fn keep_forever(self) {
        let mut link = Link::new(self.url.clone(), Duration::from_secs(5));
        loop {
            match begin(&mut link, self.topic).await {
                Ok(()) => self.component.answered(),
                Err(error) => self.component.denied(&error),
            }
            tokio::time::sleep(STORE_CHECK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let id = StoreId { id: Uuid::from_u128(7), began: 42 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "x", "00000000-0000-0000-0000-000000000007", "x 1"] {
            assert!(wrong.parse::<StoreId>().is_err(), "{wrong:?}");
        }
        assert_eq!(StoreId::from_reply(&Value::Nil), None);
    }
}
