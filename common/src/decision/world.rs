//! The entities that a decision reads.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    clock::Millis,
    decision::{
        changes::Changes,
        error::DecideError,
        stored::{Document, Mark, Source, Stored, Version},
    },
    schema::{
        entity::{Entity, Kind, SortedSetEntry},
        keys::{Key, MARK},
        stored_form,
        stream::Stream,
    },
};

/// The entities that a decision reads: their state in Redis, with the changes of the inputs before
/// it in the same batch.
#[derive(Default, Debug)]
pub struct World {
    slots: HashMap<Key, Slot>,
    /// Entities that a decision tried to read but that are not loaded.
    missing: Mutex<Vec<Key>>,
    /// Remembered entities that a decision read.
    recalled: Mutex<Vec<Key>>,
    /// Whether entities that were not named count as absent instead of causing an error; see
    /// [`World::for_tests`].
    open: bool,
}

/// The state of an entity in Redis: version and document.
pub(crate) type Standing = (Version, Document);

#[derive(Debug)]
pub(crate) struct Slot {
    /// The state in Redis.
    standing: Option<Standing>,
    /// The state after the changes of this batch, if there are any.
    changed: Option<Document>,
    /// The kind, known once there is a change.
    kind: Option<&'static Kind>,
    /// Whether the change is to be announced.
    announce: bool,
    /// Whether the entity joins all of its sorted sets, including those that it should already be
    /// in.
    joins_again: bool,
    /// The sorted set entries of the state in Redis; known once there is a change.
    sorted_sets: Vec<SortedSetEntry>,
    /// Whether the state in Redis is hidden from decisions.
    hidden: bool,
    /// Whether the state was not read for this batch, but remembered from an earlier commit.
    remembered: bool,
    /// The type of the key, if it holds another type than a string.
    foreign: Option<Box<str>>,
    /// The `traceparent` of the last change.
    traceparent: Option<Box<str>>,
}

impl World {
    /// A world of these entities only; all others are absent. For tests of pure functions.
    pub fn for_tests() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The same world with this entity.
    #[must_use]
    pub fn with<E: Entity>(mut self, entity: E) -> Self {
        let key = Key::new(E::KIND, entity.id());
        let document = Document::of(Arc::new(entity));
        self.slots.insert(key, Slot::standing(Some((Version(1), document))));
        self
    }

    /// The entity with this id, if it exists.
    ///
    /// # Errors
    ///
    /// The stored value is not such an entity; or the entity is not loaded, because `reads` did not
    /// name it: the decision is repeated once it is. A decision that knows which other entities it
    /// needs reads them too before it passes the error on, which saves round trips.
    pub fn get<E: Entity>(&self, id: &E::Id) -> Result<Option<&E>, DecideError> {
        let key = Key::new(E::KIND, id);
        let Some(slot) = self.slots.get(&key) else {
            if self.open {
                return Ok(None);
            }
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            return Err(DecideError::Missing);
        };
        if slot.remembered {
            self.recalled.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        }
        let Some(document) = slot.current() else { return Ok(None) };
        let parsed = match document.parsed.get() {
            Some(parsed) => parsed,
            None => {
                let parsed = document.parse::<E>(&key)?;
                document.parsed.get_or_init(|| parsed)
            }
        };
        match parsed.downcast_ref() {
            Some(entity) => Ok(Some(entity)),
            None => Err(DecideError::invalid(format!("{key} is used as two kinds of entity"))),
        }
    }

    /// Applies the changes, so that the next decision reads them.
    pub fn apply<A>(&mut self, changes: &mut Changes<A>) {
        self.apply_traced(changes, None);
    }

    pub(crate) fn apply_traced<A>(&mut self, changes: &mut Changes<A>, traceparent: Option<&str>) {
        for put in changes.puts.drain(..) {
            let slot = match self.slots.entry(put.key) {
                Entry::Occupied(slot) => slot.into_mut(),
                Entry::Vacant(vacant) => vacant.insert(Slot::standing(None)),
            };
            slot.record_sorted_sets(put.sorted_sets_of);
            let announced = slot.announce;
            slot.put(put.kind, put.entity);
            if put.joins_again {
                (slot.announce, slot.joins_again) = (announced, true);
            }
            slot.traceparent = traceparent.map(Into::into);
        }
    }

