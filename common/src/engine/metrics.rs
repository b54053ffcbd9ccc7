//! The metrics of the engine, in Prometheus' text format on the operations port.

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};

/// The metrics of the engine. `inputs / batches` is the saving by batching.
#[derive(Debug)]
pub struct EngineMetrics {
    /// Inputs taken from the queue.
    pub inputs: Counter,
    /// Batches of inputs.
    pub batches: Counter,
    /// Groups of inputs that were committed.
    pub commits: Counter,
    /// Groups that were decided again because another instance committed first.
    pub conflicts: Counter,
    /// Entries that could not be handled.
    pub dead_letters: Counter,
    /// Entries that were deleted while they were pending.
    pub lost_entries: Counter,
    /// Round trips to Redis that failed and were retried.
    pub failures: Counter,
    /// Groups that waited for the holder of the lease.
    pub deferrals: Counter,
    /// Entries that were dropped because their data was lost, or their Redis restarted, after they
    /// were read.
    pub dropped: Counter,
    /// The number of decisions per input until its commit.
    pub tries: Histogram,
}

/// Upper bounds of the buckets of [`EngineMetrics::tries`].
const TRIES_BUCKETS: [f64; 7] = [1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];

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
            tries: Histogram::new(TRIES_BUCKETS),
        }
    }
}

impl EngineMetrics {
    /// Creates the metrics and registers them.
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
