//! The identity of a store: of what one owner keeps in its Redis.
//!
//! It lies among the data, at [`keys::store`], and goes where the data goes: a server that merely
//! restarts keeps it, one that was emptied, or replaced by an empty one, gets another. A server's
//! `run_id` would also change where nothing was lost, and an address may stay where everything was.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use redis::Value;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::{
    decision::Millis,
    engine::now_millis,
    events::Topic,
    health::Part,
    keys,
    redis_link::{Link, LinkError, RedisUrl},
};

/// How often it is made sure that the store has an identity: FLUSHALL takes it.
const INTERVAL: Duration = Duration::from_millis(500);

/// The identity of a store, stored as `<UUID> <milliseconds since 1970>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreId {
    /// Random.
    pub id: Uuid,
    /// When the store began: what happened earlier is nothing that it has ever known.
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
    /// Reads the answer to `GET` of [`keys::store`]; `None` if there is no store yet.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        match reply {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// Gives the owner's store an identity whenever it has none.
pub(crate) struct Keeper {
    pub(crate) topic: Topic,
    pub(crate) url: RedisUrl,
    /// It begins once there is an identity. That Redis is away the engine tells.
    pub(crate) part: Arc<Part>,
    pub(crate) shutdown: CancellationToken,
}

impl Keeper {
    /// Looks until the shutdown, for which nothing needs to be finished.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep_forever() => {}
        }
        Ok(())
    }

    async fn keep_forever(self) {
        let mut link = Link::new(self.url.clone(), Duration::from_secs(5));
        loop {
            match self.ensure(&mut link).await {
                Ok(()) => self.part.answered(),
                Err(error) => self.part.denied(&error),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn ensure(&self, link: &mut Link) -> Result<(), LinkError> {
        let new = StoreId { id: Uuid::new_v4(), began: now_millis() };
        let mut set = redis::cmd("SETNX");
        set.arg(keys::store(self.topic)).arg(new.to_string());
        if link.ask("SETNX", set).await? == Value::Int(1) {
            info!(store = %new.id, "there was nothing in the store: a new one begins");
        }
        Ok(())
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