    /// The entities that decisions tried to read since the last call but that are not loaded.
    pub(crate) fn take_missing(&self) -> Vec<Key> {
        std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The remembered entities that decisions read since the last call.
    pub(crate) fn take_recalled(&self) -> Vec<Key> {
        std::mem::take(&mut *self.recalled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that the entity was checked, and that its change, if there is one, was written: it is
    /// the state in Redis now.
    pub(crate) fn settle(&mut self, key: &Key, now: Millis) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.remembered = false;
        if let Some(document) = slot.changed.take() {
            let version = slot.version().map_or(Version(now), |version| Version(version.0 + 1));
            slot.standing = Some((version, document));
            (slot.announce, slot.joins_again) = (false, false);
        }
    }

    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.slots.contains_key(key)
    }

    pub(crate) fn slot(&self, key: &Key) -> Option<&Slot> {
        self.slots.get(key)
    }

    /// Records the state in Redis, and forgets the changes of this batch to it.
    pub(crate) fn set_standing(&mut self, key: Key, stored: Option<&str>) {
        let standing = stored.map(|text| match stored_form::parse(text) {
            Some((version, json)) => (Version(version), Document::json(json)),
            // A foreign value: version 0 never occurs, and `get` reports invalid JSON.
            None => (Version(0), Document::json(text)),
        });
        self.slots.insert(key, Slot::standing(standing));
    }

    /// Records the state in Redis as it was after an earlier commit.
    pub(crate) fn remember(&mut self, key: Key, standing: Standing) {
        let slot = Slot { remembered: true, ..Slot::standing(Some(standing)) };
        self.slots.insert(key, slot);
    }

    /// Whether the state of the entity was remembered, and not read or checked since.
    pub(crate) fn is_remembered(&self, key: &Key) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.remembered)
    }

    /// Takes the state in Redis of an entity that exists and is unchanged.
    pub(crate) fn take_standing(&mut self, key: &Key) -> Option<Standing> {
        let slot = self.slots.remove(key)?;
        slot.standing.filter(|_| slot.changed.is_none() && slot.foreign.is_none() && !slot.hidden)
    }

    /// Records that the key holds another type than a string: no decision about it is possible.
    pub(crate) fn set_foreign(&mut self, key: Key, kind: &str) {
        let slot = Slot { foreign: Some(kind.into()), ..Slot::standing(None) };
        self.slots.insert(key, slot);
    }

    /// The reason why no decision about the key is possible, if there is one.
    pub(crate) fn foreign(&self, key: &Key) -> Option<String> {
        let kind = self.slots.get(key)?.foreign.as_deref()?;
        Some(format!("{key} holds a {kind} instead of a string"))
    }

    /// Writes a mark without content, which a later read of the key finds.
    pub(crate) fn put_mark(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.put(&MARK, Arc::new(Mark));
        }
    }

    /// Drops a loaded entity; the next read loads it again.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.slots.remove(key);
    }

    /// Shows an existing entity as absent, although its version is still checked.
    pub(crate) fn hide(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.hidden = true;
        }
    }

    /// Drops the changes of this batch to the entity.
    pub(crate) fn revert(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.changed = None;
            (slot.announce, slot.joins_again) = (false, false);
        }
    }
}

impl Slot {
    fn standing(standing: Option<Standing>) -> Self {
        Self {
            standing,
            changed: None,
            kind: None,
            announce: false,
            joins_again: false,
            sorted_sets: Vec::new(),
            hidden: false,
            remembered: false,
            foreign: None,
            traceparent: None,
        }
    }

    /// Records the sorted set entries of the state in Redis before it is changed.
    fn record_sorted_sets(&mut self, sorted_sets_of: fn(&Document) -> Vec<SortedSetEntry>) {
        if self.changed.is_none() {
            let standing = self.standing.as_ref();
            self.sorted_sets =
                standing.map_or_else(Vec::new, |(_, document)| sorted_sets_of(document));
        }
    }

    fn current(&self) -> Option<&Document> {
        let standing = self.standing.as_ref().filter(|_| !self.hidden);
        self.changed.as_ref().or(standing.map(|(_, document)| document))
    }

    fn put(&mut self, kind: &'static Kind, entity: Arc<dyn Stored>) {
        self.announce |= self.current().is_some() || kind.announces_new;
        self.kind = Some(kind);
        self.changed = Some(Document::of(entity));
    }

