//! Rates of requests and writes: a token bucket for each client, with a limited number of buckets.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{body::HttpBody as _, extract::Request};
use common::http::{problem::Problem, request::BODY_LIMIT};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference as _},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

/// The maximum number of buckets. A client whose bucket is full again needs none.
const BUCKET_LIMIT: usize = 100_000;
/// The bucket that clients share when the maximum is reached.
const OVERFLOW_KEY: u64 = 0;
/// The interval at which full buckets are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The minimum interval of removals when the maximum is reached.
const CROWDED_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The number of bytes of a body that cost as much as the request itself.
const BYTES_PER_TOKEN: u64 = 256;
/// The cost of a request that only reads.
const ONE_TOKEN: NonZeroU32 = NonZeroU32::MIN;

/// The rate of a client: `100/s`, `100/s:400` with a burst of 400, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate(pub(super) Option<Quota>);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "expected 100/s, 100/s:400 with a burst of 400, or off";
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

/// The default rate of writes, if requests have a rate.
const DEFAULT_WRITE_RATE: (u32, u32) = (50, 500);

/// The rates of clients of one kind: of their requests and of their writes.
pub(crate) struct Rates {
    requests: Option<Buckets>,
    writes: Option<Buckets>,
    /// The variables of these rates.
    names: [&'static str; 2],
}

impl Rates {
    /// The rate of writes defaults to `off` if requests have no rate.
    pub(super) fn new(requests: Rate, writes: Option<Rate>, names: [&'static str; 2]) -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(ONE_TOKEN);
        let (rate, burst) = DEFAULT_WRITE_RATE;
        let usual = Quota::per_second(number(rate)).allow_burst(number(burst));
        let writes = writes.unwrap_or(Rate(requests.0.map(|_| usual)));
        let buckets = |rate: Rate| rate.0.map(Buckets::new);
        Self { requests: buckets(requests), writes: buckets(writes), names }
    }

    /// Counts a request of this client.
    ///
    /// # Errors
    ///
    /// 429, naming the rate that is exceeded.
    pub(super) fn count(&self, client: impl Hash, request: &Request) -> Result<(), Problem> {
        let [asks, changes] = self.names;
        if let Some(requests) = &self.requests {
            requests.take(&client, ONE_TOKEN).map_err(|seconds| exceeded(asks, seconds))?;
        }
        if let Some(writes) = &self.writes
            && !request.method().is_safe()
        {
            let cost = cost(request.body().size_hint().exact());
            writes.take(&client, cost).map_err(|seconds| exceeded(changes, seconds))?;
        }
        Ok(())
    }
}

impl Rates {
    /// Checks that this client has no debt.
    ///
    /// # Errors
    ///
    /// 429, naming the rate that is exceeded.
    pub(super) fn check_debt(&self, client: impl Hash) -> Result<(), Problem> {
        let seconds = self.requests.as_ref().and_then(|requests| requests.debt(client));
        seconds.map_or(Ok(()), |seconds| Err(exceeded(self.names[0], seconds)))
    }

    /// Takes tokens of this client's requests, even if its bucket holds too few.
    pub(super) fn charge(&self, client: impl Hash, requests: u32) {
        if let Some(buckets) = &self.requests {
            buckets.charge(client, requests);
        }
    }
}

/// The cost of a write. The stored data grows with the body; a body of unknown length counts as the
/// largest.
fn cost(body: Option<u64>) -> NonZeroU32 {
    let limit = BODY_LIMIT as u64;
    let bytes = body.unwrap_or(limit).min(limit);
    let tokens = u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
    ONE_TOKEN.saturating_add(tokens)
}

fn exceeded(name: &str, seconds: u16) -> Problem {
    let detail = format!("the rate exceeds {name}; try again in {seconds} s");
    Problem { retry_after: Some(seconds), ..Problem::too_many_requests(detail) }
}

/// A bucket for each client. The algorithm is governor's (GCRA); the store is our own, because governor's
/// stores grow without limit, and a flood from many addresses must not fill the memory.
pub(crate) struct Buckets<C: Clock = MonotonicClock> {
    limiter: RateLimiter<u64, Store, C, NoOpMiddleware<C::Instant>>,
    store: Store,
    clock: C,
    began: C::Instant,
    interval: Duration,
    most: usize,
    burst: NonZeroU32,
    swept: Mutex<C::Instant>,
    hasher: RandomState,
}

impl Buckets {
    pub(crate) fn new(quota: Quota) -> Self {
        Self::with(quota, BUCKET_LIMIT, MonotonicClock)
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
            burst: quota.burst_size(),
            swept: Mutex::new(began),
            clock,
            hasher: RandomState::new(),
        }
    }

    /// Takes tokens of this client: the cost of the request, or the capacity of a bucket if that is less.
    ///
    /// # Errors
    ///
    /// The bucket holds too few tokens: the number of seconds after which it holds enough.
    pub(crate) fn take(&self, client: impl Hash, cost: NonZeroU32) -> Result<(), u16> {
        self.sweep();
        // Two clients with the same number would share a bucket, which is improbable with 64 bits and a
        // secret key.
        let key = self.hasher.hash_one(client);
        let taken = self.limiter.check_key_n(&key, cost.min(self.burst));
        let refused = taken.expect("the cost is within the capacity");
        refused.map_err(|refused| seconds(refused.wait_time_from(self.clock.now())))
    }

