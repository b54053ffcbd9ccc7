//! The clock.

/// Milliseconds since 1970.
pub type Millis = u64;

/// The time now, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the time of day")]
pub fn now_millis() -> Millis {
    #[cfg(feature = "simulation")]
    if let Some(now) = crate::simulation::now_millis() {
        return now;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
