//! A circuit breaker: what does not answer is left alone for a while, then tried by one caller at a time.
//!
//! Without it each caller would wait for its own timeout, and would keep others waiting meanwhile who want
//! something else.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long nothing is asked of what did not answer.
const COOLDOWN: Duration = Duration::from_secs(1);
/// After how long a call that its caller gave up counts as one without an answer.
const SLOW: Duration = Duration::from_secs(1);

/// Whether calls may be made.
#[derive(Default, Debug)]
pub(crate) struct CircuitBreaker(Mutex<State>);

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// Everybody may call.
    #[default]
    Closed,
    /// Nobody may call before then.
    OpenUntil(Instant),
    /// One caller tries whether there is an answer again.
    Trying,
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    breaker: &'a CircuitBreaker,
    begun: Instant,
    /// Whether it is the one that tries.
    tries: bool,
    has_ended: bool,
}

impl CircuitBreaker {
    /// Begins a call, if one may be made now.
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
    /// Notes whether there was an answer in time, be it an error.
    pub(crate) fn ends(self, is_answered: bool) {
        self.ends_at(Instant::now(), is_answered);
    }

    fn ends_at(mut self, now: Instant, is_answered: bool) {
        self.has_ended = true;
        let state = if is_answered { State::Closed } else { State::OpenUntil(now + COOLDOWN) };
        *self.breaker.state() = state;
    }

    fn is_given_up_at(&self, now: Instant) {
        if now.saturating_duration_since(self.begun) >= SLOW {
            *self.breaker.state() = State::OpenUntil(now + COOLDOWN);
        } else if self.tries {
            // Another one may try.
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
    fn what_does_not_answer_is_left_alone_and_then_tried_by_one_caller_at_a_time() {
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
        // An answer to an earlier call is as good.
        breaker.call_at(at(8_002)).unwrap().ends_at(at(11_002), false);
        second.ends_at(at(11_003), true);
        for _ in 0..2 {
            assert!(breaker.call_at(at(11_003)).is_some());
        }
    }

    #[test]
    fn callers_that_give_up_before_their_time_is_over_count_if_they_waited_for_long() {
        let breaker = CircuitBreaker::default();
        let begun = Instant::now();
        let long_ago = begun.checked_sub(SLOW).unwrap();
        drop(breaker.call_at(begun).unwrap());
        assert!(breaker.call_at(begun).is_some(), "it was over at once");
        drop(breaker.call_at(long_ago).unwrap());
        assert!(breaker.call_at(begun).is_none());
        let later = begun + 2 * COOLDOWN;
        drop(breaker.call_at(later).unwrap());
        assert!(breaker.call_at(later).is_some(), "another one tries");
    }
}
