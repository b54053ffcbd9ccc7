//! The size of a read. Redis bounds a read by entries per stream; a reader has to bound it by bytes.

use crate::{
    connection::entry::{Entry, Fields},
    engine::BATCH_INPUTS,
};

/// The most bytes that a read is meant to bring.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// How many entries of each stream a read asks for after a silence. A service that waits may meet entries of
/// any size.
const IDLE_COUNT: usize = 4;

/// How much the next read asks for.
///
/// The number of entries is at most twice what the reads before it brought, and what fits into
/// [`READ_BYTES`] if entries are as large as those seen lately. At first they are expected to fill a
/// read each, so a reader that starts again takes one entry of one stream, then two, and so on.
#[derive(Debug)]
pub(super) struct Pace {
    count: usize,
    /// The size that an entry is expected to have.
    entry_bytes: usize,
}

impl Pace {
    /// One entry at first.
    pub(super) fn slow_start() -> Self {
        Self { count: IDLE_COUNT, entry_bytes: READ_BYTES }
    }

    /// From how many of these streams to read at once.
    pub(super) fn streams(&self, all: usize) -> usize {
        (READ_BYTES / self.entry_bytes).clamp(1, all.max(1))
    }

    /// The number of entries to ask of each stream when `streams` of them are read at once.
    pub(super) fn count(&self, streams: usize) -> usize {
        (READ_BYTES / self.entry_bytes / streams.max(1)).clamp(1, self.count)
    }

    /// Takes note of what a read brought from each stream. `waited` if it waited in vain.
    pub(super) fn saw<'a>(&mut self, read: impl Iterator<Item = &'a [Entry]>, waited: bool) {
        let (mut most, mut largest) = (0, 1);
        for entries in read {
            most = most.max(entries.len());
            let sizes = entries.iter().map(|entry| &entry.fields).map(Fields::memory);
            largest = largest.max(sizes.max().unwrap_or(0));
        }
        self.entry_bytes = largest.max(self.entry_bytes / 2).min(READ_BYTES);
        // It falls more slowly than it rises: a burst that took two reads takes one next time.
        let falling = self.count - self.count / 4;
        let count = if most == 0 && waited { 0 } else { falling.max(2 * most) };
        self.count = count.clamp(IDLE_COUNT, BATCH_INPUTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::entry_id::EntryId;

    fn entries(count: usize, bytes: usize) -> Vec<Entry> {
        let fields = || Fields(vec![("entity".into(), vec![b'x'; bytes])]);
        (0..count).map(|_| Entry { id: EntryId::default(), fields: fields() }).collect()
    }

    fn saw(pace: &mut Pace, count: usize, bytes: usize) {
        pace.saw([&entries(count, bytes)[..]].into_iter(), count == 0);
    }

    #[test]
    fn a_reader_that_starts_reads_one_entry_of_one_stream_and_then_ever_more() {
        let mut pace = Pace::slow_start();
        assert_eq!((pace.streams(9), pace.count(1)), (1, 1));
        let mut reads = 0;
        while (pace.streams(9), pace.count(9)) != (9, BATCH_INPUTS) {
            let (streams, count) = (pace.streams(9), pace.count(pace.streams(9)));
            assert!(streams * count <= 1 << reads, "{streams} x {count} after {reads}");
            saw(&mut pace, count, 300);
            reads += 1;
        }
        assert!(reads <= 14, "{reads}");
    }

    #[test]
    fn large_entries_are_read_one_at_a_time() {
        let mut pace = Pace::slow_start();
        (0..20).for_each(|_| saw(&mut pace, 256, 300));
        assert_eq!((pace.streams(9), pace.count(9)), (9, 256));
        saw(&mut pace, 256, 20_000);
        assert_eq!((pace.streams(9), pace.count(9)), (9, 23));
        saw(&mut pace, 1, 4_000_000);
        assert_eq!((pace.streams(9), pace.count(1)), (1, 1));
        saw(&mut pace, 1, 400_000_000);
        assert_eq!((pace.streams(9), pace.count(1)), (1, 1));
    }

    #[test]
    fn steady_traffic_is_never_held_up_and_a_silence_makes_careful() {
        let mut pace = Pace::slow_start();
        (0..20).for_each(|_| saw(&mut pace, 100, 300));
        for found in [100, 60, 100, 30, 60, 100] {
            assert!(pace.count(9) > found, "{pace:?}");
            saw(&mut pace, found, 300);
        }
        saw(&mut pace, 0, 0);
        assert_eq!(pace.count(9), IDLE_COUNT);
    }
}
