//! Feeds the ring: one XREAD per process and Redis, for any number of clients.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{
    connection::{
        backoff::Backoff,
        entry::{Entry, entries, read_reply},
        error::ConnectionError,
        link::Link,
        topology::Sources,
    },
    process::service::REQUEST_TIMEOUT,
    schema::entry_id::EntryId,
};
use redis::Pipeline;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::{
    chunk::Follower,
    cursor::{EventCursor, NotACursor, STREAMS, StreamIndex},
    ring::Ring,
    view::View,
};

/// The time that a read waits for entries, in milliseconds.
const BLOCK_MILLIS: u64 = 2_000;
/// The additional time until the answer is overdue.
const READ_GRACE: Duration = Duration::from_secs(5);
/// The maximum number of entries of a stream per read.
const READ_COUNT: usize = 256;
/// The number of old entries of each stream that are read at the start, for clients that resume.
const HISTORY_ENTRIES: usize = 500;
/// The pause after a read that reached the end: users do not notice it, and a thousand clients are woken
/// less often.
const READ_PAUSE: Duration = Duration::from_millis(50);
/// The time for which reading continues without clients: a reloaded page returns soon.
const READ_LINGER: Duration = Duration::from_secs(30);
/// The maximum wait for entries that another gateway has sent already.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// The ring, and the signals between its readers and its followers.
#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    /// Signals new entries; each follower has a receiver.
    changes: watch::Sender<()>,
    /// Signals a new follower.
    joined: watch::Sender<()>,
}

/// A new follower.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) follower: Follower,
    pub(super) changes: watch::Receiver<()>,
    /// The cursor at which the follower begins.
    pub(super) from: EventCursor,
    /// Whether changes are missing between the last one that the client received and the cursor.
    pub(super) reset: bool,
}

/// Redis does not answer, so changes are unknown.
#[derive(Debug)]
pub(super) struct Away;

impl Feed {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            ring: Mutex::new(Ring::new(servers)),
            changes: watch::Sender::default(),
            joined: watch::Sender::default(),
        }
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_followed(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    /// Begins to follow: at the cursor if there is one, otherwise now.
    pub(super) async fn join(
        &self,
        view: View,
        cursor: Option<Result<EventCursor, NotACursor>>,
    ) -> Result<Joined, Away> {
        let mut changes = self.changes.subscribe();
        self.joined.send_replace(());
        let is_live = |ring: &Ring| ring.is_live().then_some(());
        self.until(&mut changes, REQUEST_TIMEOUT, is_live).await.ok_or(Away)?;
        let resumes = cursor.is_some();
        if let Some(Ok(cursor)) = cursor {
            // Another gateway may have been faster; the entries that it sent arrive here in a moment.
            let resume = |ring: &Ring| match ring.resume(&cursor, &view) {
                None if !ring.head().reaches(&cursor) => None,
                resumed => Some(resumed),
            };
            let resumed = self.until(&mut changes, CATCH_UP_TIMEOUT, resume).await.flatten();
            if let Some(follower) = resumed {
                return Ok(Joined { follower, changes, from: cursor, reset: false });
            }
        }
        let ring = self.ring();
        Ok(Joined { follower: ring.follow(view), changes, from: *ring.head(), reset: resumes })
    }

    async fn until<T>(
        &self,
        changes: &mut watch::Receiver<()>,
        within: Duration,
        check: impl Fn(&Ring) -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                let found = check(&self.ring());
                if found.is_some() || changes.changed().await.is_err() {
                    return found;
                }
            }
        };
        tokio::time::timeout(within, found).await.ok().flatten()
    }
}

/// Reads the streams of one Redis while there are followers.
pub(super) struct StreamReader {
    feed: Arc<Feed>,
    server: usize,
    indexes: Vec<StreamIndex>,
    link: Link,
    failing: bool,
}

