//! Commands for sorted sets. Members are in the order of their bytes, which is the order of Redis
//! if all scores are equal.

use std::ops::Bound;

use super::{
    Bytes, Redis, SortedSet,
    arguments::{float, float_text, integer, is},
    reply::{Answer, Reply, SYNTAX, Stop, error},
};

const INVALID_RANGE: Stop = error("ERR min or max not valid string range item");

pub(super) fn zadd(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if !words.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    let pairs = words[2..].chunks_exact(2);
    let scores = pairs.clone().map(|pair| float(&pair[0])).collect::<Result<Vec<f64>, _>>()?;
    let set = redis.data.create::<SortedSet>(&words[1])?;
    let added =
        pairs.zip(scores).filter(|(pair, score)| set.insert(pair[1].clone(), *score).is_none());
    Ok(Reply::count(added.count()))
}

pub(super) fn zrem(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let Some(set) = redis.data.write::<SortedSet>(&words[1])? else { return Ok(Reply::Int(0)) };
    let removed = words[2..].iter().filter(|member| set.remove(*member).is_some()).count();
    if set.is_empty() {
        redis.data.remove(&words[1]);
    }
    Ok(Reply::count(removed))
}

pub(super) fn zcard(redis: &mut Redis, words: &[Bytes]) -> Answer {
    Ok(Reply::count(redis.data.read::<SortedSet>(&words[1])?.map_or(0, SortedSet::len)))
}

pub(super) fn zscore(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let set = redis.data.read::<SortedSet>(&words[1])?;
    let score = set.and_then(|set| set.get(&words[2]));
    Ok(score.map_or(Reply::Nil, |score| Reply::text(float_text(*score))))
}

/// An end of a range of members.
enum Edge<'w> {
    BelowAll,
    AboveAll,
    At(&'w [u8]),
    Without(&'w [u8]),
}

impl<'w> Edge<'w> {
    fn parse(word: &'w [u8]) -> Result<Self, Stop> {
        match word {
            b"-" => Ok(Self::BelowAll),
            b"+" => Ok(Self::AboveAll),
            [b'[', member @ ..] => Ok(Self::At(member)),
            [b'(', member @ ..] => Ok(Self::Without(member)),
            _ => Err(INVALID_RANGE),
        }
    }

    fn bound(&self) -> Bound<&'w [u8]> {
        match self {
            Self::BelowAll | Self::AboveAll => Bound::Unbounded,
            Self::At(member) => Bound::Included(member),
            Self::Without(member) => Bound::Excluded(member),
        }
    }
}

/// The members in a range.
fn range<'s>(
    set: &'s SortedSet,
    least: &Edge<'_>,
    greatest: &Edge<'_>,
) -> impl DoubleEndedIterator<Item = &'s Bytes> {
    let bounds = (least.bound(), greatest.bound());
    let is_empty = match bounds {
        _ if matches!(least, Edge::AboveAll) || matches!(greatest, Edge::BelowAll) => true,
        (Bound::Included(least), Bound::Included(greatest)) => least > greatest,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
            a >= b
        }
    };
    let members = (!is_empty).then(|| set.range::<[u8], _>(bounds));
    members.into_iter().flatten().map(|(member, _)| member)
}

pub(super) fn zlexcount(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (least, greatest) = (Edge::parse(&words[2])?, Edge::parse(&words[3])?);
    let set = redis.data.read::<SortedSet>(&words[1])?;
    Ok(Reply::count(set.map_or(0, |set| range(set, &least, &greatest).count())))
}

pub(super) fn zrangebylex(redis: &mut Redis, words: &[Bytes]) -> Answer {
    range_by_lex(redis, words, false)
}

pub(super) fn zrevrangebylex(redis: &mut Redis, words: &[Bytes]) -> Answer {
    range_by_lex(redis, words, true)
}

fn range_by_lex(redis: &mut Redis, words: &[Bytes], is_reverse: bool) -> Answer {
    let limit = match &words[4..] {
        [] => (0, -1),
        [limit, offset, count] if is(limit, "limit") => (integer(offset)?, integer(count)?),
        _ => return Err(SYNTAX),
    };
    let (least, greatest) =
        if is_reverse { (&words[3], &words[2]) } else { (&words[2], &words[3]) };
    let (least, greatest) = (Edge::parse(least)?, Edge::parse(greatest)?);
    let Some(set) = redis.data.read::<SortedSet>(&words[1])? else {
        return Ok(Reply::Array(Vec::new()));
    };
    let Ok(offset) = usize::try_from(limit.0) else { return Ok(Reply::Array(Vec::new())) };
    let count = usize::try_from(limit.1).unwrap_or(usize::MAX);
    let members = range(set, &least, &greatest);
    let bulk = |member: &Bytes| Reply::Bulk(member.clone());
    Ok(Reply::Array(match is_reverse {
        true => members.rev().skip(offset).take(count).map(bulk).collect(),
        false => members.skip(offset).take(count).map(bulk).collect(),
    }))
}

/// ZRANGE of the whole set, `0 -1`, optionally with the scores.
pub(super) fn zrange(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let with_scores = match &words[4..] {
        [] => false,
        [option] if is(option, "withscores") => true,
        _ => return Err(SYNTAX),
    };
    if (integer(&words[2])?, integer(&words[3])?) != (0, -1) {
        return Err(SYNTAX);
    }
    let mut items = Vec::new();
    let set = redis.data.read::<SortedSet>(&words[1])?;
    let mut members: Vec<_> = set.into_iter().flatten().collect();
    members.sort_by(|one, other| one.1.total_cmp(other.1).then(one.0.cmp(other.0)));
    for (member, score) in members {
        items.push(Reply::Bulk(member.clone()));
        if with_scores {
            items.push(Reply::Bulk(score.to_string().into_bytes()));
        }
    }
    Ok(Reply::Array(items))
}
