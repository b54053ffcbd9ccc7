//! The entities that an input concerns, and the way they are read.

use crate::schema::{entity::Entity, keys::Key};

/// The role of an entity in a decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum ReadAccess {
    /// Read but not checked: it may have changed by the time of the commit.
    Peek,
    /// Expected to be absent: not read, but checked by the commit.
    Fresh,
    /// Read, and checked by the commit.
    Load,
}

/// The entities that one input concerns.
#[derive(Default, Debug)]
pub struct Reads {
    pub(crate) keys: Vec<(Key, ReadAccess)>,
}

impl Reads {
    /// Reads the entity. The decision is committed only if the entity is unchanged by then.
    pub fn load<E: Entity>(&mut self, id: &E::Id) {
        self.keys.push((Key::new(E::KIND, id), ReadAccess::Load));
    }

    /// Expects the entity to be absent: it is not read, and the decision is committed only if the
    /// expectation holds; otherwise the decision is repeated with the entity loaded. A decision
    /// without changes is not checked.
    pub fn fresh<E: Entity>(&mut self, id: &E::Id) {
        self.keys.push((Key::new(E::KIND, id), ReadAccess::Fresh));
    }

    /// Reads the entity without a check; it may not be written.
    pub fn peek<E: Entity>(&mut self, id: &E::Id) {
        self.keys.push((Key::new(E::KIND, id), ReadAccess::Peek));
    }
}
