//! The pause between two attempts.

use std::time::Duration;

/// Waits with a growing delay, up to one second, with random jitter.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Makes the next wait short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt.
    pub async fn wait(&mut self) {
        let ceiling = 20u64.saturating_mul(1 << self.failures.min(6)).min(1_000);
        self.failures += 1;
        let jittered = fastrand::u64(ceiling / 2..=ceiling);
        tokio::time::sleep(Duration::from_millis(jittered)).await;
    }
}
