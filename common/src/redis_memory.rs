//! The memory of the Redis servers, and the share of it beyond which nothing more is accepted.
//!
//! A server that has reached its `maxmemory` refuses every write, those of events under way as well,
//! and trims nothing that somebody still has to read. So clients are refused earlier: what is left
//! then is for what was accepted before.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::{health::Health, problem::Problem, service::Life};

/// The seconds after which a request that was refused for want of memory may be repeated.
const RETRY_SECONDS: u16 = 5;
/// How many percent below the limit a server is accepted again, so that none alternates.
const RECOVERY_PERCENT: u64 = 2;

/// What `INFO memory` says of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryFacts {
    /// The bytes that count against the most.
    pub used: u64,
    /// The most (`maxmemory`); 0 for any number.
    pub max: u64,
}

impl MemoryFacts {
    /// Reads the text of `INFO` or `INFO memory`.
    pub fn from_info(info: &str) -> Self {
        let number = |name: &str| {
            let field = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            field.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        // The buffers of replicas and of the append-only file are not counted against `maxmemory`.
        let used = number("used_memory").saturating_sub(number("mem_not_counted_for_evict"));
        Self { used, max: number("maxmemory") }
    }

    /// The used part; `None` without a most.
    pub fn percent(self) -> Option<u64> {
        let percent = u128::from(self.used) * 100 / u128::from(self.max.max(1));
        (self.max > 0).then(|| u64::try_from(percent).unwrap_or(u64::MAX))
    }
}

/// The largest used part of a server's memory, in percent, at which requests that change something
/// are accepted; `off` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxMemory(Option<u64>);

impl FromStr for MaxMemory {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            number => match number.parse() {
                Ok(percent @ 1..=99) => Ok(Self(Some(percent))),
                _ => Err("expected a percentage, 1 to 99, or off"),
            },
        }
    }
}

/// A server whose memory is nearly used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NearlyFull {
    /// The used part of its memory.
    pub percent: u64,
}

impl NearlyFull {
    /// 503: nothing more is stored until there is room.
    pub fn problem(self) -> Problem {
        let detail = format!(
            "{} % of the memory of Redis is used: nothing is changed until there is room, and what is \
             stored can be read; repeat the request later, with the same Idempotency-Key if it takes one",
            self.percent
        );
        Problem { retry_after: Some(RETRY_SECONDS), ..Problem::unavailable(detail) }
    }
}

/// The memory use of all Redis servers of a process. Samplers report it; the limit, the log, the metric and
/// `/readyz` are derived from it.
#[derive(Debug)]
pub struct MemoryWatch {
    limit: MaxMemory,
    /// The used part of each server, and whether it is nearly full.
    servers: Mutex<BTreeMap<String, (u64, bool)>>,
    gauge: Gauge,
    health: Arc<Health>,
}

impl MemoryWatch {
    /// A watch that knows no server yet.
    pub fn new(limit: MaxMemory, life: &Life) -> Arc<Self> {
        let gauge = Gauge::default();
        let name = "redis_memory_used_percent";
        let help =
            "Used part of maxmemory, of the Redis server that is fullest; 0 without maxmemory";
        life.register_metrics(|registry| registry.register(name, help, gauge.clone()));
        let health = Arc::clone(&life.health);
        Arc::new(Self { limit, servers: Mutex::default(), gauge, health })
    }

    /// Takes in what the server at this address has used.
    pub fn saw(&self, address: &str, facts: MemoryFacts) {
        let percent = facts.percent().unwrap_or(0);
        let mut servers = self.servers();
        let (known, is_near) = servers.entry(address.to_owned()).or_default();
        let was_near = std::mem::replace(is_near, self.is_near(percent, *is_near));
        let is_near = *is_near;
        *known = percent;
        let fullest = servers.values().map(|(percent, _)| *percent).max().unwrap_or(0);
        drop(servers);
        self.gauge.set(i64::try_from(fullest).unwrap_or(i64::MAX));
        let notice = format!("the Redis at {address} has used {percent} % of its memory");
        if is_near && !was_near {
            warn!(
                used_bytes = facts.used,
                maxmemory_bytes = facts.max,
                "{notice}: requests that change something are refused until it has room; raise its \
                 maxmemory or remove data"
            );
        } else if was_near && !is_near {
            info!("{notice}: requests that change something are accepted again");
        }
        let notice =
            is_near.then(|| format!("{notice}: requests that change something are refused"));
        self.health.set_notice(address, notice);
    }

