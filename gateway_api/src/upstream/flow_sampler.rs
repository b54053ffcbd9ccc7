//! `GET /flow`: how the events flow, from the bookkeeping of the streams and their groups.
//!
//! Sampled once a second while somebody looks, and once for all who do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    clock::now_millis,
    connection::{
        lag::{self, GroupFacts, Lag, LagMeter, ServerFacts, StreamFacts},
        link::{Link, LinkError},
    },
    contract::{
        events::{Stream, Topic},
        ids::EntryId,
    },
    http::problem::Problem,
    process::service::{Life, REQUEST_PATIENCE},
};
use http::{HeaderMap, header};
use redis::{Pipeline, Value};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};
use utoipa::ToSchema;

use crate::{
    Gateway,
    docs::{examples, responses::NotRead},
    web::{self, flow::page, negotiate::wants_html},
};

/// How often a sample is taken.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long samples are taken after somebody asked for one: rates need two.
const LINGER: Duration = Duration::from_secs(5);
/// How long Redis may take for a sample.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the events flow at a moment.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Flow {
    /// When, in milliseconds since 1970.
    #[schema(example = 1_767_225_600_000_u64)]
    pub at: u64,
    /// The streams that services read, in the order of an order's life.
    pub streams: Vec<StreamFlow>,
    /// The dead letters of each topic.
    pub dead: Vec<DeadLetters>,
}

/// How the events of a stream flow.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct StreamFlow {
    /// The stream.
    #[schema(example = "events:{order}_created")]
    pub stream: &'static str,
    /// Its topic.
    #[schema(example = "order")]
    pub topic: &'static str,
    /// How many entries it has.
    #[schema(example = 10)]
    pub length: u64,
    /// How many entries a second came; not known at first, nor with Redis 6.2.
    #[schema(example = 1.5)]
    pub rate: Option<f64>,
    /// The groups that read it.
    pub groups: Vec<GroupFlow>,
    /// How many entries ever came.
    #[serde(skip)]
    #[schema(ignore)]
    added: Option<u64>,
}

/// How a service gets on with a stream.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct GroupFlow {
    /// The service.
    #[schema(example = "inventory_service")]
    pub group: &'static str,
    /// How many entries wait to be delivered to it.
    #[schema(example = 0)]
    pub lag: u64,
    /// Whether `lag` is an estimate: Redis does not count it, or not reliably (before Redis 7.0, after
    /// entries were deleted, and after a restart from an append-only file).
    #[schema(example = false)]
    pub lag_is_estimate: bool,
    /// How many were delivered and are not acknowledged.
    #[schema(example = 0)]
    pub pending: u64,
    /// How many a second were delivered; not known at first, nor with Redis 6.2.
    #[schema(example = 1.5)]
    pub rate: Option<f64>,
    /// How many instances have read it in the last day; 0 if the service never ran.
    #[schema(example = 1)]
    pub consumers: u64,
    /// How many were ever delivered.
    #[serde(skip)]
    #[schema(ignore)]
    read: Option<u64>,
}

/// The dead letters of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct DeadLetters {
    /// The topic whose owner could not handle them.
    #[schema(example = "order")]
    pub topic: &'static str,
    /// How many there are.
    #[schema(example = 0)]
    pub count: u64,
}

/// A sample, encoded for those who look.
#[derive(Debug)]
pub(crate) struct Sample {
    taken: Instant,
    pub(crate) flow: Flow,
    /// As JSON.
    pub(crate) json: Bytes,
    /// As a server-sent event.
    pub(crate) event: Bytes,
}

/// The last sample; none if there is none yet, or if the last one could not be taken.
pub(crate) type Latest = Option<Arc<Sample>>;

/// Takes samples for whoever wants them.
#[derive(Debug)]
pub struct Sampler {
    /// Whoever looks has a receiver.
    latest: watch::Sender<Latest>,
    /// Somebody came.
    asked: watch::Sender<()>,
    /// Until when samples are taken though nobody has a receiver.
    until: Mutex<Instant>,
}

impl Sampler {
    /// Starts to take samples, as soon as somebody looks.
    pub(crate) fn start(life: &Life) -> Arc<Self> {
        let sampler = Arc::new(Self {
            latest: watch::Sender::default(),
            asked: watch::Sender::default(),
            until: Mutex::new(Instant::now()),
        });
        let sources = life.sources.clone();
        let servers = sources.servers().iter().enumerate().map(|(server, url)| {
            let topics = Topic::ALL.into_iter().filter(|topic| sources.index(*topic) == server);
            Server {
                link: Link::new(url.clone(), PATIENCE).primary_only(),
                topics: topics.collect(),
                lags: LagMeter::default(),
            }
        });
        let servers: Vec<Server> = servers.collect();
        let (taker, shutdown) = (Arc::clone(&sampler), life.shutdown.clone());
        life.spawn("the sampler of the flow", async move {
            tokio::select! {
                () = taker.sample_forever(servers) => {}
                () = shutdown.cancelled() => {}
            }
            Ok(())
        });
        sampler
    }

