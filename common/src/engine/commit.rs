//! The interface to `commit.lua`: its arguments and its reply.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use redis::{Cmd, Value};

use super::group::Group;
use crate::{
    decision::World,
    random::new_id,
    schema::{
        keys::{self, Key},
        stored_form,
        stream::{ENTITY, EVENT_ID, Stream, TRACEPARENT, Topic},
    },
};

/// The script.
pub(super) const SCRIPT: &str = include_str!("commit.lua");

/// The digest of the script, for EVALSHA.
pub(super) static SHA: LazyLock<String> =
    LazyLock::new(|| sha1_smol::Sha1::from(SCRIPT).hexdigest());

/// The outcome of the commit of a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The changes were written.
    Committed,
    /// Another instance committed first and nothing was written. The current values of these
    /// entities differ from those that the decisions read.
    Conflict(Vec<(Key, Standing)>),
    /// Nothing was written, because another instance that lost a conflict commits first.
    Deferred,
    /// Nothing was written, because a stream, list or sorted set cannot be written.
    Refused(Refused),
    /// Nothing was written, because this limit of the group is already reached.
    Full(usize),
}

/// The stored value at the key of an entity.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    Stored(String),
    /// A value of this type, which is not a string.
    Foreign(String),
}

/// A key that cannot be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The error in the form of Redis: a code, and a sentence that names the key.
    pub(super) reason: String,
    pub(super) key: String,
    pub(super) kind: KeyKind,
}

impl Refused {
    /// Whether a permission is missing.
    pub(super) fn is_denied(&self) -> bool {
        self.reason.starts_with("NOPERM")
    }
}

/// The use of a key that is not an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Stream,
    List,
    /// A list that only some entities are members of, see
    /// [`Entity::lists`](crate::schema::entity::Entity::lists).
    OwnList,
    Set,
}

/// A call of the script, and the meaning of its keys.
pub(super) struct Call {
    pub(super) command: Cmd,
    entities: Vec<Key>,
    others: Vec<(String, KeyKind)>,
}

/// The arguments of every call besides its groups.
pub(super) struct Caller<'a> {
    pub(super) topic: Topic,
    pub(super) instance: &'a str,
    /// The identity that the store must have.
    pub(super) store: &'a str,
    /// The duration of a lease; 0 to ignore leases.
    pub(super) lease_millis: u64,
}

/// The largest number of items that are written with one command: Lua cannot unpack more than some
/// 8,000 values.
const RUN_MAX: usize = 2_000;

/// The number of keys before those of entities: among them the store and the lease.
const FIRST_ENTITY: usize = 3;