    fn is_near(&self, percent: u64, was_near: bool) -> bool {
        let recovery = if was_near { RECOVERY_PERCENT } else { 0 };
        self.limit.0.is_some_and(|limit| percent >= limit.saturating_sub(recovery).max(1))
    }

    /// The fullest of the servers that are nearly full.
    pub fn nearly_full(&self) -> Option<NearlyFull> {
        let servers = self.servers();
        let near = servers.values().filter(|(_, is_near)| *is_near).map(|(percent, _)| *percent);
        near.max().map(|percent| NearlyFull { percent })
    }

    /// The server at this address, if it is nearly full.
    pub fn nearly_full_at(&self, address: &str) -> Option<NearlyFull> {
        let found = self.servers().get(address).copied();
        found.filter(|(_, is_near)| *is_near).map(|(percent, _)| NearlyFull { percent })
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, (u64, bool)>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(limit: &str) -> MemoryWatch {
        MemoryWatch {
            limit: limit.parse().unwrap(),
            servers: Mutex::default(),
            gauge: Gauge::default(),
            health: Arc::default(),
        }
    }

    #[test]
    fn what_is_used_is_read_as_redis_counts_it() {
        let info = "# Memory\r\nused_memory:950\r\nused_memory_human:950B\r\nmaxmemory:1000\r\n\
                    maxmemory_policy:noeviction\r\nmem_not_counted_for_evict:30\r\n";
        let facts = MemoryFacts::from_info(info);
        assert_eq!(facts, MemoryFacts { used: 920, max: 1_000 });
        assert_eq!(facts.percent(), Some(92));
        assert_eq!(MemoryFacts::from_info("maxmemory:0\r\nused_memory:7\r\n").percent(), None);
        assert_eq!(MemoryFacts::from_info("").percent(), None);
    }

    #[test]
    fn a_server_is_nearly_full_from_the_limit_on_until_it_is_well_below() {
        let watch = watch("90");
        let saw = |address, used| {
            watch.saw(address, MemoryFacts { used, max: 100 });
            let readyz = watch.health.notices().len();
            (watch.nearly_full().map(|it| it.percent), readyz, watch.gauge.get())
        };
        assert_eq!(saw("a", 89), (None, 0, 89));
        assert_eq!(saw("a", 90), (Some(90), 1, 90));
        assert_eq!(saw("b", 40), (Some(90), 1, 90));
        assert_eq!(saw("b", 99), (Some(99), 2, 99));
        assert_eq!(saw("a", 88), (Some(99), 2, 99));
        assert_eq!(saw("a", 87), (Some(99), 1, 99));
        assert_eq!(saw("b", 10), (None, 0, 87));
        assert_eq!(saw("b", 100), (Some(100), 1, 100));
        assert_eq!(watch.nearly_full_at("a"), None);
        assert_eq!(watch.nearly_full_at("b"), Some(NearlyFull { percent: 100 }));
        // Its maxmemory was taken away.
        watch.saw("b", MemoryFacts { used: 100, max: 0 });
        assert_eq!((watch.nearly_full(), watch.gauge.get()), (None, 87));
    }

    #[test]
    fn a_limit_is_a_percentage_or_off() {
        let off = watch("off");
        off.saw("a", MemoryFacts { used: 100, max: 100 });
        assert_eq!((off.nearly_full(), off.gauge.get()), (None, 100));
        for wrong in ["", "0", "100", "-1", "90%", "OFF"] {
            assert!(wrong.parse::<MaxMemory>().is_err(), "{wrong}");
        }
    }
}
