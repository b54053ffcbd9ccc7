//! The entities as a decision sees them.

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
        entity::{Entity, Kind, Place},
        keys::{Key, MARK},
        stored_form,
        stream::Stream,
    },
};

/// The entities as a decision sees them: as they stand in Redis, with the changes of the inputs
/// before it in the same batch.
#[derive(Default, Debug)]
pub struct World {
    slots: HashMap<Key, Slot>,
    /// What was looked at but is not loaded.
    missing: Mutex<Vec<Key>>,
    /// Entities that nobody named are absent rather than an error; see [`World::for_tests`].
    open: bool,
}

#[derive(Debug)]
pub(crate) struct Slot {
    /// As in Redis: version and document.
    standing: Option<(Version, Document)>,
    /// After the changes of this batch, if there were any.
    changed: Option<Document>,
    /// The kind, once a change was made.
    kind: Option<&'static Kind>,
    /// Whether the change is to be told.
    announce: bool,
    /// Whether it joins all of its sorted sets, also those that it should be in already.
    joins_again: bool,
    /// The sorted sets that list what stands; known once a change was made.
    places: Vec<Place>,
    /// Whether what stands is not shown.
    hidden: bool,
    /// The type of the key, if something other than a string lies there.
    foreign: Option<Box<str>>,
    /// The trace that the last change belongs to.
    trace: Option<Box<str>>,
}

impl World {
    /// A world of these entities only; all others are absent. For the tests of pure functions.
    pub fn for_tests() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The same with this entity in it.
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
    /// What is stored is not such an entity; or it is not loaded, because `reads` did not name it:
    /// it will be when the decision is made again. Whoever can tell what else is needed looks at
    /// that, too, before passing the error on, and so saves round trips.
    pub fn get<E: Entity>(&self, id: &E::Id) -> Result<Option<&E>, DecideError> {
        let key = Key::new(E::KIND, id);
        let Some(slot) = self.slots.get(&key) else {
            if self.open {
                return Ok(None);
            }
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            return Err(DecideError::Missing);
        };
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

    /// Applies what was decided, so that the next decision sees it.
    pub fn apply<A>(&mut self, changes: &mut Changes<A>) {
        self.apply_traced(changes, None);
    }

    pub(crate) fn apply_traced<A>(&mut self, changes: &mut Changes<A>, trace: Option<&str>) {
        for put in changes.puts.drain(..) {
            let slot = match self.slots.entry(put.key) {
                Entry::Occupied(slot) => slot.into_mut(),
                Entry::Vacant(place) => place.insert(Slot::standing(None)),
            };
            slot.place_standing(put.places_of);
            let announced = slot.announce;
            slot.put(put.kind, put.entity);
            if put.joins_again {
                (slot.announce, slot.joins_again) = (announced, true);
            }
            slot.trace = trace.map(Into::into);
        }
    }

    /// What was looked at since it was last asked but is not loaded.
    pub(crate) fn take_missing(&self) -> Vec<Key> {
        std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The change is written: it stands now.
    pub(crate) fn settle(&mut self, key: &Key, now: Millis) {
        if let Some(slot) = self.slots.get_mut(key)
            && let Some(document) = slot.changed.take()
        {
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

    /// Takes in what stands in Redis, and forgets what this batch had decided about it.
    pub(crate) fn set_standing(&mut self, key: Key, stored: Option<&str>) {
        let standing = stored.map(|text| match stored_form::parse(text) {
            Some((version, json)) => (Version(version), Document::json(json)),
            // Not ours: version 0 never stands, and what is not JSON is told by `get`.
            None => (Version(0), Document::json(text)),
        });
        self.slots.insert(key, Slot::standing(standing));
    }

    /// Notes that something other than a string lies at the key: no decision can be made about it.
    pub(crate) fn set_foreign(&mut self, key: Key, kind: &str) {
        let slot = Slot { foreign: Some(kind.into()), ..Slot::standing(None) };
        self.slots.insert(key, slot);
    }

    /// Why no decision can be made about the key, if that is so.
    pub(crate) fn foreign(&self, key: &Key) -> Option<String> {
        let kind = self.slots.get(key)?.foreign.as_deref()?;
        Some(format!("{key} holds a {kind} and should hold a string"))
    }

    /// Writes a mark without content, to be found by whoever looks for the key again.
    pub(crate) fn put_mark(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.put(&MARK, Arc::new(Mark));
        }
    }

    /// Drops what was loaded; it is loaded again when it is looked at.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.slots.remove(key);
    }

    /// Shows an entity that stands as absent, though its version is still checked.
    pub(crate) fn hide(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.hidden = true;
        }
    }

    /// Forgets what this batch had decided about the entity.
    pub(crate) fn revert(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.changed = None;
            (slot.announce, slot.joins_again) = (false, false);
        }
    }
}

