//! What is stored of an entity, and where.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::contract::keys::Kind;

/// Something stored: see [`Kind`].
pub trait Entity: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What tells it from others of its kind.
    type Id: fmt::Display + ?Sized;

    /// Where it is stored and announced.
    fn kind() -> &'static Kind;

    /// Its id.
    fn id(&self) -> &Self::Id;

    /// Lists besides [`Kind::index`] that its id joins when it is new.
    fn lists(&self) -> Vec<String> {
        Vec::new()
    }

    /// The sorted sets that it belongs to in its present state, each at most once.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }

    /// The JSON object that [`Kind::updates`] carries when the entity has changed; `None` for the
    /// entity as it is stored. Readers of those streams may expect strings, numbers and lists of
    /// strings only.
    fn announcement(&self) -> Option<String> {
        None
    }
}

/// A member of a sorted set, sorted by itself: all scores are 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The key of the set.
    pub set: String,
    /// The member.
    pub member: String,
}

impl Place {
    /// This member of that set.
    pub fn new(set: impl Into<String>, member: String) -> Self {
        Self { set: set.into(), member }
    }
}
