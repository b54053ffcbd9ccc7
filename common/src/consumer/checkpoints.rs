//! Checkpoints: how far a service has handled the streams in the Redis of other owners, recorded in
//! its own store.
//!
//! The position of a group lies in the Redis that the service reads from; the effects of the
//! entries lie in its own. If these are two servers, each may lose its data or go back in time
//! without the other. So the own store holds a checkpoint for each such stream, at
//! [`keys::checkpoints`], which is lost and restored together with the effects. A reader compares
//! repeatedly, and sets its group back
//!
//! - to the beginning, if there is no checkpoint: the own store has lost everything;
//! - to the beginning, if the checkpoint names another upstream store than the current one;
//! - to the checkpoint, if the own Redis has restarted since: it may have lost its last writes, or
//!   come back as an older copy.
//!
//! A group is only ever set back. Entries that are delivered again find their idempotency records,
//! unless those were lost.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    str::FromStr,
};

use redis::{Pipeline, Value, from_redis_value};
use tracing::{info, warn};

use crate::{
    connection::{error::ConnectionError, link::Link, replies::is_error},
    engine::store_id::StoreId,
    planted,
    schema::{
        entry_id::EntryId,
        keys,
        stream::{Stream, Topic},
    },
};

/// The stored form of an unknown or pending value.
const UNKNOWN: &str = "-";

/// A checkpoint, stored as four fields separated by blanks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The store that the stream belongs to; `-` while it is unknown.
    pub upstream: String,
    /// The own server's `run_id` at the time of writing; `-` until the group is at this position.
    pub run: String,
    /// Every entry up to this one has had its effect in the own store, or never will.
    pub through: EntryId,
    /// Entries up to this one were handled with a former store and are unknown to the current one.
    pub forgotten: EntryId,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { upstream, run, through, forgotten } = self;
        write!(f, "{upstream} {run} {through} {forgotten}")
    }
}

impl FromStr for Checkpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED_FORM: &str = "a checkpoint is `<store> <run> <entry> <entry>`";
        let fields: Vec<&str> = text.split(' ').collect();
        let [upstream, run, through, forgotten] = fields[..] else { return Err(EXPECTED_FORM) };
        Ok(Self {
            upstream: upstream.to_owned(),
            run: run.to_owned(),
            through: through.parse().map_err(|_| EXPECTED_FORM)?,
            forgotten: forgotten.parse().map_err(|_| EXPECTED_FORM)?,
        })
    }
}

/// The checkpoints of one reader.
pub(crate) struct Checkpoints {
    own: Link,
    reader: Topic,
    streams: Vec<Stream>,
    known: BTreeMap<Stream, Checkpoint>,
    /// The last entry of each stream that was delivered to the group, as far as known.
    seen: BTreeMap<Stream, EntryId>,
    /// The upstream stores, as of the last comparison.
    upstream: Vec<String>,
}

/// The state of both servers at one comparison.
struct Comparison {
    run: String,
    checkpoints: BTreeMap<Stream, Checkpoint>,
    upstream: BTreeMap<Topic, String>,
    /// The last delivered entry of each stream; absent without a group.
    delivered: BTreeMap<Stream, EntryId>,
}

/// The position of a group.
struct Position<'a> {
    stream: Stream,
    /// The store that the stream belongs to, if known.
    there: Option<&'a String>,
    /// The last entry that was delivered to the group.
    delivered: EntryId,
}

impl Checkpoints {
    /// The checkpoints of the service that owns `reader` and keeps them in `own`.
    pub(crate) fn new(own: Link, reader: Topic, streams: Vec<Stream>) -> Self {
        Self {
            own,
            reader,
            streams,
            known: BTreeMap::new(),
            seen: BTreeMap::new(),
            upstream: Vec::new(),
        }
    }

    /// Whether this service handled the entry before it lost its store.
    pub(crate) fn is_forgotten(&self, stream: Stream, id: EntryId) -> bool {
        let known =
            self.known.get(&stream).filter(|_| !planted!("forgotten entries are decided again"));
        known.is_some_and(|checkpoint| id <= checkpoint.forgotten)
    }

    /// Records the arrival of entries. Returns whether the group must have been set back since the
    /// last comparison, so that another comparison is due.
    pub(crate) fn was_set_back(&mut self, stream: Stream, first: EntryId, last: EntryId) -> bool {
        let seen = self.seen.entry(stream).or_default();
        let back = first <= *seen;
        *seen = (*seen).max(last);
        back
    }

    /// The stores that the streams belong to, as far as known.
    pub(crate) fn upstream(&self) -> Vec<String> {
        self.upstream.clone()
    }

