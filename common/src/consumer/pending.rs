//! The pending entries list of a group: its entries, and their idle time by a monotonic clock.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use redis::{Pipeline, Value, from_redis_value};
use tokio::time::Instant;

use crate::{
    connection::{
        entry::{Entry, read_reply},
        error::ConnectionError,
        link::Link,
    },
    consumer::checkpoints::before,
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};

/// The maximum number of rows in an answer of XPENDING.
const XPENDING_ROWS: usize = 1_000;

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) id: EntryId,
    /// The consumer that it was delivered to.
    pub(super) holder: String,
    /// The idle time by the clock of Redis; 0 if that clock was set back.
    pub(super) idle: Duration,
    /// The number of deliveries.
    pub(super) deliveries: u64,
}

impl Pending {
    fn from_row(row: Value) -> Option<Self> {
        let (id, holder, idle, deliveries): (String, _, u64, _) = from_redis_value(row).ok()?;
        let id = id.parse().ok()?;
        Some(Self { id, holder, idle: Duration::from_millis(idle), deliveries })
    }
}

/// Lists the pending entries of the reader's group: all, or those of one consumer.
pub(super) async fn list(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    holder: Option<&str>,
) -> Result<Vec<Pending>, ConnectionError> {
    let mut all: Vec<Pending> = Vec::new();
    loop {
        let from = all.last().map_or_else(|| "-".to_owned(), |last| format!("({}", last.id));
        let mut ask = redis::cmd("XPENDING");
        ask.arg(stream.key())
            .arg(reader.service())
            .arg(from)
            .arg("+")
            .arg(XPENDING_ROWS)
            .arg(holder);
        let Value::Array(rows) = link.ask("XPENDING", ask).await? else { return Ok(all) };
        let full = rows.len() == XPENDING_ROWS;
        all.extend(rows.into_iter().filter_map(Pending::from_row));
        if !full {
            return Ok(all);
        }
    }
}

/// The listed entries that are still pending with the same state.
pub(super) async fn still<'l>(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    listed: &'l [Pending],
) -> Result<Vec<&'l Pending>, ConnectionError> {
    let mut ask = Pipeline::with_capacity(listed.len());
    for id in listed.iter().map(|it| it.id.to_string()) {
        ask.cmd("XPENDING").arg(stream.key()).arg(reader.service()).arg(&id).arg(&id).arg(1);
    }
    let mut same = Vec::new();
    for (listed, reply) in listed.iter().zip(link.send(&ask).await?) {
        let Value::Array(rows) = link.accept("XPENDING", reply)? else { continue };
        let now = rows.into_iter().next().and_then(Pending::from_row);
        let is_same =
            |now: &Pending| now.holder == listed.holder && now.deliveries == listed.deliveries;
        same.extend(now.filter(is_same).map(|_| listed));
    }
    Ok(same)
}

/// Takes over the entries whose state is unchanged since they were listed. An entry is first read
/// on behalf of its holder: a deleted entry then has no fields and stays pending until it is
/// acknowledged, whereas XCLAIM would drop it silently.
///
/// This is not a script, because a reader runs no scripts in the Redis of another owner. If two
/// instances take over the same entry at the same moment, both handle it, and the second commit
/// finds the idempotency record.
pub(super) async fn take_over(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    instance: &str,
    pending: &[Pending],
) -> Result<Vec<Entry>, ConnectionError> {
    let same = still(link, stream, reader, pending).await?;
    let mut read = Pipeline::with_capacity(same.len());
    for it in &same {
        read.cmd("XREADGROUP").arg("GROUP").arg(reader.service()).arg(&it.holder);
        read.arg("COUNT").arg(1).arg("STREAMS").arg(stream.key()).arg(before(it.id).to_string());
    }
    if same.is_empty() {
        return Ok(Vec::new());
    }
    let mut taken = Vec::new();
    for (it, reply) in same.iter().zip(link.send(&read).await?) {
        let reply = read_reply(link.accept("XREADGROUP", reply)?);
        let entry = reply.into_iter().flat_map(|(_, entries)| entries).next();
        // The following entry, if this one was acknowledged meanwhile.
        taken.extend(entry.filter(|entry| entry.id == it.id));
    }
    let there = taken.iter().filter(|entry| !entry.fields.0.is_empty()).map(|entry| entry.id);
    claim(link, stream, reader, instance, there, &["JUSTID"]).await?;
    Ok(taken)
}

