//! Samples the event flow from the counters of the streams and their groups.
//!
//! One sample per second serves all clients; without clients no samples are taken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use common::{
    clock::now_millis,
    connection::{
        error::ConnectionError,
        lag::{self, GroupFacts, LagMeter, ServerFacts, StreamFacts},
        link::Link,
    },
    contract::streams::{self, topics},
    http::problem::Problem,
    process::service::{REQUEST_TIMEOUT, ServiceContext},
    schema::stream::{Stream, Topic},
};
use redis::{Pipeline, Value};
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::flow::{DeadLetters, Flow, StreamAndGroups, StreamFlow};

/// The interval of samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The time for which samples continue after a request, because rates need two.
const SAMPLING_LINGER: Duration = Duration::from_secs(5);
/// The timeout of a sample.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// An encoded sample.
#[derive(Debug)]
pub(crate) struct Sample {
    taken: Instant,
    pub(crate) flow: Flow,
    /// The sample as JSON.
    pub(crate) json: Bytes,
    /// The sample as a server-sent event.
    pub(crate) event: Bytes,
}

/// The last sample; `None` if there is none yet or the last one failed.
pub(crate) type Latest = Option<Arc<Sample>>;

/// Takes samples while clients follow them.
#[derive(Debug)]
pub(crate) struct FlowSampler {
    /// The sender of samples; each follower has a receiver.
    latest: watch::Sender<Latest>,
    /// Signals a new follower.
    asked: watch::Sender<()>,
    /// The time until which samples are taken without receivers.
    until: Mutex<Instant>,
}

impl FlowSampler {
    /// Starts the sampler, which takes samples while there are followers.
    pub(crate) fn start(context: &ServiceContext) -> Arc<Self> {
        let sampler = Arc::new(Self {
            latest: watch::Sender::default(),
            asked: watch::Sender::default(),
            until: Mutex::new(Instant::now()),
        });
        let sources = context.sources.clone();
        let servers = sources.servers().iter().enumerate().map(|(server, url)| {
            let topics = topics::ALL.into_iter().filter(|topic| sources.index(*topic) == server);
            SampledServer {
                link: Link::new(url.clone(), READ_TIMEOUT).primary_only(),
                topics: topics.collect(),
                lags: LagMeter::default(),
            }
        });
        let servers: Vec<SampledServer> = servers.collect();
        let (taker, shutdown) = (Arc::clone(&sampler), context.shutdown.clone());
        context.spawn("the sampler of the flow", async move {
            tokio::select! {
                () = taker.sample_forever(servers) => {}
                () = shutdown.cancelled() => {}
            }
            Ok(())
        });
        sampler
    }

    /// A receiver of new samples.
    pub(crate) fn follow(&self) -> watch::Receiver<Latest> {
        let samples = self.latest.subscribe();
        self.asked.send_replace(());
        samples
    }

    /// A fresh sample.
    ///
    /// # Errors
    ///
    /// 503: the sample cannot be taken.
    pub(crate) async fn now(&self) -> Result<Arc<Sample>, Problem> {
        *self.until() = Instant::now() + SAMPLING_LINGER;
        let mut samples = self.follow();
        let is_fresh = |latest: &Latest| {
            latest.as_ref().is_some_and(|sample| sample.taken.elapsed() < SAMPLE_INTERVAL * 3 / 2)
        };
        let mut latest = samples.borrow_and_update().clone();
        if !is_fresh(&latest) {
            let changed = tokio::time::timeout(REQUEST_TIMEOUT, samples.changed()).await;
            latest = changed.ok().and_then(|_| samples.borrow_and_update().clone());
        }
        latest.ok_or_else(|| Problem::unavailable("the flow cannot be read at the moment"))
    }

    fn until(&self) -> MutexGuard<'_, Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        self.latest.receiver_count() > 0 || *self.until() > Instant::now()
    }

    async fn sample_forever(&self, mut servers: Vec<SampledServer>) {
        let mut asked = self.asked.subscribe();
        let mut before: Latest = None;
        let mut failing = false;
        loop {
            while !self.is_wanted() {
                // Rates over a time without samples would not describe the present.
                before = None;
                if asked.changed().await.is_err() {
                    return;
                }
            }
            let taken = Instant::now();
            let sample = match look(&mut servers).await {
                Ok(mut flow) => {
                    if std::mem::take(&mut failing) {
                        info!("the flow can be read again");
                    }
                    if let Some(before) = &before {
                        flow.compare(&before.flow, taken - before.taken);
                    }
                    Some(Arc::new(Sample::new(flow, taken)))
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!("the flow cannot be read: {error}; retrying");
                    }
                    None
                }
            };
            before.clone_from(&sample);
            self.latest.send_replace(sample);
            tokio::time::sleep_until(taken + SAMPLE_INTERVAL).await;
        }
    }
}

impl Sample {
    fn new(flow: Flow, taken: Instant) -> Self {
        let json = serde_json::to_string(&flow).expect("it has string keys only");
        let event = format!("event: flow\ndata: {json}\n\n").into();
        Self { taken, flow, json: json.into(), event }
    }
}

/// A server with the streams of these topics.
struct SampledServer {
    link: Link,
    topics: Vec<Topic>,
    lags: LagMeter,
}

/// Queries all streams of each server in one exchange.
async fn look(servers: &mut [SampledServer]) -> Result<Flow, ConnectionError> {
    let mut answers = HashMap::new();
    for SampledServer { link, topics, lags } in servers {
        let shown = |stream: &Stream| {
            let is_read = stream.is_dead_letters() || !stream.readers().is_empty();
            is_read && topics.contains(&stream.topic())
        };
        let streams: Vec<Stream> = streams::ALL.into_iter().filter(shown).collect();
        let mut commands = Pipeline::new();
        commands.cmd("INFO").arg("server");
        for stream in &streams {
            lag::ask_about(&mut commands, link.user(), stream.key());
            commands.cmd("XINFO").arg("GROUPS").arg(stream.key());
        }
        let mut values = link.read(&commands).await?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let server = ServerFacts::from_reply(next());
        for stream in streams {
            let facts = StreamFacts::from_reply(next());
            let groups = GroupFacts::from_reply(next()).into_iter().map(|group| {
                let lag = lags.lag(&server, stream.key(), &facts, &group);
                (group, lag)
            });
            let groups = groups.collect();
            answers.insert(stream, (facts, groups));
        }
    }
    let mut of = |stream| -> StreamAndGroups { answers.remove(&stream).unwrap_or_default() };
    let read = streams::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
    let streams = read.map(|stream| StreamFlow::new(stream, &of(stream)));
    let streams = streams.collect();
    let dead = topics::ALL
        .map(|topic| DeadLetters { topic: topic.name(), count: of(topic.dead_letters()).0.length });
    Ok(Flow { at: now_millis(), streams, dead: dead.into() })
}
