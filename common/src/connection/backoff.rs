//! The pause between two tries.

use std::time::Duration;

/// Waits longer and longer, up to a second, a little different each time.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    pub async fn wait(&mut self) {
        let ceiling = 20u64.saturating_mul(1 << self.failures.min(6)).min(1_000);
        self.failures += 1;
        let jittered = fastrand::u64(ceiling / 2..=ceiling);
        tokio::time::sleep(Duration::from_millis(jittered)).await;
    }
}
