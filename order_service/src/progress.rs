//! The progress of the consumer groups between order_service and the answers to its events. Pure.
//!
//! A [`Tracker`] takes samples of the streams and derives two facts from them. The backlog of a group
//! limits the acceptance of orders. The watermark of a [`Path`] says up to which time all events have
//! certainly been handled by every group on it, so that an order without an answer is published again
//! only if the answer was lost.

use std::collections::HashMap;

use common::{
    clock::Millis,
    contract::{
        order::{Confirmation, Order},
        streams::{self, topics},
    },
    http::backlog::Backlog,
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};

/// The progress of one consumer group in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupProgress {
    /// The last entry that was delivered.
    pub delivered: EntryId,
    /// The oldest entry of the pending entries list.
    pub oldest_pending: Option<EntryId>,
    /// The length of the pending entries list.
    pub pending: u64,
    /// The number of entries to be delivered, if Redis knows it. It may be too large by a constant
    /// after a restart, until the group reaches the end of the stream.
    pub lag: Option<u64>,
}

/// A stream and its consumer groups. The default is a stream that does not exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamProgress {
    /// The number of entries.
    pub length: u64,
    /// The number of entries that were ever added, if Redis knows it.
    pub added: Option<u64>,
    /// The first entry that is there.
    pub first: EntryId,
    /// The last entry that is there.
    pub last: EntryId,
    /// The groups by the topics that their services own.
    pub groups: HashMap<Topic, GroupProgress>,
}

/// The streams as they are at one moment; streams of a Redis that is away are missing.
pub type Sample = HashMap<Stream, StreamProgress>;

impl StreamProgress {
    /// Whether the group has handled everything up to this entry. A missing group is not waited
    /// for, because services of the original have no groups.
    fn has_handled(&self, reader: Topic, entry: EntryId) -> bool {
        let Some(group) = self.groups.get(&reader) else { return true };
        let is_pending = group.oldest_pending.is_some_and(|oldest| oldest <= entry);
        // Entries may have been deleted before they were delivered.
        !is_pending && group.delivered >= entry.min(self.last)
    }

    /// An estimate of the number of unread entries. It assumes that entries are spread evenly over
    /// time.
    fn estimated_unread(&self, delivered: EntryId) -> u64 {
        let span = self.last.time.saturating_sub(self.first.time);
        let behind = self.last.time.saturating_sub(delivered.time);
        if delivered < self.first || span == 0 {
            return self.length;
        }
        let share = u128::from(self.length) * u128::from(behind) / u128::from(span);
        u64::try_from(share).unwrap_or(u64::MAX).clamp(1, self.length.max(1))
    }
}

/// A stream and the groups on it that have to handle an event.
type Stage = (Stream, &'static [Topic]);

/// The way from an event of order_service to its answer: groups on the streams of one step have to
/// handle what they get before the answer can be on the streams of the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Path {
    /// From an order to its stock check and payment.
    Answer,
    /// From a cancellation to its confirmations.
    Cancelled,
    /// From a shipment to its confirmation.
    Shipped,
    /// From a failed payment to the confirmation that the stock is released.
    Released,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Answer, Self::Cancelled, Self::Shipped, Self::Released];

    /// The path on which the order waits for something.
    pub fn of(order: &Order) -> Self {
        match order.unconfirmed.first() {
            _ if order.status.is_underway() => Self::Answer,
            Some(Confirmation::StockCancelled | Confirmation::PaymentCancelled) => Self::Cancelled,
            Some(Confirmation::StockShipped) => Self::Shipped,
            Some(Confirmation::StockReleased) => Self::Released,
            None => Self::Answer,
        }
    }

    const fn stages(self) -> &'static [&'static [Stage]] {
        use topics::{ACCOUNT, INVENTORY, ORDER};
        match self {
            Self::Answer => &[
                &[(streams::ORDER_CREATED, &[INVENTORY])],
                &[(streams::INVENTORY_CHECK, &[ACCOUNT, ORDER])],
                &[(streams::ACCOUNT_WALLET, &[ORDER])],
            ],
            Self::Cancelled => &[
                &[(streams::ORDER_CANCELLED, &[INVENTORY, ACCOUNT])],
                &[(streams::ACCOUNT_CONFIRMED, &[ORDER]), (streams::INVENTORY_CONFIRMED, &[ORDER])],
            ],
            Self::Shipped => &[
                &[(streams::ORDER_SHIPPED, &[INVENTORY])],
                &[(streams::INVENTORY_CONFIRMED, &[ORDER])],
            ],
            Self::Released => &[
                &[(streams::ORDER_UNPAID, &[INVENTORY]), (streams::ACCOUNT_WALLET, &[INVENTORY])],
                &[(streams::INVENTORY_CONFIRMED, &[ORDER])],
            ],
        }
    }
}