    /// Each new sample.
    pub(crate) fn follow(&self) -> watch::Receiver<Latest> {
        let samples = self.latest.subscribe();
        self.asked.send_replace(());
        samples
    }

    /// A sample that is fresh.
    ///
    /// # Errors
    ///
    /// 503: it cannot be taken.
    pub(crate) async fn now(&self) -> Result<Arc<Sample>, Problem> {
        *self.until() = Instant::now() + LINGER;
        let mut samples = self.follow();
        let is_fresh = |latest: &Latest| {
            latest.as_ref().is_some_and(|sample| sample.taken.elapsed() < INTERVAL * 3 / 2)
        };
        let mut latest = samples.borrow_and_update().clone();
        if !is_fresh(&latest) {
            let changed = tokio::time::timeout(REQUEST_PATIENCE, samples.changed()).await;
            latest = changed.ok().and_then(|_| samples.borrow_and_update().clone());
        }
        latest.ok_or_else(|| Problem::unavailable("the flow cannot be seen at the moment"))
    }

    fn until(&self) -> MutexGuard<'_, Instant> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        self.latest.receiver_count() > 0 || *self.until() > Instant::now()
    }

    async fn sample_forever(&self, mut servers: Vec<Server>) {
        let mut asked = self.asked.subscribe();
        let mut before: Latest = None;
        let mut failing = false;
        loop {
            while !self.is_wanted() {
                // Rates over the time when nobody looked would tell nothing of now.
                before = None;
                if asked.changed().await.is_err() {
                    return;
                }
            }
            let taken = Instant::now();
            let sample = match look(&mut servers).await {
                Ok(mut flow) => {
                    if std::mem::take(&mut failing) {
                        info!("the flow can be seen again");
                    }
                    if let Some(before) = &before {
                        flow.compare(&before.flow, taken - before.taken);
                    }
                    Some(Arc::new(Sample::new(flow, taken)))
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!("the flow cannot be seen: {error}; trying again until it can");
                    }
                    None
                }
            };
            before.clone_from(&sample);
            self.latest.send_replace(sample);
            tokio::time::sleep_until(taken + INTERVAL).await;
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

/// Get the event flow
///
/// The streams between the services, with the backlog of each consumer group, the rates of appended and
/// handled entries, and the dead letters. Rates cover the last second and are missing in the first answer;
/// `GET /events?flow=true` sends the same once a second. A browser (`Accept: text/html`) gets a diagram.
#[utoipa::path(
    get, path = "/flow", tag = "report", operation_id = "flow",
    responses(
        (status = 200, description = "How the events flow", body = Flow, example = json!(examples::flow())),
        NotRead,
    ),
)]
pub async fn flow(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let sample = gateway.flow.now().await;
    if wants_html(&headers) {
        return web::html(sample.map(|sample| page::show(&sample.flow)));
    }
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    web::json(sample.map(|sample| (headers, sample.json.clone()).into_response()))
}

/// A server with the streams of these topics.
struct Server {
    link: Link,
    topics: Vec<Topic>,
    lags: LagMeter,
}

/// What XINFO says of a stream and its groups, each with its lag.
type Facts = (StreamFacts, Vec<(GroupFacts, Lag)>);

