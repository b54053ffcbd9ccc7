//! The lag of a consumer group: the number of entries of its stream that were not delivered to it
//! yet.
//!
//! Redis has a counter for the lag, which is often missing or wrong. It is missing before Redis
//! 7.0, and while a deleted entry lies ahead of the group. It is too large after a restart from an
//! append-only file: deliveries since the last rewrite of that file move the position of the group
//! (`last-delivered-id`) but not its counter (`entries-read`), and Redis never corrects that.
//!
//! The meter trusts the counter where it is known to be correct, and corrects it where its error is
//! known: a group at the end of its stream has a lag of 0, so any other value is the error. In all
//! other cases the lag is an [`Estimate`](Lag::Estimate).

use std::collections::HashMap;

use redis::{Pipeline, Value, from_redis_value};

use crate::{clock::Millis, connection::url::DEFAULT_USER, schema::entry_id::EntryId};

/// The number of entries that were not delivered to a group yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lag {
    /// The exact number.
    Exact(u64),
    /// An approximate number: the server's counter is missing or may be wrong.
    Estimate(u64),
}

impl Lag {
    /// The number, exact or estimated.
    pub const fn entries(self) -> u64 {
        match self {
            Self::Exact(entries) | Self::Estimate(entries) => entries,
        }
    }

    /// Whether the number is an estimate.
    pub const fn is_estimate(self) -> bool {
        matches!(self, Self::Estimate(_))
    }
}

/// The answer to `INFO server`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerFacts {
    /// The identity of this run of the server.
    pub run_id: String,
    /// The latest moment at which this run may have started, by the server's clock.
    pub started: Option<Millis>,
}

impl ServerFacts {
    /// Parses the answer to `INFO server`.
    pub fn from_reply(reply: Value) -> Self {
        let info: String = from_redis_value(reply).unwrap_or_default();
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let number = |name| field(name).and_then(|text| text.parse::<u64>().ok());
        let now = number("server_time_usec").map(|micros| micros / 1_000_000);
        // The difference of two moments in whole seconds: the run started within a second.
        let second = now.zip(number("uptime_in_seconds")).map(|(now, up)| now.saturating_sub(up));
        Self {
            run_id: field("run_id").unwrap_or_default().to_owned(),
            started: second.map(|second| (second + 1).saturating_mul(1_000)),
        }
    }
}

/// A script for `XINFO STREAM` without entries: the command returns the first and the last entry
/// whole, however large they are.
pub(crate) const STREAM_ENDS: &str = include_str!("stream_ends.lua");

/// Adds the command that [`StreamFacts`] parses. A named Redis user may run no script on streams of
/// other owners. There the plain command is used: only the owner writes such a stream, so its
/// entries are small.
pub fn ask_about(commands: &mut Pipeline, user: &str, stream: &str) {
    if user == DEFAULT_USER {
        commands.cmd("EVAL").arg(STREAM_ENDS).arg(1).arg(stream);
    } else {
        commands.cmd("XINFO").arg("STREAM").arg(stream);
    }
}

/// The answer to `XINFO STREAM`; the default stands for a missing stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamFacts {
    /// The number of entries.
    pub length: u64,
    /// The first entry that still exists.
    pub first: Option<EntryId>,
    /// The last entry that still exists.
    pub last: Option<EntryId>,
    /// The last id that was ever generated.
    pub last_generated: EntryId,
    /// The number of entries ever added; unknown before Redis 7.0.
    pub added: Option<u64>,
}

impl StreamFacts {
    /// Parses the answer to `XINFO STREAM`; an error means that the stream does not exist.
    pub fn from_reply(reply: Value) -> Self {
        let facts: HashMap<String, Value> = from_redis_value(reply).unwrap_or_default();
        let entry = |name: &str| match facts.get(name)? {
            Value::Array(parts) => id(parts.first()?),
            _ => None,
        };
        Self {
            length: number(&facts, "length").unwrap_or(0),
            first: entry("first-entry"),
            last: entry("last-entry"),
            last_generated: facts.get("last-generated-id").and_then(id).unwrap_or_default(),
            added: number(&facts, "entries-added"),
        }
    }
}

/// The answer to `XINFO GROUPS` for one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupFacts {
    /// The name of the group.
    pub name: String,
    /// The number of consumers.
    pub consumers: u64,
    /// The number of entries that were delivered and not acknowledged.
    pub pending: u64,
    /// The last delivered entry.
    pub delivered: EntryId,
    /// The number of delivered entries, by the server's counter.
    pub read: Option<u64>,
    /// The lag by the server's counter.
    pub lag: Option<u64>,
}