    /// Takes more tokens of this client, even if its bucket holds too few: the missing ones become a debt.
    pub(crate) fn charge(&self, client: impl Hash, tokens: u32) {
        let now = self.clock.now().duration_since(self.began);
        let cost = Nanos::from(self.interval) * u64::from(tokens);
        let mut times = self.store.times();
        let key = self.store.key(&times, self.hasher.hash_one(client));
        let time = times.entry(key).or_default();
        *time = (*time).max(now) + cost;
    }

    /// The number of seconds after which this client has no debt, if it has one.
    pub(crate) fn debt(&self, client: impl Hash) -> Option<u16> {
        let now = self.clock.now().duration_since(self.began);
        let full = Nanos::from(self.interval) * u64::from(self.burst.get());
        let times = self.store.times();
        let key = self.store.key(&times, self.hasher.hash_one(client));
        let missing = times.get(&key)?.as_u64().checked_sub((now + full).as_u64())?;
        (missing > 0).then(|| seconds(Duration::from_nanos(missing)))
    }

    fn sweep(&self) {
        let now = self.clock.now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Duration::from(now.duration_since(*swept));
        let crowded = self.limiter.len() >= self.most;
        if since >= SWEEP_INTERVAL || (crowded && since >= CROWDED_SWEEP_INTERVAL) {
            self.limiter.retain_recent();
            *swept = now;
        }
    }
}

/// A waiting time in whole seconds, at least one.
fn seconds(wait: Duration) -> u16 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u16::try_from(seconds).unwrap_or(u16::MAX).max(1)
}

/// The time at which each bucket is full again.
#[derive(Clone)]
struct Store {
    most: usize,
    times: Arc<Mutex<HashMap<u64, Nanos>>>,
}

impl Store {
    fn key(&self, times: &HashMap<u64, Nanos>, key: u64) -> u64 {
        if times.len() < self.most || times.contains_key(&key) { key } else { OVERFLOW_KEY }
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
    fn a_client_above_its_burst_gets_its_rate_and_a_retry_time() {
        let (buckets, clock) = buckets("2/s:3", 10);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", ONE_TOKEN), Ok(()));
        }
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(1), "half a second, rounded up");
        assert_eq!(buckets.take("b", ONE_TOKEN), Ok(()), "others are not concerned");
        clock.advance(Duration::from_millis(499));
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(1));
        clock.advance(Duration::from_millis(2));
        assert_eq!(buckets.take("a", ONE_TOKEN), Ok(()));
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(1));
    }

    #[test]
    fn a_charge_beyond_the_bucket_is_a_debt_that_refills_first() {
        let (buckets, clock) = buckets("2/s:3", 10);
        buckets.charge("a", 3);
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(1));
        assert_eq!(buckets.take("b", ONE_TOKEN), Ok(()), "others are not concerned");
        assert_eq!(buckets.debt("a"), None, "an empty bucket is no debt");
        buckets.charge("a", 10);
        assert_eq!(
            (buckets.debt("a"), buckets.debt("b"), buckets.debt("c")),
            (Some(5), None, None)
        );
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(6), "eleven tokens at two a second");
        clock.advance(Duration::from_millis(5_001));
        assert_eq!(buckets.debt("a"), None);
        clock.advance(Duration::from_millis(500));
        assert_eq!(buckets.take("a", ONE_TOKEN), Ok(()));
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(1));
    }

    #[test]
    fn buckets_are_bounded_and_idle_clients_lose_theirs() {
        let (buckets, clock) = buckets("1/s:2", 10);
        let taken = (0..1_000).filter(|client| buckets.take(client, ONE_TOKEN).is_ok()).count();
        // Ten clients have a bucket of their own, the other 990 share one.
        assert_eq!(taken, 10 + 2);
        assert_eq!(buckets.limiter.len(), 11);
        clock.advance(Duration::from_secs(3));
        assert_eq!(buckets.take("another", ONE_TOKEN), Ok(()));
        assert_eq!(buckets.limiter.len(), 1, "the full ones are gone");
    }

    #[test]
    fn a_cost_above_the_burst_takes_the_whole_bucket() {
        let (buckets, clock) = buckets("2/s:10", 10);
        let cost = |cost| NonZeroU32::new(cost).unwrap();
        assert_eq!(buckets.take("a", cost(7)), Ok(()));
        assert_eq!(buckets.take("a", cost(4)), Err(1), "one is missing");
        assert_eq!(buckets.take("a", cost(3)), Ok(()));
        assert_eq!(buckets.take("a", cost(99)), Err(5), "it takes the content of the bucket");
        clock.advance(Duration::from_secs(5));
        assert_eq!(buckets.take("a", cost(99)), Ok(()));
        assert_eq!(buckets.take("a", ONE_TOKEN), Err(1));
    }

    #[test]
    fn a_change_costs_by_its_body() {
        for (body, tokens) in [
            (Some(0), 1),
            (Some(255), 1),
            (Some(256), 2),
            (Some(7_000), 28),
            (Some(65_536), 257),
            (Some(u64::MAX), 257),
            (None, 257),
        ] {
            assert_eq!(cost(body).get(), tokens, "{body:?}");
        }
    }

    #[test]
    fn write_rate_is_off_by_default_if_the_request_rate_is_off() {
        let rates = |requests: &str, writes: Option<&str>| {
            let writes = writes.map(|rate| rate.parse().unwrap());
            let rates = Rates::new(requests.parse().unwrap(), writes, ["", ""]);
            (rates.requests.is_some(), rates.writes.map(|buckets| buckets.burst.get()))
        };
        assert_eq!(rates("1/s", None), (true, Some(500)));
        assert_eq!(rates("off", None), (false, None));
        assert_eq!(rates("off", Some("1/s:7")), (false, Some(7)));
        assert_eq!(rates("1/s", Some("off")), (true, None));
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
