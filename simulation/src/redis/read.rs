//! XREAD and XREADGROUP.

use std::rc::Rc;

use super::{
    Bytes, EntryId, Group, Pending, Redis, Reply, ScriptState, Stream, Version,
    arguments::{integer, is, timeout_in_millis},
    reply::{Answer, SYNTAX, Stop, error, error_text, shown},
    stream_commands::entry_reply,
};

/// The arguments of XREAD and XREADGROUP.
#[derive(Default)]
pub(super) struct Read<'w> {
    /// The group and the consumer.
    pub(super) group: Option<(&'w [u8], &'w [u8])>,
    count: Option<usize>,
    pub(super) block_millis: Option<u64>,
    /// Delivered entries do not become pending.
    no_ack: bool,
    pub(super) keys: &'w [Bytes],
    pub(super) ids: &'w [Bytes],
}

impl<'w> Read<'w> {
    pub(super) fn parse(
        redis: &Redis,
        words: &'w [Bytes],
        is_group_read: bool,
    ) -> Result<Self, Stop> {
        let mut read = Self::default();
        let mut at = 1;
        while let Some(word) = words.get(at) {
            let more = &words[at + 1..];
            if is(word, "streams") && !more.is_empty() {
                if !more.len().is_multiple_of(2) {
                    return Err(unbalanced(redis.version, is_group_read));
                }
                (read.keys, read.ids) = more.split_at(more.len() / 2);
                break;
            }
            at += 1 + read.parse_option(redis, word, more, is_group_read)?;
        }
        if read.keys.is_empty() {
            return Err(SYNTAX);
        }
        if is_group_read && read.group.is_none() {
            return Err(error("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(read)
    }

    /// Parses an option, and returns the number of its arguments.
    fn parse_option(
        &mut self,
        redis: &Redis,
        word: &[u8],
        more: &'w [Bytes],
        is_group_read: bool,
    ) -> Result<usize, Stop> {
        match more {
            [millis, ..] if is(word, "block") => {
                redis.refuse_block_in_script(is_group_read)?;
                self.block_millis = Some(timeout_in_millis(millis)?);
                Ok(1)
            }
            [count, ..] if is(word, "count") => {
                self.count = usize::try_from(integer(count)?).ok().filter(|count| *count > 0);
                Ok(1)
            }
            [group, consumer, ..] if is(word, "group") => {
                if !is_group_read {
                    return Err(ONLY_IN_XREADGROUP_GROUP);
                }
                self.group = Some((group, consumer));
                Ok(2)
            }
            _ if is(word, "noack") => {
                if !is_group_read {
                    return Err(ONLY_IN_XREADGROUP_NOACK);
                }
                self.no_ack = true;
                Ok(0)
            }
            _ => Err(SYNTAX),
        }
    }
}

const ONLY_IN_XREADGROUP_GROUP: Stop =
    error("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.");
const ONLY_IN_XREADGROUP_NOACK: Stop =
    error("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.");
const DOLLAR_IN_XREADGROUP: Stop = error(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of \
     this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would \
     just return an empty result set.",
);
const GREATER_IN_XREAD: Stop = error(
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
     <consumer> option.",
);

fn unbalanced(version: Version, is_group_read: bool) -> Stop {
    error(match (version, is_group_read) {
        (Version::V6_2 | Version::V7_0, _) => {
            "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be \
             specified."
        }
        (Version::V7_2, false) => {
            "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be \
             specified."
        }
        (Version::V7_2, true) => {
            "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be \
             specified."
        }
    })
}

/// From where a stream is read.
#[derive(Clone, Copy)]
enum Position {
    /// The entries after an id; in a group, those that are pending for the consumer.
    After(EntryId),
    /// The entries that were not delivered to the group (`>`).
    New,
}

pub(super) fn xread(redis: &mut Redis, words: &[Bytes]) -> Answer {
    run(redis, words, false)
}

pub(super) fn xreadgroup(redis: &mut Redis, words: &[Bytes]) -> Answer {
    run(redis, words, true)
}

fn run(redis: &mut Redis, words: &[Bytes], is_group_read: bool) -> Answer {
    let read = Read::parse(redis, words, is_group_read)?;
    let ids = read.keys.iter().zip(read.ids);
    let ids = ids.filter(|(key, _)| !redis.is_ignored(key));
    let positions = ids.map(|(key, id)| Ok((key, redis.position(&read, key, id)?)));
    let positions = positions.collect::<Result<Vec<(&Bytes, Position)>, _>>()?;
    let mut found = Vec::new();
    for (key, position) in &positions {
        let entries = match *position {
            Position::After(id) if read.group.is_none() => redis.entries_after(&read, key, id)?,
            position => redis.entries_for_consumer(&read, key, position)?,
        };
        let items = |entries| Reply::Array(vec![Reply::Bulk(key.to_vec()), Reply::Array(entries)]);
        found.extend(entries.map(items));
    }
    if redis.is_repeated && redis.version >= Version::V7_2 && !found.is_empty() {
        positions.iter().try_for_each(|(key, _)| redis.see_consumer(&read, key))?;
    }
    match read.block_millis {
        _ if !found.is_empty() => Ok(Reply::Array(found)),
        Some(millis) if redis.script == ScriptState::NotRunning => Err(Stop::Blocked { millis }),
        _ => Ok(Reply::NilArray),
    }
}

impl Redis {
    fn refuse_block_in_script(&self, is_group_read: bool) -> Result<(), Stop> {
        if self.script == ScriptState::NotRunning {
            return Ok(());
        }
        let name = if is_group_read { "xreadgroup" } else { "xread" };
        Err(error_text(format!("ERR {name} command is not allowed with BLOCK option from scripts")))
    }

    /// Creates the consumer if necessary, and updates its time.
    fn see_consumer(&mut self, read: &Read<'_>, key: &[u8]) -> Result<(), Stop> {
        let now = self.now;
        if let Some((group, consumer)) = read.group
            && let Some(stream) = self.data.write::<Stream>(key)?
            && let Some(group) = stream.groups.get_mut(group)
        {
            group.see(consumer, now);
        }
        Ok(())
    }

    /// A reader that waits in 6.2 does not notice that one of its streams was deleted.
    fn is_ignored(&self, key: &[u8]) -> bool {
        self.is_repeated
            && self.version == Version::V6_2
            && !matches!(self.data.read::<Stream>(key), Ok(Some(_)))
    }

    fn position(&self, read: &Read<'_>, key: &[u8], id: &[u8]) -> Result<Position, Stop> {
        let stream = self.data.read::<Stream>(key)?;
        if let Some((group, _)) = read.group
            && !stream.is_some_and(|stream| stream.groups.contains_key(group))
        {
            return Err(error_text(format!(
                "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                shown(key),
                shown(group)
            )));
        }
        match (id, read.group) {
            (b"$", Some(_)) => Err(DOLLAR_IN_XREADGROUP),
            (b"$", None) => Ok(Position::After(stream.map_or(EntryId::ZERO, |it| it.last_id))),
            (b">", Some(_)) => Ok(Position::New),
            (b">", None) => Err(GREATER_IN_XREAD),
            (id, _) => match EntryId::parse(id)? {
                EntryId::MAX if read.group.is_some() => Ok(Position::New),
                id => Ok(Position::After(id)),
            },
        }
    }

    fn entries_after(
        &self,
        read: &Read<'_>,
        key: &[u8],
        after: EntryId,
    ) -> Result<Option<Vec<Reply>>, Stop> {
        let Some(stream) = self.data.read::<Stream>(key)? else { return Ok(None) };
        let Some(start) = after.next() else { return Ok(None) };
        let entries = stream.entries.range(start..).take(read.count.unwrap_or(usize::MAX));
        let entries: Vec<Reply> = entries.map(|(id, fields)| entry_reply(*id, fields)).collect();
        Ok(Some(entries).filter(|entries| !entries.is_empty()))
    }

    fn entries_for_consumer(
        &mut self,
        read: &Read<'_>,
        key: &[u8],
        position: Position,
    ) -> Result<Option<Vec<Reply>>, Stop> {
        let (now, version) = (self.now, self.version);
        let Some((group, consumer)) = read.group else { return Ok(None) };
        // Looks before it asks for a changeable value, because that copies shared ones.
        let has_new = |stream: &Stream| {
            let last = stream.groups.get(group).map(|group| group.last_delivered);
            stream.entries.last_key_value().map(|(id, _)| *id) > last
        };
        let is_new = matches!(position, Position::New);
        let serves = !is_new || self.data.read::<Stream>(key)?.is_some_and(has_new);
        if !serves && (version < Version::V7_2 || self.is_repeated) {
            return Ok(None);
        }
        let Some(stream) = self.data.write::<Stream>(key)? else { return Ok(None) };
        let Some(mut group_state) = stream.groups.remove_entry(group) else { return Ok(None) };
        let consumer = group_state.1.see(consumer, now);
        let entries = match position {
            Position::New if !serves => None,
            Position::New => {
                Some(deliver_new(stream, &mut group_state.1, &consumer, read, (now, version)))
            }
            Position::After(id) => {
                Some(deliver_again(stream, &mut group_state.1, &consumer, read, id, now))
            }
        };
        stream.groups.insert(group_state.0, group_state.1);
        Ok(entries)
    }
}

/// Delivers entries that were not delivered to the group.
fn deliver_new(
    stream: &Stream,
    group: &mut Group,
    consumer: &Rc<[u8]>,
    read: &Read<'_>,
    (now, version): (u64, Version),
) -> Vec<Reply> {
    let Some(start) = group.last_delivered.next() else { return Vec::new() };
    let entries = stream.entries.range(start..).take(read.count.unwrap_or(usize::MAX));
    let mut replies = Vec::new();
    for (id, fields) in entries {
        group.count_read(stream, *id, version);
        group.last_delivered = *id;
        replies.push(entry_reply(*id, fields));
        if !read.no_ack {
            let consumer = consumer.clone();
            group.assign(*id, Pending { consumer, delivered_at: now, deliveries: 1 });
        }
    }
    if !read.no_ack {
        group.note_activity(consumer, now);
    }
    replies
}

/// Delivers entries again that are pending for the consumer.
fn deliver_again(
    stream: &Stream,
    group: &mut Group,
    consumer: &Rc<[u8]>,
    read: &Read<'_>,
    after: EntryId,
    now: u64,
) -> Vec<Reply> {
    let Some(start) = after.next() else { return Vec::new() };
    let pending = group.pending.range_mut(start..).filter(|(_, it)| it.consumer == *consumer);
    let redeliver = |(id, pending): (&EntryId, &mut Pending)| match stream.entries.get(id) {
        Some(fields) => {
            pending.delivered_at = now;
            pending.deliveries += 1;
            entry_reply(*id, fields)
        }
        None => deleted_entry(*id),
    };
    pending.take(read.count.unwrap_or(usize::MAX)).map(redeliver).collect()
}

/// A pending entry that was deleted from the stream.
fn deleted_entry(id: EntryId) -> Reply {
    Reply::Array(vec![id.reply(), Reply::NilArray])
}
