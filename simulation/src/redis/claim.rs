//! XCLAIM and XAUTOCLAIM.

use super::{
    Bytes, EntryId, Group, Pending, Redis, Stream, Version,
    arguments::{integer_or, is, parse_integer},
    group_commands::no_key_or_group,
    reply::{Answer, Reply, SYNTAX, Stop, error, error_text, shown},
    stream_commands::entry_reply,
};

/// How pending entries change when a consumer claims them.
struct Claim<'w> {
    consumer: &'w [u8],
    min_idle: i64,
    delivered_at: u64,
    retry_count: Option<i64>,
    /// Entries that are not pending become so.
    force: bool,
    /// The reply has ids only, and the number of deliveries does not grow.
    just_id: bool,
}

/// The result of a claim of one entry.
enum Claimed {
    Reply(Reply),
    /// The entry no longer exists in the stream, so it is no longer pending.
    Deleted,
    Unchanged,
}

impl Claim<'_> {
    /// Claims an entry that is pending.
    fn claim(
        &self,
        redis: (Version, u64),
        stream: &Stream,
        group: &mut Group,
        id: EntryId,
    ) -> Claimed {
        let (version, now) = redis;
        let fields = stream.entries.get(&id);
        let pending = group.pending.get(&id);
        if fields.is_none() && (version >= Version::V7_0 || pending.is_none()) {
            return if group.acknowledge(id) { Claimed::Deleted } else { Claimed::Unchanged };
        }
        let deliveries = match pending {
            None if !self.force => return Claimed::Unchanged,
            None => 1,
            Some(pending) if self.min_idle > 0 && pending.idle(now) < self.min_idle => {
                return Claimed::Unchanged;
            }
            Some(pending) => pending.deliveries,
        };
        let deliveries = match self.retry_count {
            Some(count) => count,
            None => deliveries + i64::from(!self.just_id),
        };
        let consumer = group.see(self.consumer, now);
        let delivered_at = self.delivered_at;
        group.assign(id, Pending { consumer, delivered_at, deliveries });
        group.note_activity(self.consumer, now);
        Claimed::Reply(match fields {
            _ if self.just_id => id.reply(),
            Some(fields) => entry_reply(id, fields),
            None => Reply::Nil,
        })
    }
}

/// Runs a change on a group, which is taken out of the stream meanwhile.
fn with_group<T>(
    redis: &mut Redis,
    (key, name): (&[u8], &[u8]),
    change: impl FnOnce(&Stream, &mut Group) -> T,
) -> Result<T, Stop> {
    let stream = redis.data.write::<Stream>(key)?;
    let Some((stream, (name, mut group))) =
        stream.and_then(|stream| stream.groups.remove_entry(name).map(|group| (stream, group)))
    else {
        return Err(no_key_or_group(key, name));
    };
    let result = change(stream, &mut group);
    stream.groups.insert(name, group);
    Ok(result)
}

/// The options after the ids of XCLAIM.
#[derive(Default)]
struct ClaimOptions {
    force: bool,
    just_id: bool,
    delivered_at: Option<i64>,
    retry_count: Option<i64>,
    last_id: EntryId,
}

impl ClaimOptions {
    fn parse(words: &[Bytes], now: u64) -> Result<Self, Stop> {
        let mut options = Self::default();
        let mut words = words;
        while let [word, rest @ ..] = words {
            words = rest;
            let Some((value, after_value)) = rest.split_first() else {
                options.parse_flag(word)?;
                continue;
            };
            words = after_value;
            if is(word, "idle") {
                let idle = integer_or(value, "ERR Invalid IDLE option argument for XCLAIM")?;
                options.delivered_at = Some(now.cast_signed().wrapping_sub(idle));
            } else if is(word, "time") {
                let time = integer_or(value, "ERR Invalid TIME option argument for XCLAIM")?;
                options.delivered_at = Some(time);
            } else if is(word, "retrycount") {
                let text = "ERR Invalid RETRYCOUNT option argument for XCLAIM";
                options.retry_count = Some(integer_or(value, text)?);
            } else if is(word, "lastid") {
                options.last_id = EntryId::parse(value)?;
            } else {
                words = rest;
                options.parse_flag(word)?;
            }
        }
        Ok(options)
    }

    fn parse_flag(&mut self, word: &[u8]) -> Result<(), Stop> {
        if is(word, "force") {
            self.force = true;
        } else if is(word, "justid") {
            self.just_id = true;
        } else {
            return Err(error_text(format!("ERR Unrecognized XCLAIM option '{}'", shown(word))));
        }
        Ok(())
    }
}

