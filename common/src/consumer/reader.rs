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
        BATCH_INPUTS, Job,
        metrics::EngineMetrics,
        store_id::{self, Provenance},
    },
    schema::stream::Stream,
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
/// How often it is looked whether both Redis are still the ones they were.
const LOOK: Duration = Duration::from_secs(1);

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
    pub(crate) component: Arc<Component>,
    /// What it does besides reading, which goes on when that is denied.
    pub(crate) upkeep: Arc<Component>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: Arc<EngineMetrics>,
    /// Fails while the engine waits for its Redis.
    pub(crate) engine: Arc<Component>,
    /// What entries are read under now.
    pub(crate) provenance: Mutex<Option<Arc<Provenance>>>,
}

/// What a reader asks besides reading.
pub(super) struct Helper {
    /// To the Redis that is read from.
    pub(super) link: Link,
    /// To the service's own Redis.
    pub(super) own: Link,
    /// How long entries have been pending.
    pub(super) watch: Watch,
    /// Where the service's own store is in another Redis.
    pub(super) checkpoints: Option<Checkpoints>,
}

impl Helper {
    async fn look(&mut self) -> Result<(), ConnectionError> {
        match &mut self.checkpoints {
            Some(checkpoints) => checkpoints.look(&mut self.link).await,
            None => Ok(()),
        }
    }

    async fn write_down(&mut self) -> Result<(), ConnectionError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        checkpoints.look(&mut self.link).await?;
        checkpoints.write_down(&mut self.link).await
    }
}

/// What ended a round of reading.
pub(super) enum Interruption {
    Link(ConnectionError),
    /// The engine is gone.
    Closed,
}

impl From<ConnectionError> for Interruption {
    fn from(error: ConnectionError) -> Self {
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
            if !await_server(&mut link, &rights, &self.component, &shutdown).await? {
                return Ok(());
            }
            match original::check_for_history(&mut link, D::TOPIC, &streams).await {
                Ok(()) => break,
                Err(error @ ConnectionError::Unsuitable { .. }) => return Err(error.into()),
                Err(error) => self.component.failed(&error),
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
            checkpoints: (self.own != self.url).then(|| {
                let streams = self.subscriptions.iter().map(|it| it.stream).collect();
                Checkpoints::new(Link::new(self.own.clone(), GRACE), D::TOPIC, streams)
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
                    self.component.failed(&error);
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
        self.drain_own(blocking, helper.checkpoints.as_ref(), &mut pace).await?;
        backoff.reset();
        self.component.answered();
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
            if self.goes_back(&entries, helper) {
                helper.look().await?;
            }
            self.hand_over(entries, helper.checkpoints.as_ref()).await?;
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
    pub(super) fn provenance(&self) -> Arc<Provenance> {
        let known = self.provenance.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.as_ref().expect("it is noted before anything is read"))
    }

    /// Finds out what entries are read under from now on. Where that has changed, those that were read
    /// before and are not decided yet are dropped; gives whether what is pending has to be read again.
    async fn note_provenance(
        &self,
        blocking: &mut Link,
        helper: &Helper,
    ) -> Result<bool, ConnectionError> {
        let (own, source) = match &helper.checkpoints {
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

    async fn create_groups(&self, link: &mut Link) -> Result<(), ConnectionError> {
        for subscription in &self.subscriptions {
            let mut create = redis::cmd("XGROUP");
            create.arg("CREATE").arg(subscription.stream.key()).arg(D::TOPIC.service());
            create.arg("0").arg("MKSTREAM");
            match link.ask("XGROUP CREATE", create).await {
                Ok(_) => {}
                Err(ConnectionError::Refused { message, .. }) if message.contains("BUSYGROUP") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads `count` entries of each of these streams behind an id: `>` stands for new entries, a number for those that are
    /// pending for this instance.
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

    /// Whether entries came that were delivered before.
    fn goes_back(&self, entries: &[(String, Vec<Entry>)], helper: &mut Helper) -> bool {
        let Some(checkpoints) = &mut helper.checkpoints else { return false };
        let mut back = false;
        for (name, entries) in entries {
            let stream = self.subscriptions.iter().find(|it| it.stream.key() == name);
            if let (Some(it), [first, ..], Some(last)) = (stream, &entries[..], entries.last()) {
                back |= checkpoints.goes_back(it.stream, first.id, last.id);
            }
        }
        back
    }
}

pub(super) fn group_is_gone(message: &str) -> bool {
    message.contains("NOGROUP") || message.contains("UNBLOCKED")
}
