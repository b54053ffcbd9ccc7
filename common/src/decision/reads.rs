//! The entities that an input concerns, and how they are read.

use crate::schema::{entity::Entity, keys::Key};

/// How an entity takes part in a decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum ReadAccess {
    /// Read but not checked: it may have changed when the decision is committed.
    Peek,
    /// Expected to be absent: not read, but checked.
    Fresh,
    /// Read, and checked when the decision is committed.
    Load,
}

/// The entities that one input concerns.
#[derive(Default, Debug)]
pub struct Reads {
    pub(crate) keys: Vec<(Key, ReadAccess)>,
}

impl Reads {
    /// The entity is read, and the decision stands only if nobody changed it in between.
    pub fn load<E: Entity>(&mut self, id: &E::Id) {
        self.keys.push((Key::new(E::KIND, id), ReadAccess::Load));
    }

    /// The entity is expected to be absent: it is not read, but the decision stands only if that
    /// is true; if not, it is made again with the entity in sight. A decision to change nothing is
    /// not checked.
    pub fn fresh<E: Entity>(&mut self, id: &E::Id) {
        self.keys.push((Key::new(E::KIND, id), ReadAccess::Fresh));
    }

    /// The entity is read but not checked; it may not be written.
    pub fn peek<E: Entity>(&mut self, id: &E::Id) {
        self.keys.push((Key::new(E::KIND, id), ReadAccess::Peek));
    }
}
