//! How often the gateway asks the provider for tokens. Whoever begins to sign in, which is anybody,
//! can come back with made-up codes: each is a request to the provider, with the gateway's secret.

use std::sync::{Mutex, PoisonError};

use common::http::problem::Problem;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::remembered::Remembered;

/// How many codes are being redeemed at once.
const AT_ONCE: usize = 16;
/// How many used attempts are remembered; some 100 bytes each.
const REMEMBERED: usize = 10_000;
/// When to come back if too many are under way, in seconds.
const COME_BACK: u16 = 2;

/// Turns at the provider, and the attempts that have had theirs at this gateway.
#[derive(Debug)]
pub(super) struct Redeeming {
    turns: Semaphore,
    /// The states of those attempts.
    used: Mutex<Remembered<Box<str>>>,
}

impl Default for Redeeming {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), used: Mutex::new(Remembered::new(REMEMBERED)) }
    }
}

impl Redeeming {
    /// A turn to redeem a code for the attempt with this state, which ends then.
    ///
    /// # Errors
    ///
    /// 503: too many are under way; the attempt is still good. 400: it has had its turn.
    pub(super) fn turn(
        &self,
        state: &str,
        ends: u64,
        now: u64,
    ) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = self.turns.try_acquire().map_err(|_| Problem {
            retry_after: Some(COME_BACK),
            ..Problem::unavailable("too many sign in at the moment; load this page again")
        })?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.add(state.into(), ends, now) {
            return Ok(turn);
        }
        Err(Problem::sign_in_failed("this browser has come back with that already; sign in again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_redeemed_at_once_and_who_is_sent_away_may_come_again() {
        let redeeming = Redeeming::default();
        let turn = |number: usize| redeeming.turn(&number.to_string(), 600, 0);
        let turns: Vec<_> = (0..AT_ONCE).map(|number| turn(number).unwrap()).collect();
        let problem = turn(AT_ONCE).unwrap_err();
        assert_eq!((problem.status, problem.retry_after), (503, Some(COME_BACK)));
        drop(turns);
        assert!(turn(AT_ONCE).is_ok());
    }

    #[test]
    fn an_attempt_has_one_turn() {
        let redeeming = Redeeming::default();
        assert!(redeeming.turn("a", 600, 0).is_ok());
        assert_eq!(redeeming.turn("a", 600, 599).unwrap_err().status, 400);
    }
}
