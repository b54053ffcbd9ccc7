//! Readers of streams: consumer groups, recovery of pending entries, entries of dead instances.
//!
//! There is one reader per source Redis, with its own connection that may block in XREADGROUP. It
//! hands entries to the engine, which acknowledges them; the reader itself never does.
//!
//! Memory is bounded: reads by `Pace`, and entries in the process by a semaphore from which each
//! job holds its share. An entry that was delivered `SUSPECT_DELIVERIES` times is handled alone. If
//! processes still die of it, it becomes a dead letter without being read.

pub mod checkpoints;
mod hand_over;
mod original;
mod pace;
mod pending;
mod reader;
mod suspects;
mod takeover;
pub mod trimmer;

pub(crate) use reader::Reader;

use crate::{
    connection::{topology::Sources, url::RedisUrl},
    schema::{entry_id::EntryId, json::from_object, stream::Stream},
};

/// An entry of a stream, as a subscription sees it.
#[derive(Debug, Clone, Copy)]
pub struct StreamEntry<'a> {
    /// The id of the entry in its stream.
    pub id: EntryId,
    /// The JSON object.
    pub entity: &'a str,
    /// Whether this service handled the entry before it lost its store, and with it the idempotency
    /// record. The decision of that time is known to other services only, and must not be repeated.
    pub forgotten: bool,
}

impl<'a> StreamEntry<'a> {
    /// Parses the JSON object. A list is rejected.
    ///
    /// # Errors
    ///
    /// The reason and the position of the mismatch.
    pub fn parse<T: serde::Deserialize<'a>>(&self) -> Result<T, String> {
        from_object(self.entity).map_err(|error| format!("field `entity`: {error}"))
    }
}

/// A stream that a service reads, and the meaning of its entries.
pub struct Subscription<I> {
    /// The stream.
    pub stream: Stream,
    /// Turns an entry into an input; `None` if the service ignores it. An error makes it a dead
    /// letter.
    pub parse: fn(&StreamEntry<'_>) -> Result<Option<I>, String>,
}

impl<I> std::fmt::Debug for Subscription<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Groups subscriptions by server.
pub(crate) fn by_server<I>(
    sources: &Sources,
    subscriptions: Vec<Subscription<I>>,
) -> Vec<(RedisUrl, Vec<Subscription<I>>)> {
    let mut servers: Vec<(RedisUrl, Vec<Subscription<I>>)> =
        sources.servers().iter().map(|url| (url.clone(), Vec::new())).collect();
    for subscription in subscriptions {
        servers[sources.index(subscription.stream.topic())].1.push(subscription);
    }
    servers.retain(|(_, subscriptions)| !subscriptions.is_empty());
    servers
}
