//! The limits beyond which no commands are published: the backlogs of the services that read them, and
//! the memory of their Redis.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use common::{
    connection::{
        error::ConnectionError,
        lag::{self, GroupFacts, LagMeter, ServerFacts, StreamFacts},
    },
    http::{
        backlog::{Backlog, MaxBacklog},
        problem::Problem,
    },
    process::memory_watch::{MemoryWatch, WriteEffect},
    schema::stream::{Event, Stream, Topic},
};
use redis::{Pipeline, Value};

use super::stores::{Stores, read_for_command};
use crate::access::limits::reader::MeteredReader;

/// The check before a command is published.
#[derive(Debug)]
pub(crate) struct Backlogs {
    limit: MaxBacklog,
    memory: Arc<MemoryWatch>,
    /// A meter for the server of each topic.
    lags: Mutex<HashMap<Topic, LagMeter>>,
}

impl Backlogs {
    pub(crate) fn new(limit: MaxBacklog, memory: Arc<MemoryWatch>) -> Self {
        Self { limit, memory, lags: Mutex::default() }
    }

    /// Checks in one exchange with Redis that the event's Redis and those of its readers, which store its
    /// effects, have memory left, and that the backlogs of the readers are within the limit. Concurrent
    /// requests may all pass.
    ///
    /// # Errors
    ///
    /// 503: Redis is nearly full or cannot be reached, or a service is too far behind.
    pub(crate) async fn check<V: Event>(
        &self,
        reader: &MeteredReader,
        stores: &Stores,
    ) -> Result<(), Problem> {
        let concerned = [V::STREAM.topic()].into_iter().chain(V::STREAM.readers().iter().copied());
        for topic in concerned {
            let address = stores.of(topic).address();
            if let Some(nearly_full) = self.memory.nearly_full_at(&address, WriteEffect::Adds) {
                return Err(nearly_full.problem());
            }
        }
        if self.limit.is_off() {
            return Ok(());
        }
        let largest = read_for_command(reader, self.largest(stores, V::STREAM)).await?;
        self.limit.exceeded_by(largest).map_or(Ok(()), |backlog| Err(backlog.problem()))
    }

    async fn largest(
        &self,
        stores: &Stores,
        stream: Stream,
    ) -> Result<Option<Backlog>, ConnectionError> {
        let mut commands = Pipeline::with_capacity(3);
        commands.cmd("INFO").arg("server");
        let store = stores.of(stream.topic());
        lag::ask_about(&mut commands, store.user(), stream.key());
        commands.cmd("XINFO").arg("GROUPS").arg(stream.key());
        let mut answers = store.answers(&commands).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let server = ServerFacts::from_reply(next());
        let facts = StreamFacts::from_reply(next());
        let groups = GroupFacts::from_reply(next());
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = lags.entry(stream.topic()).or_default();
        Ok(largest(stream, &facts, &groups, |group| {
            meter.lag(&server, stream.key(), &facts, group).entries()
        }))
    }
}

/// The largest backlog of all readers. The backlog of a service that never ran is the whole stream.
fn largest(
    stream: Stream,
    facts: &StreamFacts,
    groups: &[GroupFacts],
    mut lag: impl FnMut(&GroupFacts) -> u64,
) -> Option<Backlog> {
    let backlogs = stream.readers().iter().map(|reader| {
        let service = reader.service();
        let group = groups.iter().find(|group| group.name == service);
        let entries = group.map_or(facts.length, |group| lag(group).saturating_add(group.pending));
        Backlog { service, stream, entries }
    });
    backlogs.max_by_key(|backlog| backlog.entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::contract::streams;

    #[test]
    fn the_reader_that_is_furthest_behind_counts_by_unread_and_pending_entries() {
        let facts = StreamFacts { length: 20, ..StreamFacts::default() };
        let group = |name: &str, lag, pending| GroupFacts {
            name: name.to_owned(),
            lag: Some(lag),
            pending,
            ..GroupFacts::default()
        };
        let found = |groups: &[GroupFacts]| {
            let largest = largest(streams::ACCOUNT_CREATED, &facts, groups, |it| it.lag.unwrap());
            largest.map(|backlog| (backlog.service, backlog.entries))
        };
        let (account, message) = ("account_service", "msg_service");
        assert_eq!(found(&[group(account, 2, 3), group(message, 4, 0)]), Some((account, 5)));
        assert_eq!(found(&[group(account, 2, 3), group(message, 4, 2)]), Some((message, 6)));
        // Groups of other readers are ignored, and a missing group has read nothing.
        assert_eq!(found(&[group(account, 2, 3), group("other", 90, 0)]), Some((message, 20)));
    }
}
