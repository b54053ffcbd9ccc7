//! XINFO, and the numbers of read and unread entries of a group.

use super::{
    Bytes, EntryId, Group, Redis, Stream, Version,
    arguments::is,
    group_commands::no_group,
    reply::{Answer, NO_SUCH_KEY, Reply},
    stream::Fields,
    stream_commands::entry_reply,
};

pub(super) fn xinfo(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let subcommands = [("stream", 3), ("groups", 3), ("consumers", 4)];
    let known = subcommands.into_iter().find(|(name, _)| is(&words[1], name));
    if redis.version >= Version::V7_0 {
        let (_, arity) = known.ok_or_else(|| redis.unknown_subcommand(words))?;
        if words.len() < arity || (words.len() > arity && !is(&words[1], "stream")) {
            return Err(redis.wrong_subcommand_arity(words));
        }
    }
    let Some(key) = words.get(2) else { return Err(redis.unknown_subcommand(words)) };
    let stream = redis.data.read::<Stream>(key)?.ok_or(NO_SUCH_KEY)?;
    match known {
        Some((name, arity)) if words.len() == arity => match name {
            "stream" => Ok(stream_info(redis, stream)),
            "groups" => Ok(groups_info(redis, stream)),
            _ => {
                let group = stream.groups.get(&words[3][..]);
                let group = group.ok_or_else(|| no_group(key, &words[3]))?;
                Ok(consumers_info(redis, group))
            }
        },
        _ => Err(redis.subcommand_syntax(words)),
    }
}

fn name(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn stream_info(redis: &Redis, stream: &Stream) -> Reply {
    let entry = |entry: Option<(&EntryId, &Fields)>| {
        entry.map_or(Reply::Nil, |(id, fields)| entry_reply(*id, fields))
    };
    let nodes = Reply::count(stream.nodes.len());
    let mut info = vec![name("length"), Reply::count(stream.entries.len())];
    info.extend([name("radix-tree-keys"), nodes]);
    info.extend([name("radix-tree-nodes"), Reply::count(stream.nodes.len() + 1)]);
    info.extend([name("last-generated-id"), stream.last_id.reply()]);
    if redis.version >= Version::V7_0 {
        info.extend([name("max-deleted-entry-id"), stream.max_deleted_id.reply()]);
        info.extend([name("entries-added"), Reply::Int(stream.entries_added.cast_signed())]);
        info.extend([name("recorded-first-entry-id"), stream.first_id().reply()]);
    }
    info.extend([name("groups"), Reply::count(stream.groups.len())]);
    info.extend([name("first-entry"), entry(stream.entries.first_key_value())]);
    info.extend([name("last-entry"), entry(stream.entries.last_key_value())]);
    Reply::Array(info)
}

fn groups_info(redis: &Redis, stream: &Stream) -> Reply {
    let number = |number: Option<u64>| number.map_or(Reply::Nil, |it| Reply::Int(it.cast_signed()));
    let groups = stream.groups.iter().map(|(group_name, group)| {
        let mut info = vec![name("name"), Reply::Bulk(group_name.to_vec())];
        info.extend([name("consumers"), Reply::count(group.consumers.len())]);
        info.extend([name("pending"), Reply::count(group.pending.len())]);
        info.extend([name("last-delivered-id"), group.last_delivered.reply()]);
        if redis.version >= Version::V7_0 {
            info.extend([name("entries-read"), number(group.entries_read)]);
            let lag = group.lag(stream, redis.version);
            info.extend([name("lag"), lag.map_or(Reply::Nil, Reply::Int)]);
        }
        Reply::Array(info)
    });
    Reply::Array(groups.collect())
}

fn consumers_info(redis: &Redis, group: &Group) -> Reply {
    let since = |time: u64| redis.now.cast_signed() - time.cast_signed();
    let consumers = group.consumers.iter().map(|(consumer_name, consumer)| {
        let mut info = vec![name("name"), Reply::Bulk(consumer_name.to_vec())];
        info.extend([name("pending"), Reply::count(consumer.pending)]);
        info.extend([name("idle"), Reply::Int(since(consumer.seen_at).max(0))]);
        if redis.version >= Version::V7_2 {
            let inactive = consumer.active_at.map_or(-1, since);
            info.extend([name("inactive"), Reply::Int(inactive)]);
        }
        Reply::Array(info)
    });
    Reply::Array(consumers.collect())
}

impl Group {
    /// Counts the delivery of an entry, if the number of entries before it is known.
    pub(super) fn count_read(&mut self, stream: &Stream, id: EntryId, version: Version) {
        let is_new = version >= Version::V7_2;
        let start = if is_new { self.last_delivered } else { id };
        self.entries_read = match self.entries_read {
            Some(read) if self.has_exact_count(stream, start, version) => Some(read + 1),
            _ => entries_up_to(stream, id, version),
        };
    }

    /// Whether no entries from `start` on were deleted, so that the number of read entries grows
    /// with each delivery.
    fn has_exact_count(&self, stream: &Stream, start: EntryId, version: Version) -> bool {
        let is_new = version >= Version::V7_2;
        let misses_trimmed = is_new && self.last_delivered < stream.first_id();
        !misses_trimmed && !stream.has_deleted_since(start, !is_new)
    }

    /// The number of entries that were not delivered; `None` if it is not known.
    fn lag(&self, stream: &Stream, version: Version) -> Option<i64> {
        let difference = |read: u64| stream.entries_added.cast_signed() - read.cast_signed();
        let is_new = version >= Version::V7_2;
        if stream.entries_added == 0 || (is_new && stream.entries.is_empty()) {
            return Some(0);
        }
        let first = stream.first_id();
        if is_new && self.last_delivered < first && stream.max_deleted_id < first {
            return Some(stream.entries.len() as i64);
        }
        let start = self.last_delivered;
        match self.entries_read {
            Some(read) if self.has_exact_count(stream, start, version) => Some(difference(read)),
            _ => entries_up_to(stream, start, version).map(difference),
        }
    }
}

/// The number of entries that were ever added, up to an id; `None` if it is not known.
fn entries_up_to(stream: &Stream, id: EntryId, version: Version) -> Option<u64> {
    let (added, length) = (stream.entries_added, stream.entries.len() as u64);
    if added == 0 {
        return Some(0);
    }
    if length == 0 && id <= stream.last_id {
        return Some(added);
    }
    if version >= Version::V7_2 && id != EntryId::ZERO && id < stream.max_deleted_id {
        return None;
    }
    if id >= stream.last_id {
        return (id == stream.last_id).then_some(added);
    }
    let first = stream.first_id();
    let is_complete = stream.max_deleted_id == EntryId::ZERO || stream.max_deleted_id < first;
    match id.cmp(&first) {
        std::cmp::Ordering::Less if is_complete => Some(added.wrapping_sub(length)),
        std::cmp::Ordering::Equal if is_complete => Some(added.wrapping_sub(length) + 1),
        _ => None,
    }
}
