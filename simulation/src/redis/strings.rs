//! Commands for strings.

use super::{
    Bytes, Redis, Value, Version,
    arguments::{integer, is},
    keys,
    reply::{Answer, OK, Reply, SYNTAX, Stop, error, wrong_arity},
};

pub(super) fn get(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let found = redis.data.read::<Bytes>(&words[1])?;
    Ok(found.map_or(Reply::Nil, |value| Reply::Bulk(value.clone())))
}

pub(super) fn mget(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let value = |key: &Bytes| match redis.data.get(key) {
        Some(Value::String(value)) => Reply::Bulk(value.clone()),
        _ => Reply::Nil,
    };
    Ok(Reply::Array(words[1..].iter().map(value).collect()))
}

pub(super) fn mset(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if words.len().is_multiple_of(2) {
        return Err(match redis.version {
            Version::V6_2 => error("ERR wrong number of arguments for MSET"),
            _ => wrong_arity("mset"),
        });
    }
    for pair in words[1..].chunks_exact(2) {
        redis.data.set(&pair[0], Value::String(pair[1].clone()), None);
    }
    Ok(OK)
}

pub(super) fn setnx(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if redis.data.contains(&words[1]) {
        return Ok(Reply::Int(0));
    }
    redis.data.set(&words[1], Value::String(words[2].clone()), None);
    Ok(Reply::Int(1))
}

/// The options of SET.
#[derive(Default)]
struct SetOptions<'w> {
    only_if_absent: bool,
    only_if_present: bool,
    keeps_expiry: bool,
    /// A duration, and the number of milliseconds in its unit.
    duration: Option<(&'w [u8], i64)>,
}

impl<'w> SetOptions<'w> {
    fn parse(words: &'w [Bytes]) -> Result<Self, Stop> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let sets_expiry = options.keeps_expiry || options.duration.is_some();
            if is(word, "nx") && !options.only_if_present {
                options.only_if_absent = true;
            } else if is(word, "xx") && !options.only_if_absent {
                options.only_if_present = true;
            } else if is(word, "keepttl") && options.duration.is_none() {
                options.keeps_expiry = true;
            } else if (is(word, "px") || is(word, "ex")) && !sets_expiry {
                let unit = if is(word, "px") { 1 } else { 1000 };
                options.duration = Some((words.next().ok_or(SYNTAX)?, unit));
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }
}

pub(super) fn set(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (key, options) = (&words[1], SetOptions::parse(&words[3..])?);
    let mut expiry = if options.keeps_expiry { redis.data.expiry(key) } else { None };
    if let Some((duration, unit)) = options.duration {
        let duration = integer(duration)?;
        if duration <= 0 {
            return Err(keys::invalid_expiry(redis, "set"));
        }
        let time = keys::expiry(redis, duration, unit, "set")?;
        expiry = Some(time.cast_unsigned());
    }
    let exists = redis.data.contains(key);
    if (options.only_if_absent && exists) || (options.only_if_present && !exists) {
        return Ok(Reply::Nil);
    }
    redis.data.set(key, Value::String(words[2].clone()), expiry);
    Ok(OK)
}
