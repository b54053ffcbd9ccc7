//! A bounded memory of ended attempts and the like.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

/// Entries with a time of expiry, the oldest first. All have about the same lifetime.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    most: usize,
    all: HashSet<T>,
    in_order: VecDeque<(u64, T)>,
}

impl<T: Hash + Eq + Clone> Remembered<T> {
    /// Remembers at most this many: beyond it, the oldest are forgotten first.
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: HashSet::new(), in_order: VecDeque::new() }
    }

    /// Remembers an entry until that time, in seconds since 1970; returns whether it is new.
    pub(super) fn add(&mut self, it: T, ends: u64, now: u64) -> bool {
        while let Some((ended, oldest)) = self.in_order.front()
            && (*ended <= now || self.in_order.len() >= self.most)
        {
            self.all.remove(oldest);
            self.in_order.pop_front();
        }
        let is_new = self.all.insert(it.clone());
        if is_new {
            self.in_order.push_back((ends, it));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_entries_are_bounded_and_expire() {
        let mut some = Remembered::new(100);
        for number in 0..200 {
            assert!(some.add(number, 600, 0));
        }
        assert_eq!((some.all.len(), some.in_order.len()), (100, 100));
        assert!(!some.all.contains(&99) && some.all.contains(&100) && !some.add(199, 600, 0));
        assert!(some.add(200, 1_200, 600));
        assert_eq!((some.all.len(), some.in_order.len()), (1, 1));
    }
}
