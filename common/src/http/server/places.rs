//! How many places each client, or whoever it is, takes at once.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Counts the places that each takes, up to a limit. It remembers only who has one.
#[derive(Debug)]
pub struct Places<K> {
    limit: usize,
    taken: Mutex<HashMap<K, usize>>,
    freed: Notify,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    whose: K,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many places for each.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default(), freed: Notify::new() })
    }

    /// One more place, if they may have one.
    pub fn take(self: &Arc<Self>, whose: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&whose).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        taken.insert(whose.clone(), count + 1);
        Some(Place { places: Arc::clone(self), whose })
    }

    /// One more place as soon as they may have one.
    pub async fn wait(self: &Arc<Self>, whose: K) -> Place<K> {
        loop {
            let freed = self.freed.notified();
            let mut freed = pin!(freed);
            // From here on nothing is missed.
            freed.as_mut().enable();
            if let Some(place) = self.take(whose.clone()) {
                return place;
            }
            freed.await;
        }
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.whose);
            }
        }
        drop(taken);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn each_has_so_many_places_and_leaves_nothing_behind() {
        let places = Places::new(2);
        let first = places.take("one").unwrap();
        let second = places.take("one").unwrap();
        assert!(places.take("one").is_none());
        assert!(places.take("another").is_some());
        drop(first);
        assert!(places.take("one").is_some());
        drop(second);
        assert!(places.taken.lock().unwrap().is_empty());
        assert!(Places::new(0).take("one").is_none());
    }

    #[tokio::test]
    async fn who_waits_has_a_place_as_soon_as_one_of_theirs_is_free() {
        let places = Places::new(1);
        let (one, another) = (places.take("one").unwrap(), places.take("another").unwrap());
        let mut waiting = pin!(places.wait("one"));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(another);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(one);
        let _place = waiting.await;
        assert!(places.take("one").is_none());
    }
}