pub(super) fn xclaim(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (key, name, now, version) = (&words[1], &words[2], redis.now, redis.version);
    let has_group = |stream: &Stream| stream.groups.contains_key(&name[..]);
    if !redis.data.read::<Stream>(key)?.is_some_and(has_group) {
        return Err(no_key_or_group(key, name));
    }
    let min_idle = integer_or(&words[4], "ERR Invalid min-idle-time argument for XCLAIM")?;
    let ids: Vec<EntryId> = words[5..].iter().map_while(|word| EntryId::parse(word).ok()).collect();
    let options = ClaimOptions::parse(&words[5 + ids.len()..], now)?;
    let delivered_at = options.delivered_at.filter(|time| *time != -1);
    let claim = Claim {
        consumer: &words[3],
        min_idle: min_idle.max(0),
        delivered_at: delivered_at
            .and_then(|time| u64::try_from(time).ok())
            .map_or(now, |time| time.min(now)),
        retry_count: options.retry_count.filter(|count| *count >= 0),
        force: options.force,
        just_id: options.just_id,
    };
    with_group(redis, (key, name), |stream, group| {
        group.last_delivered = group.last_delivered.max(options.last_id);
        if version >= Version::V7_2 {
            group.see(claim.consumer, now);
        }
        let claimed = ids.into_iter().map(|id| claim.claim((version, now), stream, group, id));
        let reply = |claimed| if let Claimed::Reply(reply) = claimed { Some(reply) } else { None };
        Reply::Array(claimed.filter_map(reply).collect())
    })
}

/// The arguments of XAUTOCLAIM after the name of the consumer.
struct AutoClaim {
    min_idle: i64,
    start: EntryId,
    count: i64,
    just_id: bool,
}

/// The number of pending entries to look at, for each entry to claim.
const ATTEMPTS: i64 = 10;

impl AutoClaim {
    fn parse(words: &[Bytes]) -> Result<Self, Stop> {
        let invalid = "ERR Invalid min-idle-time argument for XAUTOCLAIM";
        let min_idle = integer_or(&words[0], invalid)?.max(0);
        let start = EntryId::parse_start(&words[1])?;
        let mut claim = Self { min_idle, start, count: 100, just_id: false };
        let mut words = &words[2..];
        loop {
            words = match words {
                [] => return Ok(claim),
                [word, count, rest @ ..] if is(word, "count") => {
                    let count =
                        parse_integer(count).filter(|count| (1..=i64::MAX / 16).contains(count));
                    claim.count = count.ok_or(error("ERR COUNT must be > 0"))?;
                    rest
                }
                [word, rest @ ..] if is(word, "justid") => {
                    claim.just_id = true;
                    rest
                }
                _ => return Err(SYNTAX),
            }
        }
    }
}

pub(super) fn xautoclaim(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (now, version) = (redis.now, redis.version);
    let arguments = AutoClaim::parse(&words[4..])?;
    let claim = Claim {
        consumer: &words[3],
        min_idle: arguments.min_idle,
        delivered_at: now,
        retry_count: None,
        force: false,
        just_id: arguments.just_id,
    };
    with_group(redis, (&words[1], &words[2]), |stream, group| {
        if version >= Version::V7_2 {
            group.see(claim.consumer, now);
        }
        let (mut claimed, mut deleted) = (Vec::new(), Vec::new());
        let mut next = pending_from(group, Some(arguments.start));
        let (mut count, mut attempts) = (arguments.count, arguments.count * ATTEMPTS);
        while attempts > 0
            && count > 0
            && let Some(id) = next
        {
            attempts -= 1;
            match claim.claim((version, now), stream, group, id) {
                Claimed::Reply(reply) => claimed.push(reply),
                Claimed::Deleted => deleted.push(id.reply()),
                Claimed::Unchanged => count += 1,
            }
            count -= 1;
            next = pending_from(group, id.next());
        }
        let mut reply = vec![next.unwrap_or(EntryId::ZERO).reply(), Reply::Array(claimed)];
        if version >= Version::V7_0 {
            reply.push(Reply::Array(deleted));
        }
        Reply::Array(reply)
    })
}

/// The first pending entry from an id on.
fn pending_from(group: &Group, start: Option<EntryId>) -> Option<EntryId> {
    group.pending.range(start?..).next().map(|(id, _)| *id)
}