impl Slot {
    fn standing(standing: Option<(Version, Document)>) -> Self {
        Self {
            standing,
            changed: None,
            kind: None,
            announce: false,
            joins_again: false,
            places: Vec::new(),
            hidden: false,
            foreign: None,
            trace: None,
        }
    }

    /// Remembers which sorted sets list what stands, before it is changed.
    fn place_standing(&mut self, places_of: fn(&Document) -> Vec<Place>) {
        if self.changed.is_none() {
            let standing = self.standing.as_ref();
            self.places = standing.map_or_else(Vec::new, |(_, document)| places_of(document));
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

    /// The trace that the last change belongs to.
    pub(crate) fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }

    /// The version that stands in Redis.
    pub(crate) fn version(&self) -> Option<Version> {
        self.standing.as_ref().map(|(version, _)| *version)
    }

    /// What is to be written, if anything is.
    pub(crate) fn change(&self) -> Option<Change> {
        let document = self.changed.as_ref()?;
        let kind = self.kind?;
        let Source::Entity(entity) = &document.source else { return None };
        let updates = kind.updates.filter(|_| self.announce);
        let places = entity.places();
        let missing_in = |others: &[Place], from: &[Place]| {
            from.iter().filter(|place| !others.contains(place)).cloned().collect()
        };
        let known: &[Place] = if self.joins_again { &[] } else { &self.places };
        Some(Change {
            json: entity.json(),
            announcement: updates.and_then(|_| entity.announcement()),
            lists: if self.standing.is_none() { entity.lists() } else { Vec::new() },
            leaves: missing_in(&places, &self.places),
            joins: missing_in(known, &places),
            index: kind.index.filter(|_| self.standing.is_none()),
            updates,
            prefix: kind.prefix.len(),
        })
    }
}

/// One entity's write.
pub(crate) struct Change {
    pub(crate) json: String,
    /// What `updates` carries where that is not `json`.
    pub(crate) announcement: Option<String>,
    /// The list that its id joins.
    pub(crate) index: Option<&'static str>,
    /// Further ones.
    pub(crate) lists: Vec<String>,
    /// The sorted sets that it leaves.
    pub(crate) leaves: Vec<Place>,
    /// The sorted sets that it joins.
    pub(crate) joins: Vec<Place>,
    /// The stream that tells of it.
    pub(crate) updates: Option<Stream>,
    /// How much of the key is not the id.
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
    fn a_decision_sees_the_changes_before_it_and_a_revert_takes_them_back() {
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
            fn places(&self) -> Vec<Place> {
                let place = |set: &String| Place::new(set.as_str(), self.id.clone());
                self.sets.iter().map(place).collect()
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
        let sets = |places: Vec<Place>| places.into_iter().map(|it| it.set).collect::<Vec<_>>();
        let moves = |world: &World| {
            let change = world.slot(&key()).unwrap().change().unwrap();
            (sets(change.leaves), sets(change.joins), change.updates)
        };
        let (leaves, joins, updates) = moves(&world);
        assert_eq!((leaves, joins), (vec!["left".to_owned()], vec!["joined".into(), "new".into()]));
        assert!(updates.is_some());

        // One that joins again joins all of them, whatever else happens to it in the same batch.
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
    fn what_cannot_be_read_names_its_key() {
        let mut world = World::default();
        world.set_standing(key(), Some("7 {]"));
        let fault = world.get::<Thing>("1").unwrap_err();
        assert!(fault.to_string().contains("{inventory}:entity:1"), "{fault}");
    }

    #[test]
    fn what_is_looked_at_but_not_loaded_is_remembered_once() {
        let world = World::default();
        assert_eq!(world.get::<Thing>("1").unwrap_err(), DecideError::Missing);
        assert_eq!(world.take_missing(), [key()]);
        assert_eq!(world.take_missing(), []);
    }

    #[test]
    fn what_was_written_stands_with_the_next_version_and_is_not_written_again() {
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
