//! Readers of streams: consumer groups, recovery of what is pending, entries of the dead.
//!
//! One reader per source Redis, each with a connection of its own that may block in XREADGROUP. It
//! hands entries to the engine, which acknowledges them; the reader itself never does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{Cmd, Value};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    bookmarks::Bookmarks,
    decision::Decider,
    engine::{BATCH_INPUTS, Job, Origin, Work},
    entry::{Entry, entries, read_reply, text},
    events::{ENTITY, Stream, TRACEPARENT, Topic},
    health::Part,
    ids::EntryId,
    redis_link::{Backoff, Link, LinkError, RedisUrl, await_server, from_object},
    rights,
    store::{self, Provenance},
};

/// How long a read waits for entries, in milliseconds.
const BLOCK_MILLIS: u64 = 2_000;
/// How much longer than that its answer may take.
const GRACE: Duration = Duration::from_secs(5);
/// A read that came back sooner than this found entries waiting: there is traffic.
const BUSY: Duration = Duration::from_millis(1);
/// The pause after a read that was not full, under traffic.
const PAUSE: Duration = Duration::from_micros(500);
/// A consumer that was not seen for so long and has nothing pending is removed from its group.
const FORGET_MILLIS: u64 = 24 * 3_600 * 1_000;
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
    /// The service's own Redis, if that is another one.
    pub(crate) own: Option<RedisUrl>,
    pub(crate) subscriptions: Vec<Subscription<D::Input>>,
    pub(crate) instance: String,
    pub(crate) claim_idle_ms: u64,
    pub(crate) queue: mpsc::Sender<Job<D>>,
    pub(crate) part: Arc<Part>,
    /// What it does besides reading, which goes on when that is denied.
    pub(crate) upkeep: Arc<Part>,
    pub(crate) shutdown: CancellationToken,
    /// What entries are read under now.
    pub(crate) provenance: Mutex<Option<Arc<Provenance>>>,
}