/// The call that commits the groups; `now` becomes the version of new entities.
pub(super) fn call(caller: &Caller<'_>, groups: &[Group], world: &World, now: u64) -> Call {
    let mut other_keys = OtherKeys::default();
    let mut checks: Vec<(String, String)> = Vec::new();
    let (mut pushes, mut moves) = (Vec::new(), Vec::new());
    let mut announced = Vec::new();
    let mut entities = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for key in &group.keys {
            let slot = world.slot(key).expect("a checked entity was loaded");
            let version = slot.version();
            let expected =
                version.map_or_else(String::new, |version| stored_form::prefix(version.0));
            let mut new = String::new();
            if let Some(change) = slot.change() {
                let next = version.map_or(now, |version| version.0 + 1);
                new = stored_form::write(next, &change.json);
                let index = change.index.map(|list| (Cow::Borrowed(list), KeyKind::List));
                let own = change.lists.into_iter().map(|list| (Cow::Owned(list), KeyKind::OwnList));
                for (list, kind) in index.into_iter().chain(own) {
                    let id = key.as_str()[change.prefix..].to_owned();
                    pushes.push((number, other_keys.lists.index(list, kind), id));
                }
                let gone = change.leaves.into_iter().map(|entry| (entry, false));
                for (entry, joins) in
                    gone.chain(change.joins.into_iter().map(|entry| (entry, true)))
                {
                    let set = other_keys.sets.index(Cow::Owned(entry.set), KeyKind::Set);
                    moves.push((number, set, entry.member, joins));
                }
                if let Some(stream) = change.updates {
                    let traceparent = slot.traceparent();
                    let json = change.announcement.unwrap_or(change.json);
                    announced.push((number, other_keys.stream(stream), json, traceparent));
                }
            }
            checks.push((expected, new));
            entities.push(key.clone());
        }
    }
    let mut appends = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for (append, traceparent) in &group.appends {
            let stream = other_keys.stream(append.stream);
            appends.push((number, stream, append.json.as_str(), traceparent.as_deref()));
        }
    }
    let announced = announced.iter();
    appends.extend(announced.map(|(number, stream, json, traceparent)| {
        (*number, *stream, json.as_str(), *traceparent)
    }));

    let mut limits = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for (limit, _) in &group.limits {
            let set = other_keys.sets.index(Cow::Owned(limit.set.clone()), KeyKind::Set);
            limits.push((number, set, limit));
        }
    }

    let OtherKeys { streams, lists, sets } = other_keys;
    let first_stream = FIRST_ENTITY + entities.len();
    let first_list = first_stream + streams.names.len();
    let first_set = first_list + lists.names.len();
    let counts = [streams.names.len(), lists.names.len(), sets.names.len()];
    let others: Vec<(String, KeyKind)> = [streams, lists, sets]
        .into_iter()
        .flat_map(|names| names.names)
        .map(|(name, kind)| (name.into_owned(), kind))
        .collect();
    let mut cmd = begin(caller, &entities, &others);
    cmd.arg(groups.len()).arg(entities.len()).arg(&counts);
    cmd.arg(caller.store).arg(caller.instance).arg(caller.lease_millis);
    for group in groups {
        cmd.arg(group.keys.len());
    }
    for (expected, new) in &checks {
        cmd.arg(expected).arg(new);
    }
    cmd.arg(limits.len());
    for (number, index, limit) in &limits {
        let (least, greatest) = keys::lex_range(&limit.prefix);
        cmd.arg(number + 1).arg(first_set + index).arg(limit.members).arg(least).arg(greatest);
    }
    // Runs of items for the same key; the order within a stream remains.
    appends.sort_by_key(|(_, stream, ..)| *stream);
    pushes.sort_by_key(|(_, list, _)| *list);
    moves.sort_by_key(|(_, set, _, joins)| (*set, *joins));
    cmd.arg(appends.len() + pushes.len() + moves.len());
    let numbers = appends.iter().map(|it| it.0).chain(pushes.iter().map(|it| it.0));
    for number in numbers.chain(moves.iter().map(|it| it.0)) {
        cmd.arg(number + 1);
    }
    let entries: Vec<_> =
        appends.chunk_by(|a, b| (a.1, a.3.is_some()) == (b.1, b.3.is_some())).collect();
    let pushed: Vec<_> = runs(&pushes, |a, b| a.1 == b.1).collect();
    let moved: Vec<_> = runs(&moves, |a, b| (a.1, a.3) == (b.1, b.3)).collect();
    cmd.arg(entries.len() + pushed.len() + moved.len());
    let mut id = uuid::Uuid::encode_buffer();
    for run in entries {
        let is_traced = run[0].3.is_some();
        cmd.arg(first_stream + run[0].1).arg(if is_traced { 3 } else { 2 }).arg(run.len());
        cmd.arg(EVENT_ID).arg(ENTITY);
        if is_traced {
            cmd.arg(TRACEPARENT);
        }
        for (_, _, json, traceparent) in run {
            cmd.arg(&*new_id().hyphenated().encode_lower(&mut id)).arg(json);
            if let Some(traceparent) = traceparent {
                cmd.arg(traceparent);
            }
        }
    }
    for run in pushed {
        cmd.arg(first_list + run[0].1).arg(1).arg(run.len());
        for (_, _, id) in run {
            cmd.arg(id);
        }
    }
    for run in moved {
        let joins = run[0].3;
        cmd.arg(first_set + run[0].1).arg(if joins { 2 } else { 1 }).arg(run.len());
        for (_, _, member, _) in run {
            if joins {
                cmd.arg(0);
            }
            cmd.arg(member);
        }
    }
    Call { command: cmd, entities, others }
}

