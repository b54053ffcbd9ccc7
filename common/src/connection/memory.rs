//! The memory usage of a Redis server.

/// The answer to `INFO memory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryFacts {
    /// The bytes that count against the limit.
    pub used: u64,
    /// The limit (`maxmemory`); 0 if there is none.
    pub max: u64,
}

impl MemoryFacts {
    /// Parses the text of `INFO` or `INFO memory`.
    pub fn from_info(info: &str) -> Self {
        let number = |name: &str| {
            let field = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            field.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        // The buffers of replicas and of the append-only file are not counted against `maxmemory`.
        let used = number("used_memory").saturating_sub(number("mem_not_counted_for_evict"));
        Self { used, max: number("maxmemory") }
    }

    /// The used share of the limit in percent; `None` without a limit.
    pub fn percent(self) -> Option<u64> {
        let percent = u128::from(self.used) * 100 / u128::from(self.max.max(1));
        (self.max > 0).then(|| u64::try_from(percent).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_memory_is_counted_as_redis_counts_it() {
        let info = "# Memory\r\nused_memory:950\r\nused_memory_human:950B\r\nmaxmemory:1000\r\n\
                    maxmemory_policy:noeviction\r\nmem_not_counted_for_evict:30\r\n";
        let facts = MemoryFacts::from_info(info);
        assert_eq!(facts, MemoryFacts { used: 920, max: 1_000 });
        assert_eq!(facts.percent(), Some(92));
        assert_eq!(MemoryFacts::from_info("maxmemory:0\r\nused_memory:7\r\n").percent(), None);
        assert_eq!(MemoryFacts::from_info("").percent(), None);
    }
}
