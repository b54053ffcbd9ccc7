//! How many connections each client has.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::network::{Network, Site};

/// Counts the connections of each client, up to a limit. It remembers only those that are open.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    exempt: Vec<Network>,
    taken: Mutex<HashMap<Site, usize>>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    site: Option<Site>,
}

impl Places {
    /// `limit` for each client but those of `exempt`; 0 means that there is none.
    pub(super) fn new(limit: usize, exempt: Vec<Network>) -> Arc<Self> {
        Arc::new(Self { limit, exempt, taken: Mutex::default() })
    }

    /// A place for one more connection of this client, if it may have one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if self.limit == 0 || self.exempt.iter().any(|network| network.contains(address)) {
            return Some(Place { places: Arc::clone(self), site: None });
        }
        let site = Site::from(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(site).or_insert(0);
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), site: Some(site) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(site) = self.site else { return };
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_places_and_leaves_nothing_behind() {
        let places = Places::new(2, Network::LOOPBACK.to_vec());
        let take = |text: &str| places.take(text.parse().unwrap());
        let first = take("2001:db8::1").unwrap();
        let second = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::3").is_some(), "another client");
        drop(first);
        assert!(take("2001:db8::3").is_some());
        drop(second);
        assert!(places.taken.lock().unwrap().is_empty());
        let local: Vec<_> = (0..3).map(|_| take("127.0.0.1")).collect();
        assert!(local.iter().all(Option::is_some));
        let unlimited = Places::new(0, Vec::new());
        assert!(unlimited.take("192.0.2.1".parse().unwrap()).is_some());
    }
}
