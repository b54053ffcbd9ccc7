//! Commands for the entries of streams.

use std::rc::Rc;

use super::{
    Appended, Bytes, EntryId, Redis, Stream, Version,
    arguments::{integer, is},
    reply::{Answer, NO_SUCH_KEY, OK, Reply, SYNTAX, Stop, error, wrong_arity},
    stream::{Fields, Trim, TrimBound},
};

/// An entry as a reply: its id, then its fields and values.
pub(super) fn entry_reply(id: EntryId, fields: &Fields) -> Reply {
    let fields = fields.iter().map(|word| Reply::Bulk(word.clone())).collect();
    Reply::Array(vec![id.reply(), Reply::Array(fields)])
}

/// The options of XADD and XTRIM.
#[derive(Default)]
struct Options {
    bound: Option<TrimBound>,
    approximate: bool,
    limit: Option<i64>,
    /// XADD does nothing if the key does not exist.
    needs_stream: bool,
}

impl Options {
    /// Parses options from the beginning of the words, and returns the number of words that they
    /// take.
    fn parse(words: &[Bytes], is_add: bool) -> Result<(Self, usize), Stop> {
        let mut options = Self::default();
        let mut at = 0;
        while at < words.len() {
            let has_more = at + 1 < words.len();
            if has_more && (is(&words[at], "maxlen") || is(&words[at], "minid")) {
                at += options.parse_bound(&words[at..])?;
            } else if has_more && is(&words[at], "limit") {
                let limit = integer(&words[at + 1])?;
                if limit < 0 {
                    return Err(error("ERR The LIMIT argument must be >= 0."));
                }
                options.limit = Some(limit);
                at += 2;
            } else if is_add && is(&words[at], "nomkstream") {
                options.needs_stream = true;
                at += 1;
            } else if is_add {
                break;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok((options, at))
    }

    fn parse_bound(&mut self, words: &[Bytes]) -> Result<usize, Stop> {
        if self.bound.is_some() {
            return Err(error(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let has_operator = words.len() > 2 && (words[1] == b"~" || words[1] == b"=");
        self.approximate = has_operator && words[1] == b"~";
        let value = &words[1 + usize::from(has_operator)];
        self.bound = Some(if is(&words[0], "maxlen") {
            let length = usize::try_from(integer(value)?);
            TrimBound::MaxLength(
                length.map_err(|_| error("ERR The MAXLEN argument must be >= 0."))?,
            )
        } else {
            TrimBound::MinId(EntryId::parse(value)?)
        });
        Ok(2 + usize::from(has_operator))
    }

    fn trim(&self, redis: &Redis, is_add: bool) -> Result<Option<Trim>, Stop> {
        if self.limit.is_some_and(|limit| limit > 0) && self.bound.is_none() {
            return Err(error(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if !is_add && self.bound.is_none() {
            return Err(error("ERR syntax error, XTRIM must be called with a trimming strategy"));
        }
        if self.limit.is_some() && !self.approximate {
            return Err(error(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        let limit = match self.limit {
            Some(limit) => usize::try_from(limit).unwrap_or(0),
            None if self.approximate => redis.trim_limit(),
            None => 0,
        };
        let approximate = self.approximate;
        Ok(self.bound.map(|bound| Trim { bound, approximate, limit }))
    }
}

impl Redis {
    /// The number of entries that approximate trimming removes at most.
    fn trim_limit(&self) -> usize {
        match (self.version, self.node_limits.entries * 100) {
            (Version::V6_2, limit) => limit,
            (_, 0) => 10_000,
            (_, limit) => limit.min(1_000_000),
        }
    }

    fn next_id(&self, stream: &Stream) -> Option<EntryId> {
        if self.now > stream.last_id.millis {
            return Some(EntryId { millis: self.now, sequence: 0 });
        }
        stream.last_id.next()
    }
}

const EXHAUSTED: Stop =
    error("ERR The stream has exhausted the last possible ID, unable to add more items");
const NOT_LARGER: Stop =
    error("ERR The ID specified in XADD is equal or smaller than the target stream top item");

pub(super) fn xadd(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (options, used) = Options::parse(&words[2..], true)?;
    let mut id = None;
    if let Some(word) = words.get(2 + used)
        && word != b"*"
    {
        id = Some(EntryId::parse(word)?);
    }
    let trim = options.trim(redis, true)?;
    let fields = words.get(3 + used..).unwrap_or_default();
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(match redis.version {
            Version::V6_2 => error("ERR wrong number of arguments for XADD"),
            _ => wrong_arity("xadd"),
        });
    }
    if id == Some(EntryId::ZERO) {
        return Err(error("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = &words[1];
    let id = match redis.data.read::<Stream>(key)? {
        None if options.needs_stream => return Ok(Reply::Nil),
        Some(stream) if stream.last_id == EntryId::MAX => return Err(EXHAUSTED),
        Some(stream) => match id {
            Some(id) if id <= stream.last_id => return Err(NOT_LARGER),
            Some(id) => id,
            None => redis.next_id(stream).ok_or(EXHAUSTED)?,
        },
        None => id.unwrap_or(EntryId { millis: redis.now, sequence: 0 }),
    };
    let fields: Fields = fields.into();
    let limits = redis.node_limits;
    let stream = redis.data.create::<Stream>(key)?;
    stream.append(id, fields.clone(), limits);
    if let Some(trim) = trim {
        stream.trim(&trim);
    }
    let key = key.as_slice().into();
    Rc::make_mut(&mut redis.appended).push(Appended { key, id, fields });
    Ok(id.reply())
}

pub(super) fn xlen(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let stream = redis.data.read::<Stream>(&words[1])?;
    Ok(Reply::count(stream.map_or(0, |stream| stream.entries.len())))
}

pub(super) fn xdel(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let Some(stream) = redis.data.write::<Stream>(&words[1])? else { return Ok(Reply::Int(0)) };
    let ids = words[2..].iter().map(|word| EntryId::parse(word)).collect::<Result<Vec<_>, _>>()?;
    Ok(Reply::count(ids.into_iter().filter(|id| stream.delete(*id)).count()))
}

pub(super) fn xtrim(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (options, _) = Options::parse(&words[2..], false)?;
    let Some(trim) = options.trim(redis, false)? else { return Err(SYNTAX) };
    let stream = redis.data.write::<Stream>(&words[1])?;
    Ok(Reply::count(stream.map_or(0, |stream| stream.trim(&trim))))
}

pub(super) fn xrange(redis: &mut Redis, words: &[Bytes]) -> Answer {
    range(redis, words, false)
}

pub(super) fn xrevrange(redis: &mut Redis, words: &[Bytes]) -> Answer {
    range(redis, words, true)
}

fn range(redis: &mut Redis, words: &[Bytes], is_reverse: bool) -> Answer {
    let (start, end) = if is_reverse { (&words[3], &words[2]) } else { (&words[2], &words[3]) };
    let (start, end) = (EntryId::parse_start(start)?, EntryId::parse_end(end)?);
    let mut count = None;
    for option in words[4..].chunks(2) {
        match option {
            [name, number] if is(name, "count") => {
                count = Some(usize::try_from(integer(number)?).unwrap_or(0));
            }
            _ => return Err(SYNTAX),
        }
    }
    let Some(stream) = redis.data.read::<Stream>(&words[1])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    if count == Some(0) {
        return Ok(Reply::NilArray);
    }
    if start > end {
        return Ok(Reply::Array(Vec::new()));
    }
    let (entries, count) = (stream.entries.range(start..=end), count.unwrap_or(usize::MAX));
    let entry = |(id, fields): (&EntryId, &Fields)| entry_reply(*id, fields);
    Ok(Reply::Array(match is_reverse {
        true => entries.rev().take(count).map(entry).collect(),
        false => entries.take(count).map(entry).collect(),
    }))
}

/// The options of XSETID since 7.0.
fn setid_options(words: &[Bytes], id: EntryId) -> Result<(Option<u64>, EntryId), Stop> {
    let (mut added, mut max_deleted) = (None, EntryId::ZERO);
    for option in words.chunks(2) {
        match option {
            [name, number] if is(name, "entriesadded") => {
                let number = u64::try_from(integer(number)?);
                added = Some(number.map_err(|_| error("ERR entries_added must be positive"))?);
            }
            [name, value] if is(name, "maxdeletedid") => {
                max_deleted = EntryId::parse(value)?;
                if id < max_deleted {
                    return Err(error(
                        "ERR The ID specified in XSETID is smaller than the provided \
                         max_deleted_entry_id",
                    ));
                }
            }
            _ => return Err(SYNTAX),
        }
    }
    Ok((added, max_deleted))
}

pub(super) fn xsetid(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let version = redis.version;
    let parse = || {
        let id = EntryId::parse(&words[2])?;
        Ok((id, setid_options(&words[3..], id)?))
    };
    let parsed = parse();
    if version >= Version::V7_0
        && let Err(stop) = parsed
    {
        return Err(stop);
    }
    let stream = redis.data.write::<Stream>(&words[1])?.ok_or(NO_SUCH_KEY)?;
    let (id, (added, max_deleted)) = parsed?;
    if version >= Version::V7_2 && id < stream.max_deleted_id {
        return Err(error(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if let Some((last, _)) = stream.entries.last_key_value() {
        if id < *last {
            return Err(error(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|added| added < stream.entries.len() as u64) {
            return Err(error(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    stream.last_id = id;
    stream.entries_added = added.unwrap_or(stream.entries_added);
    if max_deleted != EntryId::ZERO {
        stream.max_deleted_id = max_deleted;
    }
    Ok(OK)
}