    /// The `traceparent` of the last change.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// The document that decisions read.
    #[cfg(feature = "simulation")]
    pub(crate) fn document(&self) -> Option<String> {
        self.current().map(|document| match &document.source {
            Source::Json(json) => json.to_string(),
            Source::Entity(entity) => entity.json(),
        })
    }

    /// The version in Redis.
    pub(crate) fn version(&self) -> Option<Version> {
        self.standing.as_ref().map(|(version, _)| *version)
    }

    /// The change to write, if there is one.
    pub(crate) fn change(&self) -> Option<Change> {
        let document = self.changed.as_ref()?;
        let kind = self.kind?;
        let Source::Entity(entity) = &document.source else { return None };
        let updates = kind.updates.filter(|_| self.announce);
        let sorted_sets = entity.sorted_sets();
        let missing_in = |others: &[SortedSetEntry], from: &[SortedSetEntry]| {
            from.iter().filter(|entry| !others.contains(entry)).cloned().collect()
        };
        let known: &[SortedSetEntry] = if self.joins_again { &[] } else { &self.sorted_sets };
        Some(Change {
            json: entity.json(),
            announcement: updates.and_then(|_| entity.announcement()),
            lists: if self.standing.is_none() { entity.lists() } else { Vec::new() },
            leaves: missing_in(&sorted_sets, &self.sorted_sets),
            joins: missing_in(known, &sorted_sets),
            index: kind.index.filter(|_| self.standing.is_none()),
            updates,
            prefix: kind.prefix.len(),
        })
    }
}

/// The write of one entity.
pub(crate) struct Change {
    pub(crate) json: String,
    /// The announcement on `updates`, if it differs from `json`.
    pub(crate) announcement: Option<String>,
    /// The list that the id joins.
    pub(crate) index: Option<&'static str>,
    /// Further lists.
    pub(crate) lists: Vec<String>,
    /// The sorted set entries to remove.
    pub(crate) leaves: Vec<SortedSetEntry>,
    /// The sorted set entries to add.
    pub(crate) joins: Vec<SortedSetEntry>,
    /// The stream that announces the change.
    pub(crate) updates: Option<Stream>,
    /// The length of the key without the id.
    pub(crate) prefix: usize,
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::contract::keys;

    #[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
    struct Thing {
        id: String,
        size: u64,
    }

