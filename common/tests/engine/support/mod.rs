//! Support for the tests: a separate Redis, a service on it, and waiting for conditions.

pub(crate) mod ledger;
pub(crate) mod name;
pub(crate) mod redis;
pub(crate) mod service;

use std::time::{Duration, Instant};

pub(crate) use self::{
    ledger::{Answer, Deposit, How, Ledger},
    redis::{Entry, Redis},
    service::Service,
};

/// The time limit for conditions; long, because other builds may run at the same time.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds().await {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
