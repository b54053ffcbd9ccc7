//! Readers of streams: consumer groups, recovery of what is pending, entries of the dead.
//!
//! One reader per source Redis, each with a connection of its own that may block in XREADGROUP. It
//! hands entries to the engine, which acknowledges them; the reader itself never does.
//!
//! Memory is bounded: a read by its `Pace`, the entries in the process by a semaphore from which
//! each job holds its share. An entry that was delivered `SUSPECT_DELIVERIES` times is handled while
//! nothing else is; if processes die of it all the same it becomes a dead letter without being read.

pub mod checkpoints;
mod original;
mod pace;
mod pending;
pub mod trimmer;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{Cmd, from_redis_value};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    pace::Pace,
    pending::{Pending, Watch},
};
use crate::{
    connection::{
        entry::{EVENT_BYTES, Entry, Fields, read_reply, short_reason},
        health::Part,
        link::{Backoff, Link, LinkError, RedisUrl, await_server},
        permissions,
    },
    consumer::checkpoints::Bookmarks,
    contract::{
        events::{ENTITY, Stream, TRACEPARENT, Topic},
        ids::EntryId,
        json::from_object,
        keys,
    },
    decision::Decider,
    engine::{
        BATCH_INPUTS, Job, Origin, QUEUE_KIB, Work,
        metrics::EngineMetrics,
        store_id::{self, Provenance},
    },
    trace_context::traceparent,
};

/// The pause before entries are read again that the engine has dropped.
const LOST_PAUSE: Duration = Duration::from_millis(50);
/// How long a read waits for entries, in milliseconds.
const BLOCK_MILLIS: u64 = 2_000;
/// How much longer than that its answer may take.
const GRACE: Duration = Duration::from_secs(5);
/// A read that came back sooner than this found entries waiting: there is traffic.
const BUSY: Duration = Duration::from_millis(1);
/// The pause after a read that was not full, under traffic.
const PAUSE: Duration = Duration::from_micros(500);
/// An entry that was delivered this often is handled alone: processes may have died of it. Most did not kill
/// anybody: each reconnect and each innocent restart delivers what is pending once more.
const SUSPECT_DELIVERIES: u64 = 5;
/// An entry is not read again after this number of processes died while they handled nothing else.
const SUSPECT_DEATHS: u64 = 3;
/// A process that has lived for this long with an entry does not die of it.
const SUSPECT_TIME: Duration = Duration::from_secs(2);
/// How long a death is remembered, in seconds.
const SUSPECT_SECONDS: u64 = 24 * 3_600;
/// How often a reader looks whether the engine has acknowledged an entry that must not be read.
const ACKNOWLEDGED_POLL: Duration = Duration::from_millis(5);
/// The most memory of jobs that are handed over together, in KiB.
const CHUNK_KIB: usize = 2 * 1_024;
/// How much larger a byte of an entry may be in its dead letter, which is JSON.
const ESCAPED: usize = 8;
/// How often it is looked whether both Redis are still the ones they were.
const LOOK: Duration = Duration::from_secs(1);

/// An entry of a stream, as a subscription sees it.
#[derive(Debug, Clone, Copy)]
pub struct StreamEntry<'a> {
    /// Its id in the stream.
    pub id: EntryId,
    /// The JSON object.
    pub entity: &'a str,
    /// This service was through with it once, before it lost its store and with it the trace: what
    /// it decided is known to others only, and must not be decided a second time.
    pub forgotten: bool,
}

impl<'a> StreamEntry<'a> {
    /// Parses the JSON object. A list is not taken for one.
    ///
    /// # Errors
    ///
    /// Says what does not fit and where.
    pub fn parse<T: serde::Deserialize<'a>>(&self) -> Result<T, String> {
        from_object(self.entity).map_err(|error| format!("field `entity`: {error}"))
    }
}

