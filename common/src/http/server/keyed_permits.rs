//! Permits with a limit per key, e.g. per client.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Counts the permits of each key, up to a limit. Keys without permits take no memory.
#[derive(Debug)]
pub struct KeyedPermits<K> {
    limit: usize,
    taken: Mutex<HashMap<K, usize>>,
    freed: Notify,
}

/// A permit, returned when it is dropped.
#[derive(Debug)]
pub struct KeyedPermit<K: Eq + Hash> {
    permits: Arc<KeyedPermits<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> KeyedPermits<K> {
    /// Permits with this limit for each key.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Returns another permit, unless the key has reached its limit.
    pub fn take(self: &Arc<Self>, key: K) -> Option<KeyedPermit<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&key).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        taken.insert(key.clone(), count + 1);
        Some(KeyedPermit { permits: Arc::clone(self), key })
    }

    /// Waits until the key is below its limit, and returns another permit.
    pub async fn wait(self: &Arc<Self>, key: K) -> KeyedPermit<K> {
        loop {
            let freed = self.freed.notified();
            let mut freed = pin!(freed);
            // A permit that is freed from here on is noticed.
            freed.as_mut().enable();
            if let Some(permit) = self.take(key.clone()) {
                return permit;
            }
            freed.await;
        }
    }
}

impl<K: Eq + Hash> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut taken = self.permits.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
        drop(taken);
        self.permits.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn each_key_has_its_limit_and_unused_keys_take_no_memory() {
        let permits = KeyedPermits::new(2);
        let first = permits.take("one").unwrap();
        let second = permits.take("one").unwrap();
        assert!(permits.take("one").is_none());
        assert!(permits.take("another").is_some());
        drop(first);
        assert!(permits.take("one").is_some());
        drop(second);
        assert!(permits.taken.lock().unwrap().is_empty());
        assert!(KeyedPermits::new(0).take("one").is_none());
    }

    #[tokio::test]
    async fn a_waiting_key_gets_a_permit_as_soon_as_one_is_free() {
        let permits = KeyedPermits::new(1);
        let (one, another) = (permits.take("one").unwrap(), permits.take("another").unwrap());
        let mut waiting = pin!(permits.wait("one"));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(another);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(one);
        let _place = waiting.await;
        assert!(permits.take("one").is_none());
    }
}
