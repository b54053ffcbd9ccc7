//! The size of a read. Redis limits a read by entries per stream; a reader has to limit it by
//! bytes.

use crate::connection::entry::{Entry, Fields};

/// The intended maximum size of a read in bytes.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// The number of entries per stream that a read requests after an idle period: the next entries may
/// have any size.
const IDLE_COUNT: usize = 4;

/// The size of the next read.
///
/// The number of entries is at most twice the number of the previous reads, and at most what fits
/// into [`READ_BYTES`] at the size of recent entries. Initially each entry is expected to fill a
/// read, so a restarted reader takes one entry of one stream, then two, and so on.
#[derive(Debug)]
pub(super) struct Pace {
    count: usize,
    /// The expected size of an entry.
    entry_bytes: usize,
    /// The maximum number of entries.
    count_max: usize,
}

impl Pace {
    /// The initial pace: one entry. Later reads have up to `count_max` entries of each stream.
    pub(super) fn slow_start(count_max: usize) -> Self {
        let count = IDLE_COUNT.min(count_max);
        Self { count, entry_bytes: READ_BYTES, count_max }
    }

    /// The number of streams to read at once.
    pub(super) fn streams(&self, all: usize) -> usize {
        (READ_BYTES / self.entry_bytes).clamp(1, all.max(1))
    }

    /// The number of entries to request from each of `streams` streams.
    pub(super) fn count(&self, streams: usize) -> usize {
        (READ_BYTES / self.entry_bytes / streams.max(1)).clamp(1, self.count)
    }

    /// Records the entries of a read per stream. `waited` means that the read timed out.
    pub(super) fn saw<'a>(&mut self, read: impl Iterator<Item = &'a [Entry]>, waited: bool) {
        let (mut most, mut largest) = (0, 1);
        for entries in read {
            most = most.max(entries.len());
            let sizes = entries.iter().map(|entry| &entry.fields).map(Fields::memory);
            largest = largest.max(sizes.max().unwrap_or(0));
        }
        self.entry_bytes = largest.max(self.entry_bytes / 2).min(READ_BYTES);
        // The count falls more slowly than it rises: after a burst of two reads, the next burst
        // takes one.
        let falling = self.count - self.count / 4;
        let count = if most == 0 && waited { 0 } else { falling.max(2 * most) };
        self.count = count.clamp(IDLE_COUNT.min(self.count_max), self.count_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::BATCH_INPUTS, schema::entry_id::EntryId};

    fn entries(count: usize, bytes: usize) -> Vec<Entry> {
        let fields = || Fields(vec![("entity".into(), vec![b'x'; bytes])]);
        (0..count).map(|_| Entry { id: EntryId::default(), fields: fields() }).collect()
    }

    fn saw(pace: &mut Pace, count: usize, bytes: usize) {
        pace.saw([&entries(count, bytes)[..]].into_iter(), count == 0);
    }

    #[test]
    fn a_started_reader_reads_one_entry_of_one_stream_and_then_more() {
        let mut pace = Pace::slow_start(BATCH_INPUTS);
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
        let mut pace = Pace::slow_start(BATCH_INPUTS);
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
    fn steady_traffic_is_never_delayed_and_an_idle_period_resets_the_pace() {
        let mut pace = Pace::slow_start(BATCH_INPUTS);
        (0..20).for_each(|_| saw(&mut pace, 100, 300));
        for found in [100, 60, 100, 30, 60, 100] {
            assert!(pace.count(9) > found, "{pace:?}");
            saw(&mut pace, found, 300);
        }
        saw(&mut pace, 0, 0);
        assert_eq!(pace.count(9), IDLE_COUNT);
    }
}
