//! The loop that reads the subscribed streams of one Redis.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::Cmd;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Subscription, checkpoints::Checkpoints, original, pace::Pace, pending::Watch};
use crate::{
    connection::{
        backoff::Backoff,
        entry::{Entry, read_reply},
        error::ConnectionError,
        health::Component,
        link::Link,
        permissions,
        startup::await_server,
        url::RedisUrl,
    },
    decision::Decider,
    engine::{
        Job, Limits,
        metrics::EngineMetrics,
        store_id::{self, Provenance},
    },
    planted,
    schema::stream::Stream,
};

/// The pause before the reader reads dropped entries again.
const LOST_PAUSE: Duration = Duration::from_millis(50);
/// The time in milliseconds that a read waits for entries.
const BLOCK_MILLIS: u64 = 2_000;
/// The additional time that the answer to a waiting read may take.
const BLOCK_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);
/// A read that returns sooner than this found waiting entries: there is traffic.
const BUSY_READ_TIME: Duration = Duration::from_millis(1);
/// The pause after a partial read under traffic.
const BATCHING_PAUSE: Duration = Duration::from_micros(500);
/// How often the reader checks whether both Redis servers and their data are unchanged.
const IDENTITY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the subscribed streams of one Redis.
pub(crate) struct Reader<D: Decider> {
    pub(crate) url: RedisUrl,
    /// The service's own Redis, which may be the same.
    pub(crate) own: RedisUrl,
    pub(crate) subscriptions: Vec<Subscription<D::Input>>,
    pub(crate) instance: String,
    pub(crate) claim_idle_ms: u64,
    pub(crate) limits: Limits,
    pub(crate) queue: mpsc::Sender<Job<D>>,
    /// The memory limit for entries in KiB, shared by all readers of the process.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) component: Arc<Component>,
    /// The health of the upkeep, which may be denied while reading continues.
    pub(crate) upkeep: Arc<Component>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: Arc<EngineMetrics>,
    /// The health of the engine, which fails while the engine waits for its Redis.
    pub(crate) engine: Arc<Component>,
    /// The current provenance of entries.
    pub(crate) provenance: Mutex<Option<Arc<Provenance>>>,
}

/// The connections and the state for the reader's tasks besides reading.
pub(super) struct Upkeep {
    /// The link to the Redis that the reader reads from.
    pub(super) link: Link,
    /// The link to the service's own Redis.
    pub(super) own: Link,
    /// The idle times of pending entries.
    pub(super) watch: Watch,
    /// Present if the service's own store is in another Redis.
    pub(super) checkpoints: Option<Checkpoints>,
}

impl Upkeep {
    async fn compare(&mut self) -> Result<(), ConnectionError> {
        match &mut self.checkpoints {
            Some(checkpoints) => checkpoints.compare(&mut self.link).await,
            None => Ok(()),
        }
    }

    async fn save(&mut self) -> Result<(), ConnectionError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        checkpoints.compare(&mut self.link).await?;
        checkpoints.save(&mut self.link).await
    }
}

/// The reason why a round of reading ended.
pub(super) enum Interruption {
    Link(ConnectionError),
    /// The engine has stopped.
    Closed,
}

impl From<ConnectionError> for Interruption {
    fn from(error: ConnectionError) -> Self {
        Self::Link(error)
    }
}

impl<D: Decider> Reader<D> {
    /// Reads until the shutdown. Entries that were not acknowledged stay pending in the group.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        let mut link = Link::new(self.url.clone(), BLOCK_TIMEOUT_MARGIN);
        let streams: Vec<Stream> = self.subscriptions.iter().map(|it| it.stream).collect();
        let required = permissions::of_reader(D::TOPIC, &streams);
        loop {
            if !await_server(&mut link, &required, &self.component, &shutdown).await? {
                return Ok(());
            }
            match original::check_for_history(&mut link, D::TOPIC, &streams).await {
                Ok(()) => break,
                Err(error @ ConnectionError::Unsuitable { .. }) => return Err(error.into()),
                Err(error) => self.component.failed(&error),
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.read_forever() => {}
        }
        Ok(())
    }

