//! Commands for hashes and lists.

use super::{
    Bytes, Hash, List, Redis, ScriptState, Version,
    arguments::{integer, timeout_in_seconds},
    reply::{Answer, Reply, Stop, error, wrong_arity},
};

fn bulk(value: &Bytes) -> Reply {
    Reply::Bulk(value.clone())
}

pub(super) fn hset(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if !words.len().is_multiple_of(2) {
        return Err(wrong_arity("hset"));
    }
    let hash = redis.data.create::<Hash>(&words[1])?;
    let pairs = words[2..].chunks_exact(2);
    let added = pairs.filter(|pair| hash.insert(pair[0].clone(), pair[1].clone()).is_none());
    Ok(Reply::count(added.count()))
}

pub(super) fn hsetnx(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let hash = redis.data.create::<Hash>(&words[1])?;
    if hash.contains_key(&words[2]) {
        return Ok(Reply::Int(0));
    }
    hash.insert(words[2].clone(), words[3].clone());
    Ok(Reply::Int(1))
}

pub(super) fn hget(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let hash = redis.data.read::<Hash>(&words[1])?;
    Ok(hash.and_then(|hash| hash.get(&words[2])).map_or(Reply::Nil, bulk))
}

pub(super) fn hmget(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let hash = redis.data.read::<Hash>(&words[1])?;
    let value = |field| hash.and_then(|hash| hash.get(field)).map_or(Reply::Nil, bulk);
    Ok(Reply::Array(words[2..].iter().map(value).collect()))
}

pub(super) fn hgetall(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let hash = redis.data.read::<Hash>(&words[1])?;
    let pairs = hash.into_iter().flatten();
    Ok(Reply::Array(pairs.flat_map(|(field, value)| [bulk(field), bulk(value)]).collect()))
}

pub(super) fn hdel(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let Some(hash) = redis.data.write::<Hash>(&words[1])? else { return Ok(Reply::Int(0)) };
    let removed = words[2..].iter().filter(|field| hash.remove(*field).is_some()).count();
    if hash.is_empty() {
        redis.data.remove(&words[1]);
    }
    Ok(Reply::count(removed))
}

pub(super) fn rpush(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let list = redis.data.create::<List>(&words[1])?;
    list.extend(words[2..].iter().cloned());
    Ok(Reply::count(list.len()))
}

pub(super) fn lpush(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let list = redis.data.create::<List>(&words[1])?;
    words[2..].iter().for_each(|value| list.push_front(value.clone()));
    Ok(Reply::count(list.len()))
}

pub(super) fn llen(redis: &mut Redis, words: &[Bytes]) -> Answer {
    Ok(Reply::count(redis.data.read::<List>(&words[1])?.map_or(0, List::len)))
}

pub(super) fn lrange(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (start, end) = (integer(&words[2])?, integer(&words[3])?);
    let Some(list) = redis.data.read::<List>(&words[1])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let (start, end) = (from_end(start).max(0), from_end(end).min(length - 1));
    let count = usize::try_from(end - start + 1).unwrap_or(0);
    let start = usize::try_from(start).unwrap_or(0);
    Ok(Reply::Array(list.iter().skip(start).take(count).map(bulk).collect()))
}

const NOT_POSITIVE: Stop = error("ERR value is out of range, must be positive");

pub(super) fn lpop(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let count = match &words[2..] {
        [] => None,
        [count] => Some(integer(count).map_err(|_| NOT_POSITIVE)?),
        _ => return Err(wrong_arity("lpop")),
    };
    let count = count.map(|count| usize::try_from(count).map_err(|_| NOT_POSITIVE)).transpose()?;
    if count == Some(0) && redis.version == Version::V6_2 {
        return Ok(Reply::NilArray);
    }
    let Some(list) = redis.data.write::<List>(&words[1])? else {
        let is_list = count.is_some() && redis.version >= Version::V7_0;
        return Ok(if is_list { Reply::NilArray } else { Reply::Nil });
    };
    let last = count.unwrap_or(1).min(list.len());
    let mut popped: Vec<Reply> = list.drain(..last).map(Reply::Bulk).collect();
    if list.is_empty() {
        redis.data.remove(&words[1]);
    }
    match count {
        Some(_) => Ok(Reply::Array(popped)),
        None => Ok(popped.pop().unwrap_or(Reply::Nil)),
    }
}

pub(super) fn blpop(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (timeout, keys) = words[1..].split_last().ok_or_else(|| wrong_arity("blpop"))?;
    let millis = timeout_in_seconds(timeout)?;
    for key in keys {
        let Some(list) = redis.data.write::<List>(key)? else { continue };
        let Some(value) = list.pop_front() else { continue };
        if list.is_empty() {
            redis.data.remove(key);
        }
        return Ok(Reply::Array(vec![bulk(key), Reply::Bulk(value)]));
    }
    if redis.script != ScriptState::NotRunning {
        return Ok(Reply::NilArray);
    }
    Err(Stop::Blocked { millis })
}

pub(super) fn hvals(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let hash = redis.data.read::<Hash>(&words[1])?;
    let values = hash.into_iter().flat_map(|hash| hash.values().cloned());
    Ok(Reply::Array(values.map(Reply::Bulk).collect()))
}
