//! Stored entities of any type.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{
    decision::error::DecideError,
    schema::{
        entity::{Entity, SortedSetEntry},
        json::from_object,
        keys::Key,
    },
};

/// The version of an entity. The first version is the time of its creation: an entity that is
/// created again after its Redis was emptied never has a version that an instance still remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Version(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Document {
    pub(super) source: Source,
    pub(super) parsed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
pub(super) enum Source {
    Json(Box<str>),
    Entity(Arc<dyn Stored>),
}

/// An entity with its type erased.
pub(crate) trait Stored: Send + Sync + 'static {
    fn json(&self) -> String;
    fn lists(&self) -> Vec<String>;
    fn sorted_sets(&self) -> Vec<SortedSetEntry>;
    fn announcement(&self) -> Option<String>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl fmt::Debug for dyn Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json())
    }
}

impl<E: Entity> Stored for E {
    fn json(&self) -> String {
        serde_json::to_string(self).expect("entities have string keys only")
    }

    fn lists(&self) -> Vec<String> {
        Entity::lists(self)
    }

    fn sorted_sets(&self) -> Vec<SortedSetEntry> {
        Entity::sorted_sets(self)
    }

    fn announcement(&self) -> Option<String> {
        Entity::announcement(self)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A mark whose presence is its only content.
pub(super) struct Mark;

impl Stored for Mark {
    fn json(&self) -> String {
        "{}".to_owned()
    }

    fn lists(&self) -> Vec<String> {
        Vec::new()
    }

    fn sorted_sets(&self) -> Vec<SortedSetEntry> {
        Vec::new()
    }

    fn announcement(&self) -> Option<String> {
        None
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Document {
    pub(super) fn json(json: &str) -> Self {
        Self { source: Source::Json(json.into()), parsed: OnceLock::new() }
    }

    pub(super) fn of(entity: Arc<dyn Stored>) -> Self {
        let parsed = OnceLock::from(Arc::clone(&entity).into_any());
        Self { source: Source::Entity(entity), parsed }
    }

    /// The sorted sets of this entity of a known kind; none if it cannot be parsed.
    pub(super) fn sorted_sets<E: Entity>(&self) -> Vec<SortedSetEntry> {
        if let Some(parsed) = self.parsed.get() {
            return parsed.downcast_ref::<E>().map_or_else(Vec::new, Entity::sorted_sets);
        }
        let Source::Json(json) = &self.source else { return Vec::new() };
        from_object::<E>(json).map_or_else(|_| Vec::new(), |entity| entity.sorted_sets())
    }

    pub(super) fn parse<E: Entity>(
        &self,
        key: &Key,
    ) -> Result<Arc<dyn Any + Send + Sync>, DecideError> {
        let Source::Json(json) = &self.source else {
            return Err(DecideError::invalid(format!("{key} is used as two kinds of entity")));
        };
        let entity: E = from_object(json).map_err(|error| {
            DecideError::invalid(format!("the value at {key} cannot be read: {error}"))
        })?;
        Ok(Arc::new(entity))
    }
}
