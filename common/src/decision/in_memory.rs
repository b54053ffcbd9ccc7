//! An in-memory service: the same `reads` and `decide` without Redis, for tests and property tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    clock::Millis,
    decision::{Append, DecideError, Decider, Note, ReadAccess, Reads, World},
    schema::{entity::Entity, keys::Key, stored_form, stream::Stream},
};

/// Runs one decider over entities in memory, one input at a time.
#[derive(Debug)]
pub struct Memory<D> {
    decider: D,
    stored: BTreeMap<Key, String>,
    /// The members of the sorted sets.
    sets: BTreeMap<String, BTreeSet<String>>,
    versions: u64,
    /// The published events that the test has not taken yet.
    pub published: VecDeque<Append>,
    /// Log lines and deliveries that the test has not taken yet.
    pub notes: Vec<Note>,
    /// The deliveries that the test has not taken yet.
    pub deliveries: Vec<String>,
    /// The number of entities that the last input named, counted as the engine does.
    pub concerned: usize,
    /// The number of bytes of entities that the last input wrote.
    pub written: usize,
}

impl<D: Decider> Memory<D> {
    /// A service with nothing stored and nothing published.
    pub fn new(decider: D) -> Self {
        Self {
            decider,
            stored: BTreeMap::new(),
            sets: BTreeMap::new(),
            versions: 0,
            published: VecDeque::new(),
            notes: Vec::new(),
            deliveries: Vec::new(),
            concerned: 0,
            written: 0,
        }
    }

    /// Handles one input like the engine, and returns the answer for its caller.
    ///
    /// # Errors
    ///
    /// The decision failed; nothing was changed.
    ///
    /// # Panics
    ///
    /// The decision wrote an entity that it had not named as loaded or fresh.
    pub fn handle(
        &mut self,
        input: &D::Input,
        now: Millis,
    ) -> Result<Option<D::Answer>, DecideError> {
        let mut world = World::default();
        let mut reads = Reads::default();
        self.decider.reads(input, &mut reads);
        let mut named = reads.keys;
        let mut changes = loop {
            for (key, _) in &named {
                if !world.knows(key) {
                    world.set_standing(key.clone(), self.stored.get(key).map(String::as_str));
                }
            }
            match self.decider.decide(input, &world, now) {
                Err(DecideError::Missing) => {
                    named.extend(
                        world.take_missing().into_iter().map(|key| (key, ReadAccess::Load)),
                    );
                }
                decided => break decided?,
            }
        };
        (self.concerned, self.written) = (named.len(), 0);
        if let Some((limit, otherwise)) = changes.limit.take() {
            let counts = |member: &&String| member.starts_with(&limit.prefix);
            let members = self.sets.get(&limit.set).into_iter().flatten().filter(counts).count();
            if members as u64 >= limit.members {
                return Ok(Some(otherwise));
            }
        }
        let puts: Vec<Key> = changes.puts.iter().map(|put| put.key.clone()).collect();
        world.apply(&mut changes);
        for key in puts {
            let may_write =
                named.iter().any(|(name, access)| *name == key && *access != ReadAccess::Peek);
            assert!(may_write, "{key} is written but was not named as loaded or fresh");
            let change = world.slot(&key).and_then(|slot| slot.change()).expect("it was just put");
            self.versions += 1;
            self.written += change.json.len();
            for entry in change.leaves {
                self.sets.entry(entry.set).or_default().remove(&entry.member);
            }
            for entry in change.joins {
                self.sets.entry(entry.set).or_default().insert(entry.member);
            }
            self.stored.insert(key, stored_form::write(self.versions, &change.json));
            if let Some(stream) = change.updates {
                let json = change.announcement.unwrap_or(change.json);
                self.published.push_back(Append { stream, json });
            }
        }
        self.published.extend(changes.appends);
        self.notes.extend(changes.notes);
        self.deliveries.extend(changes.deliveries);
        Ok(changes.answer)
    }

    /// Takes the published events of one stream.
    pub fn take(&mut self, stream: Stream) -> Vec<String> {
        let (taken, left) =
            self.published.drain(..).partition::<Vec<_>, _>(|append| append.stream == stream);
        self.published = left.into();
        taken.into_iter().map(|append| append.json).collect()
    }

    /// All stored entities of one kind.
    ///
    /// # Panics
    ///
    /// A stored entity cannot be parsed.
    pub fn all<E: Entity>(&self) -> Vec<E> {
        self.stored
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(E::KIND.prefix))
            .map(|(key, text)| {
                let json = stored_form::parse(text).expect("a version comes first").1;
                serde_json::from_str(json).unwrap_or_else(|error| panic!("{key}: {error}"))
            })
            .collect()
    }
}