/// What a reader asks besides reading.
struct Helper {
    /// To the Redis that is read from.
    link: Link,
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
        let rights = rights::of_reader(D::TOPIC, &streams);
        if !await_server(&mut link, &rights, &self.part, &shutdown).await? {
            return Ok(());
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
            bookmarks: self.own.as_ref().map(|own| {
                let streams = self.subscriptions.iter().map(|it| it.stream).collect();
                Bookmarks::new(Link::new(own.clone(), GRACE), D::TOPIC, streams)
            }),
        };
        let mut backoff = Backoff::default();
        loop {
            match self.read_until_interrupted(&mut blocking, &mut helper, &mut backoff).await {
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
    ) -> Result<(), Interruption> {
        blocking.check_server().await?;
        self.create_groups(&mut helper.link).await?;
        helper.look().await?;
        self.note_provenance(blocking, helper).await?;
        // Entries whose delivery got lost with a connection, or with the process before this one.
        self.drain_own(blocking, helper.bookmarks.as_ref()).await?;
        backoff.reset();
        self.part.answered();
        let mut next_claim = Instant::now() + self.claim_interval();
        let mut next_look = Instant::now() + LOOK;
        let mut pause = PAUSE;
        loop {
            if self.provenance().is_lost() {
                // The engine has dropped entries of ours: begin anew.
                return Ok(());
            }
            let asked = Instant::now();
            let reply = blocking.ask("XREADGROUP", self.read_command(None)).await;
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
            let count: usize = entries.iter().map(|(_, entries)| entries.len()).sum();
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
            if count > 0 && count < BATCH_INPUTS / 2 && asked.elapsed() < BUSY {
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
        helper: &mut Helper,
    ) -> Result<bool, LinkError> {
        let (own, source) = match &mut helper.bookmarks {
            None => (store::identify(blocking, D::TOPIC).await?, Vec::new()),
            Some(bookmarks) => {
                let mut source = bookmarks.upstream();
                source.push(blocking.run_id().await?.to_string());
                (bookmarks.own_identity().await?, source)
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

    /// With `after`: what is pending for this instance behind that entry; without: what is new.
    fn read_command(&self, after: Option<&[EntryId]>) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(D::TOPIC.service())
            .arg(&self.instance)
            .arg("COUNT")
            .arg(BATCH_INPUTS);
        if after.is_none() {
            read.arg("BLOCK").arg(BLOCK_MILLIS);
        }
        read.arg("STREAMS");
        for subscription in &self.subscriptions {
            read.arg(subscription.stream.key());
        }
        match after {
            None => self.subscriptions.iter().for_each(|_| {
                read.arg(">");
            }),
            Some(after) => after.iter().for_each(|id| {
                read.arg(id.to_string());
            }),
        }
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
    ) -> Result<(), Interruption> {
        let mut after = vec![EntryId::default(); self.subscriptions.len()];
        loop {
            let reply = link.ask("XREADGROUP", self.read_command(Some(&after))).await?;
            let entries = read_reply(reply);
            let mut found = 0;
            for (name, entries) in &entries {
                let place = self.subscriptions.iter().position(|s| s.stream.key() == name);
                if let (Some(place), Some(last)) = (place, entries.last()) {
                    after[place] = last.id;
                    found += entries.len();
                }
            }
            if found == 0 {
                return Ok(());
            }
            info!(entries = found, "taking up what was left pending");
            self.hand_over(entries, bookmarks).await?;
        }
    }

    /// Takes over what other instances left pending for too long, and removes instances that are
    /// long gone.
    async fn claim(&self, helper: &mut Helper) -> Result<(), Interruption> {
        let (link, bookmarks) = (&mut helper.link, helper.bookmarks.as_ref());
        for subscription in &self.subscriptions {
            let mut cursor = "0-0".to_owned();
            loop {
                let mut claim = redis::cmd("XAUTOCLAIM");
                claim.arg(subscription.stream.key()).arg(D::TOPIC.service()).arg(&self.instance);
                claim.arg(self.claim_idle_ms).arg(&cursor).arg("COUNT").arg(BATCH_INPUTS);
                let reply = match link.ask("XAUTOCLAIM", claim).await {
                    Err(LinkError::Refused { message, .. }) if group_is_gone(&message) => {
                        return Ok(());
                    }
                    reply => reply?,
                };
                let Value::Array(parts) = reply else { break };
                let mut parts = parts.into_iter();
                let next = parts.next().and_then(text).unwrap_or_else(|| "0-0".to_owned());
                let claimed = parts.next().unwrap_or(Value::Nil);
                // Redis 6.2 shows an entry that was deleted while it was pending as nil, and has
                // it pending here now.
                if matches!(&claimed, Value::Array(items) if items.contains(&Value::Nil)) {
                    self.drain_own(link, bookmarks).await?;
                }
                let entries = entries(claimed);
                if !entries.is_empty() {
                    let stream = subscription.stream;
                    info!(%stream, entries = entries.len(), "taking over what was left behind");
                    self.hand_over(vec![(stream.key().to_owned(), entries)], bookmarks).await?;
                }
                if next == "0-0" {
                    break;
                }
                cursor = next;
            }
            self.forget_the_dead(link, subscription.stream).await?;
        }
        Ok(())
    }

    /// Removes consumers that have nothing pending, in one step that sees that they have not: a
    /// consumer's pending entries would go with it.
    async fn forget_the_dead(&self, link: &mut Link, stream: Stream) -> Result<(), LinkError> {
        const SCRIPT: &str = include_str!("forget.lua");
        let mut forget = redis::cmd("EVAL");
        forget.arg(SCRIPT).arg(1).arg(stream.key());
        forget.arg(D::TOPIC.service()).arg(FORGET_MILLIS).arg(&self.instance);
        match link.ask("EVAL forget.lua", forget).await {
            Err(LinkError::Refused { message, .. }) => {
                // Only tidiness is at stake.
                warn!(%stream, message, "could not remove old consumers");
                Ok(())
            }
            reply => reply.map(|_| ()),
        }
    }

    async fn hand_over(
        &self,
        entries: Vec<(String, Vec<Entry>)>,
        bookmarks: Option<&Bookmarks>,
    ) -> Result<(), Interruption> {
        for (name, entries) in entries {
            let Some(subscription) = self.subscriptions.iter().find(|s| s.stream.key() == name)
            else {
                continue;
            };
            // Places for all at once: one by one, each would wait behind the commands of callers.
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let count = entries.len().min(BATCH_INPUTS);
                let places = self.queue.reserve_many(count).await;
                for place in places.map_err(|_| Interruption::Closed)? {
                    let Some(entry) = entries.next() else { break };
                    place.send(self.job(subscription, entry, bookmarks));
                }
            }
        }
        Ok(())
    }

    fn job(
        &self,
        subscription: &Subscription<D::Input>,
        entry: Entry,
        bookmarks: Option<&Bookmarks>,
    ) -> Job<D> {
        let Entry { id, fields } = entry;
        let forgotten = bookmarks.is_some_and(|it| it.is_forgotten(subscription.stream, id));
        let trace = fields.get(TRACEPARENT).and_then(traceparent);
        let work = match fields.get(ENTITY).map(std::str::from_utf8) {
            // Deleted from the stream while it was pending: there is nothing left to do.
            None if fields.0.is_empty() => Work::Nothing,
            None => Work::Unreadable(format!("it has no field `{ENTITY}`")),
            Some(Err(_)) => Work::Unreadable(format!("field `{ENTITY}` is not UTF-8")),
            Some(Ok(entity)) => {
                match (subscription.parse)(&StreamEntry { id, entity, forgotten }) {
                    Ok(Some(input)) => Work::Input(input),
                    Ok(None) => Work::Nothing,
                    Err(reason) => Work::Unreadable(reason),
                }
            }
        };
        // The fields are kept for the dead letter that it may become.
        let (stream, provenance) = (subscription.stream, self.provenance());
        let origin = Origin::Entry { stream, id, fields, provenance };
        Job::new(work, origin, trace)
    }
}

/// A `traceparent` that is one: two hexadecimal digits, 32, 16 and 2, with dashes between
/// (W3C Trace Context), neither id all zeros. Anything else is dropped, as the recommendation says.
pub fn traceparent(bytes: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = text.len() == 55
        && text.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => lower_hex(byte),
        });
    let zeros = |id: &str| id.bytes().all(|byte| byte == b'0');
    (fits && !text.starts_with("ff") && !zeros(&text[3..35]) && !zeros(&text[36..52]))
        .then(|| text.into())
}

fn group_is_gone(message: &str) -> bool {
    message.contains("NOGROUP") || message.contains("UNBLOCKED")
}

/// Which subscriptions are read from which server.
pub(crate) fn by_server<I>(
    sources: &crate::config::Sources,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_that_the_recommendation_allows_is_taken() {
        let trace = |text: &str| traceparent(text.as_bytes()).is_some();
        let (id, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert!(trace(&format!("00-{id}-{parent}-01")));
        for wrong in [
            String::new(),
            format!("ff-{id}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", id.to_uppercase()),
            format!("00-{id}-{parent}-01-more"),
            format!("00_{id}-{parent}-01"),
        ] {
            assert!(!trace(&wrong), "{wrong}");
        }
    }
}
