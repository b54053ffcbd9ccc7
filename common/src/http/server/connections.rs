//! The open connections, and the choice of one to close when there is no room for another.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::http::network::Site;

/// The time within which a client that holds permits must read [`STEP`] of its answer; otherwise it
/// can be disconnected in favour of others.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of bytes of an answer or a body that count as progress of a connection. Together with
/// the time this is a minimum rate: no client stays connected by a byte now and then.
pub(super) const STEP: usize = 16 * 1024;

/// The open connections of a server, by client.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    begun: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    count: usize,
    of: HashMap<Site, HashMap<u64, Connection>>,
}

/// An open connection: an extension of each of its requests.
#[derive(Clone)]
pub struct Connection(Arc<State>);

struct State {
    all: Arc<Connections>,
    /// Whether a handler is working on a request.
    is_busy: AtomicBool,
    /// Whether the handler is waiting for more of the body.
    waits_for_body: AtomicBool,
    /// The shares in which the connection's answers hold permits, for each answer.
    held: Mutex<Vec<Vec<u64>>>,
    /// The time of the last progress, in milliseconds since the start of the server: the connection
    /// was opened, received a whole head or an answer, or transferred another [`STEP`] of an answer
    /// or a body.
    used: AtomicU64,
    /// The number of bytes transferred since then.
    taken: AtomicUsize,
    cut: CancellationToken,
}

/// The reason why there is no room for another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoRoom {
    /// The server has reached its limit.
    #[error("too many connections")]
    AtAll,
    /// The client has reached its limit.
    #[error("too many connections from your address")]
    OfClient,
}

/// The entry of an open connection, removed on drop.
pub(super) struct Entry {
    pub(super) connection: Connection,
    site: Site,
    number: u64,
}

/// The period in which an answer holds permits.
#[derive(Debug)]
pub struct Keeping {
    connection: Connection,
    shares: Vec<u64>,
}