impl StreamReader {
    /// A reader of that server's streams.
    pub(super) fn new(feed: &Arc<Feed>, sources: &Sources, server: usize) -> Self {
        let timeout = Duration::from_millis(BLOCK_MILLIS) + READ_GRACE;
        let is_here = |index: &StreamIndex| sources.index(STREAMS[*index].topic()) == server;
        Self {
            feed: Arc::clone(feed),
            server,
            indexes: (0..STREAMS.len()).filter(is_here).collect(),
            link: Link::new(sources.servers()[server].clone(), timeout).primary_only(),
            failing: false,
        }
    }

    pub(super) async fn read_forever(mut self) {
        let mut joined = self.feed.joined.subscribe();
        let mut backoff = Backoff::default();
        loop {
            while !self.feed.is_followed() {
                // Entries until the next follower are not read, so there would be a gap.
                self.feed.ring().clear();
                if joined.changed().await.is_err() {
                    return;
                }
            }
            if let Err(error) = self.read_while_followed(&mut backoff).await {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!("changes cannot be read: {error}; retrying");
                }
                backoff.wait().await;
            }
        }
    }

    async fn read_while_followed(&mut self, backoff: &mut Backoff) -> Result<(), ConnectionError> {
        // An empty Redis may have replaced the previous one.
        let head = *self.feed.ring().head();
        if self.has_begun() && !self.stands(&head).await? {
            self.forget();
        }
        let mut followed = Instant::now();
        while followed.elapsed() < READ_LINGER {
            if !self.has_begun() {
                self.begin().await?;
            }
            let more = self.read().await?;
            backoff.reset();
            if std::mem::take(&mut self.failing) {
                info!("changes can be read again");
            }
            if self.feed.is_followed() {
                followed = Instant::now();
            }
            if !more {
                tokio::time::sleep(READ_PAUSE).await;
            }
        }
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.feed.ring().has_begun(self.server)
    }

    fn forget(&self) {
        info!("the streams were emptied; clients get a reset");
        self.feed.ring().clear();
    }

    /// The entries that must still exist. An operator may delete dead letters.
    fn kept(&self, head: &EventCursor) -> impl Iterator<Item = (StreamIndex, EntryId)> {
        let named = self.indexes.iter().map(|index| (*index, head.at(*index)));
        named.filter(|(index, id)| *id != EntryId::default() && !STREAMS[*index].is_dead_letters())
    }

    /// Whether the last sent entries still exist.
    async fn stands(&mut self, head: &EventCursor) -> Result<bool, ConnectionError> {
        let mut commands = Pipeline::new();
        let kept: Vec<_> = self.kept(head).collect();
        for (index, id) in &kept {
            look_for(&mut commands, *index, *id);
        }
        if kept.is_empty() {
            return Ok(true);
        }
        for value in self.link.send(&commands).await? {
            if entries(self.link.accept("XRANGE", value)?).is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the end of each stream, from which the reader continues.
    async fn begin(&mut self) -> Result<(), ConnectionError> {
        let mut commands = Pipeline::new();
        // In reverse order, so that no entry is read before the entry that caused it.
        for index in self.indexes.iter().rev() {
            let key = STREAMS[*index].key();
            commands
                .cmd("XREVRANGE")
                .arg(key)
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(HISTORY_ENTRIES + 1);
        }
        let values = self.link.send(&commands).await?;
        let (mut bases, mut streams) = (Vec::new(), Vec::new());
        for (index, value) in self.indexes.iter().rev().zip(values) {
            let mut entries = entries(self.link.accept("XREVRANGE", value)?);
            let base = if entries.len() > HISTORY_ENTRIES { entries.pop() } else { None };
            bases.push((*index, base.map_or_else(EntryId::default, |entry| entry.id)));
            entries.reverse();
            streams.push((*index, entries));
        }
        let mut ring = self.feed.ring();
        ring.begin(self.server, &bases);
        ring.append(&in_order(streams, usize::MAX));
        drop(ring);
        self.feed.changes.send_replace(());
        Ok(())
    }

    /// Waits for entries and appends them to the ring; returns whether there are more.
    async fn read(&mut self) -> Result<bool, ConnectionError> {
        let head = *self.feed.ring().head();
        let mut commands = Pipeline::with_capacity(2);
        commands
            .cmd("XREAD")
            .arg("COUNT")
            .arg(READ_COUNT)
            .arg("BLOCK")
            .arg(BLOCK_MILLIS)
            .arg("STREAMS");
        for index in &self.indexes {
            commands.arg(STREAMS[*index].key());
        }
        for index in &self.indexes {
            commands.arg(head.at(*index).to_string());
        }
        // XREAD does not report that a stream was emptied (FLUSHALL), but then the last entry is missing.
        let last = self.kept(&head).max_by_key(|(_, id)| *id);
        if let Some((index, id)) = last {
            look_for(&mut commands, index, id);
        }
        let mut values = self.link.send(&commands).await?.into_iter();
        let mut next = |name| self.link.accept(name, values.next().unwrap_or(redis::Value::Nil));
        let streams = read_reply(next("XREAD")?);
        if last.is_some() && entries(next("XRANGE")?).is_empty() {
            self.forget();
            return Ok(true);
        }
        let index = |key: &str| self.indexes.iter().copied().find(|it| STREAMS[*it].key() == key);
        let streams: Vec<(StreamIndex, Vec<Entry>)> =
            streams.into_iter().filter_map(|(key, it)| Some((index(&key)?, it))).collect();
        let more = streams.iter().any(|(_, entries)| entries.len() >= READ_COUNT);
        if streams.is_empty() || !self.has_begun() {
            return Ok(true);
        }
        self.feed.ring().append(&in_order(streams, READ_COUNT));
        self.feed.changes.send_replace(());
        Ok(more)
    }
}

fn look_for(commands: &mut Pipeline, index: StreamIndex, id: EntryId) {
    commands.cmd("XRANGE").arg(STREAMS[index].key()).arg(id.to_string()).arg(id.to_string());
}

/// The entries by time, and by stream within a millisecond. A stream that returned `count` entries may have
/// more, so entries after its last one are left for the next read.
fn in_order(streams: Vec<(StreamIndex, Vec<Entry>)>, count: usize) -> Vec<(StreamIndex, Entry)> {
    let key = |index: StreamIndex, id: EntryId| (id.time, index, id.sequence);
    let full = streams.iter().filter(|(_, entries)| entries.len() >= count);
    let horizon = full.filter_map(|(index, entries)| Some(key(*index, entries.last()?.id))).min();
    let mut merged: Vec<(StreamIndex, Entry)> = streams
        .into_iter()
        .flat_map(|(index, entries)| entries.into_iter().map(move |entry| (index, entry)))
        .filter(|(index, entry)| horizon.is_none_or(|end| key(*index, entry.id) <= end))
        .collect();
    merged.sort_by_key(|(index, entry)| key(*index, entry.id));
    merged
}

#[cfg(test)]
mod tests {
    use common::connection::entry::Fields;

    use super::*;

    fn entry(id: &str) -> Entry {
        Entry { id: id.parse().unwrap(), fields: Fields::default() }
    }

    fn merged(streams: &[(StreamIndex, &[&str])], count: usize) -> Vec<String> {
        let streams =
            streams.iter().map(|(index, ids)| (*index, ids.iter().map(|id| entry(id)).collect()));
        let merged = in_order(streams.collect(), count).into_iter();
        merged.map(|(index, entry)| format!("{index}:{}", entry.id)).collect()
    }

    #[test]
    fn entries_are_sorted_by_time_and_creations_precede_updates() {
        let streams: [(StreamIndex, &[&str]); 2] = [(1, &["5-0", "7-0"]), (0, &["5-3", "6-0"])];
        assert_eq!(merged(&streams, 9), ["0:5-3", "1:5-0", "0:6-0", "1:7-0"]);
    }

    #[test]
    fn entries_after_unread_entries_wait_for_the_next_read() {
        let streams: [(StreamIndex, &[&str]); 3] =
            [(0, &["5-0", "6-0"]), (1, &["6-0", "7-0", "8-0"]), (2, &["6-0", "9-0", "9-1"])];
        assert_eq!(merged(&streams, 3), ["0:5-0", "0:6-0", "1:6-0", "2:6-0", "1:7-0", "1:8-0"]);
    }
}
