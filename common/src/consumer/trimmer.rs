//! Trimming: each owner shortens its streams, by entries and by bytes, but never past what some group
//! still needs, and removes from the groups the consumers that are long gone. Readers could not do the
//! latter in one step: they run no scripts in the Redis of others.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    connection::{error::ConnectionError, health::Component, link::Link, url::RedisUrl},
    schema::stream::Stream,
};

/// How often each stream is looked at.
const INTERVAL: Duration = Duration::from_secs(30);
/// How often while it is denied.
const DENIED: Duration = Duration::from_secs(1);

/// A consumer that was not seen for so long and has nothing pending is removed from its group. One that is
/// still there is made again by its next read.
const FORGET_MILLIS: u64 = 24 * 3_600 * 1_000;

/// How much of a stream stays once all its groups have acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// How many entries.
    pub entries: u64,
    /// How much memory they may take; fewer entries stay if they take more.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 256 * 1024 * 1024 }
    }
}

/// Shortens the streams of one topic. Looking and trimming are one script: a group that is made or
/// set back at the same time is seen or comes after.
pub(crate) struct Trimmer {
    /// All streams of the topic but the dead letters, which stay until a person has looked at them.
    pub(crate) streams: Vec<Stream>,
    pub(crate) url: RedisUrl,
    pub(crate) keep: Retention,
    /// That Redis is away the engine tells.
    pub(crate) component: Arc<Component>,
    pub(crate) shutdown: CancellationToken,
}

impl Trimmer {
    /// Trims until the shutdown, for which nothing needs to be finished.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.trim_forever() => {}
        }
        Ok(())
    }

    async fn trim_forever(self) {
        let mut link = Link::new(self.url.clone(), Duration::from_secs(5));
        loop {
            let jitter = Duration::from_millis(fastrand::u64(0..5_000));
            let pause = if self.component.is_failing() { DENIED } else { INTERVAL + jitter };
            tokio::time::sleep(pause).await;
            match self.trim_all(&mut link).await {
                Ok(()) => self.component.answered(),
                Err(error) => self.component.denied(&error),
            }
        }
    }

    /// Trims each stream; gives the last error, which keeps none of the others from being trimmed.
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
                Ok(removed) => info!(%stream, removed, "consumers that are long gone were removed"),
                Err(error) => done = Err(error),
            }
        }
        done
    }
}

/// Trims until nothing more may go: one call removes only so much, for Redis does nothing else
/// meanwhile.
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

/// Removes entries that all groups have acknowledged, apart from those to keep; gives their number.
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

/// Removes from the groups of a stream the consumers that have nothing pending and were not seen for so
/// long; gives their number.
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
