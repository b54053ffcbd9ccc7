//! The order of reads: a few run at once, and each client waits in a queue of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::client::Client;

/// Permits to read, for all clients. The next permit goes to the client with the fewest, and among those to
/// the one that has waited longest since its arrival or its last permit. So a client without permits waits
/// for at most one read of each other client, regardless of the length of their queues.
#[derive(Debug)]
pub(super) struct ReadQueues(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The number of free permits.
    free: usize,
    /// Counts arrivals and granted permits.
    clock: u64,
    /// The clients that read or wait.
    queues: HashMap<Client, ClientQueue>,
}

#[derive(Default, Debug)]
struct ClientQueue {
    /// The number of permits that the client holds.
    reading: usize,
    /// The time of its arrival or of its last permit.
    since: u64,
    waiting: VecDeque<oneshot::Sender<ReadPermit>>,
}

/// The permit of a client to read; dropping this returns it.
#[derive(Debug)]
pub(super) struct ReadPermit {
    reads: Arc<ReadQueues>,
    client: Client,
}

impl ReadQueues {
    /// Queues for this number of concurrent reads.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let state = State { free: most, clock: 0, queues: HashMap::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Waits for a permit of this client.
    pub(super) async fn permit(self: &Arc<Self>, client: &Client) -> ReadPermit {
        let (sender, permit) = oneshot::channel();
        self.state().arrive(client.clone(), sender);
        self.serve();
        permit.await.expect("a sender is used while its receiver exists")
    }

    fn serve(self: &Arc<Self>) {
        loop {
            let next = self.state().next();
            let Some((client, sender)) = next else { return };
            // If the receiver was dropped in the meantime, the permit is returned here.
            let _ = sender.send(ReadPermit { reads: Arc::clone(self), client });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arrive(&mut self, client: Client, sender: oneshot::Sender<ReadPermit>) {
        self.clock += 1;
        let queue = self.queues.entry(client).or_default();
        if queue.waiting.is_empty() {
            queue.since = self.clock;
        }
        queue.waiting.push_back(sender);
    }

    fn next(&mut self) -> Option<(Client, oneshot::Sender<ReadPermit>)> {
        if self.free == 0 {
            return None;
        }
        self.queues.retain(|_, queue| {
            queue.waiting.retain(|sender| !sender.is_closed());
            queue.reading > 0 || !queue.waiting.is_empty()
        });
        let waiting = self.queues.iter_mut().filter(|(_, queue)| !queue.waiting.is_empty());
        let (client, queue) = waiting.min_by_key(|(_, queue)| (queue.reading, queue.since))?;
        let sender = queue.waiting.pop_front()?;
        self.free -= 1;
        self.clock += 1;
        (queue.reading, queue.since) = (queue.reading + 1, self.clock);
        Some((client.clone(), sender))
    }

    fn end(&mut self, client: &Client) {
        self.free += 1;
        if let Some(queue) = self.queues.get_mut(client) {
            queue.reading -= 1;
            if queue.reading == 0 && queue.waiting.is_empty() {
                self.queues.remove(client);
            }
        }
    }
}

impl Drop for ReadPermit {
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

    /// The waiting reads that received a permit.
    fn permits<F: Future<Output = ReadPermit> + Unpin>(
        waiting: &mut [(usize, F)],
    ) -> Vec<(usize, ReadPermit)> {
        waiting
            .iter_mut()
            .filter_map(|(number, permit)| Some((*number, permit.now_or_never()?)))
            .collect()
    }

    #[test]
    fn a_client_waits_behind_its_own_reads_and_another_for_one_at_most() {
        let reads = ReadQueues::new(2);
        let wait = |name: &str, number: usize| {
            let (reads, client) = (Arc::clone(&reads), client(name));
            let mut permit = Box::pin(async move { reads.permit(&client).await });
            match (&mut permit).now_or_never() {
                Some(permit) => Ok(permit),
                None => Err((number, permit)),
            }
        };
        let (first, second) = (wait("many", 0).ok().unwrap(), wait("many", 1).ok().unwrap());
        let mut waiting: Vec<_> =
            (2..10).map(|number| wait("many", number).err().unwrap()).collect();
        waiting.push(wait("one", 10).err().unwrap());
        waiting.push(wait("another", 11).err().unwrap());
        assert!(permits(&mut waiting).is_empty());
        drop(first);
        let mut one = permits(&mut waiting);
        assert_eq!(one.len(), 1);
        let (number, one) = one.remove(0);
        assert_eq!(number, 10, "before the eight that came earlier");
        waiting.retain(|(number, _)| *number != 10);
        let mut another: Option<ReadPermit> = None;
        // Permits rotate: the last one of `many` was before the arrival of `another`, the next is after it.
        drop(second);
        for expected in [2, 11] {
            drop(another.take());
            let mut served = permits(&mut waiting);
            assert_eq!(served.len(), 1);
            let (number, permit) = served.remove(0);
            assert_eq!(number, expected);
            waiting.retain(|(number, _)| *number != expected);
            another = Some(permit);
        }
        // A reading client waits for its next permit while others read less.
        waiting.push(wait("one", 12).err().unwrap());
        drop(another);
        let served: Vec<usize> = permits(&mut waiting).iter().map(|(number, _)| *number).collect();
        assert_eq!(served, [3]);
        drop(one);
    }

    #[test]
    fn a_cancelled_read_frees_its_permit() {
        let reads = ReadQueues::new(1);
        let permit = reads.permit(&client("a")).now_or_never().unwrap();
        for name in ["a", "b"] {
            let client = client(name);
            let mut gone = Box::pin(reads.permit(&client));
            assert!((&mut gone).now_or_never().is_none());
        }
        let third = client("c");
        let mut waiting = Box::pin(reads.permit(&third));
        assert!((&mut waiting).now_or_never().is_none());
        drop(permit);
        let permit = (&mut waiting).now_or_never().unwrap();
        assert_eq!(reads.state().queues.len(), 1);
        drop(permit);
        assert!(reads.state().queues.is_empty());
        assert_eq!(reads.state().free, 1);
    }
}