    /// Compares both servers with the checkpoints, and sets groups back where required.
    ///
    /// # Errors
    ///
    /// One of the servers is away or refuses a command.
    pub(crate) async fn compare(&mut self, upstream: &mut Link) -> Result<(), ConnectionError> {
        let comparison = self.observe_both(upstream).await?;
        self.upstream = comparison.upstream.values().cloned().collect();
        self.upstream.sort_unstable();
        for stream in self.streams.clone() {
            // A missing group needs no setback: it is created at the beginning.
            let Some(delivered) = comparison.delivered.get(&stream).copied() else { continue };
            let there = comparison.upstream.get(&stream.topic());
            let found = comparison.checkpoints.get(&stream).cloned();
            let position = Position { stream, there, delivered };
            let (checkpoint, delivered) =
                self.settle(upstream, &comparison.run, position, found).await?;
            self.known.insert(stream, checkpoint);
            self.seen.insert(stream, delivered);
        }
        Ok(())
    }

    /// Saves the positions of the groups. Must follow [`compare`](Self::compare), which has
    /// verified that the checkpoints belong to the current own server.
    ///
    /// # Errors
    ///
    /// As [`compare`](Self::compare).
    pub(crate) async fn save(&mut self, upstream: &mut Link) -> Result<(), ConnectionError> {
        let positions = self.group_positions(upstream).await?;
        let mut pending = Pipeline::new();
        let streams: Vec<Stream> = positions.keys().copied().collect();
        for stream in &streams {
            // Queried after the positions: entries that are pending by then lie behind them, or are
            // too new to count.
            pending.cmd("XPENDING").arg(stream.key()).arg(self.reader.service());
        }
        if streams.is_empty() {
            return Ok(());
        }
        let pending = upstream.send(&pending).await?;
        let mut put = redis::cmd("HSET");
        put.arg(keys::checkpoints(self.reader));
        for (stream, pending) in streams.into_iter().zip(pending) {
            // Any other error means that the group has just disappeared.
            if is_error(&pending, "NOPERM") {
                return upstream.accept("XPENDING", pending).map(drop);
            }
            let (Some(checkpoint), Some(oldest)) =
                (self.known.get_mut(&stream), oldest_pending(pending))
            else {
                continue;
            };
            checkpoint.through =
                oldest.map_or(positions[&stream], |it| before(it).min(positions[&stream]));
            if planted!("a checkpoint ignores pending entries") {
                checkpoint.through = positions[&stream];
            }
            put.arg(stream.key()).arg(checkpoint.to_string());
        }
        // The command has a key and at least one field with its value.
        if put.args_iter().count() > 3 {
            self.own.ask("HSET", put).await?;
        }
        Ok(())
    }

    /// Compares one stream's checkpoint with the servers. Returns the checkpoint that is valid now,
    /// and the position of the group.
    async fn settle(
        &mut self,
        upstream: &mut Link,
        run: &str,
        position: Position<'_>,
        found: Option<Checkpoint>,
    ) -> Result<(Checkpoint, EntryId), ConnectionError> {
        let Position { stream, there, delivered } = position;
        let unfinished = |upstream: Option<&String>, through, forgotten| Checkpoint {
            upstream: upstream.map_or(UNKNOWN, |id| id).to_owned(),
            run: UNKNOWN.to_owned(),
            through,
            forgotten,
        };
        let mut due = match found {
            None => {
                // The first of several instances decides which entries are forgotten: the others
                // may see a group that was already set back.
                let new = unfinished(there, EntryId::default(), delivered);
                self.write_first(stream, &new).await?
            }
            // The comparison waits for an upstream store without an identity.
            Some(known) if there.is_some_and(|id| *id != known.upstream) => {
                let new = if known.upstream == UNKNOWN {
                    Checkpoint { upstream: there.cloned().unwrap_or_default(), ..known }
                } else {
                    unfinished(there, EntryId::default(), EntryId::default())
                };
                self.write(stream, &new).await?;
                new
            }
            Some(known) => known,
        };
        if due.run == run {
            return Ok((due, delivered));
        }
        if delivered > due.through && !planted!("a group is not set back to its checkpoint") {
            info!(%stream, from = %due.through, to = %delivered,
                "entries have to be read again");
            let mut back = redis::cmd("XGROUP");
            back.arg("SETID").arg(stream.key()).arg(self.reader.service());
            upstream.ask("XGROUP SETID", back.arg(due.through.to_string()).to_owned()).await?;
        }
        run.clone_into(&mut due.run);
        self.write(stream, &due).await?;
        let delivered = delivered.min(due.through);
        Ok((due, delivered))
    }

    async fn write(
        &mut self,
        stream: Stream,
        checkpoint: &Checkpoint,
    ) -> Result<(), ConnectionError> {
        let mut put = redis::cmd("HSET");
        put.arg(keys::checkpoints(self.reader)).arg(stream.key()).arg(checkpoint.to_string());
        self.own.ask("HSET", put).await.map(drop)
    }

