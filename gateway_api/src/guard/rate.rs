//! How often each client may ask: a token bucket for each, as many as there may be and no more.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference as _},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

/// The most buckets at once. A client that has been quiet until its bucket is full again needs none.
const BUCKETS: usize = 100_000;
/// The bucket that clients share for whom there is no room.
const CROWD: u64 = 0;
/// How often full buckets are thrown away.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often at most, when there is no room.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// How often one client may ask: `100/s`, with how many at once `100/s:400`, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate(pub(super) Option<Quota>);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "write it as 100/s, as 100/s:400 with how many at once, or as off";
        if text == "off" {
            return Ok(Self(None));
        }
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let number = |text: &str| text.parse::<NonZeroU32>().map_err(|_| RULE);
        let rate = number(rate.strip_suffix("/s").ok_or(RULE)?)?;
        let burst = burst.map_or(Ok(rate), number)?;
        Ok(Self(Some(Quota::per_second(rate).allow_burst(burst))))
    }
}

/// A bucket for each client. The arithmetic is governor's (GCRA); the store is our own, because
/// governor's grow without a limit, and a flood from ever new addresses must not fill the memory.
pub(crate) struct Buckets<C: Clock = MonotonicClock> {
    limiter: RateLimiter<u64, Store, C, NoOpMiddleware<C::Instant>>,
    store: Store,
    clock: C,
    began: C::Instant,
    interval: Duration,
    most: usize,
    swept: Mutex<C::Instant>,
    hasher: RandomState,
}

impl Buckets {
    pub(crate) fn new(quota: Quota) -> Self {
        Self::with(quota, BUCKETS, MonotonicClock)
    }
}

impl<C: Clock + Clone> Buckets<C> {
    fn with(quota: Quota, most: usize, clock: C) -> Self {
        let store = Store { most, times: Arc::default() };
        let began = clock.now();
        Self {
            limiter: RateLimiter::new(quota, store.clone(), clock.clone()),
            store,
            began,
            interval: quota.replenish_interval(),
            most,
            swept: Mutex::new(began),
            clock,
            hasher: RandomState::new(),
        }
    }

    /// Takes a token of this client's.
    ///
    /// # Errors
    ///
    /// There is none; after so many seconds there will be.
    pub(crate) fn take(&self, client: impl Hash) -> Result<(), u16> {
        self.sweep();
        // Two clients of one number share a bucket: with 64 bits and a secret key that is no concern.
        let key = self.hasher.hash_one(client);
        self.limiter.check_key(&key).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            u16::try_from(seconds).unwrap_or(u16::MAX).max(1)
        })
    }

    /// Takes more tokens of this client's, whether there are as many or not: those that are missing
    /// have to come back first.
    pub(crate) fn charge(&self, client: impl Hash, tokens: u32) {
        let now = self.clock.now().duration_since(self.began);
        let cost = Nanos::from(self.interval) * u64::from(tokens);
        let mut times = self.store.times();
        let key = self.store.key(&times, self.hasher.hash_one(client));
        let time = times.entry(key).or_default();
        *time = (*time).max(now) + cost;
    }

    fn sweep(&self) {
        let now = self.clock.now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Duration::from(now.duration_since(*swept));
        let crowded = self.limiter.len() >= self.most;
        if since >= SWEEP_EVERY || (crowded && since >= SWEEP_AGAIN) {
            self.limiter.retain_recent();
            *swept = now;
        }
    }
}

/// When each bucket will be full again.
#[derive(Clone)]
struct Store {
    most: usize,
    times: Arc<Mutex<HashMap<u64, Nanos>>>,
}

impl Store {
    fn key(&self, times: &HashMap<u64, Nanos>, key: u64) -> u64 {
        if times.len() < self.most || times.contains_key(&key) { key } else { CROWD }
    }

    fn times(&self) -> MutexGuard<'_, HashMap<u64, Nanos>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Store {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut times = self.times();
        let key = self.key(&times, *key);
        let (outcome, time) = decide(times.get(&key).copied())?;
        times.insert(key, time);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<u64> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut times = self.times();
        times.retain(|_, time| time.as_u64() > drop_below.as_u64());
        times.shrink_to(1_024);
    }

    fn len(&self) -> usize {
        self.times().len()
    }

    fn is_empty(&self) -> bool {
        self.times().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(rate: &str, most: usize) -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let quota = rate.parse::<Rate>().unwrap().0.unwrap();
        (Buckets::with(quota, most, clock.clone()), clock)
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate_and_is_told_when_to_come_back() {
        let (buckets, clock) = buckets("2/s:3", 10);
        for _ in 0..3 {
            assert_eq!(buckets.take("a"), Ok(()));
        }
        assert_eq!(buckets.take("a"), Err(1), "half a second, rounded up");
        assert_eq!(buckets.take("b"), Ok(()), "others are not concerned");
        clock.advance(Duration::from_millis(499));
        assert_eq!(buckets.take("a"), Err(1));
        clock.advance(Duration::from_millis(2));
        assert_eq!(buckets.take("a"), Ok(()));
        assert_eq!(buckets.take("a"), Err(1));
    }

    #[test]
    fn a_charge_takes_tokens_that_are_not_there_and_they_have_to_come_back_first() {
        let (buckets, clock) = buckets("2/s:3", 10);
        buckets.charge("a", 3);
        assert_eq!(buckets.take("a"), Err(1));
        assert_eq!(buckets.take("b"), Ok(()), "others are not concerned");
        buckets.charge("a", 10);
        assert_eq!(buckets.take("a"), Err(6), "eleven tokens at two a second");
        clock.advance(Duration::from_millis(5_501));
        assert_eq!(buckets.take("a"), Ok(()));
        assert_eq!(buckets.take("a"), Err(1));
    }

    #[test]
    fn there_are_never_more_buckets_than_allowed_and_quiet_clients_have_none() {
        let (buckets, clock) = buckets("1/s:2", 10);
        let taken = (0..1_000).filter(|client| buckets.take(client).is_ok()).count();
        // Ten have a bucket of their own, the other 990 share one.
        assert_eq!(taken, 10 + 2);
        assert_eq!(buckets.limiter.len(), 11);
        clock.advance(Duration::from_secs(3));
        assert_eq!(buckets.take("another"), Ok(()));
        assert_eq!(buckets.limiter.len(), 1, "the full ones are gone");
    }

    #[test]
    fn a_rate_is_read_as_written() {
        let quota = |rate: u32, burst: u32| {
            let number = |number| NonZeroU32::new(number).unwrap();
            Rate(Some(Quota::per_second(number(rate)).allow_burst(number(burst))))
        };
        assert_eq!("100/s".parse(), Ok(quota(100, 100)));
        assert_eq!("5/s:7".parse(), Ok(quota(5, 7)));
        assert_eq!("off".parse(), Ok(Rate(None)));
        for bad in ["", "0", "0/s", "100", "100/m", "-1/s", "1/s:0", "1/s:", "10/s:x"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