/// A stream that a service reads, and what its entries mean to it.
pub struct Subscription<I> {
    /// The stream.
    pub stream: Stream,
    /// Turns an entry into an input; `None` if it is of no concern. An error makes it a dead letter.
    pub parse: fn(&StreamEntry<'_>) -> Result<Option<I>, String>,
}

impl<I> std::fmt::Debug for Subscription<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Reads the subscribed streams of one Redis.
pub(crate) struct Reader<D: Decider> {
    pub(crate) url: RedisUrl,
    /// The service's own Redis, which may be the same.
    pub(crate) own: RedisUrl,
    pub(crate) subscriptions: Vec<Subscription<D::Input>>,
    pub(crate) instance: String,
    pub(crate) claim_idle_ms: u64,
    pub(crate) queue: mpsc::Sender<Job<D>>,
    /// Room for entries, in KiB; all readers of the process share it.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) part: Arc<Part>,
    /// What it does besides reading, which goes on when that is denied.
    pub(crate) upkeep: Arc<Part>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: Arc<EngineMetrics>,
    /// Fails while the engine waits for its Redis.
    pub(crate) engine: Arc<Part>,
    /// What entries are read under now.
    pub(crate) provenance: Mutex<Option<Arc<Provenance>>>,
}

/// What a reader asks besides reading.
struct Helper {
    /// To the Redis that is read from.
    link: Link,
    /// To the service's own Redis.
    own: Link,
    /// How long entries have been pending.
    watch: Watch,
    /// Where the service's own store is in another Redis.
    bookmarks: Option<Bookmarks>,
}

impl Helper {
    async fn look(&mut self) -> Result<(), LinkError> {
        match &mut self.bookmarks {
            Some(bookmarks) => bookmarks.look(&mut self.link).await,
            None => Ok(()),
        }
    }

    async fn write_down(&mut self) -> Result<(), LinkError> {
        let Some(bookmarks) = &mut self.bookmarks else { return Ok(()) };
        bookmarks.look(&mut self.link).await?;
        bookmarks.write_down(&mut self.link).await
    }
}

/// What ended a round of reading.
enum Interruption {
    Link(LinkError),
    /// The engine is gone.
    Closed,
}

impl From<LinkError> for Interruption {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl<D: Decider> Reader<D> {
    /// Reads until the shutdown; what was read but not acknowledged stays pending in the group.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        let mut link = Link::new(self.url.clone(), GRACE);
        let streams: Vec<Stream> = self.subscriptions.iter().map(|it| it.stream).collect();
        let rights = permissions::of_reader(D::TOPIC, &streams);
        loop {
            if !await_server(&mut link, &rights, &self.part, &shutdown).await? {
                return Ok(());
            }
            match original::check_for_history(&mut link, D::TOPIC, &streams).await {
                Ok(()) => break,
                Err(error @ LinkError::Unsuitable { .. }) => return Err(error.into()),
                Err(error) => self.part.failed(&error),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.read_forever() => {}
        }
        Ok(())
    }