/// A call without groups, which checks whether this key can be written.
pub(super) fn check(caller: &Caller<'_>, key: &str, kind: KeyKind) -> Cmd {
    let mut cmd = begin(caller, &[], &[(key.to_owned(), kind)]);
    let counts = match kind {
        KeyKind::Stream => [1, 0, 0],
        KeyKind::List | KeyKind::OwnList => [0, 1, 0],
        KeyKind::Set => [0, 0, 1],
    };
    cmd.arg(0).arg(0).arg(&counts).arg("").arg(caller.instance).arg(caller.lease_millis);
    // No limits, items and runs.
    cmd.arg(&[0, 0, 0]);
    cmd
}

/// Runs of items that belong together, of a length that the script can pass to one command.
fn runs<T>(items: &[T], are_together: fn(&T, &T) -> bool) -> impl Iterator<Item = &[T]> {
    items.chunk_by(are_together).flat_map(|run| run.chunks(RUN_MAX))
}

fn begin(caller: &Caller<'_>, entities: &[Key], others: &[(String, KeyKind)]) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(SHA.as_str()).arg(FIRST_ENTITY - 1 + entities.len() + others.len());
    cmd.arg(keys::store(caller.topic)).arg(keys::lease(caller.topic));
    for key in entities {
        cmd.arg(key.as_str());
    }
    for (name, _) in others {
        cmd.arg(name);
    }
    cmd
}

/// The streams, lists and sorted sets of a call, without duplicates.
#[derive(Default)]
struct OtherKeys {
    streams: Names,
    lists: Names,
    sets: Names,
}

/// Keys of one kind, without duplicates.
#[derive(Default)]
struct Names {
    names: Vec<(Cow<'static, str>, KeyKind)>,
    known: HashMap<Cow<'static, str>, usize>,
}

impl Names {
    fn index(&mut self, name: Cow<'static, str>, kind: KeyKind) -> usize {
        *self.known.entry(name).or_insert_with_key(|name| {
            self.names.push((name.clone(), kind));
            self.names.len() - 1
        })
    }
}

impl OtherKeys {
    fn stream(&mut self, stream: Stream) -> usize {
        self.streams.index(Cow::Borrowed(stream.key()), KeyKind::Stream)
    }
}

impl Call {
    /// Whether the call writes this key.
    pub(super) fn writes(&self, key: &str) -> bool {
        self.others.iter().any(|(name, _)| name == key)
    }

    /// Parses the reply. `None` if it does not have the script's form.
    pub(super) fn outcomes(&self, reply: Value) -> Option<Vec<Outcome>> {
        let Value::Array(items) = reply else { return None };
        items
            .into_iter()
            .map(|item| match item {
                Value::Int(1) => Some(Outcome::Committed),
                Value::Int(0) => Some(Outcome::Deferred),
                Value::Array(mut parts) => match (parts.first()?, parts.get(1)) {
                    (Value::BulkString(_), Some(Value::Int(position))) => {
                        let (key, kind) = self.other(*position)?.clone();
                        let reason = text(parts.swap_remove(0))?;
                        Some(Outcome::Refused(Refused { reason, key, kind }))
                    }
                    (Value::Int(limit), None) => usize::try_from(limit - 1).ok().map(Outcome::Full),
                    _ => self.conflict(parts),
                },
                _ => None,
            })
            .collect()
    }

    /// The stream, list or sorted set at this position of the keys.
    fn other(&self, position: i64) -> Option<&(String, KeyKind)> {
        let position = usize::try_from(position).ok()?;
        self.others.get(position.checked_sub(FIRST_ENTITY + self.entities.len())?)
    }

    fn conflict(&self, pairs: Vec<Value>) -> Option<Outcome> {
        let mut standing = Vec::with_capacity(pairs.len() / 2);
        let mut pairs = pairs.into_iter();
        while let (Some(position), Some(found)) = (pairs.next(), pairs.next()) {
            let Value::Int(position) = position else { return None };
            let index = usize::try_from(position.unsigned_abs()).ok()?.checked_sub(FIRST_ENTITY)?;
            let found = match found {
                Value::Nil => Standing::Absent,
                found if position < 0 => Standing::Foreign(text(found)?),
                found => Standing::Stored(text(found)?),
            };
            standing.push((self.entities.get(index)?.clone(), found));
        }
        Some(Outcome::Conflict(standing))
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}
