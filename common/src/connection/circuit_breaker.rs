//! A circuit breaker: after a timeout, calls to a server fail at once during a cooldown. Then one
//! caller at a time tries the server.
//!
//! Without it, each caller would wait for its own timeout and would delay callers of other servers
//! meanwhile.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long the breaker stays open after a timeout.
const COOLDOWN: Duration = Duration::from_secs(1);
/// The time after which a call that its caller abandoned counts as unanswered.
const SLOW_CALL_AFTER: Duration = Duration::from_secs(1);

/// The state of the breaker.
#[derive(Default, Debug)]
pub(crate) struct CircuitBreaker(Mutex<State>);

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// All callers may call.
    #[default]
    Closed,
    /// Every call fails until then.
    OpenUntil(Instant),
    /// One caller is testing whether the server answers again.
    Trying,
}

/// A call in progress.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    breaker: &'a CircuitBreaker,
    begun: Instant,
    /// Whether this is the call that tests the server.
    tries: bool,
    has_ended: bool,
}

impl CircuitBreaker {
    /// Starts a call, if the breaker allows one now.
    pub(crate) fn call(&self) -> Option<Call<'_>> {
        self.call_at(Instant::now())
    }

    fn call_at(&self, now: Instant) -> Option<Call<'_>> {
        let mut state = self.state();
        let tries = match *state {
            State::Closed => false,
            State::OpenUntil(until) if until <= now => true,
            State::OpenUntil(_) | State::Trying => return None,
        };
        if tries {
            *state = State::Trying;
        }
        Some(Call { breaker: self, begun: now, tries, has_ended: false })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// Records whether an answer came in time. An error counts as an answer.
    pub(crate) fn ends(self, is_answered: bool) {
        self.ends_at(Instant::now(), is_answered);
    }

    fn ends_at(mut self, now: Instant, is_answered: bool) {
        self.has_ended = true;
        let state = if is_answered { State::Closed } else { State::OpenUntil(now + COOLDOWN) };
        *self.breaker.state() = state;
    }

    fn is_given_up_at(&self, now: Instant) {
        if now.saturating_duration_since(self.begun) >= SLOW_CALL_AFTER {
            *self.breaker.state() = State::OpenUntil(now + COOLDOWN);
        } else if self.tries {
            // Another caller may test the server.
            *self.breaker.state() = State::OpenUntil(now);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.is_given_up_at(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_timeout_one_caller_at_a_time_tries_again() {
        let breaker = CircuitBreaker::default();
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let (first, second) = (breaker.call_at(at(0)).unwrap(), breaker.call_at(at(0)).unwrap());
        first.ends_at(at(3_000), false);
        assert!(breaker.call_at(at(3_999)).is_none());
        let try_again = breaker.call_at(at(4_000)).unwrap();
        assert!(breaker.call_at(at(4_001)).is_none(), "one at a time");
        try_again.ends_at(at(7_000), false);
        assert!(breaker.call_at(at(7_999)).is_none());
        breaker.call_at(at(8_000)).unwrap().ends_at(at(8_001), true);
        // An answer to an earlier call closes the breaker as well.
        breaker.call_at(at(8_002)).unwrap().ends_at(at(11_002), false);
        second.ends_at(at(11_003), true);
        for _ in 0..2 {
            assert!(breaker.call_at(at(11_003)).is_some());
        }
    }

    #[test]
    fn an_abandoned_call_counts_as_a_timeout_if_it_waited_long() {
        let breaker = CircuitBreaker::default();
        let begun = Instant::now();
        let long_ago = begun.checked_sub(SLOW_CALL_AFTER).unwrap();
        drop(breaker.call_at(begun).unwrap());
        assert!(breaker.call_at(begun).is_some(), "it was over at once");
        drop(breaker.call_at(long_ago).unwrap());
        assert!(breaker.call_at(begun).is_none());
        let later = begun + 2 * COOLDOWN;
        drop(breaker.call_at(later).unwrap());
        assert!(breaker.call_at(later).is_some(), "another one tries");
    }
}