/// The consumers of the reader's group.
pub(super) async fn consumers(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
) -> Result<Vec<String>, ConnectionError> {
    let mut info = redis::cmd("XINFO");
    info.arg("CONSUMERS").arg(stream.key()).arg(reader.service());
    let reply = link.ask("XINFO CONSUMERS", info).await?;
    let consumers: Vec<HashMap<String, Value>> = from_redis_value(reply).unwrap_or_default();
    let names = consumers.into_iter().filter_map(|mut it| it.remove("name"));
    Ok(names.filter_map(|name| from_redis_value(name).ok()).collect())
}

/// Makes these entries pending for this instance, including those that are not pending. Deleted
/// entries are skipped.
pub(super) async fn force(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    instance: &str,
    ids: impl Iterator<Item = EntryId>,
) -> Result<(), ConnectionError> {
    claim(link, stream, reader, instance, ids, &["FORCE", "JUSTID"]).await
}

async fn claim(
    link: &mut Link,
    stream: Stream,
    reader: Topic,
    instance: &str,
    ids: impl Iterator<Item = EntryId>,
    options: &[&str],
) -> Result<(), ConnectionError> {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut claim = redis::cmd("XCLAIM");
    claim.arg(stream.key()).arg(reader.service()).arg(instance).arg(0).arg(ids).arg(options);
    link.ask("XCLAIM", claim).await.map(drop)
}

/// Measures how long entries have been pending without another delivery, by this machine's
/// monotonic clock.
///
/// Redis uses its wall clock: if that is set back, no entry is idle until the clock has caught up.
#[derive(Debug, Default)]
pub(super) struct Watch(BTreeMap<Stream, BTreeMap<EntryId, Seen>>);

#[derive(Debug)]
struct Seen {
    holder: String,
    deliveries: u64,
    since: Instant,
}

impl Watch {
    /// The entries of the stream that have been idle for this long by either clock, and those that
    /// were pending before and no longer are, with their consumers.
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
    use crate::contract::streams;

    const STREAM: Stream = streams::ORDER_CREATED;
    const IDLE_TIME: Duration = Duration::from_secs(15);

    fn pending(id: u64, holder: &str, idle: u64, deliveries: u64) -> Pending {
        let id = EntryId { time: id, sequence: 0 };
        Pending { id, holder: holder.to_owned(), idle: Duration::from_secs(idle), deliveries }
    }

    fn idle(watch: &mut Watch, rows: &[Pending], now: Instant) -> Vec<u64> {
        let (found, _) = watch.idle_for(IDLE_TIME, STREAM, rows.to_vec(), now);
        found.into_iter().map(|it| it.id.time).collect()
    }

    #[test]
    fn an_entry_is_idle_by_the_clock_of_redis_or_the_monotonic_clock() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let rows = [pending(1, "a", 20, 1), pending(2, "b", 0, 1), pending(3, "b", 0, 1)];
        assert_eq!(idle(&mut watch, &rows, start), [1]);
        let moved = [pending(2, "b", 0, 1), pending(3, "b", 0, 2), pending(4, "b", 0, 1)];
        let later = start + IDLE_TIME;
        assert_eq!(idle(&mut watch, &moved, later), [2], "3 was delivered again, 4 is new");
        let taken = [pending(2, "c", 0, 1), pending(3, "b", 0, 2)];
        assert_eq!(idle(&mut watch, &taken, later + IDLE_TIME), [3], "2 has another holder");
    }
}