/// The streams to sample. A stream comes after the streams whose events lead to its entries, so that
/// what was handled there is known to be here.
pub const SAMPLED: [Stream; 8] = [
    streams::ORDER_CREATED,
    streams::ORDER_CANCELLED,
    streams::ORDER_SHIPPED,
    streams::ORDER_UNPAID,
    streams::INVENTORY_CHECK,
    streams::ACCOUNT_WALLET,
    streams::ACCOUNT_CONFIRMED,
    streams::INVENTORY_CONFIRMED,
];

/// The streams whose backlog limits the acceptance of orders.
const LIMITED: [Stream; 3] =
    [streams::ORDER_CREATED, streams::INVENTORY_CHECK, streams::ACCOUNT_WALLET];

/// The facts that follow from the samples so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The largest backlog on the path of an order, once it is known.
    pub largest: Option<Backlog>,
    handled: HashMap<Path, Millis>,
}

impl Progress {
    /// Whether the events of the path that were published by this time have been handled by every
    /// group on it.
    pub fn has_handled(&self, path: Path, published: Millis) -> bool {
        self.handled.get(&path).is_some_and(|before| published < *before)
    }
}

/// A mark that moves along a path: first at the end of its first streams, then, once the groups have
/// handled these, at the end of the next ones.
#[derive(Clone, Debug)]
struct Probe {
    began: Millis,
    stage: usize,
    marks: HashMap<Stream, EntryId>,
}

impl Probe {
    fn new(began: Millis, path: Path, sample: &Sample) -> Option<Self> {
        Some(Self { began, stage: 0, marks: marks(path.stages()[0], sample)? })
    }

    /// Moves on as far as it can; whether it has passed the end of the path.
    fn advance(&mut self, path: Path, sample: &Sample) -> bool {
        loop {
            let stage = path.stages()[self.stage];
            let is_handled = stage.iter().all(|(stream, readers)| {
                let Some(progress) = sample.get(stream) else { return false };
                let mark = self.marks.get(stream).copied().unwrap_or_default();
                readers.iter().all(|reader| progress.has_handled(*reader, mark))
            });
            if !is_handled {
                return false;
            }
            let Some(next) = path.stages().get(self.stage + 1) else { return true };
            let Some(marks) = marks(next, sample) else { return false };
            (self.stage, self.marks) = (self.stage + 1, marks);
        }
    }
}

fn marks(stage: &[Stage], sample: &Sample) -> Option<HashMap<Stream, EntryId>> {
    stage.iter().map(|(stream, _)| Some((*stream, sample.get(stream)?.last))).collect()
}

/// The unread entries of a group as they were counted last.
#[derive(Clone, Copy, Debug, Default)]
struct Unread {
    entries: Option<u64>,
    /// The amount by which Redis' lag is too large.
    excess: u64,
}

/// Derives [`Progress`] from samples.
#[derive(Debug, Default)]
pub struct Tracker {
    before: Sample,
    unread: HashMap<(Stream, Topic), Unread>,
    probes: HashMap<Path, Probe>,
    progress: Progress,
}

