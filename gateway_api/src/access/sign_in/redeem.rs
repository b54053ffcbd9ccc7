//! Limits the token requests to the provider. An attacker can begin attempts and return with invented codes,
//! each of which is a request to the provider with the gateway's secret.

use std::sync::{Mutex, PoisonError};

use common::http::problem::Problem;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::remembered::Remembered;

/// The number of codes that are redeemed concurrently.
const CONCURRENT_REDEMPTIONS: usize = 16;
/// The number of used attempts that are remembered; about 100 bytes each.
const REMEMBERED_ATTEMPTS: usize = 10_000;
/// `Retry-After` if too many are in progress, in seconds.
const RETRY_AFTER_SECONDS: u16 = 2;

/// Permits to redeem a code at the provider, and the attempts that have been redeemed at this gateway.
#[derive(Debug)]
pub(super) struct Redeeming {
    permits: Semaphore,
    /// The states of the redeemed attempts.
    used: Mutex<Remembered<Box<str>>>,
}

impl Default for Redeeming {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(CONCURRENT_REDEMPTIONS),
            used: Mutex::new(Remembered::new(REMEMBERED_ATTEMPTS)),
        }
    }
}

impl Redeeming {
    /// A permit to redeem a code for the attempt with this state, which thereby ends.
    ///
    /// # Errors
    ///
    /// 503: too many exchanges are in progress; the attempt can be repeated. 400: the attempt has been
    /// redeemed already.
    pub(super) fn permit(
        &self,
        state: &str,
        ends: u64,
        now: u64,
    ) -> Result<SemaphorePermit<'_>, Problem> {
        let permit = self.permits.try_acquire().map_err(|_| Problem {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Problem::unavailable("too many users sign in at the moment; reload this page")
        })?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.add(state.into(), ends, now) {
            return Ok(permit);
        }
        Err(Problem::sign_in_failed(
            "this attempt to sign in has been completed already; sign in again",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_redemptions_are_limited_and_refused_ones_can_retry() {
        let redeeming = Redeeming::default();
        let permit = |number: usize| redeeming.permit(&number.to_string(), 600, 0);
        let permits: Vec<_> =
            (0..CONCURRENT_REDEMPTIONS).map(|number| permit(number).unwrap()).collect();
        let problem = permit(CONCURRENT_REDEMPTIONS).unwrap_err();
        assert_eq!((problem.status, problem.retry_after), (503, Some(RETRY_AFTER_SECONDS)));
        drop(permits);
        assert!(permit(CONCURRENT_REDEMPTIONS).is_ok());
    }

    #[test]
    fn an_attempt_is_redeemed_once() {
        let redeeming = Redeeming::default();
        assert!(redeeming.permit("a", 600, 0).is_ok());
        assert_eq!(redeeming.permit("a", 600, 599).unwrap_err().status, 400);
    }
}
