//! What the engine counts, in Prometheus' text format on the operations port.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// The engine's counters. `inputs / batches` is what batching saves.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    /// Inputs taken from the queue.
    pub inputs: Counter,
    /// Batches that they came in.
    pub batches: Counter,
    /// Groups of inputs that were committed.
    pub commits: Counter,
    /// Groups that were decided again because another instance was faster.
    pub conflicts: Counter,
    /// Entries that could not be handled.
    pub dead_letters: Counter,
    /// Entries that were deleted while they were pending.
    pub lost_entries: Counter,
    /// Round trips to Redis that failed and were tried again.
    pub failures: Counter,
}

impl EngineMetrics {
    /// The counters, registered under their names.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("engine_inputs", "Inputs taken from the queue", &metrics.inputs),
            ("engine_batches", "Batches that inputs were handled in", &metrics.batches),
            ("engine_commits", "Groups of inputs that were committed", &metrics.commits),
            ("engine_conflicts", "Groups that lost to another instance", &metrics.conflicts),
            ("engine_dead_letters", "Entries that could not be handled", &metrics.dead_letters),
            ("engine_lost_entries", "Entries deleted while pending", &metrics.lost_entries),
            ("engine_redis_failures", "Round trips that failed", &metrics.failures),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}
