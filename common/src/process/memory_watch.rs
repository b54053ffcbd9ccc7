//! The memory of the Redis servers, and the limits beyond which requests are refused.
//!
//! A server that has reached its `maxmemory` refuses every write, including those of events in
//! flight, and trims no entry that a group still needs. So requests are refused earlier, in two
//! steps: first those that add data, and halfway from there to the maximum those that end or
//! release something. A flood of new orders therefore does not prevent customers from finishing
//! older ones, and the rest of the memory is reserved for accepted orders.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::{
    connection::{health::Health, memory::MemoryFacts},
    http::problem::Problem,
    process::service::ServiceContext,
};

/// The seconds after which a request that was refused for lack of memory may be repeated.
const RETRY_SECONDS: u16 = 5;
/// The percentage below the limit at which a server accepts requests again, so that it does not
/// alternate.
const RECOVERY_PERCENT: u64 = 2;

/// The effect of a request on the amount of stored data. A server that refuses one kind refuses the kinds
/// before it as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WriteEffect {
    /// It adds data: an order, a definition, a restock, a deposit.
    Adds,
    /// It ends, releases or advances stored data: it cancels, pays, ships or completes an order.
    Ends,
}

/// The used share of a server's memory, in percent, from which requests that add data are refused;
/// `off` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxMemory(Option<u64>);

impl MaxMemory {
    /// The percentage from which such requests are refused.
    fn of(self, change: WriteEffect) -> Option<u64> {
        self.0.map(|limit| match change {
            WriteEffect::Adds => limit,
            WriteEffect::Ends => limit + (100 - limit).div_ceil(2),
        })
    }
}

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
    /// The used share of its memory.
    pub percent: u64,
    /// The last kind of request that it refuses.
    refused: WriteEffect,
}

impl NearlyFull {
    /// 503: nothing more is stored until there is room.
    pub fn problem(self) -> Problem {
        let what = match self.refused {
            WriteEffect::Adds => {
                "new data is refused until memory is free; orders can be cancelled, paid, shipped \
                 and completed, and reads work"
            }
            WriteEffect::Ends => "changes are refused until memory is free; reads work",
        };
        let detail = format!(
            "{} % of the memory of Redis is used: {what}; repeat the request later, with the same \
             Idempotency-Key if it takes one",
            self.percent
        );
        Problem { retry_after: Some(RETRY_SECONDS), ..Problem::unavailable(detail) }
    }
}

/// The memory use of one server.
#[derive(Clone, Copy, Default, Debug)]
struct ServerMemory {
    /// The used share of its memory.
    percent: u64,
    /// The last kind of request that is refused because of it.
    refused: Option<WriteEffect>,
}

impl ServerMemory {
    fn nearly_full(self, change: WriteEffect) -> Option<NearlyFull> {
        let refused = self.refused.filter(|refused| *refused >= change)?;
        Some(NearlyFull { percent: self.percent, refused })
    }
}

/// The memory use of all Redis servers of a process. Samplers report it; the limit, the log, the metric and
/// `/readyz` are derived from it.
#[derive(Debug)]
pub struct MemoryWatch {
    limit: MaxMemory,
    servers: Mutex<BTreeMap<String, ServerMemory>>,
    gauge: Gauge,
    health: Arc<Health>,
}

impl MemoryWatch {
    /// A watch without known servers.
    pub fn new(limit: MaxMemory, context: &ServiceContext) -> Arc<Self> {
        let gauge = Gauge::default();
        let name = "redis_memory_used_percent";
        let help =
            "Used part of maxmemory, of the Redis server that is fullest; 0 without maxmemory";
        context.register_metrics(|registry| registry.register(name, help, gauge.clone()));
        let health = Arc::clone(&context.health);
        Arc::new(Self { limit, servers: Mutex::default(), gauge, health })
    }

    /// Records the memory usage of the server at this address.
    pub fn saw(&self, address: &str, facts: MemoryFacts) {
        let percent = facts.percent().unwrap_or(0);
        let mut servers = self.servers();
        let server = servers.entry(address.to_owned()).or_default();
        let before = server.refused;
        let refused = self.refused_at(percent, before);
        *server = ServerMemory { percent, refused };
        let fullest = servers.values().map(|server| server.percent).max().unwrap_or(0);
        drop(servers);
        self.gauge.set(i64::try_from(fullest).unwrap_or(i64::MAX));
        let notice = format!("the Redis at {address} has used {percent} % of its memory");
        let are_refused = match refused {
            None => "",
            Some(WriteEffect::Adds) => "requests that add something are refused",
            Some(WriteEffect::Ends) => "requests that change something are refused",
        };
        if refused > before {
            warn!(
                used_bytes = facts.used,
                maxmemory_bytes = facts.max,
                "{notice}: {are_refused} until it has room; raise its maxmemory or remove data"
            );
        } else if refused < before {
            let accepted = match refused {
                None => "change",
                Some(_) => "end or release",
            };
            info!("{notice}: requests that {accepted} something are accepted again");
        }
        let notice = refused.map(|_| format!("{notice}: {are_refused}"));
        self.health.set_notice(address, notice);
    }