impl Connections {
    /// A registry with this limit.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, begun: Instant::now(), open: Mutex::default() })
    }

    /// Adds a new connection. If there is no room, it replaces the connection without progress for
    /// the longest time, of the client with the most connections. If the client has reached its
    /// limit (`of_client`), the replaced connection is one of its own.
    ///
    /// # Errors
    ///
    /// All candidates are being worked on.
    pub(super) fn enter(
        self: &Arc<Self>,
        site: Site,
        of_client: Option<usize>,
    ) -> Result<Entry, NoRoom> {
        let mut open = self.open();
        if let (Some(most), Some(own)) = (of_client, open.of.get(&site))
            && own.values().filter(|it| !it.0.cut.is_cancelled()).count() >= most
        {
            if !Self::cut_one([own], |_| true) {
                return Err(NoRoom::OfClient);
            }
        } else if open.count >= self.most && !Self::cut_one(open.of.values(), |_| true) {
            return Err(NoRoom::AtAll);
        }
        let number = open.next;
        open.next += 1;
        open.count += 1;
        let connection = Connection(Arc::new(State {
            all: Arc::clone(self),
            is_busy: AtomicBool::new(false),
            waits_for_body: AtomicBool::new(false),
            held: Mutex::default(),
            used: AtomicU64::new(self.now()),
            taken: AtomicUsize::new(0),
            cut: CancellationToken::new(),
        }));
        open.of.entry(site).or_default().insert(number, connection.clone());
        Ok(Entry { connection, site, number })
    }

    fn cut_one<'a>(
        clients: impl IntoIterator<Item = &'a HashMap<u64, Connection>>,
        fits: impl Fn(&State) -> bool,
    ) -> bool {
        let spare = |it: &Connection| !it.0.is_at_work() && !it.0.cut.is_cancelled() && fits(&it.0);
        // Within the same millisecond the connection that was opened first.
        let useless_for =
            |number: &u64, it: &Connection| Reverse((it.0.used.load(Relaxed), *number));
        let ranked = clients.into_iter().flat_map(|client| {
            let spared = client.iter().filter(|(_, it)| spare(it));
            spared.map(|(number, it)| ((client.len(), useless_for(number, it)), it))
        });
        let spared = ranked.max_by_key(|(rank, _)| *rank);
        spared.is_some_and(|(_, it)| {
            it.0.cut.cancel();
            true
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.connection.0.all.open();
        open.count -= 1;
        if let Some(client) = open.of.get_mut(&self.site) {
            client.remove(&self.number);
            if client.is_empty() {
                open.of.remove(&self.site);
            }
        }
    }
}

impl State {
    /// Whether a handler is working, and does not wait for the client.
    fn is_at_work(&self) -> bool {
        self.is_busy.load(Relaxed) && !self.waits_for_body.load(Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn is_used(&self) {
        self.0.used.store(self.0.all.now(), Relaxed);
        self.0.taken.store(0, Relaxed);
    }

    /// Records that this many bytes of an answer or a body were transferred. Returns whether that
    /// makes a step.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let is_step = self.0.taken.fetch_add(bytes, Relaxed) + bytes >= STEP;
        if is_step {
            self.is_used();
        }
        is_step
    }

    /// Records that a handler begins or ends its work on a request.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_used();
        self.0.is_busy.store(is_busy, Relaxed);
    }

    /// Records whether the handler waits for more of the body. Such a connection has made no
    /// progress, so it can be closed in favour of another.
    pub(super) fn set_waits_for_body(&self, waits: bool) {
        self.0.waits_for_body.store(waits, Relaxed);
    }

    /// Resolves when the connection has to end in favour of another.
    pub(super) async fn cut(&self) {
        self.0.cut.cancelled().await;
    }

    /// Records that an answer holds permits that others may need, until it is sent: a part of all
    /// permits, and of these shares, which the service numbers.
    pub fn keep(&self, shares: Vec<u64>) -> Keeping {
        self.0.held().push(shares.clone());
        Keeping { connection: self.clone(), shares }
    }

    /// Closes one of the connections that hold permits, of this share if one is given, and whose
    /// client reads too slowly. Returns whether there was one.
    pub fn cut_stalled(&self, share: Option<u64>) -> bool {
        let all = &self.0.all;
        let stalled = u64::try_from(STALL_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let since = all.now().saturating_sub(stalled);
        Connections::cut_one(all.open().of.values(), |it| {
            let is_of = |shares: &Vec<u64>| share.is_none_or(|it| shares.contains(&it));
            it.used.load(Relaxed) < since && it.held().iter().any(is_of)
        })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("held", &self.0.held).finish_non_exhaustive()
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let mut held = self.connection.0.held();
        if let Some(at) = held.iter().position(|shares| *shares == self.shares) {
            held.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn site(address: &str) -> Site {
        Site::from(address.parse::<IpAddr>().unwrap())
    }

    fn is_cut(entry: &Entry) -> bool {
        entry.connection.0.cut.is_cancelled()
    }

    fn set_used(entry: &Entry, at: u64) {
        entry.connection.0.used.store(at, Relaxed);
    }

    #[test]
    fn the_client_with_most_connections_loses_the_one_idle_for_longest() {
        let connections = Connections::new(4);
        let many: Vec<Entry> =
            (0..3).map(|_| connections.enter(site("192.0.2.1"), None).unwrap()).collect();
        let other = connections.enter(site("192.0.2.2"), None).unwrap();
        set_used(&other, 0);
        for (entry, used) in many.iter().zip([5, 3, 4]) {
            set_used(entry, used);
        }
        many[1].connection.set_busy(true);
        let _new = connections.enter(site("192.0.2.3"), None).unwrap();
        let cut: Vec<bool> = many.iter().chain([&other]).map(is_cut).collect();
        // The oldest except the one with a working handler.
        assert_eq!(cut, [false, false, true, false]);
        let _new = connections.enter(site("192.0.2.3"), None).unwrap();
        assert!(is_cut(&many[0]), "and the next one");
        assert!(!is_cut(&many[1]) && !is_cut(&other));
    }

    #[test]
    fn busy_connections_are_not_replaced_and_a_closed_one_makes_room() {
        let connections = Connections::new(2);
        let mut entries = vec![];
        for _ in 0..2 {
            entries.push(connections.enter(site("192.0.2.1"), None).unwrap());
            entries.last().unwrap().connection.set_busy(true);
        }
        assert_eq!(connections.enter(site("192.0.2.2"), None).err(), Some(NoRoom::AtAll));
        entries.pop();
        entries.push(connections.enter(site("192.0.2.2"), None).unwrap());
        drop(entries);
        assert!(connections.open().of.is_empty());
        assert_eq!(connections.open().count, 0);
    }

    #[test]
    fn a_client_at_its_limit_loses_its_own_idle_connections() {
        let connections = Connections::new(9);
        let other = connections.enter(site("192.0.2.2"), Some(2)).unwrap();
        let own: Vec<Entry> =
            (0..3).map(|_| connections.enter(site("192.0.2.1"), Some(2)).unwrap()).collect();
        assert_eq!(own.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false]);
        own[1].connection.set_busy(true);
        let next = connections.enter(site("192.0.2.1"), Some(2)).unwrap();
        assert!(is_cut(&own[2]) && !is_cut(&own[1]) && !is_cut(&other));
        next.connection.set_busy(true);
        let refused = connections.enter(site("192.0.2.1"), Some(2)).err();
        assert_eq!(refused, Some(NoRoom::OfClient));
        assert!(connections.enter(site("192.0.2.1"), None).is_ok(), "one that is exempt");
    }

    #[test]
    fn a_handler_that_waits_for_the_body_does_not_block_others() {
        let connections = Connections::new(2);
        let [waits, works] = [(); 2].map(|()| {
            let entry = connections.enter(site("192.0.2.1"), None).unwrap();
            entry.connection.set_busy(true);
            entry
        });
        works.connection.set_waits_for_body(true);
        works.connection.set_waits_for_body(false);
        waits.connection.set_waits_for_body(true);
        let _new = connections.enter(site("192.0.2.2"), None).unwrap();
        assert!(is_cut(&waits) && !is_cut(&works));
    }

    #[test]
    fn only_a_client_that_holds_permits_and_reads_nothing_is_stalled() {
        let begun = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let connections = Arc::new(Connections { most: 9, begun, open: Mutex::default() });
        let [idle, holding, stalled] =
            [(); 3].map(|()| connections.enter(site("192.0.2.1"), None).unwrap());
        let _kept = [holding.connection.keep(vec![]), stalled.connection.keep(vec![1, 2])];
        drop(idle.connection.keep(vec![1]));
        assert!(!idle.connection.cut_stalled(None), "all made progress just now");
        for entry in [&idle, &stalled] {
            set_used(entry, 0);
        }
        assert!(!idle.connection.cut_stalled(Some(3)), "no connection holds permits of that share");
        assert!(idle.connection.cut_stalled(Some(2)));
        assert!(is_cut(&stalled) && !is_cut(&idle) && !is_cut(&holding));
        assert!(!idle.connection.cut_stalled(Some(2)), "once");
        set_used(&holding, 0);
        assert!(!idle.connection.cut_stalled(Some(1)) && idle.connection.cut_stalled(None));
        assert!(is_cut(&holding) && !is_cut(&idle));
    }

    #[test]
    fn a_trickle_is_stalled_and_a_step_is_not() {
        let begun = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let connections = Arc::new(Connections { most: 9, begun, open: Mutex::default() });
        let [little, enough] =
            [(); 2].map(|()| connections.enter(site("192.0.2.1"), None).unwrap());
        let _kept = [little.connection.keep(vec![]), enough.connection.keep(vec![])];
        for entry in [&little, &enough] {
            set_used(entry, 0);
        }
        assert!(!little.connection.takes(100) && !little.connection.takes(STEP - 101));
        assert!(!enough.connection.takes(STEP - 1) && enough.connection.takes(1));
        assert!(enough.connection.cut_stalled(None));
        assert!(is_cut(&little) && !is_cut(&enough));
    }
}
