//! What is stored of an entity, and where.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::schema::stream::Stream;

/// One kind of stored entity.
///
/// An entity is a string `"<version> <JSON document>"` at `<prefix><id>`. The version grows with
/// every write; one MGET reads many entities, one MSET writes many.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Key up to the id.
    pub prefix: &'static str,
    /// The list to whose end the id of each new entity is pushed, if the kind is listed. It is only
    /// ever appended to: a page is a range of positions, stable while new ones arrive.
    pub index: Option<&'static str>,
    /// Where the entity is published when it changes, if anywhere.
    pub updates: Option<Stream>,
    /// Whether that includes that it is new. Where its owner has an event of its own for that, it
    /// does not.
    pub announces_new: bool,
}

impl Kind {
    /// A kind with this prefix that is neither listed nor published.
    pub const fn plain(prefix: &'static str) -> Self {
        Self { prefix, index: None, updates: None, announces_new: false }
    }
}

/// Something stored: see [`Kind`].
pub trait Entity: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What tells it from others of its kind.
    type Id: fmt::Display + ?Sized;

    /// Where it is stored and announced.
    const KIND: &'static Kind;

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
