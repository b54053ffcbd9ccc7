//! XPENDING.

use super::{
    Bytes, EntryId, Group, Pending, Redis, Stream,
    arguments::{integer, is},
    group_commands::no_key_or_group,
    reply::{Answer, Reply, SYNTAX, Stop},
};

/// The arguments for a list of pending entries.
struct List<'w> {
    min_idle: i64,
    start: EntryId,
    end: EntryId,
    count: usize,
    consumer: Option<&'w [u8]>,
}

impl<'w> List<'w> {
    fn parse(words: &'w [Bytes]) -> Result<Self, Stop> {
        let (min_idle, words) = match words {
            [word, idle, rest @ ..] if is(word, "idle") => (integer(idle)?, rest),
            words => (0, words),
        };
        let [start, end, count, consumer @ ..] = words else { return Err(SYNTAX) };
        let count = usize::try_from(integer(count)?).unwrap_or(0);
        let (start, end) = (EntryId::parse_start(start)?, EntryId::parse_end(end)?);
        let consumer = consumer.first().map(Vec::as_slice);
        Ok(Self { min_idle, start, end, count, consumer })
    }

    fn select(&self, id: EntryId, pending: &Pending, now: u64) -> Option<Reply> {
        let idle = pending.idle(now);
        let is_selected = self.consumer.is_none_or(|consumer| *pending.consumer == *consumer)
            && (self.min_idle == 0 || idle >= self.min_idle);
        is_selected.then(|| {
            Reply::Array(vec![
                id.reply(),
                Reply::Bulk(pending.consumer.to_vec()),
                Reply::Int(idle.max(0)),
                Reply::Int(pending.deliveries),
            ])
        })
    }
}

pub(super) fn xpending(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let list = match words.len() {
        3 => None,
        6..=9 => Some(List::parse(&words[3..])?),
        _ => return Err(SYNTAX),
    };
    let stream = redis.data.read::<Stream>(&words[1])?;
    let group = stream.and_then(|stream| stream.groups.get(&words[2][..]));
    let group = group.ok_or_else(|| no_key_or_group(&words[1], &words[2]))?;
    let Some(list) = list else { return Ok(summary(group)) };
    if list.start > list.end {
        return Ok(Reply::Array(Vec::new()));
    }
    let pending = group.pending.range(list.start..=list.end);
    let rows = pending.filter_map(|(id, pending)| list.select(*id, pending, redis.now));
    Ok(Reply::Array(rows.take(list.count).collect()))
}

fn summary(group: &Group) -> Reply {
    let (first, last) = (group.pending.first_key_value(), group.pending.last_key_value());
    let (Some((first, _)), Some((last, _))) = (first, last) else {
        return Reply::Array(vec![Reply::Int(0), Reply::Nil, Reply::Nil, Reply::NilArray]);
    };
    let consumers = group.consumers.iter().filter(|(_, consumer)| consumer.pending > 0);
    let consumers = consumers.map(|(name, consumer)| {
        Reply::Array(vec![Reply::Bulk(name.to_vec()), Reply::text(consumer.pending.to_string())])
    });
    Reply::Array(vec![
        Reply::count(group.pending.len()),
        first.reply(),
        last.reply(),
        Reply::Array(consumers.collect()),
    ])
}
