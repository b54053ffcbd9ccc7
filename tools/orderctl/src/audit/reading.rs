//! Reads from the Redis of every topic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::Context as _;
use common::{
    connection::{lag::ServerFacts, link::Link, topology::Sources},
    schema::{
        entry_id::EntryId,
        stream::{ENTITY, Stream, Topic},
    },
};
use redis::{Cmd, Pipeline, Value, from_redis_value};

/// The time that Redis has to answer one command.
const REDIS_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of keys or entries that are read at once.
const PAGE_SIZE: usize = 1_000;

/// The connections to the Redis servers of all topics.
pub(super) struct Links {
    sources: Sources,
    links: Vec<Link>,
}

/// The length of a stream.
pub(super) struct Length {
    pub(super) entries: u64,
    /// Whether no entry was ever removed.
    pub(super) complete: bool,
}

impl Links {
    pub(super) fn new(sources: &Sources) -> Self {
        let link = |url: &_| Link::new(Clone::clone(url), REDIS_TIMEOUT);
        Self { sources: sources.clone(), links: sources.servers().iter().map(link).collect() }
    }

    fn of(&mut self, topic: Topic) -> &mut Link {
        &mut self.links[self.sources.index(topic)]
    }

    /// Sends a command about a key that may be missing: `None` if it is.
    pub(super) async fn find(
        &mut self,
        topic: Topic,
        name: &'static str,
        command: Cmd,
    ) -> anyhow::Result<Option<Value>> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let link = self.of(topic);
        match link.send(&pipeline).await?.pop().unwrap_or(Value::Nil) {
            Value::ServerError(error)
                if error.details().is_some_and(|d| d.contains("no such key")) =>
            {
                Ok(None)
            }
            value => Ok(Some(link.accept(name, value)?)),
        }
    }

    /// The server information of the Redis of a topic.
    pub(super) async fn server(&mut self, topic: Topic) -> anyhow::Result<ServerFacts> {
        let mut ask = redis::cmd("INFO");
        ask.arg("server");
        Ok(ServerFacts::from_reply(self.of(topic).ask("INFO", ask).await?))
    }

    /// The length of a stream; `None` if it does not exist.
    pub(super) async fn length(&mut self, stream: Stream) -> anyhow::Result<Option<Length>> {
        let mut ask = redis::cmd("XINFO");
        ask.arg("STREAM").arg(stream.key());
        let Some(found) = self.find(stream.topic(), "XINFO STREAM", ask).await? else {
            return Ok(None);
        };
        let mut found: HashMap<String, Value> = from_redis_value(found)?;
        let entries = take(&mut found, "length")?.unwrap_or(0);
        // Redis before version 7 does not count the entries added.
        let added: Option<u64> = take(&mut found, "entries-added")?;
        Ok(Some(Length { entries, complete: added == Some(entries) }))
    }

    /// All keys with this prefix.
    pub(super) async fn keys(
        &mut self,
        topic: Topic,
        prefix: &str,
    ) -> anyhow::Result<BTreeSet<String>> {
        let mut keys = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(PAGE_SIZE);
            let page = self.of(topic).ask("SCAN", scan).await?;
            let (next, found): (String, Vec<String>) = from_redis_value(page)?;
            keys.extend(found);
            if next == "0" {
                return Ok(keys);
            }
            cursor = next;
        }
    }

    /// The strings at these keys; `None` for a key without a string.
    pub(super) async fn strings(
        &mut self,
        topic: Topic,
        keys: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeMap<String, Option<String>>> {
        let keys: Vec<&String> = keys.iter().collect();
        let mut strings = BTreeMap::new();
        for page in keys.chunks(PAGE_SIZE) {
            let mut read = redis::cmd("MGET");
            read.arg(page);
            let values: Vec<Option<String>> =
                from_redis_value(self.of(topic).ask("MGET", read).await?)?;
            strings.extend(page.iter().map(|key| (*key).clone()).zip(values));
        }
        Ok(strings)
    }

    /// The string at this key.
    pub(super) async fn string(
        &mut self,
        topic: Topic,
        key: &str,
    ) -> anyhow::Result<Option<String>> {
        let mut read = redis::cmd("GET");
        read.arg(key);
        Ok(from_redis_value(self.of(topic).ask("GET", read).await?)?)
    }

    /// The values of all fields of a hash.
    pub(super) async fn values(&mut self, topic: Topic, key: &str) -> anyhow::Result<Vec<String>> {
        let mut read = redis::cmd("HVALS");
        read.arg(key);
        Ok(from_redis_value(self.of(topic).ask("HVALS", read).await?)?)
    }

    /// The elements of a list.
    pub(super) async fn list(&mut self, topic: Topic, key: &str) -> anyhow::Result<Vec<String>> {
        let mut read = redis::cmd("LRANGE");
        read.arg(key).arg(0).arg(-1);
        Ok(from_redis_value(self.of(topic).ask("LRANGE", read).await?)?)
    }

    /// The members of a sorted set whose scores should be 0; a member with another score names it.
    pub(super) async fn members(&mut self, topic: Topic, key: &str) -> anyhow::Result<Vec<String>> {
        let mut read = redis::cmd("ZRANGE");
        read.arg(key).arg(0).arg(-1).arg("WITHSCORES");
        let members: Vec<(String, String)> =
            from_redis_value(self.of(topic).ask("ZRANGE", read).await?)?;
        let name = |(member, score): (String, String)| {
            if score == "0" { member } else { format!("{member} with score {score}") }
        };
        Ok(members.into_iter().map(name).collect())
    }

    /// The events on a stream, with their entries.
    pub(super) async fn entries(
        &mut self,
        stream: Stream,
    ) -> anyhow::Result<Vec<(EntryId, String)>> {
        type Entry = (String, Vec<(String, Vec<u8>)>);
        let mut entries = Vec::new();
        let mut from = "-".to_owned();
        loop {
            let mut read = redis::cmd("XRANGE");
            read.arg(stream.key()).arg(&from).arg("+").arg("COUNT").arg(PAGE_SIZE);
            let page = self.of(stream.topic()).ask("XRANGE", read).await?;
            let page: Vec<Entry> = from_redis_value(page)?;
            let Some((last, _)) = page.last() else { return Ok(entries) };
            from = format!("({last}");
            for (id, fields) in page {
                let json = fields.iter().find(|(name, _)| name == ENTITY);
                let json = json.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
                entries.push((id.parse().unwrap_or_default(), json.unwrap_or_default()));
            }
        }
    }
}

/// A value from a reply of names and values.
pub(super) fn take<T: redis::FromRedisValue>(
    reply: &mut HashMap<String, Value>,
    name: &str,
) -> anyhow::Result<Option<T>> {
    let value = reply.remove(name).map(from_redis_value).transpose();
    value.with_context(|| format!("{name} in a reply to XINFO"))
}
