//! The sizes of batches and queues, and the steps against contention.

/// The maximum number of inputs in one batch.
pub const BATCH_INPUTS: usize = 256;
/// The maximum number of entities that one batch names, unless a single input names more.
pub const BATCH_KEYS: usize = 2_000;

/// The limits of an engine and its readers. The simulation chooses small ones, so that what is rare
/// at full size happens often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The maximum number of inputs in one batch.
    pub batch_inputs: usize,
    /// The maximum number of entities that one batch names, unless a single input names more.
    pub batch_keys: usize,
    /// The maximum memory of the entries of one batch, in KiB, unless a single one takes more.
    pub batch_kib: usize,
    /// The capacity of the engine's queue. Readers and callers wait while it is full.
    pub queue_inputs: usize,
    /// The maximum memory of all entries between being read and being finished, in KiB.
    pub queue_kib: u32,
    /// The maximum duration of a lease in milliseconds: enough to decide a large batch again.
    pub lease_millis: u64,
    /// The number of conflicts after which a batch queues for the lease.
    pub contended_after: u32,
    /// The number of conflicts after which a batch is halved, so that it is decided sooner.
    pub halve_after: u32,
    /// The size up to which a batch is not halved.
    pub small_batch: usize,
    /// The number of entities that are remembered after they were written; at most twice as many.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_inputs: BATCH_INPUTS,
            batch_keys: BATCH_KEYS,
            batch_kib: 2 * 1_024,
            queue_inputs: 1_024,
            queue_kib: 8 * 1_024,
            lease_millis: 50,
            contended_after: 2,
            halve_after: 2,
            small_batch: 16,
            remembered: 2_048,
        }
    }
}

impl Limits {
    /// The maximum number of entities that an input remembers after a conflict without having named
    /// them.
    pub(super) fn missed_keys(self) -> usize {
        self.batch_keys / 4
    }
}
