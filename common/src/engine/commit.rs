//! `commit.lua` from Rust: its arguments and its reply.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use redis::{Cmd, Value};

use super::group::Group;
use crate::{
    decision::World,
    events::{ENTITY, EVENT_ID, Stream, TRACEPARENT},
    keys::Key,
};

/// The script.
pub(super) const SCRIPT: &str = include_str!("commit.lua");

/// Its name towards EVALSHA.
pub(super) static SHA: LazyLock<String> =
    LazyLock::new(|| sha1_smol::Sha1::from(SCRIPT).hexdigest());

/// What became of a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Written.
    Committed,
    /// Another instance was faster: nothing was written. These entities stand otherwise than the
    /// decisions saw them.
    Conflict(Vec<(Key, Option<String>)>),
}

/// The call that commits the groups; `now` becomes the version of new entities.
pub(super) fn command(groups: &[Group], world: &World, now: u64) -> (Cmd, Vec<Key>) {
    let mut places = Places::default();
    let mut checks: Vec<(String, String)> = Vec::new();
    let (mut pushes, mut moves) = (Vec::new(), Vec::new());
    let mut announced = Vec::new();
    let mut entities = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for key in &group.keys {
            let slot = world.slot(key).expect("a checked entity was loaded");
            let version = slot.version();
            let expected = version.map_or_else(String::new, |version| format!("{} ", version.0));
            let mut new = String::new();
            if let Some(change) = slot.change() {
                let next = version.map_or(now, |version| version.0 + 1);
                new = format!("{next} {}", change.json);
                let lists = change.index.into_iter().map(Cow::Borrowed);
                for list in lists.chain(change.lists.into_iter().map(Cow::Owned)) {
                    let id = key.as_str()[change.prefix..].to_owned();
                    pushes.push((number, places.list(list), id));
                }
                let gone = change.leaves.into_iter().map(|place| (place, "0"));
                for (place, joins) in gone.chain(change.joins.into_iter().map(|place| (place, "1")))
                {
                    moves.push((number, places.set(place.set), place.member, joins));
                }
                if let Some(stream) = change.updates {
                    let trace = slot.trace();
                    let json = change.announcement.unwrap_or(change.json);
                    announced.push((number, places.stream(stream), json, trace));
                }
            }
            checks.push((expected, new));
            entities.push(key.clone());
        }
    }
    let mut appends = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for (append, trace) in &group.appends {
            appends.push((
                number,
                places.stream(append.stream),
                append.json.as_str(),
                trace.as_deref(),
            ));
        }
    }
    let announced = announced.iter();
    appends.extend(
        announced.map(|(number, place, json, trace)| (*number, *place, json.as_str(), *trace)),
    );

    let Places { streams, lists, sets, .. } = &places;
    let others = entities.len() + streams.len();
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(SHA.as_str()).arg(others + lists.names.len() + sets.names.len());
    for key in &entities {
        cmd.arg(key.as_str());
    }
    for stream in streams {
        cmd.arg(stream.key());
    }
    for name in lists.names.iter().chain(&sets.names) {
        cmd.arg(name.as_ref());
    }
    cmd.arg(groups.len()).arg(entities.len()).arg(streams.len());
    cmd.arg(lists.names.len()).arg(sets.names.len());
    for group in groups {
        cmd.arg(group.keys.len());
    }
    for (expected, new) in &checks {
        cmd.arg(expected).arg(new);
    }
    cmd.arg(appends.len());
    let mut id = uuid::Uuid::encode_buffer();
    for (number, place, json, trace) in appends {
        cmd.arg(number + 1).arg(entities.len() + place + 1).arg(if trace.is_some() {
            6
        } else {
            4
        });
        cmd.arg(EVENT_ID).arg(&*uuid::Uuid::new_v4().hyphenated().encode_lower(&mut id));
        cmd.arg(ENTITY).arg(json);
        if let Some(trace) = trace {
            cmd.arg(TRACEPARENT).arg(trace);
        }
    }
    cmd.arg(pushes.len());
    for (number, place, id) in &pushes {
        cmd.arg(number + 1).arg(others + place + 1).arg(id);
    }
    cmd.arg(moves.len());
    for (number, place, member, joins) in &moves {
        cmd.arg(number + 1).arg(others + lists.names.len() + place + 1).arg(member).arg(joins);
    }
    (cmd, entities)
}

/// The streams, lists and sorted sets of a call, each once.
#[derive(Default)]
struct Places {
    streams: Vec<Stream>,
    known: HashMap<Stream, usize>,
    lists: Names,
    sets: Names,
}

/// Keys, each once.
#[derive(Default)]
struct Names {
    names: Vec<Cow<'static, str>>,
    known: HashMap<Cow<'static, str>, usize>,
}

impl Names {
    fn place(&mut self, name: Cow<'static, str>) -> usize {
        *self.known.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }
}

impl Places {
    fn stream(&mut self, stream: Stream) -> usize {
        *self.known.entry(stream).or_insert_with(|| {
            self.streams.push(stream);
            self.streams.len() - 1
        })
    }

    fn list(&mut self, list: Cow<'static, str>) -> usize {
        self.lists.place(list)
    }

    fn set(&mut self, set: String) -> usize {
        self.sets.place(Cow::Owned(set))
    }
}

/// Reads the reply; `entities` as [`command`] gave them. `None` if it is not of the script's form.
pub(super) fn outcomes(reply: Value, entities: &[Key]) -> Option<Vec<Outcome>> {
    let Value::Array(items) = reply else { return None };
    items
        .into_iter()
        .map(|item| match item {
            Value::Int(1) => Some(Outcome::Committed),
            Value::Array(pairs) => {
                let mut standing = Vec::with_capacity(pairs.len() / 2);
                let mut pairs = pairs.into_iter();
                while let (Some(position), Some(found)) = (pairs.next(), pairs.next()) {
                    let Value::Int(position) = position else { return None };
                    let key = entities.get(usize::try_from(position).ok()?.checked_sub(1)?)?;
                    let found = match found {
                        Value::Nil => None,
                        Value::BulkString(bytes) => {
                            Some(String::from_utf8_lossy(&bytes).into_owned())
                        }
                        _ => return None,
                    };
                    standing.push((key.clone(), found));
                }
                Some(Outcome::Conflict(standing))
            }
            _ => None,
        })
        .collect()
}
