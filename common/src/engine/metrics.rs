//! What the engine counts, in Prometheus' text format on the operations port.

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};

/// The engine's counters. `inputs / batches` is what batching saves.
#[derive(Debug)]
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
    /// Groups that waited for an instance that held the lease.
    pub deferrals: Counter,
    /// Entries that were dropped because their data was lost or restarted after they were read.
    pub dropped: Counter,
    /// How often each input was decided before it was committed.
    pub tries: Histogram,
}

/// Upper bounds of the classes of [`EngineMetrics::tries`].
const TRIES: [f64; 7] = [1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            inputs: Counter::default(),
            batches: Counter::default(),
            commits: Counter::default(),
            conflicts: Counter::default(),
            dead_letters: Counter::default(),
            lost_entries: Counter::default(),
            failures: Counter::default(),
            deferrals: Counter::default(),
            dropped: Counter::default(),
            tries: Histogram::new(TRIES),
        }
    }
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
            ("engine_deferrals", "Groups that waited for another instance", &metrics.deferrals),
            ("engine_dropped", "Entries dropped because their data was lost", &metrics.dropped),
        ] {
            registry.register(name, help, counter.clone());
        }
        let help = "Decisions that each input took until it was committed";
        registry.register("engine_tries", help, metrics.tries.clone());
        metrics
    }
}
