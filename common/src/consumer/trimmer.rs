//! Trimming: each owner shortens its streams by entries and by bytes, but never removes an entry
//! that a group still needs, and removes consumers that have been inactive for long. Readers could
//! not remove consumers in one step: they run no scripts in the Redis of others.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    connection::{error::ConnectionError, health::Component, link::Link, url::RedisUrl},
    schema::stream::Stream,
};

/// The interval between trims of each stream.
pub(crate) const TRIM_INTERVAL: Duration = Duration::from_secs(30);
/// The interval while a permission is missing.
const DENIED_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The inactivity in milliseconds after which a consumer without pending entries is removed from
/// its group. The next read of a live consumer creates it again.
const FORGET_MILLIS: u64 = 24 * 3_600 * 1_000;

/// The part of a stream that stays after all its groups have acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// The number of entries.
    pub entries: u64,
    /// The memory of these entries in bytes; fewer entries stay if they take more.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 256 * 1024 * 1024 }
    }
}

/// Trims the streams of one topic. A script checks and trims in one step: a group that is created
/// or set back concurrently is either taken into account or comes later.
pub(crate) struct Trimmer {
    /// All streams of the topic except the dead letters, which stay until an operator has handled
    /// them.
    pub(crate) streams: Vec<Stream>,
    pub(crate) url: RedisUrl,
    pub(crate) keep: Retention,
    /// The interval between trims, which grows by up to a sixth at random.
    pub(crate) interval: Duration,
    /// The health of the trimmer. The engine reports an unreachable Redis.
    pub(crate) component: Arc<Component>,
    pub(crate) shutdown: CancellationToken,
}

impl Trimmer {
    /// Trims until the shutdown, which does not wait for it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.trim_forever() => {}
        }
        Ok(())
    }

    async fn trim_forever(self) {
        let mut link = Link::new(self.url.clone(), Duration::from_secs(5));
        loop {
            let sixth = u64::try_from(self.interval.as_millis() / 6).unwrap_or(u64::MAX);
            let jitter = Duration::from_millis(fastrand::u64(0..=sixth));
            let pause = if self.component.is_failing() {
                DENIED_RETRY_INTERVAL
            } else {
                self.interval + jitter
            };
            tokio::time::sleep(pause).await;
            match self.trim_all(&mut link).await {
                Ok(()) => self.component.answered(),
                Err(error) => self.component.denied(&error),
            }
        }
    }

    /// Trims each stream and returns the last error. A failure with one stream does not affect the
    /// others.
    async fn trim_all(&self, link: &mut Link) -> Result<(), ConnectionError> {
        let mut done = Ok(());
        for stream in self.streams.iter().copied() {
            match trim_down(link, stream, self.keep).await {
                Ok(0) => {}
                Ok(removed) => debug!(%stream, removed, "trimmed"),
                Err(error) => done = Err(error),
            }
            match forget(link, stream, FORGET_MILLIS).await {
                Ok(0) => {}
                Ok(removed) => info!(%stream, removed, "inactive consumers were removed"),
                Err(error) => done = Err(error),
            }
        }
        done
    }
}

/// Trims until nothing is left to remove. A single call removes a limited number of entries,
/// because Redis is blocked meanwhile.
async fn trim_down(
    link: &mut Link,
    stream: Stream,
    keep: Retention,
) -> Result<i64, ConnectionError> {
    let mut removed = 0;
    loop {
        match trim(link, stream, keep).await? {
            0 => return Ok(removed),
            more => removed += more,
        }
    }
}

/// Removes entries that all groups have acknowledged, except those to keep, and returns their
/// number.
pub(crate) async fn trim(
    link: &mut Link,
    stream: Stream,
    keep: Retention,
) -> Result<i64, ConnectionError> {
    let mut command = redis::cmd("EVAL");
    command.arg(include_str!("trim.lua")).arg(1).arg(stream.key());
    command.arg(keep.entries).arg(keep.bytes);
    for reader in stream.readers() {
        command.arg(reader.service());
    }
    match link.ask("EVAL trim.lua", command).await? {
        Value::Int(removed) => Ok(removed),
        _ => Ok(0),
    }
}

/// Removes the inactive consumers without pending entries from the groups of a stream, and returns
/// their number.
pub(crate) async fn forget(
    link: &mut Link,
    stream: Stream,
    idle_millis: u64,
) -> Result<i64, ConnectionError> {
    let mut command = redis::cmd("EVAL");
    command.arg(include_str!("forget.lua")).arg(1).arg(stream.key()).arg(idle_millis);
    match link.ask("EVAL forget.lua", command).await? {
        Value::Int(removed) => Ok(removed),
        _ => Ok(0),
    }
}
