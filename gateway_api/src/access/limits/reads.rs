//! The order in which what is stored is read: some reads at once, and each client behind its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::client::Client;

/// Turns to read, for all clients. The next one goes to the client that reads least at the moment,
/// and among those to the one that has waited longest since it came or had its last turn. So a client
/// that reads nothing waits for one read of each other client at most, however many these wait for.
#[derive(Debug)]
pub(super) struct Reads(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How many more reads may begin.
    free: usize,
    /// Counts arrivals and turns.
    clock: u64,
    /// The clients that read or wait.
    lines: HashMap<Client, Line>,
}

#[derive(Default, Debug)]
struct Line {
    /// How many turns the client has at the moment.
    reading: usize,
    /// When it began to wait, or had its last turn.
    since: u64,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The turn of a client; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    reads: Arc<Reads>,
    client: Client,
}

impl Reads {
    /// So many reads at once.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let state = State { free: most, clock: 0, lines: HashMap::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Waits for the client's turn.
    pub(super) async fn turn(self: &Arc<Self>, client: &Client) -> Turn {
        let (sender, turn) = oneshot::channel();
        self.state().arrive(client.clone(), sender);
        self.serve();
        turn.await.expect("a sender is used as long as its receiver is there")
    }

    fn serve(self: &Arc<Self>) {
        loop {
            let next = self.state().next();
            let Some((client, sender)) = next else { return };
            // The turn of one that has just gone away ends here.
            let _ = sender.send(Turn { reads: Arc::clone(self), client });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arrive(&mut self, client: Client, sender: oneshot::Sender<Turn>) {
        self.clock += 1;
        let line = self.lines.entry(client).or_default();
        if line.waiting.is_empty() {
            line.since = self.clock;
        }
        line.waiting.push_back(sender);
    }

    fn next(&mut self) -> Option<(Client, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        self.lines.retain(|_, line| {
            line.waiting.retain(|sender| !sender.is_closed());
            line.reading > 0 || !line.waiting.is_empty()
        });
        let waiting = self.lines.iter_mut().filter(|(_, line)| !line.waiting.is_empty());
        let (client, line) = waiting.min_by_key(|(_, line)| (line.reading, line.since))?;
        let sender = line.waiting.pop_front()?;
        self.free -= 1;
        self.clock += 1;
        (line.reading, line.since) = (line.reading + 1, self.clock);
        Some((client.clone(), sender))
    }

    fn end(&mut self, client: &Client) {
        self.free += 1;
        if let Some(line) = self.lines.get_mut(client) {
            line.reading -= 1;
            if line.reading == 0 && line.waiting.is_empty() {
                self.lines.remove(client);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.reads.state().end(&self.client);
        self.reads.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn client(name: &str) -> Client {
        Client::Subject(name.into())
    }

    /// Those of the waiting whose turn it is.
    fn turns<F: Future<Output = Turn> + Unpin>(waiting: &mut [(usize, F)]) -> Vec<(usize, Turn)> {
        waiting
            .iter_mut()
            .filter_map(|(number, turn)| Some((*number, turn.now_or_never()?)))
            .collect()
    }

    #[test]
    fn a_client_waits_behind_its_own_reads_and_another_for_one_at_most() {
        let reads = Reads::new(2);
        let wait = |name: &str, number: usize| {
            let (reads, client) = (Arc::clone(&reads), client(name));
            let mut turn = Box::pin(async move { reads.turn(&client).await });
            match (&mut turn).now_or_never() {
                Some(turn) => Ok(turn),
                None => Err((number, turn)),
            }
        };
        let (first, second) = (wait("many", 0).ok().unwrap(), wait("many", 1).ok().unwrap());
        let mut waiting: Vec<_> =
            (2..10).map(|number| wait("many", number).err().unwrap()).collect();
        waiting.push(wait("one", 10).err().unwrap());
        waiting.push(wait("another", 11).err().unwrap());
        assert!(turns(&mut waiting).is_empty());
        drop(first);
        let mut one = turns(&mut waiting);
        assert_eq!(one.len(), 1);
        let (number, one) = one.remove(0);
        assert_eq!(number, 10, "before the eight that came earlier");
        waiting.retain(|(number, _)| *number != 10);
        let mut another: Option<Turn> = None;
        // Turns go round: the last one of `many` was before `another` came, and then it is after it.
        drop(second);
        for expected in [2, 11] {
            drop(another.take());
            let mut served = turns(&mut waiting);
            assert_eq!(served.len(), 1);
            let (number, turn) = served.remove(0);
            assert_eq!(number, expected);
            waiting.retain(|(number, _)| *number != expected);
            another = Some(turn);
        }
        // One that reads waits for its next turn as long as others read less.
        waiting.push(wait("one", 12).err().unwrap());
        drop(another);
        let served: Vec<usize> = turns(&mut waiting).iter().map(|(number, _)| *number).collect();
        assert_eq!(served, [3]);
        drop(one);
    }

    #[test]
    fn who_goes_away_while_waiting_or_reading_leaves_nothing_behind() {
        let reads = Reads::new(1);
        let turn = reads.turn(&client("a")).now_or_never().unwrap();
        for name in ["a", "b"] {
            let client = client(name);
            let mut gone = Box::pin(reads.turn(&client));
            assert!((&mut gone).now_or_never().is_none());
        }
        let third = client("c");
        let mut waiting = Box::pin(reads.turn(&third));
        assert!((&mut waiting).now_or_never().is_none());
        drop(turn);
        let turn = (&mut waiting).now_or_never().unwrap();
        assert_eq!(reads.state().lines.len(), 1);
        drop(turn);
        assert!(reads.state().lines.is_empty());
        assert_eq!(reads.state().free, 1);
    }
}