    /// The last kind of request that is refused at this percentage; `before` is the answer so far.
    fn refused_at(&self, percent: u64, before: Option<WriteEffect>) -> Option<WriteEffect> {
        [WriteEffect::Ends, WriteEffect::Adds].into_iter().find(|change| {
            let recovery = if before >= Some(*change) { RECOVERY_PERCENT } else { 0 };
            let limit = self.limit.of(*change);
            limit.is_some_and(|limit| percent >= limit.saturating_sub(recovery).max(1))
        })
    }

    /// The fullest of the servers that cause a refusal of such a request.
    pub fn nearly_full(&self, change: WriteEffect) -> Option<NearlyFull> {
        let servers = self.servers();
        let near = servers.values().filter_map(|server| server.nearly_full(change));
        near.max_by_key(|it| it.percent)
    }

    /// The server at this address, if it causes a refusal of such a request.
    pub fn nearly_full_at(&self, address: &str, change: WriteEffect) -> Option<NearlyFull> {
        self.servers().get(address)?.nearly_full(change)
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, ServerMemory>> {
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
    fn a_server_is_nearly_full_from_the_limit_until_it_is_well_below() {
        let watch = watch("90");
        let saw = |address, used| {
            watch.saw(address, MemoryFacts { used, max: 100 });
            let readyz = watch.health.notices().len();
            let nearly_full = watch.nearly_full(WriteEffect::Adds);
            (nearly_full.map(|it| it.percent), readyz, watch.gauge.get())
        };
        assert_eq!(saw("a", 89), (None, 0, 89));
        assert_eq!(saw("a", 90), (Some(90), 1, 90));
        assert_eq!(saw("b", 40), (Some(90), 1, 90));
        assert_eq!(saw("b", 99), (Some(99), 2, 99));
        assert_eq!(saw("a", 88), (Some(99), 2, 99));
        assert_eq!(saw("a", 87), (Some(99), 1, 99));
        assert_eq!(saw("b", 10), (None, 0, 87));
        assert_eq!(saw("b", 100), (Some(100), 1, 100));
        assert_eq!(watch.nearly_full_at("a", WriteEffect::Adds), None);
        let full = NearlyFull { percent: 100, refused: WriteEffect::Ends };
        assert_eq!(watch.nearly_full_at("b", WriteEffect::Adds), Some(full));
        // The server has no maxmemory any more.
        watch.saw("b", MemoryFacts { used: 100, max: 0 });
        assert_eq!((watch.nearly_full(WriteEffect::Adds), watch.gauge.get()), (None, 87));
    }

    #[test]
    fn requests_that_end_something_are_refused_later_than_those_that_add() {
        for (limit, used, adds, ends) in [
            ("90", 89, false, false),
            ("90", 90, true, false),
            ("90", 94, true, false),
            ("90", 95, true, true),
            ("50", 74, true, false),
            ("50", 75, true, true),
            ("99", 99, true, false),
            ("99", 100, true, true),
            ("1", 1, true, false),
            ("off", 100, false, false),
        ] {
            let watch = watch(limit);
            watch.saw("a", MemoryFacts { used, max: 100 });
            let refuses = |change| watch.nearly_full(change).is_some();
            assert_eq!(
                (refuses(WriteEffect::Adds), refuses(WriteEffect::Ends)),
                (adds, ends),
                "{limit} {used}"
            );
        }
        // Each kind of request recovers at its own percentage.
        let watch = watch("90");
        for (used, ends) in [(95, true), (93, true), (92, false), (94, false), (95, true)] {
            watch.saw("a", MemoryFacts { used, max: 100 });
            assert!(watch.nearly_full(WriteEffect::Adds).is_some(), "{used}");
            assert_eq!(watch.nearly_full(WriteEffect::Ends).is_some(), ends, "{used}");
            let notices = watch.health.notices().concat();
            assert_eq!(notices.contains("that change something"), ends, "{notices}");
        }
        let detail = |change| watch.nearly_full(change).unwrap().problem().detail.unwrap();
        assert!(detail(WriteEffect::Ends).contains("changes are refused"));
        watch.saw("a", MemoryFacts { used: 91, max: 100 });
        assert!(detail(WriteEffect::Adds).contains("can be cancelled"));
    }

    #[test]
    fn a_limit_is_a_percentage_or_off() {
        let off = watch("off");
        off.saw("a", MemoryFacts { used: 100, max: 100 });
        assert_eq!((off.nearly_full(WriteEffect::Adds), off.gauge.get()), (None, 100));
        for wrong in ["", "0", "100", "-1", "90%", "OFF"] {
            assert!(wrong.parse::<MaxMemory>().is_err(), "{wrong}");
        }
    }
}