impl Tracker {
    /// Takes a sample that was begun at this time, and gives the facts.
    pub fn take(&mut self, sample: Sample, began: Millis) -> &Progress {
        for path in Path::ALL {
            let probe = self.probes.remove(&path);
            let mut probe = probe.or_else(|| Probe::new(began, path, &sample));
            // Every probe that has passed is replaced at once: in a quiet system a single sample
            // suffices to know that nothing is in flight.
            while let Some(it) = &mut probe {
                if !it.advance(path, &sample) {
                    break;
                }
                self.progress.handled.insert(path, it.began);
                let is_newest = it.began == began;
                probe = (!is_newest).then(|| Probe::new(began, path, &sample)).flatten();
            }
            if let Some(probe) = probe {
                self.probes.insert(path, probe);
            }
        }
        let mut backlogs = Vec::new();
        for stream in LIMITED {
            let Some(now) = sample.get(&stream) else { continue };
            for reader in stream.readers() {
                let entries = self.backlog(stream, now, *reader);
                backlogs.push(Backlog { service: reader.service(), stream, entries });
            }
        }
        self.progress.largest = backlogs.into_iter().max_by_key(|backlog| backlog.entries);
        self.before = sample;
        &self.progress
    }

    fn backlog(&mut self, stream: Stream, now: &StreamProgress, reader: Topic) -> u64 {
        // A group is made at the start of the stream.
        let Some(group) = now.groups.get(&reader) else { return now.length };
        let known = self.unread.entry((stream, reader)).or_default();
        if group.delivered >= now.last {
            *known = Unread { entries: Some(0), excess: group.lag.unwrap_or(0) };
            return group.pending;
        }
        let before = self.before.get(&stream);
        let grown = before.map(|before| match (before.added, now.added) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => now.length.saturating_sub(before.length),
        });
        // The group has read everything of the previous sample, so at most the entries added since
        // then are unread.
        let most = before.filter(|before| group.delivered >= before.last).and(grown);
        let entries = match (group.lag, most) {
            (Some(lag), Some(most)) => {
                known.excess = lag.saturating_sub(most);
                lag - known.excess
            }
            (Some(lag), None) => lag.saturating_sub(known.excess),
            (None, Some(most)) => most,
            (None, None) => match (known.entries, grown) {
                (Some(unread), Some(grown)) => unread.saturating_add(grown),
                _ => now.estimated_unread(group.delivered),
            },
        };
        let entries = entries.min(now.length);
        known.entries = Some(entries);
        entries.saturating_add(group.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::contract::streams::topics;

    const CREATED: Stream = streams::ORDER_CREATED;

    fn id(time: u64) -> EntryId {
        EntryId { time, sequence: 0 }
    }

    fn stream(length: u64, first: u64, last: u64) -> StreamProgress {
        let added = Some(length);
        StreamProgress { length, added, first: id(first), last: id(last), groups: HashMap::new() }
    }

    fn group(delivered: u64, oldest_pending: Option<u64>, lag: Option<u64>) -> GroupProgress {
        let pending = u64::from(oldest_pending.is_some());
        let oldest_pending = oldest_pending.map(id);
        GroupProgress { delivered: id(delivered), oldest_pending, pending, lag }
    }

    /// All streams, each with one entry at this time that every reader has handled.
    fn quiet(at: u64) -> Sample {
        let streams = SAMPLED.into_iter().map(|it| {
            let mut stream = stream(1, at, at);
            stream.groups = it.readers().iter().map(|it| (*it, group(at, None, Some(0)))).collect();
            (it, stream)
        });
        streams.collect()
    }

    fn set(sample: &mut Sample, stream: Stream, last: u64, reader: Topic, group: GroupProgress) {
        let stream = sample.get_mut(&stream).unwrap();
        stream.last = id(last);
        stream.groups.insert(reader, group);
    }

    #[test]
    fn in_a_quiet_system_everything_before_the_sample_is_handled() {
        let mut tracker = Tracker::default();
        for at in [100, 200] {
            let progress = tracker.take(quiet(10), at);
            for path in Path::ALL {
                assert!(progress.has_handled(path, at - 1), "{path:?}");
                assert!(!progress.has_handled(path, at), "{path:?}");
            }
            assert_eq!(progress.largest.map(|it| it.entries), Some(0));
        }
    }

    #[test]
    fn nothing_after_an_unread_or_pending_entry_counts_as_handled() {
        for path in Path::ALL {
            for (stream, readers) in path.stages().iter().copied().flatten() {
                for reader in *readers {
                    let unread = group(10, None, Some(1));
                    let pending = group(150, Some(150), Some(0));
                    for held_up in [unread, pending] {
                        let mut tracker = Tracker::default();
                        tracker.take(quiet(10), 100);
                        let mut sample = quiet(10);
                        set(&mut sample, *stream, 150, *reader, held_up);
                        for at in [200, 300, 400] {
                            let progress = tracker.take(sample.clone(), at);
                            assert!(progress.has_handled(path, 99), "{path:?} {stream} {reader:?}");
                            assert!(
                                !progress.has_handled(path, 100),
                                "{path:?} {stream} {reader:?}"
                            );
                        }
                        // Soon after it goes on, everything is handled.
                        tracker.take(quiet(150), 500);
                        assert!(tracker.take(quiet(150), 600).has_handled(path, 599));
                    }
                }
            }
        }
    }

    #[test]
    fn a_late_answer_is_waited_for_although_its_group_is_past_the_event() {
        let mut tracker = Tracker::default();
        // inventory_service is down, and an order of the time 150 waits for it.
        let mut sample = quiet(10);
        set(&mut sample, CREATED, 150, topics::INVENTORY, group(10, None, Some(1)));
        tracker.take(sample.clone(), 200);
        assert!(!tracker.take(sample, 300).has_handled(Path::Answer, 150));
        // At 900 it comes back and answers; account_service is at 880, long past 150.
        let mut sample = quiet(900);
        set(&mut sample, streams::INVENTORY_CHECK, 900, topics::ACCOUNT, group(880, None, Some(1)));
        assert!(!tracker.take(sample.clone(), 950).has_handled(Path::Answer, 150));
        assert!(!tracker.take(sample, 990).has_handled(Path::Answer, 150));
        tracker.take(quiet(900), 1_000);
        assert!(tracker.take(quiet(900), 1_010).has_handled(Path::Answer, 150));
    }

    #[test]
    fn under_steady_traffic_the_watermark_follows() {
        let mut tracker = Tracker::default();
        for at in (1_000..20_000).step_by(1_000) {
            let mut sample = quiet(at);
            for (stream, progress) in &mut sample {
                for reader in stream.readers() {
                    // Every group is always 10 ms behind.
                    progress.groups.insert(*reader, group(at - 10, Some(at - 15), Some(1)));
                }
            }
            let progress = tracker.take(sample, at);
            for path in Path::ALL.into_iter().filter(|_| at > 10_000) {
                assert!(progress.has_handled(path, at - 8_000), "{path:?} at {at}");
                assert!(!progress.has_handled(path, at), "{path:?} at {at}");
            }
        }
    }

    #[test]
    fn entries_deleted_before_they_are_read_are_not_waited_for() {
        let mut tracker = Tracker::default();
        let mut sample = quiet(10);
        set(&mut sample, CREATED, 150, topics::INVENTORY, group(10, None, None));
        assert!(!tracker.take(sample, 200).has_handled(Path::Answer, 150));
        // The one entry is gone: the last one that is there is the one that was read.
        assert!(tracker.take(quiet(10), 300).has_handled(Path::Answer, 150));
        assert_eq!(tracker.progress.largest.map(|it| it.entries), Some(0));
    }

    #[test]
    fn an_unavailable_redis_has_no_progress_and_a_missing_group_is_ignored() {
        let mut tracker = Tracker::default();
        let mut sample = quiet(10);
        sample.remove(&streams::INVENTORY_CHECK);
        let progress = tracker.take(sample, 100);
        assert!(!progress.has_handled(Path::Answer, 1));
        assert!(progress.has_handled(Path::Shipped, 1));
        let mut sample = quiet(10);
        for progress in sample.values_mut() {
            progress.groups.clear();
        }
        assert!(tracker.take(sample, 100).has_handled(Path::Answer, 99));
    }

    fn largest(tracker: &mut Tracker, stream: StreamProgress) -> (&'static str, u64) {
        let progress = tracker.take([(CREATED, stream)].into(), 1);
        let largest = progress.largest.unwrap();
        (largest.service, largest.entries)
    }

    /// A stream with entries at each millisecond from 1 on.
    fn read_to(length: u64, delivered: u64, lag: Option<u64>) -> StreamProgress {
        let mut stream = stream(length, 1, length);
        stream.groups.insert(topics::MESSAGE, group(length, None, Some(0)));
        stream.groups.insert(topics::INVENTORY, group(delivered, None, lag));
        stream
    }

    #[test]
    fn the_backlog_is_the_unread_and_pending_entries_of_the_slowest_group() {
        let mut tracker = Tracker::default();
        assert_eq!(largest(&mut tracker, read_to(100, 30, Some(70))), ("inventory_service", 70));
        let mut both = read_to(100, 30, Some(70));
        both.groups.insert(
            topics::INVENTORY,
            GroupProgress { pending: 20, oldest_pending: Some(id(5)), ..group(30, None, Some(70)) },
        );
        assert_eq!(largest(&mut tracker, both), ("inventory_service", 90));
        // A service that has never run has read nothing.
        let mut never = read_to(100, 30, Some(70));
        never.groups.remove(&topics::MESSAGE);
        assert_eq!(largest(&mut tracker, never), ("msg_service", 100));
    }

    #[test]
    fn a_wrong_lag_of_redis_is_no_backlog() {
        let mut tracker = Tracker::default();
        // At the end of the stream nothing is unread, even if Redis reports a lag.
        assert_eq!(largest(&mut tracker, read_to(1_000, 1_000, Some(900))).1, 0);
        // Nor much more under traffic, where the group is never seen at the very end.
        assert_eq!(largest(&mut tracker, read_to(1_010, 1_005, Some(905))).1, 10);
        let mut tracker = Tracker::default();
        largest(&mut tracker, read_to(1_000, 990, Some(910)));
        assert_eq!(largest(&mut tracker, read_to(1_010, 1_005, Some(905))).1, 10);
        // A real backlog is still seen.
        assert_eq!(largest(&mut tracker, read_to(5_000, 1_005, Some(905 + 3_990))).1, 4_000);
    }

    #[test]
    fn a_lag_that_redis_does_not_know_is_counted_from_added_entries() {
        let mut tracker = Tracker::default();
        let unknown =
            |length, delivered| StreamProgress { added: None, ..read_to(length, delivered, None) };
        assert_eq!(largest(&mut tracker, unknown(1_000, 1_000)).1, 0);
        assert_eq!(largest(&mut tracker, unknown(1_010, 1_005)).1, 10, "at most the added entries");
        assert_eq!(largest(&mut tracker, unknown(1_500, 1_005)).1, 500);
        assert_eq!(largest(&mut tracker, unknown(2_000, 1_005)).1, 1_000);
        assert_eq!(largest(&mut tracker, unknown(2_000, 2_000)).1, 0);
        // Without a sample before it is estimated.
        let (_, estimate) = largest(&mut Tracker::default(), unknown(2_000, 1_005));
        assert!((900..1_100).contains(&estimate), "{estimate}");
        assert_eq!(largest(&mut Tracker::default(), unknown(2_000, 0)).1, 2_000);
    }
}
