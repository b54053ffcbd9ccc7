//! XACK and XGROUP.

use super::{
    Bytes, EntryId, Group, Redis, Stream, Version,
    arguments::{integer, is},
    reply::{Answer, OK, Reply, Stop, error, error_text, shown},
};

pub(super) fn xack(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let has_group = |stream: &Stream| stream.groups.contains_key(&words[2][..]);
    if !redis.data.read::<Stream>(&words[1])?.is_some_and(has_group) {
        return Ok(Reply::Int(0));
    }
    let ids = words[3..].iter().map(|word| EntryId::parse(word)).collect::<Result<Vec<_>, _>>()?;
    let stream = redis.data.write::<Stream>(&words[1])?;
    let Some(group) = stream.and_then(|stream| stream.groups.get_mut(&words[2][..])) else {
        return Ok(Reply::Int(0));
    };
    Ok(Reply::count(ids.into_iter().filter(|id| group.acknowledge(*id)).count()))
}

const NEEDS_KEY: Stop = error(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use \
     the MKSTREAM option to create an empty stream automatically.",
);

/// The error for a missing group of an existing stream.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> Stop {
    let (group, key) = (shown(group), shown(key));
    error_text(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// The error for a missing group or stream.
pub(super) fn no_key_or_group(key: &[u8], group: &[u8]) -> Stop {
    let (key, group) = (shown(key), shown(group));
    error_text(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subcommand {
    Create,
    SetId,
    Destroy,
    CreateConsumer,
    DeleteConsumer,
}

impl Subcommand {
    /// The subcommand, its least and its greatest number of words.
    const ALL: [(&str, Self, usize, usize); 5] = [
        ("create", Self::Create, 5, 8),
        ("setid", Self::SetId, 5, 7),
        ("destroy", Self::Destroy, 4, 4),
        ("createconsumer", Self::CreateConsumer, 5, 5),
        ("delconsumer", Self::DeleteConsumer, 5, 5),
    ];
}

/// The options of XGROUP CREATE and SETID.
#[derive(Default)]
struct Options {
    makes_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(redis: &Redis, words: &[Bytes], subcommand: Subcommand) -> Result<Self, Stop> {
        let mut options = Self::default();
        let mut more = words.get(5..).unwrap_or_default();
        let has_entries_read = redis.version >= Version::V7_0
            && matches!(subcommand, Subcommand::Create | Subcommand::SetId);
        loop {
            more = match more {
                [] => return Ok(options),
                [word, rest @ ..] if subcommand == Subcommand::Create && is(word, "mkstream") => {
                    options.makes_stream = true;
                    rest
                }
                [word, number, rest @ ..] if has_entries_read && is(word, "entriesread") => {
                    options.entries_read = match integer(number)? {
                        -1 => None,
                        number => Some(u64::try_from(number).map_err(|_| {
                            error("ERR value for ENTRIESREAD must be positive or -1")
                        })?),
                    };
                    rest
                }
                _ => return Err(redis.subcommand_syntax(words)),
            }
        }
    }
}

pub(super) fn xgroup(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let known = Subcommand::ALL.into_iter().find(|(name, ..)| is(&words[1], name));
    let is_old = redis.version == Version::V6_2;
    let Some((_, subcommand, least, mut greatest)) = known else {
        if is_old && words.len() >= 4 {
            redis.data.read::<Stream>(&words[2])?.ok_or(NEEDS_KEY)?;
        }
        return Err(redis.unknown_subcommand(words));
    };
    let is_exact = least == greatest;
    if is_old {
        greatest = least + usize::from(subcommand == Subcommand::Create);
    }
    if words.len() < least.min(4)
        || !is_old && (words.len() < least || is_exact && words.len() > greatest)
    {
        return Err(redis.wrong_subcommand_arity(words));
    }
    let options = match is_old && words.len() != 6 {
        true => Options::default(),
        false => Options::parse(redis, words, subcommand)?,
    };
    let (key, name) = (&words[2], &words[3]);
    match redis.data.read::<Stream>(key)? {
        None if !options.makes_stream => return Err(NEEDS_KEY),
        Some(stream)
            if !options.makes_stream
                && !matches!(subcommand, Subcommand::Create | Subcommand::Destroy)
                && !stream.groups.contains_key(&name[..]) =>
        {
            return Err(no_group(key, name));
        }
        _ => {}
    }
    if words.len() < least || words.len() > greatest {
        return Err(redis.subcommand_syntax(words));
    }
    run(redis, subcommand, words, &options)
}

fn run(redis: &mut Redis, subcommand: Subcommand, words: &[Bytes], options: &Options) -> Answer {
    let (key, name, now) = (&words[2], &words[3], redis.now);
    let last_id = redis.data.read::<Stream>(key)?.map_or(EntryId::ZERO, |stream| stream.last_id);
    if subcommand == Subcommand::Create {
        let start = if words[4] == b"$" { last_id } else { EntryId::parse(&words[4])? };
        let stream = redis.data.create::<Stream>(key)?;
        if stream.groups.contains_key(&name[..]) {
            return Err(error("BUSYGROUP Consumer Group name already exists"));
        }
        stream.groups.insert(name[..].into(), Group::new(start, options.entries_read));
        return Ok(OK);
    }
    let Some(stream) = redis.data.write::<Stream>(key)? else { return Err(NEEDS_KEY) };
    if subcommand == Subcommand::Destroy {
        return Ok(Reply::Int(stream.groups.remove(&name[..]).is_some().into()));
    }
    let group = stream.groups.get_mut(&name[..]).ok_or_else(|| no_group(key, name))?;
    match subcommand {
        Subcommand::SetId => {
            let is_last = words[4] == b"$";
            let id = if is_last { last_id } else { EntryId::parse_or_edge(&words[4], 0)? };
            group.last_delivered = id;
            group.entries_read = options.entries_read;
            Ok(OK)
        }
        Subcommand::CreateConsumer => {
            let exists = group.consumers.contains_key(&words[4][..]);
            if !exists {
                group.see(&words[4], now);
            }
            Ok(Reply::Int((!exists).into()))
        }
        _ => Ok(Reply::count(group.remove_consumer(&words[4]))),
    }
}
