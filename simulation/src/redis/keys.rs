//! Commands for keys of any type.

use std::borrow::Cow;

use super::{
    Bytes, Redis, Version,
    arguments::{integer, is},
    reply::{Answer, NO_SUCH_KEY, OK, Reply, SYNTAX, Stop, error_text},
};

pub(super) fn type_of(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let name = redis.data.get(&words[1]).map_or("none", |value| value.type_name());
    Ok(Reply::Simple(Cow::Borrowed(name)))
}

pub(super) fn exists(redis: &mut Redis, words: &[Bytes]) -> Answer {
    Ok(Reply::count(words[1..].iter().filter(|key| redis.data.contains(key)).count()))
}

pub(super) fn del(redis: &mut Redis, words: &[Bytes]) -> Answer {
    Ok(Reply::count(words[1..].iter().filter(|key| redis.data.remove(key)).count()))
}

pub(super) fn rename(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (from, to) = (&words[1], &words[2]);
    let exists = if from == to { redis.data.contains(from) } else { redis.data.rename(from, to) };
    if exists { Ok(OK) } else { Err(NO_SUCH_KEY) }
}

pub(super) fn expire(redis: &mut Redis, words: &[Bytes]) -> Answer {
    expire_in(redis, words, 1000, "expire")
}

pub(super) fn pexpire(redis: &mut Redis, words: &[Bytes]) -> Answer {
    expire_in(redis, words, 1, "pexpire")
}

fn expire_in(redis: &mut Redis, words: &[Bytes], unit: i64, command: &str) -> Answer {
    let expiry = expiry(redis, integer(&words[2])?, unit, command)?;
    let key = &words[1];
    if !redis.data.contains(key) {
        return Ok(Reply::Int(0));
    }
    match u64::try_from(expiry) {
        Ok(expiry) if expiry > redis.now => redis.data.set_expiry(key, Some(expiry)),
        _ => drop(redis.data.remove(key)),
    }
    Ok(Reply::Int(1))
}

/// The time after a duration. 6.2 does not notice an overflow.
pub(super) fn expiry(redis: &Redis, duration: i64, unit: i64, command: &str) -> Result<i64, Stop> {
    let now = redis.now.cast_signed();
    if redis.version == Version::V6_2 {
        return Ok(duration.wrapping_mul(unit).wrapping_add(now));
    }
    let expiry = duration.checked_mul(unit).and_then(|millis| millis.checked_add(now));
    expiry.ok_or_else(|| invalid_expiry(redis, command))
}

/// The error for a duration that is not positive or too large.
pub(super) fn invalid_expiry(redis: &Redis, command: &str) -> Stop {
    error_text(match redis.version {
        Version::V6_2 => format!("ERR invalid expire time in {command}"),
        _ => format!("ERR invalid expire time in '{command}' command"),
    })
}

pub(super) fn pttl(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let key = &words[1];
    if !redis.data.contains(key) {
        return Ok(Reply::Int(-2));
    }
    let expiry = redis.data.expiry(key);
    Ok(Reply::Int(expiry.map_or(-1, |expiry| expiry.saturating_sub(redis.now).cast_signed())))
}

pub(super) fn dbsize(redis: &mut Redis, _: &[Bytes]) -> Answer {
    Ok(Reply::count(redis.data.len()))
}

pub(super) fn flush(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let is_valid = match &words[1..] {
        [] => true,
        [mode] => is(mode, "async") || is(mode, "sync"),
        _ => false,
    };
    if !is_valid {
        return Err(SYNTAX);
    }
    redis.data.clear();
    redis.appended = std::rc::Rc::default();
    Ok(OK)
}

/// SCAN in one page, with `MATCH <prefix>*` or without a pattern.
pub(super) fn scan(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let mut prefix = &[][..];
    for option in words[2..].chunks(2) {
        match option {
            [name, pattern] if is(name, "match") => {
                prefix = pattern.strip_suffix(b"*").ok_or(SYNTAX)?;
            }
            [name, _] if is(name, "count") => {}
            _ => return Err(SYNTAX),
        }
    }
    let keys = redis.data.iter().map(|(key, _)| key).filter(|key| key.starts_with(prefix));
    let keys = keys.map(|key| Reply::Bulk(key.to_vec())).collect();
    Ok(Reply::Array(vec![Reply::Bulk(b"0".to_vec()), Reply::Array(keys)]))
}
