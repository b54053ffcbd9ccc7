//! Samples the streams between order_service and its answers, for [`Progress`], and the memory of their
//! Redis servers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{
    clock::{Millis, now_millis},
    connection::{
        backoff::Backoff, error::ConnectionError, health::Component, lag, link::Link,
        memory::MemoryFacts, permissions::Permission, replies::info_text, topology::Sources,
    },
    process::memory_watch::MemoryWatch,
    schema::{entry_id::EntryId, stream::Stream},
};
use prometheus_client::metrics::gauge::Gauge;
use redis::{Pipeline, Value, from_redis_value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::progress::{GroupProgress, Progress, SAMPLED, Sample, StreamProgress, Tracker};

/// The longest time between two samples.
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// The time limit of one sample.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The permissions to read the ends of the sampled streams and the memory of their server; readers and
/// owners check all others.
fn permissions(sources: &Sources, server: usize) -> Vec<Permission> {
    let there = SAMPLED.into_iter().filter(|stream| sources.index(stream.topic()) == server);
    let streams = there.map(|stream| Permission::new("XINFO STREAM", stream.key(), &[]));
    let permissions: Vec<Permission> = streams.collect();
    if permissions.is_empty() {
        permissions
    } else {
        [permissions, vec![Permission::info("memory")]].concat()
    }
}

/// Takes samples as long as the process runs.
pub(crate) struct Sampler {
    sources: Sources,
    links: Vec<Link>,
    interval: Duration,
    tracker: Tracker,
    progress: watch::Sender<Progress>,
    backlog: Gauge,
    memory: Arc<MemoryWatch>,
    component: Arc<Component>,
}

impl Sampler {
    /// A sampler, and the receiver of its findings.
    pub(crate) fn new(
        sources: &Sources,
        resend_after: Millis,
        backlog: Gauge,
        memory: Arc<MemoryWatch>,
        component: Arc<Component>,
    ) -> (Self, watch::Receiver<Progress>) {
        let (progress, findings) = watch::channel(Progress::default());
        let links = sources
            .servers()
            .iter()
            .map(|url| Link::new(url.clone(), SAMPLE_TIMEOUT).primary_only());
        let sampler = Self {
            sources: sources.clone(),
            links: links.collect(),
            interval: INTERVAL_MAX.min(Duration::from_millis(resend_after) / 4),
            tracker: Tracker::default(),
            progress,
            backlog,
            memory,
            component,
        };
        (sampler, findings)
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            denied = self.sample_forever() => Err(denied.into()),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    /// Ends only if a permission is missing at the start.
    async fn sample_forever(&mut self) -> ConnectionError {
        let mut backoff = Backoff::default();
        for server in 0..self.links.len() {
            let permissions = permissions(&self.sources, server);
            while let Err(error) = self.links[server].check_permissions(&permissions).await {
                if matches!(error, ConnectionError::Unsuitable { .. }) {
                    return error;
                }
                self.component.denied(&error);
                backoff.wait().await;
            }
        }
        self.component.answered();
        loop {
            let began = now_millis();
            let (sample, failure) = self.sample().await;
            match failure {
                // The engine and the readers report an unavailable Redis.
                Some(error) => self.component.denied(&error),
                None => self.component.answered(),
            }
            let progress = self.tracker.take(sample, began);
            let largest = progress.largest.map_or(0, |backlog| backlog.entries);
            self.backlog.set(i64::try_from(largest).unwrap_or(i64::MAX));
            self.progress.send_replace(progress.clone());
            tokio::time::sleep(self.interval).await;
        }
    }

    /// A sample of the streams in the order of [`SAMPLED`], and the last error. Neighbours in that order
    /// that lie in one Redis are sampled together.
    async fn sample(&mut self) -> (Sample, Option<ConnectionError>) {
        let (mut sample, mut failure) = (Sample::new(), None);
        let server = |stream: &Stream| self.sources.index(stream.topic());
        for streams in SAMPLED.chunk_by(|one, other| server(one) == server(other)) {
            let link = &mut self.links[server(&streams[0])];
            let mut commands = Pipeline::new();
            commands.cmd("INFO").arg("memory");
            for stream in streams {
                lag::ask_about(&mut commands, link.user(), stream.key());
                commands.cmd("XINFO").arg("GROUPS").arg(stream.key());
                for reader in stream.readers() {
                    commands.cmd("XPENDING").arg(stream.key()).arg(reader.service());
                }
            }
            let answers = match link.send(&commands).await {
                Ok(answers) => answers,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            let mut answers = answers.into_iter();
            match link.accept("INFO", answers.next().unwrap_or(Value::Nil)) {
                Ok(info) => {
                    let facts = MemoryFacts::from_info(&info_text(info));
                    self.memory.saw(&link.address(), facts);
                }
                Err(error) => failure = Some(error),
            }
            for stream in streams {
                let of_stream: Vec<Value> =
                    answers.by_ref().take(2 + stream.readers().len()).collect();
                match progress(link, *stream, of_stream) {
                    Ok(progress) => drop(sample.insert(*stream, progress)),
                    Err(error) => failure = Some(error),
                }
            }
        }
        (sample, failure)
    }
}

/// The progress of one stream from the replies of Redis. A missing stream or group is an error reply.
fn progress(
    link: &Link,
    stream: Stream,
    answers: Vec<Value>,
) -> Result<StreamProgress, ConnectionError> {
    let mut answers = answers.into_iter();
    let mut next = |command| match answers.next() {
        Some(Value::ServerError(error)) if is_absence(&error) => Ok(None),
        Some(answer) => link.accept(command, answer).map(Some),
        None => Ok(None),
    };
    let Some(info) = next("XINFO STREAM")?.map(members) else {
        return Ok(StreamProgress::default());
    };
    // The reply has the whole entry, its id first; nil if there is none.
    let end = |name| match info.get(name) {
        Some(Value::Array(entry)) => entry.first().and_then(id).unwrap_or_default(),
        _ => EntryId::default(),
    };
    let mut progress = StreamProgress {
        length: info.get("length").and_then(number).unwrap_or(0),
        // Unknown before Redis 7.0.
        added: info.get("entries-added").and_then(number),
        first: end("first-entry"),
        last: end("last-entry"),
        groups: HashMap::new(),
    };
    let groups = match next("XINFO GROUPS")? {
        Some(Value::Array(groups)) => groups.into_iter().map(members).collect(),
        _ => Vec::new(),
    };
    for reader in stream.readers() {
        let pending = next("XPENDING")?;
        let is_named = |group: &&HashMap<String, Value>| {
            group.get("name").and_then(text).is_some_and(|name| name == reader.service())
        };
        let Some(group) = groups.iter().find(is_named) else { continue };
        let summary = match &pending {
            Some(Value::Array(summary)) => summary.as_slice(),
            _ => &[],
        };
        let group = GroupProgress {
            delivered: group.get("last-delivered-id").and_then(id).unwrap_or_default(),
            oldest_pending: summary.get(1).and_then(id),
            pending: summary.first().and_then(number).unwrap_or(0),
            lag: group.get("lag").and_then(number),
        };
        progress.groups.insert(*reader, group);
    }
    Ok(progress)
}

/// Whether the stream or the group does not exist.
fn is_absence(error: &redis::ServerError) -> bool {
    let says = |what: &str| error.details().is_some_and(|it| it.contains(what));
    error.code() == "NOGROUP" || error.code() == "ERR" && says("no such key")
}

fn members(value: Value) -> HashMap<String, Value> {
    from_redis_value(value).unwrap_or_default()
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    from_redis_value(value.clone()).ok()
}

fn id(value: &Value) -> Option<EntryId> {
    text(value)?.parse().ok()
}
