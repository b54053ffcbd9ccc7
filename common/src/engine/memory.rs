//! The entities that the engine wrote last, so that the next batch need not read them.
//!
//! A remembered entity may be outdated, because another instance may have written it since. A commit
//! checks the version of each entity, so a decision with effects is safe. No commit checks a decision
//! without effects; it is repeated with the stored state (`decide.rs`).

use std::{collections::HashMap, mem, time::Duration};

use tokio::time::Instant;

use crate::{decision::Standing, schema::keys::Key};

/// The number of batches without memory after a conflict: another instance writes the same entities.
const PAUSE: u32 = 64;

/// The least time for which an entity that is not used is remembered; at most twice as long.
const AGE: Duration = Duration::from_secs(1);

/// The entities that were written in the last moments, and at most twice `capacity` of them.
#[derive(Debug)]
pub(super) struct Memory {
    capacity: usize,
    recent: HashMap<Key, Standing>,
    earlier: HashMap<Key, Standing>,
    /// The time since which entities are recent.
    since: Instant,
    /// The number of batches until entities are remembered again.
    pause: u32,
}

impl Memory {
    /// A memory for this number of entities.
    pub(super) fn new(capacity: usize) -> Self {
        let (recent, earlier) = (HashMap::new(), HashMap::new());
        Self { capacity, recent, earlier, since: Instant::now(), pause: 0 }
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self) {
        self.pause = self.pause.saturating_sub(1);
        while self.since.elapsed() >= AGE && !(self.recent.is_empty() && self.earlier.is_empty()) {
            self.age();
            self.since += AGE;
        }
        if self.recent.is_empty() && self.earlier.is_empty() {
            self.since = Instant::now();
        }
    }

    fn age(&mut self) {
        self.earlier = mem::take(&mut self.recent);
    }

    /// Remembers the state of an entity that was just written.
    pub(super) fn keep(&mut self, key: Key, standing: Standing) {
        if self.pause > 0 || self.capacity == 0 {
            return;
        }
        if self.recent.len() >= self.capacity {
            self.age();
        }
        self.recent.insert(key, standing);
    }

    /// Takes an entity out.
    pub(super) fn recall(&mut self, key: &Key) -> Option<Standing> {
        let earlier = self.earlier.remove(key);
        self.recent.remove(key).or(earlier)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.recent.clear();
        self.earlier.clear();
    }

    /// Forgets everything, and remembers nothing for a while.
    pub(super) fn distrust(&mut self) {
        self.clear();
        self.pause = PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contract::keys::ORDER, decision::World};

    fn key(id: &str) -> Key {
        Key::new(&ORDER, id)
    }

    fn standing(version: u64) -> Standing {
        let mut world = World::default();
        world.set_standing(key("x"), Some(&format!("{version} {{}}")));
        world.take_standing(&key("x")).expect("it is there")
    }

    #[test]
    fn the_last_entities_are_remembered_and_each_is_recalled_once() {
        let mut memory = Memory::new(2);
        for id in ["1", "2", "3", "4", "5"] {
            memory.keep(key(id), standing(7));
        }
        let recalled = ["1", "2", "3", "4", "5"].map(|id| memory.recall(&key(id)).is_some());
        assert_eq!(recalled, [false, false, true, true, true]);
        assert!(memory.recall(&key("5")).is_none());
    }

    #[test]
    fn an_entity_is_remembered_for_one_to_two_seconds() {
        for (millis, is_remembered) in [(900, true), (1_900, true), (2_100, false), (9_000, false)]
        {
            let mut memory = Memory::new(2);
            memory.begin();
            memory.keep(key("1"), standing(7));
            memory.since -= Duration::from_millis(millis);
            memory.begin();
            assert_eq!(memory.recall(&key("1")).is_some(), is_remembered, "{millis}");
        }
    }

    #[test]
    fn nothing_is_remembered_for_a_while_after_a_conflict() {
        let mut memory = Memory::new(2);
        memory.keep(key("1"), standing(7));
        memory.distrust();
        assert!(memory.recall(&key("1")).is_none());
        for _ in 0..PAUSE {
            memory.keep(key("1"), standing(7));
            assert!(memory.recall(&key("1")).is_none());
            memory.begin();
        }
        memory.keep(key("1"), standing(7));
        assert!(memory.recall(&key("1")).is_some());
    }
}