    async fn read_forever(self) {
        let answer_timeout = Duration::from_millis(BLOCK_MILLIS) + BLOCK_TIMEOUT_MARGIN;
        let mut blocking = Link::new(self.url.clone(), answer_timeout);
        let mut upkeep = Upkeep {
            link: Link::new(self.url.clone(), BLOCK_TIMEOUT_MARGIN),
            own: Link::new(self.own.clone(), BLOCK_TIMEOUT_MARGIN),
            watch: Watch::default(),
            checkpoints: (self.own != self.url).then(|| {
                let streams = self.subscriptions.iter().map(|it| it.stream).collect();
                Checkpoints::new(
                    Link::new(self.own.clone(), BLOCK_TIMEOUT_MARGIN),
                    D::TOPIC,
                    streams,
                )
            }),
        };
        let mut backoff = Backoff::default();
        let mut begun = false;
        loop {
            match self
                .read_until_interrupted(&mut blocking, &mut upkeep, &mut backoff, &mut begun)
                .await
            {
                Ok(()) => {}
                Err(Interruption::Closed) => return,
                Err(Interruption::Link(error)) => {
                    self.component.failed(&error);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Creates the groups, reads the pending entries of this instance, and continues with new ones.
    /// Returns `Ok` when the groups are gone and have to be created again.
    async fn read_until_interrupted(
        &self,
        blocking: &mut Link,
        upkeep: &mut Upkeep,
        backoff: &mut Backoff,
        begun: &mut bool,
    ) -> Result<(), Interruption> {
        blocking.check_server().await?;
        self.create_groups(&mut upkeep.link).await?;
        upkeep.compare().await?;
        if self.note_provenance(blocking, upkeep).await? {
            upkeep.watch = Watch::default();
        }
        // The previous process may have died of an entry that it had read.
        if !*begun {
            self.handle_own_suspects(upkeep).await?;
            *begun = true;
        }
        let mut pace = Pace::slow_start(self.limits.batch_inputs);
        // Entries whose delivery was lost with a connection, or with the previous process.
        self.drain_own(blocking, upkeep.checkpoints.as_ref(), &mut pace).await?;
        backoff.reset();
        self.component.answered();
        let mut next_claim = Instant::now() + self.claim_interval();
        let mut next_check = Instant::now() + IDENTITY_CHECK_INTERVAL;
        let mut pause = BATCHING_PAUSE;
        let mut streams: Vec<usize> = (0..self.subscriptions.len()).collect();
        loop {
            if self.provenance().is_lost() {
                // The engine has dropped entries of this reader: the reader starts again, after a
                // pause in case the engine drops them again.
                tokio::time::sleep(LOST_PAUSE).await;
                return Ok(());
            }
            let asked = Instant::now();
            // A read that covers only some of the streams is followed by one of the others.
            let width = pace.streams(streams.len());
            let (waits, count) = (width == streams.len(), pace.count(width));
            let new = streams[..width].iter().map(|stream| (*stream, ">".to_owned()));
            let read = self.read_command(count, waits, new);
            streams.rotate_left(width);
            let reply = blocking.ask("XREADGROUP", read).await;
            let entries = match reply {
                Ok(value) => read_reply(value),
                Err(_) if planted!("missing groups are not created again") => Vec::new(),
                // After FLUSHALL, DEL or a replacement by an empty Redis the reader starts again.
                Err(ConnectionError::Refused { message, .. }) if group_is_gone(&message) => {
                    info!("the consumer groups are gone; creating them again");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            self.component.answered();
            let found: usize = entries.iter().map(|(_, entries)| entries.len()).sum();
            let is_full = !waits || entries.iter().any(|(_, entries)| entries.len() >= count);
            pace.saw(entries.iter().map(|(_, entries)| &entries[..]), waits);
            if self.was_set_back(&entries, upkeep) {
                upkeep.compare().await?;
            }
            self.hand_over(entries, upkeep.checkpoints.as_ref()).await?;
            if Instant::now() >= next_check {
                // Reading continues while the own Redis is away: the engine waits for it.
                match upkeep.compare().await {
                    Ok(()) if self.note_provenance(blocking, upkeep).await? => return Ok(()),
                    Ok(()) => {}
                    Err(error) => self.upkeep.denied(&error),
                }
                next_check = Instant::now() + IDENTITY_CHECK_INTERVAL;
            }
            if Instant::now() >= next_claim {
                self.run_upkeep(upkeep).await?;
                next_claim = Instant::now() + self.claim_interval();
            }
            // Under traffic a small read would be followed by an equally small one: a short pause
            // makes reads fewer and larger. After an idle period there is no pause.
            if found > 0
                && found < self.limits.batch_inputs / 2
                && !is_full
                && asked.elapsed() < BUSY_READ_TIME
            {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BATCHING_PAUSE * 4);
            } else {
                pause = BATCHING_PAUSE;
            }
        }
    }

    /// The current provenance of entries.
    pub(super) fn provenance(&self) -> Arc<Provenance> {
        let known = self.provenance.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.as_ref().expect("it is noted before anything is read"))
    }

    /// Determines the provenance of the next entries. If it has changed, undecided entries that
    /// were read before are dropped. Returns whether pending entries have to be read again.
    async fn note_provenance(
        &self,
        blocking: &mut Link,
        upkeep: &Upkeep,
    ) -> Result<bool, ConnectionError> {
        let (own, source) = match &upkeep.checkpoints {
            None => (Some(store_id::identify(blocking, D::TOPIC).await?), Vec::new()),
            Some(checkpoints) => {
                let mut source = checkpoints.upstream();
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

    /// Takes over abandoned entries and saves the positions of the groups.
    async fn run_upkeep(&self, upkeep: &mut Upkeep) -> Result<(), Interruption> {
        let claimed = match self.claim(upkeep).await {
            Err(Interruption::Link(error)) if error.is_lasting() => Err(error),
            claimed => Ok(claimed?),
        };
        match claimed.and(upkeep.save().await) {
            Ok(()) => self.upkeep.answered(),
            Err(error) => self.upkeep.denied(&error),
        }
        Ok(())
    }

    /// The interval between takeovers: short enough to find the entries of dead instances soon, and
    /// different for each instance.
    fn claim_interval(&self) -> Duration {
        let third = self.claim_idle_ms / 3;
        Duration::from_millis(fastrand::u64(third..=third * 2))
    }

    async fn create_groups(&self, link: &mut Link) -> Result<(), ConnectionError> {
        for subscription in &self.subscriptions {
            let mut create = redis::cmd("XGROUP");
            create.arg("CREATE").arg(subscription.stream.key()).arg(D::TOPIC.service());
            let start = if planted!("a group begins at the end") { "$" } else { "0" };
            create.arg(start).arg("MKSTREAM");
            match link.ask("XGROUP CREATE", create).await {
                Ok(_) => {}
                Err(ConnectionError::Refused { message, .. }) if message.contains("BUSYGROUP") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads `count` entries of each of these streams behind an id: `>` stands for new entries, a
    /// number for those that are pending for this instance.
    pub(super) fn read_command(
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

    /// Whether some of the entries had been delivered before.
    fn was_set_back(&self, entries: &[(String, Vec<Entry>)], upkeep: &mut Upkeep) -> bool {
        let Some(checkpoints) = &mut upkeep.checkpoints else { return false };
        let mut back = false;
        for (name, entries) in entries {
            let stream = self.subscriptions.iter().find(|it| it.stream.key() == name);
            if let (Some(it), [first, ..], Some(last)) = (stream, &entries[..], entries.last()) {
                back |= checkpoints.was_set_back(it.stream, first.id, last.id);
            }
        }
        back
    }
}

pub(super) fn group_is_gone(message: &str) -> bool {
    message.contains("NOGROUP") || message.contains("UNBLOCKED")
}
