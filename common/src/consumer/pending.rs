//! The pending entries list of a group: what it holds, and for how long by a clock of our own.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use redis::{Value, from_redis_value};

use crate::{
    bookmarks::before,
    entry::{Entry, entries},
    events::{Stream, Topic},
    ids::EntryId,
    redis_link::{Link, LinkError},
};

/// How many rows one answer of XPENDING has at most.
const PAGE: usize = 1_000;

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) id: EntryId,
    /// The consumer that it was delivered to.
    pub(super) holder: String,
    /// How long ago by the clock of Redis; 0 if that clock was set back.
    pub(super) idle: Duration,
    /// How often it was delivered.
    pub(super) deliveries: u64,
}

impl Pending {
    fn from_row(row: Value) -> Option<Self> {
        let (id, holder, idle, deliveries): (String, _, u64, _) = from_redis_value(row).ok()?;
        let id = id.parse().ok()?;
        Some(Self { id, holder, idle: Duration::from_millis(idle), deliveries })
    }
}

/// Lists what is pending in the reader's group: all, or only what is pending for one consumer.
pub(super) async fn list(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    holder: Option<&str>,
) -> Result<Vec<Pending>, LinkError> {
    let mut all: Vec<Pending> = Vec::new();
    loop {
        let from = all.last().map_or_else(|| "-".to_owned(), |last| format!("({}", last.id));
        let mut ask = redis::cmd("XPENDING");
        ask.arg(stream.key()).arg(reader.service()).arg(from).arg("+").arg(PAGE).arg(holder);
        let Value::Array(rows) = link.ask("XPENDING", ask).await? else { return Ok(all) };
        let full = rows.len() == PAGE;
        all.extend(rows.into_iter().filter_map(Pending::from_row));
        if !full {
            return Ok(all);
        }
    }
}

/// Whether the entry is still pending as it was listed.
pub(super) async fn is_still(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    listed: &Pending,
) -> Result<bool, LinkError> {
    let (id, mut ask) = (listed.id.to_string(), redis::cmd("XPENDING"));
    ask.arg(stream.key()).arg(reader.service()).arg(&id).arg(&id).arg(1);
    let Value::Array(rows) = link.ask("XPENDING", ask).await? else { return Ok(false) };
    let now = rows.into_iter().next().and_then(Pending::from_row);
    Ok(now.is_some_and(|it| it.holder == listed.holder && it.deliveries == listed.deliveries))
}

/// Takes over what is still as it was listed. The fields of an entry that was deleted are empty; it
/// stays pending until it is acknowledged.
pub(super) async fn take_over(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    instance: &str,
    pending: &[Pending],
) -> Result<Vec<Entry>, LinkError> {
    const SCRIPT: &str = include_str!("take_over.lua");
    let mut eval = redis::cmd("EVAL");
    eval.arg(SCRIPT).arg(1).arg(stream.key()).arg(reader.service()).arg(instance);
    for it in pending {
        eval.arg(it.id.to_string()).arg(before(it.id).to_string());
        eval.arg(&it.holder).arg(it.deliveries);
    }
    link.ask("EVAL take_over.lua", eval).await.map(entries)
}

/// The consumers of the reader's group.
pub(super) async fn consumers(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
) -> Result<Vec<String>, LinkError> {
    let mut info = redis::cmd("XINFO");
    info.arg("CONSUMERS").arg(stream.key()).arg(reader.service());
    let reply = link.ask("XINFO CONSUMERS", info).await?;
    let consumers: Vec<HashMap<String, Value>> = from_redis_value(reply).unwrap_or_default();
    let names = consumers.into_iter().filter_map(|mut it| it.remove("name"));
    Ok(names.filter_map(|name| from_redis_value(name).ok()).collect())
}

/// Makes these entries pending for this instance, those that are not pending as well. Entries that
/// were deleted from the stream stay away.
pub(super) async fn force(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    instance: &str,
    ids: impl Iterator<Item = EntryId>,
) -> Result<(), LinkError> {
    let mut claim = redis::cmd("XCLAIM");
    claim.arg(stream.key()).arg(reader.service()).arg(instance).arg(0);
    for id in ids {
        claim.arg(id.to_string());
    }
    claim.arg("FORCE").arg("JUSTID");
    link.ask("XCLAIM", claim).await.map(drop)
}

/// For how long entries have been pending without being delivered again, by this machine's monotonic clock.
///
/// Redis measures that with its wall clock: once it is set back, nothing is idle until it has caught up.
#[derive(Debug, Default)]
pub(super) struct Watch(HashMap<Stream, HashMap<EntryId, Seen>>);

#[derive(Debug)]
struct Seen {
    holder: String,
    deliveries: u64,
    since: Instant,
}

impl Watch {
    /// Those of all the stream's pending entries that have been idle for that long by either clock, and
    /// those that were pending before and are not now, with the consumers that held them.
    pub(super) fn idle_for(
        &mut self,
        idle: Duration,
        stream: Stream,
        pending: Vec<Pending>,
        now: Instant,
    ) -> (Vec<Pending>, Vec<(EntryId, String)>) {
        let mut known = self.0.remove(&stream).unwrap_or_default();
        let seen = self.0.entry(stream).or_default();
        let is_idle = |it: &Pending| {
            let same = known
                .remove(&it.id)
                .filter(|known| known.holder == it.holder && known.deliveries == it.deliveries);
            let since = same.map_or(now, |known| known.since);
            seen.insert(
                it.id,
                Seen { holder: it.holder.clone(), deliveries: it.deliveries, since },
            );
            it.idle.max(now.saturating_duration_since(since)) >= idle
        };
        let idle = pending.into_iter().filter(is_idle).collect();
        (idle, known.into_iter().map(|(id, seen)| (id, seen.holder)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream::OrderCreated;
    const IDLE: Duration = Duration::from_secs(15);

    fn pending(id: u64, holder: &str, idle: u64, deliveries: u64) -> Pending {
        let id = EntryId { time: id, sequence: 0 };
        Pending { id, holder: holder.to_owned(), idle: Duration::from_secs(idle), deliveries }
    }

    fn idle(watch: &mut Watch, rows: &[Pending], now: Instant) -> Vec<u64> {
        let (found, _) = watch.idle_for(IDLE, STREAM, rows.to_vec(), now);
        found.into_iter().map(|it| it.id.time).collect()
    }

    #[test]
    fn an_entry_is_idle_by_the_clock_of_redis_or_by_our_own() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let rows = [pending(1, "a", 20, 1), pending(2, "b", 0, 1), pending(3, "b", 0, 1)];
        assert_eq!(idle(&mut watch, &rows, start), [1]);
        let moved = [pending(2, "b", 0, 1), pending(3, "b", 0, 2), pending(4, "b", 0, 1)];
        let later = start + IDLE;
        assert_eq!(idle(&mut watch, &moved, later), [2], "3 was delivered again, 4 is new");
        let taken = [pending(2, "c", 0, 1), pending(3, "b", 0, 2)];
        assert_eq!(idle(&mut watch, &taken, later + IDLE), [3], "2 has another holder");
    }
}
