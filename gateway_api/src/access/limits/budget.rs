//! Limits the memory of clients: of answers that they have not received yet, and of large bodies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::client::{CLIENT_SHARES, Client};

/// A memory limit for all clients in bytes, with a share for each client.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Default, Debug)]
struct Held {
    all: usize,
    each: HashMap<Client, usize>,
}

/// A number of bytes of the limit; dropping this frees them.
#[derive(Debug)]
pub(super) struct Hold {
    budget: Arc<Budget>,
    client: Client,
    bytes: usize,
}

/// The limit that is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// The client uses its whole share.
    Client,
    /// All clients together use the whole limit.
    All,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: Mutex::default() })
    }

    /// Reserves this number of bytes. The share of this machine is the whole limit, because all clients
    /// behind a published port may have its address.
    pub(super) fn hold(self: &Arc<Self>, client: &Client, bytes: usize) -> Result<Hold, Full> {
        let mut held = self.held();
        let own = held.each.get(client).copied().unwrap_or_default();
        if *client != Client::ThisMachine && own + bytes > self.limit / CLIENT_SHARES {
            return Err(Full::Client);
        }
        if held.all + bytes > self.limit {
            return Err(Full::All);
        }
        held.all += bytes;
        held.each.insert(client.clone(), own + bytes);
        Ok(Hold { budget: Arc::clone(self), client: client.clone(), bytes })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.budget.held();
        held.all -= self.bytes;
        if let Some(own) = held.each.get_mut(&self.client) {
            *own -= self.bytes;
            if *own == 0 {
                held.each.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_quarter_of_the_room_and_leaves_nothing_behind() {
        let budget = Budget::new(400);
        let subject = |name: &str| Client::Subject(name.into());
        let hold = |client: &Client, bytes| budget.hold(client, bytes);
        let (one, two) = (subject("one"), subject("two"));
        let first = hold(&one, 60).unwrap();
        assert_eq!(hold(&one, 41).unwrap_err(), Full::Client);
        let second = hold(&one, 40).unwrap();
        let others: Vec<Hold> = (0..2).map(|_| hold(&Client::ThisMachine, 150).unwrap()).collect();
        assert_eq!(hold(&two, 1).unwrap_err(), Full::All);
        drop(first);
        assert!(hold(&two, 60).is_ok());
        assert!(hold(&one, 60).is_ok());
        drop((second, others));
        let held = budget.held();
        assert_eq!((held.all, held.each.len()), (0, 0));
    }
}
