//! The stored form of entities, and their keys.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::schema::stream::{Stream, Topic, after};

/// One kind of stored entity.
///
/// An entity is a string `"<version> <JSON document>"` at `<prefix><id>`. The version grows with
/// every write; one MGET reads many entities, one MSET writes many.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The key up to the id.
    pub prefix: &'static str,
    /// The list to which the id of each new entity is appended, if the kind is listed. It is
    /// append-only: a page is a range of positions that stays stable while new ids arrive.
    pub index: Option<&'static str>,
    /// The stream on which changes of the entity are published, if there is one.
    pub updates: Option<Stream>,
    /// Whether new entities are published there as well. They are not if their owner has a separate
    /// event for that.
    pub announces_new: bool,
}

impl Kind {
    /// A kind of this topic's entities that is neither listed nor published. The prefix is
    /// `{<topic>}:<kind>:`.
    ///
    /// # Panics
    ///
    /// At compile time where the kind is a constant: the prefix has another form.
    pub const fn plain(topic: Topic, prefix: &'static str) -> Self {
        let tag = after(prefix.as_bytes(), b"{");
        let kind = after(after(tag, topic.name().as_bytes()), b"}:");
        assert!(matches!(kind, [_, .., b':']), "a prefix is {{<topic>}}:<kind>:");
        Self { prefix, index: None, updates: None, announces_new: false }
    }
}

/// A stored entity: see [`Kind`].
pub trait Entity: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type of the id, which is unique within the kind.
    type Id: fmt::Display + ?Sized;

    /// The kind, which determines where the entity is stored and announced.
    const KIND: &'static Kind;

    /// The id.
    fn id(&self) -> &Self::Id;

    /// The lists besides [`Kind::index`] that the id of a new entity joins.
    fn lists(&self) -> Vec<String> {
        Vec::new()
    }

    /// The entity's entries in sorted sets in its present state, at most one per set.
    fn sorted_sets(&self) -> Vec<SortedSetEntry> {
        Vec::new()
    }

    /// The JSON object on [`Kind::updates`] when the entity has changed; `None` for the stored
    /// entity itself. Readers of those streams may expect strings, numbers and lists of strings
    /// only.
    fn announcement(&self) -> Option<String> {
        None
    }
}

/// An entry of a sorted set. All scores are 0, so the members determine the order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SortedSetEntry {
    /// The key of the set.
    pub set: String,
    /// The member.
    pub member: String,
}

impl SortedSetEntry {
    /// The entry with this member in this set.
    pub fn new(set: impl Into<String>, member: String) -> Self {
        Self { set: set.into(), member }
    }
}