    /// Writes the checkpoint unless another instance has. Returns the stored one.
    async fn write_first(
        &mut self,
        stream: Stream,
        checkpoint: &Checkpoint,
    ) -> Result<Checkpoint, ConnectionError> {
        let key = keys::checkpoints(self.reader);
        let mut put = redis::cmd("HSETNX");
        put.arg(&key).arg(stream.key()).arg(checkpoint.to_string());
        self.own.ask("HSETNX", put).await?;
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg(stream.key());
        let found = self.own.ask("HGET", get).await?;
        Ok(read_checkpoint(&found).unwrap_or_else(|| checkpoint.clone()))
    }

    async fn observe_both(&mut self, upstream: &mut Link) -> Result<Comparison, ConnectionError> {
        let mut ask = Pipeline::new();
        ask.cmd("INFO").arg("server");
        ask.cmd("HMGET").arg(keys::checkpoints(self.reader));
        for stream in &self.streams {
            ask.arg(stream.key());
        }
        let mut own = self.own.send(&ask).await?.into_iter();
        let info = self.own.accept("INFO", own.next().unwrap_or(Value::Nil))?;
        let info: String = from_redis_value(info).unwrap_or_default();
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.map_or(UNKNOWN, str::trim).to_owned();
        let found = self.own.accept("HMGET", own.next().unwrap_or(Value::Nil))?;
        let mut checkpoints = BTreeMap::new();
        if let Value::Array(values) = found {
            for (stream, value) in self.streams.iter().zip(values) {
                checkpoints.extend(read_checkpoint(&value).map(|checkpoint| (*stream, checkpoint)));
            }
        }
        let topics: BTreeSet<Topic> = self.streams.iter().map(|it| it.topic()).collect();
        let mut stores = BTreeMap::new();
        for topic in topics {
            let mut get = redis::cmd("GET");
            get.arg(keys::store(topic));
            let reply = upstream.ask("GET", get).await?;
            stores.extend(StoreId::from_reply(&reply).map(|it| (topic, it.id.to_string())));
        }
        let delivered = self.group_positions(upstream).await?;
        Ok(Comparison { run, checkpoints, upstream: stores, delivered })
    }

    /// The last entry of each stream that was delivered to this service's group.
    async fn group_positions(
        &self,
        upstream: &mut Link,
    ) -> Result<BTreeMap<Stream, EntryId>, ConnectionError> {
        let mut ask = Pipeline::new();
        for stream in &self.streams {
            ask.cmd("XINFO").arg("GROUPS").arg(stream.key());
        }
        let mut found = BTreeMap::new();
        for (stream, reply) in self.streams.iter().zip(upstream.send(&ask).await?) {
            // The stream does not exist: ERR no such key.
            if is_error(&reply, "ERR") {
                continue;
            }
            let reply = upstream.accept("XINFO GROUPS", reply)?;
            let groups: Vec<HashMap<String, Value>> = from_redis_value(reply).unwrap_or_default();
            for mut group in groups {
                let mut text = |name| from_redis_value::<String>(group.remove(name)?).ok();
                if text("name").is_some_and(|name| name == self.reader.service()) {
                    let id = text("last-delivered-id").and_then(|id| id.parse().ok());
                    found.insert(*stream, id.unwrap_or_default());
                }
            }
        }
        Ok(found)
    }
}

fn read_checkpoint(value: &Value) -> Option<Checkpoint> {
    let Value::BulkString(bytes) = value else { return None };
    let checkpoint = String::from_utf8_lossy(bytes).parse();
    checkpoint.inspect_err(|error| warn!("everything is read again: {error}")).ok()
}

/// Parses the summary of XPENDING: `None` for an error, `Some(None)` if nothing is pending.
#[expect(clippy::option_option, reason = "unknown and nothing are two answers")]
fn oldest_pending(reply: Value) -> Option<Option<EntryId>> {
    let Value::Array(summary) = reply else { return None };
    let oldest: Option<String> = from_redis_value(summary.into_iter().nth(1)?).ok()?;
    Some(oldest.and_then(|id| id.parse().ok()))
}

/// The greatest id below this one.
pub(crate) fn before(id: EntryId) -> EntryId {
    match (id.time, id.sequence) {
        (0, 0) => id,
        (time, 0) => EntryId { time: time - 1, sequence: u64::MAX },
        (time, sequence) => EntryId { time, sequence: sequence - 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        let checkpoint = Checkpoint {
            upstream: UNKNOWN.to_owned(),
            run: "abc".to_owned(),
            through: id("5-1"),
            forgotten: id("7-0"),
        };
        assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        assert!("- - 5".parse::<Checkpoint>().is_err());
        assert_eq!(before(id("5-1")), id("5-0"));
        assert_eq!(before(id("5-0")), EntryId { time: 4, sequence: u64::MAX });
    }
}