    async fn read_forever(self) {
        let patience = Duration::from_millis(BLOCK_MILLIS) + GRACE;
        let mut blocking = Link::new(self.url.clone(), patience);
        let mut helper = Helper {
            link: Link::new(self.url.clone(), GRACE),
            own: Link::new(self.own.clone(), GRACE),
            watch: Watch::default(),
            bookmarks: (self.own != self.url).then(|| {
                let streams = self.subscriptions.iter().map(|it| it.stream).collect();
                Bookmarks::new(Link::new(self.own.clone(), GRACE), D::TOPIC, streams)
            }),
        };
        let mut backoff = Backoff::default();
        let mut begun = false;
        loop {
            match self
                .read_until_interrupted(&mut blocking, &mut helper, &mut backoff, &mut begun)
                .await
            {
                Ok(()) => {}
                Err(Interruption::Closed) => return,
                Err(Interruption::Link(error)) => {
                    self.part.failed(&error);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Makes the groups, takes what is pending for this instance, then reads on. Ends with `Ok`
    /// when the groups are gone and have to be made again.
    async fn read_until_interrupted(
        &self,
        blocking: &mut Link,
        helper: &mut Helper,
        backoff: &mut Backoff,
        begun: &mut bool,
    ) -> Result<(), Interruption> {
        blocking.check_server().await?;
        self.create_groups(&mut helper.link).await?;
        helper.look().await?;
        if self.note_provenance(blocking, helper).await? {
            helper.watch = Watch::default();
        }
        // The process before this one may have died of what it had read.
        if !*begun {
            self.handle_own_suspects(helper).await?;
            *begun = true;
        }
        let mut pace = Pace::slow_start();
        // Entries whose delivery got lost with a connection, or with the process before this one.
        self.drain_own(blocking, helper.bookmarks.as_ref(), &mut pace).await?;
        backoff.reset();
        self.part.answered();
        let mut next_claim = Instant::now() + self.claim_interval();
        let mut next_look = Instant::now() + LOOK;
        let mut pause = PAUSE;
        let mut streams: Vec<usize> = (0..self.subscriptions.len()).collect();
        loop {
            if self.provenance().is_lost() {
                // The engine has dropped entries of ours: begin anew, and not at once, in case it does so
                // again.
                tokio::time::sleep(LOST_PAUSE).await;
                return Ok(());
            }
            let asked = Instant::now();
            // Where a read takes only some of the streams, the others are next.
            let width = pace.streams(streams.len());
            let (waits, count) = (width == streams.len(), pace.count(width));
            let new = streams[..width].iter().map(|stream| (*stream, ">".to_owned()));
            let read = self.read_command(count, waits, new);
            streams.rotate_left(width);
            let reply = blocking.ask("XREADGROUP", read).await;
            let entries = match reply {
                Ok(value) => read_reply(value),
                // FLUSHALL, DEL or an empty Redis in its place: begin anew.
                Err(LinkError::Refused { message, .. }) if group_is_gone(&message) => {
                    info!("the consumer groups are gone; creating them again");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            self.part.answered();
            let found: usize = entries.iter().map(|(_, entries)| entries.len()).sum();
            let is_full = !waits || entries.iter().any(|(_, entries)| entries.len() >= count);
            pace.saw(entries.iter().map(|(_, entries)| &entries[..]), waits);
            if self.goes_back(&entries, helper) {
                helper.look().await?;
            }
            self.hand_over(entries, helper.bookmarks.as_ref()).await?;
            if Instant::now() >= next_look {
                // Reading goes on while the own Redis is away: the engine waits for it.
                match helper.look().await {
                    Ok(()) if self.note_provenance(blocking, helper).await? => return Ok(()),
                    Ok(()) => {}
                    Err(error) => self.upkeep.denied(&error),
                }
                next_look = Instant::now() + LOOK;
            }
            if Instant::now() >= next_claim {
                self.keep_up(helper).await?;
                next_claim = Instant::now() + self.claim_interval();
            }
            // Under traffic a small read means that the next one would be as small: waiting a
            // little makes fewer and fuller ones. After a silence nothing waits.
            if found > 0 && found < BATCH_INPUTS / 2 && !is_full && asked.elapsed() < BUSY {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE * 4);
            } else {
                pause = PAUSE;
            }
        }
    }

    /// What entries are read under now.
    fn provenance(&self) -> Arc<Provenance> {
        let known = self.provenance.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.as_ref().expect("it is noted before anything is read"))
    }

    /// Finds out what entries are read under from now on. Where that has changed, those that were read
    /// before and are not decided yet are dropped; gives whether what is pending has to be read again.
    async fn note_provenance(
        &self,
        blocking: &mut Link,
        helper: &Helper,
    ) -> Result<bool, LinkError> {
        let (own, source) = match &helper.bookmarks {
            None => (Some(store_id::identify(blocking, D::TOPIC).await?), Vec::new()),
            Some(bookmarks) => {
                let mut source = bookmarks.upstream();
                source.push(blocking.run_id().await?.to_string());
                (None, source)
            }
        };
        let new = Provenance::new(own, source);
        let mut known = self.provenance.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            if known.is_same(&new) {
                return Ok(false);
            }
            known.lose();
        }
        *known = Some(Arc::new(new));
        Ok(true)
    }

    /// Takes over what was left behind and writes down how far the groups are.
    async fn keep_up(&self, helper: &mut Helper) -> Result<(), Interruption> {
        let claimed = match self.claim(helper).await {
            Err(Interruption::Link(error)) if error.is_lasting() => Err(error),
            claimed => Ok(claimed?),
        };
        match claimed.and(helper.write_down().await) {
            Ok(()) => self.upkeep.answered(),
            Err(error) => self.upkeep.denied(&error),
        }
        Ok(())
    }

    /// Often enough that what the dead leave is found soon; not all instances at once.
    fn claim_interval(&self) -> Duration {
        let third = self.claim_idle_ms / 3;
        Duration::from_millis(fastrand::u64(third..=third * 2))
    }

    async fn create_groups(&self, link: &mut Link) -> Result<(), LinkError> {
        for subscription in &self.subscriptions {
            let mut create = redis::cmd("XGROUP");
            create.arg("CREATE").arg(subscription.stream.key()).arg(D::TOPIC.service());
            create.arg("0").arg("MKSTREAM");
            match link.ask("XGROUP CREATE", create).await {
                Ok(_) => {}
                Err(LinkError::Refused { message, .. }) if message.contains("BUSYGROUP") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads `count` entries of each of these streams behind an id: `>` stands for new entries, a number for those that are
    /// pending for this instance.
    fn read_command(
        &self,
        count: usize,
        waits: bool,
        after: impl Iterator<Item = (usize, String)>,
    ) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(D::TOPIC.service()).arg(&self.instance).arg("COUNT").arg(count);
        if waits {
            read.arg("BLOCK").arg(BLOCK_MILLIS);
        }
        let (streams, ids): (Vec<usize>, Vec<String>) = after.unzip();
        read.arg("STREAMS");
        for stream in streams {
            read.arg(self.subscriptions[stream].stream.key());
        }
        read.arg(ids);
        read
    }

    /// Whether entries came that were delivered before.
    fn goes_back(&self, entries: &[(String, Vec<Entry>)], helper: &mut Helper) -> bool {
        let Some(bookmarks) = &mut helper.bookmarks else { return false };
        let mut back = false;
        for (name, entries) in entries {
            let stream = self.subscriptions.iter().find(|it| it.stream.key() == name);
            if let (Some(it), [first, ..], Some(last)) = (stream, &entries[..], entries.last()) {
                back |= bookmarks.goes_back(it.stream, first.id, last.id);
            }
        }
        back
    }

    async fn drain_own(
        &self,
        link: &mut Link,
        bookmarks: Option<&Bookmarks>,
        pace: &mut Pace,
    ) -> Result<(), Interruption> {
        let mut left: Vec<(usize, EntryId)> =
            (0..self.subscriptions.len()).map(|stream| (stream, EntryId::default())).collect();
        while !left.is_empty() {
            let width = pace.streams(left.len());
            let count = pace.count(width);
            let after = left[..width].iter().map(|(stream, id)| (*stream, id.to_string()));
            let read = self.read_command(count, false, after);
            let entries = read_reply(link.ask("XREADGROUP", read).await?);
            let mut number = 0;
            left.retain_mut(|(stream, after)| {
                number += 1;
                if number > width {
                    return true;
                }
                let name = self.subscriptions[*stream].stream.key();
                let found = entries.iter().find(|(it, _)| it == name);
                let Some((_, [.., last])) = found.map(|(name, found)| (name, &found[..])) else {
                    return false;
                };
                *after = last.id;
                true
            });
            let found: usize = entries.iter().map(|(_, entries)| entries.len()).sum();
            if found > 0 {
                info!(entries = found, "taking up what was left pending");
                pace.saw(entries.iter().map(|(_, entries)| &entries[..]), false);
            }
            self.hand_over(entries, bookmarks).await?;
        }
        Ok(())
    }

    /// Handles alone what was often delivered to this consumer.
    async fn handle_own_suspects(&self, helper: &mut Helper) -> Result<(), Interruption> {
        for subscription in &self.subscriptions {
            let stream = subscription.stream;
            let own = Some(self.instance.as_str());
            let pending = pending::list(&mut helper.link, stream, D::TOPIC, own).await?;
            let suspects = pending.into_iter().filter(is_suspect).collect();
            self.handle_alone(helper, subscription, suspects).await?;
        }
        Ok(())
    }

    /// Takes over what other instances left pending for too long.
    async fn claim(&self, helper: &mut Helper) -> Result<(), Interruption> {
        let idle = Duration::from_millis(self.claim_idle_ms);
        for subscription in &self.subscriptions {
            let stream = subscription.stream;
            let pending = match pending::list(&mut helper.link, stream, D::TOPIC, None).await {
                Err(LinkError::Refused { message, .. }) if group_is_gone(&message) => {
                    return Ok(());
                }
                pending => pending?,
            };
            let now = Instant::now().into_std();
            let (mut idle, vanished) = helper.watch.idle_for(idle, stream, pending, now);
            // The engine has these, and gets on with them once its Redis takes writes.
            let waits = self.engine.is_failing();
            idle.retain(|it| !waits || it.holder != self.instance);
            self.restore(helper, stream, vanished).await?;
            let (suspects, others): (Vec<_>, Vec<_>) = idle.into_iter().partition(is_suspect);
            // What others did not finish may be why.
            let mut pace = Pace::slow_start();
            let mut others = &others[..];
            while !others.is_empty() {
                let (some, rest) = others.split_at(pace.count(1).min(others.len()));
                let link = &mut helper.link;
                let entries =
                    pending::take_over(link, stream, D::TOPIC, &self.instance, some).await?;
                pace.saw([&entries[..]].into_iter(), false);
                if !entries.is_empty() {
                    info!(%stream, entries = entries.len(), "taking over what was left behind");
                }
                let entries = vec![(stream.key().to_owned(), entries)];
                self.hand_over(entries, helper.bookmarks.as_ref()).await?;
                others = rest;
            }
            self.handle_alone(helper, subscription, suspects).await?;
        }
        Ok(())
    }

    /// Has entries delivered again that were pending for a consumer which is gone now: XGROUP DELCONSUMER
    /// drops them from the pending entries list as well. Entries that had been acknowledged before find
    /// their idempotency records.
    async fn restore(
        &self,
        helper: &mut Helper,
        stream: Stream,
        mut vanished: Vec<(EntryId, String)>,
    ) -> Result<(), Interruption> {
        vanished.retain(|(_, holder)| *holder != self.instance);
        if vanished.is_empty() {
            return Ok(());
        }
        let consumers = pending::consumers(&mut helper.link, stream, D::TOPIC).await?;
        vanished.retain(|(_, holder)| !consumers.contains(holder));
        if vanished.is_empty() {
            return Ok(());
        }
        for (id, holder) in &vanished {
            self.metrics.lost_entries.inc();
            warn!(%stream, entry = %id, consumer = holder,
                "the consumer was removed while the entry was pending for it; it is delivered again");
        }
        let ids = vanished.iter().map(|(id, _)| *id);
        pending::force(&mut helper.link, stream, D::TOPIC, &self.instance, ids).await?;
        let mut pace = Pace::slow_start();
        self.drain_own(&mut helper.link, helper.bookmarks.as_ref(), &mut pace).await
    }

    /// Handles entries one by one while no other entry is read or handled by this process. One of which
    /// processes died nevertheless becomes a dead letter unread.
    async fn handle_alone(
        &self,
        helper: &mut Helper,
        subscription: &Subscription<D::Input>,
        mut suspects: Vec<Pending>,
    ) -> Result<(), Interruption> {
        // Else the first of them would be suspected of whatever else ends processes soon after their start.
        fastrand::shuffle(&mut suspects);
        let stream = subscription.stream;
        for suspect in suspects {
            let all = self.all_memory().await?;
            let Helper { link, own, .. } = helper;
            // Its acknowledgement may have been under way.
            let one = std::slice::from_ref(&suspect);
            if pending::still(link, stream, D::TOPIC, one).await?.is_empty() {
                continue;
            }
            let key = keys::suspect(D::TOPIC, stream, suspect.id);
            let deaths = match own.ask("GET", redis::cmd("GET").arg(&key).clone()).await {
                Ok(deaths) => from_redis_value::<Option<u64>>(deaths).ok().flatten().unwrap_or(0),
                // Something else lies there, which is overwritten below.
                Err(LinkError::Refused { message, .. }) if message.contains("WRONGTYPE") => 0,
                Err(error) => return Err(error.into()),
            };
            if deaths >= SUSPECT_DEATHS {
                let reason = format!(
                    "it was delivered {} times, and {deaths} processes died while they handled nothing else; \
                     it was not read again",
                    suspect.deliveries
                );
                let (id, fields, provenance) = (suspect.id, Fields::default(), self.provenance());
                let origin = Origin::Entry { stream, id, fields, provenance };
                self.send(Job::new(Work::Unreadable(reason), origin, None), all).await?;
                // As long as it is pending, reading what is pending would read it.
                while !pending::still(link, stream, D::TOPIC, one).await?.is_empty()
                    && !self.provenance().is_lost()
                {
                    tokio::time::sleep(ACKNOWLEDGED_POLL).await;
                }
                continue;
            }
            info!(%stream, entry = %suspect.id, deliveries = suspect.deliveries, deaths,
                "handling an entry alone");
            remember_deaths(own, &key, deaths + 1).await?;
            let taken = pending::take_over(link, stream, D::TOPIC, &self.instance, one).await?;
            let mut deaths = deaths;
            if let Some(entry) = taken.into_iter().next() {
                let job = self.job(subscription, entry, helper.bookmarks.as_ref()).0;
                self.send(job, all).await?;
                // It is finished when its share of the memory is free again.
                let finished = tokio::select! {
                    all = self.all_memory() => Some(all?),
                    () = self.is_innocent() => None,
                };
                if finished.is_none() {
                    remember_deaths(&mut helper.own, &key, deaths).await?;
                    drop(self.all_memory().await?);
                }
                deaths = 0;
            }
            remember_deaths(&mut helper.own, &key, deaths).await?;
        }
        Ok(())
    }

    /// Waits until it is certain that a process does not die of the entry that it handles alone: it has
    /// lived on for a while, or the engine merely waits for Redis.
    async fn is_innocent(&self) {
        let start = Instant::now();
        while start.elapsed() < SUSPECT_TIME
            && !self.engine.is_failing()
            && !self.provenance().is_lost()
        {
            tokio::time::sleep(ACKNOWLEDGED_POLL).await;
        }
    }

    /// All the memory that entries may take: no other is in the process.
    async fn all_memory(&self) -> Result<OwnedSemaphorePermit, Interruption> {
        let all = Arc::clone(&self.memory).acquire_many_owned(QUEUE_KIB).await;
        all.map_err(|_| Interruption::Closed)
    }

    async fn send(
        &self,
        mut job: Job<D>,
        memory: OwnedSemaphorePermit,
    ) -> Result<(), Interruption> {
        job.memory = Some(memory);
        self.queue.send(job).await.map_err(|_| Interruption::Closed)
    }

    async fn hand_over(
        &self,
        entries: Vec<(String, Vec<Entry>)>,
        bookmarks: Option<&Bookmarks>,
    ) -> Result<(), Interruption> {
        let (mut chunk, mut chunk_kib) = (Vec::new(), 0);
        for (name, entries) in entries {
            let Some(subscription) = self.subscriptions.iter().find(|s| s.stream.key() == name)
            else {
                continue;
            };
            for entry in entries {
                let (job, bytes) = self.job(subscription, entry, bookmarks);
                let kib = bytes.div_ceil(1_024).clamp(1, QUEUE_KIB as usize);
                if chunk.len() == BATCH_INPUTS || chunk_kib + kib > CHUNK_KIB {
                    self.send_all(std::mem::take(&mut chunk)).await?;
                    chunk_kib = 0;
                }
                chunk_kib += kib;
                chunk.push((job, kib));
            }
        }
        self.send_all(chunk).await
    }

    /// Sends jobs with the KiB that each takes.
    async fn send_all(&self, jobs: Vec<(Job<D>, usize)>) -> Result<(), Interruption> {
        let kib: usize = jobs.iter().map(|(_, kib)| kib).sum();
        let kib = u32::try_from(kib).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let memory = Arc::clone(&self.memory).acquire_many_owned(kib).await;
        let mut memory = memory.map_err(|_| Interruption::Closed)?;
        // Places for all at once: one by one, each would wait behind the commands of callers.
        let places = self.queue.reserve_many(jobs.len()).await;
        let places = places.map_err(|_| Interruption::Closed)?;
        for (place, (mut job, kib)) in places.zip(jobs) {
            job.memory = memory.split(kib);
            place.send(job);
        }
        Ok(())
    }

    /// The job that an entry is, and the memory that it takes.
    fn job(
        &self,
        subscription: &Subscription<D::Input>,
        entry: Entry,
        bookmarks: Option<&Bookmarks>,
    ) -> (Job<D>, usize) {
        let Entry { id, mut fields } = entry;
        let forgotten = bookmarks.is_some_and(|it| it.is_forgotten(subscription.stream, id));
        let trace = fields.get(TRACEPARENT).and_then(traceparent);
        let bytes = fields.memory();
        let work = match fields.get(ENTITY).map(std::str::from_utf8) {
            None if fields.0.is_empty() => Work::Deleted,
            _ if bytes > EVENT_BYTES => Work::Unreadable(format!(
                "it has {} bytes; {EVENT_BYTES} are the most",
                fields.bytes()
            )),
            None => Work::Unreadable(format!("it has no field `{ENTITY}`")),
            Some(Err(_)) => Work::Unreadable(format!("field `{ENTITY}` is not UTF-8")),
            Some(Ok(entity)) => {
                match (subscription.parse)(&StreamEntry { id, entity, forgotten }) {
                    Ok(Some(input)) => Work::Input(input),
                    Ok(None) => Work::Nothing,
                    Err(reason) => Work::Unreadable(short_reason(reason)),
                }
            }
        };
        // The fields are kept for the dead letter that it may become.
        let (whole, bytes) = match work {
            Work::Unreadable(_) => (fields.cut(), fields.memory() * ESCAPED),
            _ => (None, bytes),
        };
        let (stream, provenance) = (subscription.stream, self.provenance());
        let origin = Origin::Entry { stream, id, fields, provenance };
        let mut job = Job::new(work, origin, trace);
        job.whole = whole;
        (job, bytes)
    }
}

fn is_suspect(pending: &Pending) -> bool {
    pending.deliveries >= SUSPECT_DELIVERIES
}

async fn remember_deaths(own: &mut Link, key: &str, deaths: u64) -> Result<(), LinkError> {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(deaths).arg("EX").arg(SUSPECT_SECONDS);
    own.ask("SET", set).await.map(drop)
}

fn group_is_gone(message: &str) -> bool {
    message.contains("NOGROUP") || message.contains("UNBLOCKED")
}

/// Which subscriptions are read from which server.
pub(crate) fn by_server<I>(
    sources: &crate::connection::topology::Sources,
    subscriptions: Vec<Subscription<I>>,
) -> Vec<(RedisUrl, Vec<Subscription<I>>)> {
    let mut servers: Vec<(RedisUrl, Vec<Subscription<I>>)> =
        sources.servers().iter().map(|url| (url.clone(), Vec::new())).collect();
    for subscription in subscriptions {
        let topic: Topic = subscription.stream.topic();
        servers[sources.index(topic)].1.push(subscription);
    }
    servers.retain(|(_, subscriptions)| !subscriptions.is_empty());
    servers
}