/// Asks each server for all that it has, in one go.
async fn look(servers: &mut [Server]) -> Result<Flow, LinkError> {
    let mut answers = HashMap::new();
    for Server { link, topics, lags } in servers {
        let shown = |stream: &Stream| {
            let is_read = matches!(stream, Stream::Dead(_)) || !stream.readers().is_empty();
            is_read && topics.contains(&stream.topic())
        };
        let streams: Vec<Stream> = Stream::ALL.into_iter().filter(shown).collect();
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
    let mut of = |stream| -> Facts { answers.remove(&stream).unwrap_or_default() };
    let read = Stream::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
    let streams = read.map(|stream| StreamFlow::new(stream, &of(stream)));
    let streams = streams.collect();
    let dead = Topic::ALL
        .map(|topic| DeadLetters { topic: topic.name(), count: of(Stream::Dead(topic)).0.length });
    Ok(Flow { at: now_millis(), streams, dead: dead.into() })
}

impl Flow {
    /// Finds the rates from what was known so long before.
    fn compare(&mut self, before: &Self, time: Duration) {
        let rate = |now: Option<u64>, before: Option<u64>| {
            // A stream that was emptied counts from the beginning.
            let count = u32::try_from(now?.checked_sub(before?)?).ok()?;
            Some((f64::from(count) / time.as_secs_f64() * 10.0).round() / 10.0)
        };
        for (stream, old) in self.streams.iter_mut().zip(&before.streams) {
            stream.rate = rate(stream.added, old.added);
            for (group, old) in stream.groups.iter_mut().zip(&old.groups) {
                group.rate = rate(group.read, old.read);
            }
        }
    }
}

impl StreamFlow {
    fn new(stream: Stream, (facts, groups): &Facts) -> Self {
        let group = |reader: &Topic| {
            let name = reader.service();
            let found = groups.iter().find(|(group, _)| group.name == name);
            found.map_or_else(
                || GroupFlow::absent(name, facts.length),
                |(group, lag)| GroupFlow::new(name, group, *lag),
            )
        };
        Self {
            stream: stream.key(),
            topic: stream.topic().name(),
            length: facts.length,
            rate: None,
            groups: stream.readers().iter().map(group).collect(),
            added: facts.added,
        }
    }
}

impl GroupFlow {
    /// A service that never ran: it will begin with the first entry.
    fn absent(group: &'static str, length: u64) -> Self {
        Self {
            group,
            lag: length,
            lag_is_estimate: false,
            pending: 0,
            rate: None,
            consumers: 0,
            read: None,
        }
    }

    fn new(group: &'static str, facts: &GroupFacts, lag: Lag) -> Self {
        // Redis does not count before the first delivery.
        let unread = facts.lag.is_some() && facts.delivered == EntryId::default();
        Self {
            group,
            lag: lag.entries(),
            lag_is_estimate: lag.is_estimate(),
            pending: facts.pending,
            rate: None,
            consumers: facts.consumers,
            read: facts.read.or(unread.then_some(0)),
        }
    }
}

#[cfg(test)]
impl Flow {
    /// So much waits for every reader of every stream, and that many a second are delivered.
    pub(crate) fn everywhere(waiting: u64, rate: f64) -> Self {
        let streams = Stream::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
        let streams = streams.map(|stream| {
            let mut flow = StreamFlow::new(stream, &Facts::default());
            for group in &mut flow.groups {
                (group.lag, group.rate) = (waiting, Some(rate));
            }
            flow
        });
        let dead = Topic::ALL.map(|topic| DeadLetters { topic: topic.name(), count: waiting });
        Self { at: 0, streams: streams.collect(), dead: dead.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(length: u64, added: Option<u64>) -> StreamFacts {
        StreamFacts { length, added, ..StreamFacts::default() }
    }

    fn group(read: Option<u64>, lag: Lag) -> (GroupFacts, Lag) {
        let facts = GroupFacts {
            name: "order_service".to_owned(),
            consumers: 2,
            pending: 3,
            read,
            lag: Some(lag.entries()),
            ..GroupFacts::default()
        };
        (facts, lag)
    }

    #[test]
    fn a_stream_shows_its_readers_also_those_that_never_ran() {
        let facts = (stream(7, Some(9)), vec![group(Some(5), Lag::Estimate(4))]);
        let flow = StreamFlow::new(Stream::AccountWallet, &facts);
        let [order, inventory, message] = &flow.groups[..] else { panic!("{flow:?}") };
        assert_eq!((order.group, order.lag, order.pending), ("order_service", 4, 3));
        assert_eq!((order.consumers, order.read), (2, Some(5)));
        assert!(order.lag_is_estimate && !inventory.lag_is_estimate);
        for absent in [inventory, message] {
            assert_eq!((absent.lag, absent.pending, absent.consumers), (7, 0, 0));
        }
        let flow = StreamFlow::new(Stream::OrderCompleted, &Facts::default());
        assert_eq!((flow.length, flow.added, flow.groups[0].lag), (0, None, 0));
    }

    #[test]
    fn rates_are_what_came_in_between_and_unknown_where_counting_began_anew() {
        let at = |added: u64, read: Option<u64>| {
            let facts = (stream(0, Some(added)), vec![group(read, Lag::Exact(0))]);
            let stream = StreamFlow::new(Stream::InventoryCheck, &facts);
            Flow { at: 0, streams: vec![stream], dead: Vec::new() }
        };
        let rates = |before: &Flow, mut now: Flow| {
            now.compare(before, Duration::from_secs(2));
            let groups = &now.streams[0].groups;
            (now.streams[0].rate, groups.iter().map(|group| group.rate).collect::<Vec<_>>())
        };
        let first = at(0, None);
        let second = at(3, Some(4));
        assert_eq!(rates(&first, second.clone()), (Some(1.5), vec![None, Some(2.0), None]));
        assert_eq!(rates(&second, first), (None, vec![None, None, None]));
    }
}
