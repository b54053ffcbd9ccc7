//! What the tests share: a Redis of their own, a service on it, and waiting for conditions.

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

/// What has not come true by then never will; long, because other builds may run beside the test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