    impl Entity for Thing {
        type Id = str;
        const KIND: &'static Kind = &keys::PRODUCT;
        fn id(&self) -> &str {
            &self.id
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Quiet {
        id: String,
    }

    impl Entity for Quiet {
        type Id = str;
        const KIND: &'static Kind = &keys::ORDER;
        fn id(&self) -> &str {
            &self.id
        }
    }

    fn thing(size: u64) -> Thing {
        Thing { id: "1".into(), size }
    }

    fn key() -> Key {
        Key::new(&keys::PRODUCT, "1")
    }

    #[test]
    fn a_decision_sees_the_changes_before_it_and_a_revert_undoes_them() {
        let mut world = World::default();
        world.set_standing(key(), Some(r#"7 {"id":"1","size":1}"#));
        let mut changes = Changes::<()>::none();
        changes.put(thing(2));
        world.apply(&mut changes);
        assert_eq!(world.get::<Thing>("1").unwrap().unwrap().size, 2);
        world.revert(&key());
        assert_eq!(world.get::<Thing>("1").unwrap().unwrap().size, 1);
        assert_eq!(world.slot(&key()).unwrap().version(), Some(Version(7)));
    }

    #[test]
    fn a_new_entity_joins_the_index_and_a_changed_one_is_announced() {
        let quiet = Key::new(&keys::ORDER, "1");
        let mut world = World::default();
        world.set_standing(key(), None);
        world.set_standing(quiet.clone(), None);
        let mut changes = Changes::<()>::none();
        changes.put(thing(1));
        changes.put(Quiet { id: "1".into() });
        world.apply(&mut changes);
        let change = world.slot(&key()).unwrap().change().unwrap();
        assert_eq!((change.index, change.updates), (keys::PRODUCT.index, keys::PRODUCT.updates));
        let change = world.slot(&quiet).unwrap().change().unwrap();
        assert_eq!((change.index, change.updates), (keys::ORDER.index, None));

        world.set_standing(key(), Some(r#"7 {"id":"1","size":1}"#));
        let mut changes = Changes::<()>::none();
        changes.put(thing(2));
        world.apply(&mut changes);
        let change = world.slot(&key()).unwrap().change().unwrap();
        assert_eq!((change.index, change.updates), (None, keys::PRODUCT.updates));
    }

    #[test]
    fn an_entity_leaves_and_joins_only_the_sorted_sets_that_differ() {
        #[derive(Serialize, Deserialize)]
        struct Listed {
            id: String,
            sets: Vec<String>,
        }
        impl Entity for Listed {
            type Id = str;
            const KIND: &'static Kind = &keys::PRODUCT;
            fn id(&self) -> &str {
                &self.id
            }
            fn sorted_sets(&self) -> Vec<SortedSetEntry> {
                let entry = |set: &String| SortedSetEntry::new(set.as_str(), self.id.clone());
                self.sets.iter().map(entry).collect()
            }
        }
        let mut world = World::default();
        world.set_standing(key(), Some(r#"7 {"id":"1","sets":["stays","left"]}"#));
        for sets in [&["other"][..], &["joined", "stays", "new"]] {
            let sets = sets.iter().map(|&set| set.to_owned()).collect();
            let mut changes = Changes::<()>::none();
            changes.put(Listed { id: "1".into(), sets });
            world.apply(&mut changes);
        }
        let sets = |sorted_sets: Vec<SortedSetEntry>| {
            sorted_sets.into_iter().map(|it| it.set).collect::<Vec<_>>()
        };
        let moves = |world: &World| {
            let change = world.slot(&key()).unwrap().change().unwrap();
            (sets(change.leaves), sets(change.joins), change.updates)
        };
        let (leaves, joins, updates) = moves(&world);
        assert_eq!((leaves, joins), (vec!["left".to_owned()], vec!["joined".into(), "new".into()]));
        assert!(updates.is_some());

        // An entity that joins again joins all of its sorted sets, whatever other changes the batch
        // makes to it.
        world.set_standing(key(), Some(r#"7 {"id":"1","sets":["stays","left"]}"#));
        let listed = |sets: &[&str]| Listed {
            id: "1".into(),
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
        };
        let mut changes = Changes::<()>::none();
        changes.join_again(listed(&["stays", "left"]));
        world.apply(&mut changes);
        assert_eq!(moves(&world), (vec![], vec!["stays".to_owned(), "left".to_owned()], None));
        changes.put(listed(&["stays", "joined"]));
        world.apply(&mut changes);
        let (leaves, joins, updates) = moves(&world);
        assert_eq!(
            (leaves, joins),
            (vec!["left".to_owned()], vec!["stays".into(), "joined".into()])
        );
        assert!(updates.is_some());
        world.settle(&key(), 1_000);
        changes.put(listed(&["stays"]));
        world.apply(&mut changes);
        let (leaves, joins, _) = moves(&world);
        assert_eq!((leaves, joins), (vec!["joined".to_owned()], vec![]));
    }

    #[test]
    fn an_unreadable_entity_names_its_key() {
        let mut world = World::default();
        world.set_standing(key(), Some("7 {]"));
        let error = world.get::<Thing>("1").unwrap_err();
        assert!(error.to_string().contains("{inventory}:entity:1"), "{error}");
    }

    #[test]
    fn a_read_of_an_unloaded_entity_is_remembered_once() {
        let world = World::default();
        assert_eq!(world.get::<Thing>("1").unwrap_err(), DecideError::Missing);
        assert_eq!(world.take_missing(), [key()]);
        assert_eq!(world.take_missing(), []);
    }

    #[test]
    fn a_written_change_gets_the_next_version_and_is_not_written_again() {
        let mut world = World::default();
        world.set_standing(key(), Some(r#"7 {"id":"1","size":1}"#));
        let mut changes = Changes::<()>::none();
        changes.put(thing(2));
        world.apply(&mut changes);
        world.settle(&key(), 1_000);
        assert_eq!(world.slot(&key()).unwrap().version(), Some(Version(8)));
        assert!(world.slot(&key()).unwrap().change().is_none());
        assert_eq!(world.get::<Thing>("1").unwrap().unwrap().size, 2);
    }
}
