//! Time limits towards Redis.

use std::time::Duration;

/// How often the engine checks whether a failed Redis has recovered.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// The timeout of a command for a batch.
pub(super) const REDIS_TIMEOUT: Duration = Duration::from_secs(5);