impl GroupFacts {
    /// Parses the answer to `XINFO GROUPS`; an error means that the stream does not exist.
    pub fn from_reply(reply: Value) -> Vec<Self> {
        let groups: Vec<HashMap<String, Value>> = from_redis_value(reply).unwrap_or_default();
        let group = |facts: HashMap<String, Value>| Self {
            name: facts
                .get("name")
                .and_then(|name| from_redis_value(name.clone()).ok())
                .unwrap_or_default(),
            consumers: number(&facts, "consumers").unwrap_or(0),
            pending: number(&facts, "pending").unwrap_or(0),
            delivered: facts.get("last-delivered-id").and_then(id).unwrap_or_default(),
            read: number(&facts, "entries-read"),
            lag: number(&facts, "lag"),
        };
        groups.into_iter().map(group).collect()
    }
}

fn number(facts: &HashMap<String, Value>, name: &str) -> Option<u64> {
    match facts.get(name)? {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn id(value: &Value) -> Option<EntryId> {
    from_redis_value::<String>(value.clone()).ok()?.parse().ok()
}

/// Computes lags, and remembers when groups were at the end of their streams: the more often it is
/// called, the fewer lags are estimates. One meter per server.
#[derive(Debug, Default)]
pub struct LagMeter {
    run_id: String,
    ends: HashMap<(String, String), End>,
}

/// The state of a group when it was at the end of its stream.
#[derive(Clone, Copy, Debug)]
struct End {
    delivered: EntryId,
    /// The number of entries ever added to the stream.
    added: Option<u64>,
    /// The error of the server's counter: by how much it is too large.
    excess: Option<u64>,
}

impl LagMeter {
    /// The lag of a group of the stream with this key.
    pub fn lag(
        &mut self,
        server: &ServerFacts,
        key: &str,
        stream: &StreamFacts,
        group: &GroupFacts,
    ) -> Lag {
        if self.run_id != server.run_id {
            self.run_id.clone_from(&server.run_id);
            self.ends.clear();
        }
        let name = (key.to_owned(), group.name.clone());
        if stream.length == 0 || stream.last.unwrap_or(stream.last_generated) <= group.delivered {
            let (delivered, added, excess) = (group.delivered, stream.added, group.lag);
            self.ends.insert(name, End { delivered, added, excess });
            return Lag::Exact(0);
        }
        if stream.first.is_some_and(|first| group.delivered < first) {
            return Lag::Exact(stream.length);
        }
        // The counter of a group that was set back starts again.
        self.ends.retain(|of, end| *of != name || end.delivered <= group.delivered);
        let end = self.ends.get(&name).copied();
        // The group received the first entry and not the last one.
        let (least, most) = (1, (stream.length - 1).max(1));
        if let Some(counted) = group.lag {
            let excess = if is_counted_by_this_run(server, stream) {
                Some(0)
            } else {
                end.and_then(|end| end.excess)
            };
            match excess.map(|excess| counted.checked_sub(excess)) {
                Some(Some(exact)) if (least..=most).contains(&exact) => return Lag::Exact(exact),
                Some(_) => drop(self.ends.remove(&name)),
                None => return Lag::Estimate(counted.clamp(least, most)),
            }
        }
        Lag::Estimate(interpolated(stream, group.delivered, end).clamp(least, most))
    }
}

/// Whether all entries of the stream were added, and therefore delivered, since the server started.
fn is_counted_by_this_run(server: &ServerFacts, stream: &StreamFacts) -> bool {
    let complete = stream.added == Some(stream.length);
    complete && server.started.zip(stream.first).is_some_and(|(start, first)| first.time > start)
}

/// The number of entries behind the last delivered one, if entries arrived at a steady rate: since
/// the group was last at the end, or else since the first entry.
fn interpolated(stream: &StreamFacts, delivered: EntryId, end: Option<End>) -> u64 {
    let since_end = end.and_then(|end| {
        Some((end.delivered.time, stream.added?.checked_sub(end.added?)?.min(stream.length)))
    });
    let first = stream.first.map_or(0, |first| first.time);
    let (from, entries) = since_end.unwrap_or((first, stream.length));
    let last = stream.last.unwrap_or(stream.last_generated).time;
    let whole = u128::from(last.saturating_sub(from)).max(1);
    let ahead = u128::from(last.saturating_sub(delivered.time.max(from)));
    let share = u128::from(entries) * ahead / whole;
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(time: u64) -> EntryId {
        EntryId { time, sequence: 0 }
    }

    /// A stream of one entry per millisecond from 1,001 on, of which these still exist.
    fn stream(first: u64, last: u64) -> StreamFacts {
        StreamFacts {
            length: last - first + 1,
            first: Some(id(first)),
            last: Some(id(last)),
            last_generated: id(last),
            added: Some(last - 1_000),
        }
    }

    fn group(delivered: u64, lag: Option<u64>) -> GroupFacts {
        let name = "order_service".to_owned();
        GroupFacts { name, delivered: id(delivered), lag, ..GroupFacts::default() }
    }

    fn server(run: &str, started: u64) -> ServerFacts {
        ServerFacts { run_id: run.to_owned(), started: Some(started) }
    }

    fn once(server: &ServerFacts, stream: &StreamFacts, group: &GroupFacts) -> Lag {
        LagMeter::default().lag(server, "s", stream, group)
    }

    #[test]
    fn a_group_at_the_end_has_no_lag_at_any_counter_value() {
        let restarted = server("a", 9_000);
        for counted in [None, Some(0), Some(10)] {
            let lag = once(&restarted, &stream(1_001, 1_020), &group(1_020, counted));
            assert_eq!(lag, Lag::Exact(0));
        }
        // The last entries were deleted before they were delivered.
        let deleted = StreamFacts { last_generated: id(1_030), ..stream(1_001, 1_020) };
        assert_eq!(once(&restarted, &deleted, &group(1_020, None)), Lag::Exact(0));
        let empty = StreamFacts { last_generated: id(1_030), ..StreamFacts::default() };
        assert_eq!(once(&restarted, &empty, &group(1_020, None)), Lag::Exact(0));
    }

    #[test]
    fn a_group_before_the_first_entry_lags_by_the_length() {
        let lag = once(&server("a", 9_000), &stream(1_011, 1_020), &group(1_005, None));
        assert_eq!(lag, Lag::Exact(10));
    }

    #[test]
    fn a_counter_is_trusted_if_the_server_ran_since_the_first_entry() {
        let stream = stream(1_001, 1_020);
        let group = group(1_015, Some(5));
        assert_eq!(once(&server("a", 500), &stream, &group), Lag::Exact(5));
        assert_eq!(once(&server("a", 1_010), &stream, &group), Lag::Estimate(5));
    }

    #[test]
    fn the_error_of_a_counter_is_known_once_the_group_was_at_the_end() {
        let (run, mut meter) = (server("a", 9_000), LagMeter::default());
        let mut lag = |run, stream: StreamFacts, group| meter.lag(run, "s", &stream, &group);
        assert_eq!(lag(&run, stream(1_001, 1_020), group(1_020, Some(7))), Lag::Exact(0));
        assert_eq!(lag(&run, stream(1_001, 1_023), group(1_020, Some(10))), Lag::Exact(3));
        assert_eq!(lag(&run, stream(1_001, 1_023), group(1_022, Some(8))), Lag::Exact(1));
        // After a setback the counter may have a different error.
        assert_eq!(lag(&run, stream(1_001, 1_023), group(1_013, Some(10))), Lag::Estimate(10));
        assert_eq!(lag(&run, stream(1_001, 1_023), group(1_023, Some(7))), Lag::Exact(0));
        // The next run may have another error.
        let next = server("b", 9_500);
        assert_eq!(lag(&next, stream(1_001, 1_024), group(1_023, Some(9))), Lag::Estimate(9));
    }

    #[test]
    fn without_a_counter_the_lag_is_estimated_within_its_bounds() {
        let run = server("a", 500);
        let estimate = |delivered| once(&run, &stream(1_001, 1_101), &group(delivered, None));
        assert_eq!(estimate(1_051), Lag::Estimate(50));
        assert_eq!(estimate(1_100), Lag::Estimate(1));
        assert_eq!(estimate(1_001), Lag::Estimate(100));
        // A counter beyond the length of the stream is wrong.
        let lag = once(&server("a", 9_000), &stream(1_091, 1_101), &group(1_100, Some(80)));
        assert_eq!(lag, Lag::Estimate(10));
    }

    #[test]
    fn a_burst_after_a_long_silence_is_not_underestimated() {
        let (run, mut meter) = (server("a", 9_000), LagMeter::default());
        let before = stream(1_001, 1_020);
        assert_eq!(meter.lag(&run, "s", &before, &group(1_020, None)), Lag::Exact(0));
        let burst = StreamFacts {
            length: 520,
            last: Some(id(900_000)),
            last_generated: id(900_000),
            added: Some(520),
            ..before
        };
        assert_eq!(meter.lag(&run, "s", &burst, &group(1_020, None)), Lag::Estimate(500));
    }

    #[test]
    fn facts_are_read_from_replies_of_every_version() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let info = "# Server\r\nrun_id:abc\r\nserver_time_usec:9000123\r\nuptime_in_seconds:3\r\n";
        let facts = ServerFacts::from_reply(bulk(info));
        assert_eq!(facts, ServerFacts { run_id: "abc".to_owned(), started: Some(7_000) });
        let entry = |text| Value::Array(vec![bulk(text), Value::Array(Vec::new())]);
        let reply = [
            bulk("length"),
            Value::Int(2),
            bulk("last-generated-id"),
            bulk("7-1"),
            bulk("first-entry"),
            entry("5-0"),
            bulk("last-entry"),
            entry("7-1"),
        ];
        let facts = StreamFacts::from_reply(Value::Array(reply.into()));
        let last = EntryId { time: 7, sequence: 1 };
        let (length, first) = (2, Some(id(5)));
        let expected =
            StreamFacts { length, first, last: Some(last), last_generated: last, added: None };
        assert_eq!(facts, expected);
        let error = redis::parse_redis_value(b"-ERR no such key\r\n").unwrap();
        assert_eq!(StreamFacts::from_reply(error.clone()), StreamFacts::default());
        assert_eq!(GroupFacts::from_reply(error), Vec::new());
    }
}
