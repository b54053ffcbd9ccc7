//! The streams of a system in Redis.

use std::collections::HashMap;

use common::{
    contract::streams::topics,
    schema::stream::{ENTITY, EVENT_ID, Stream, Topic},
};
use redis::{FromRedisValue, aio::MultiplexedConnection};
use serde_json::Value;
use stack::Database;

/// The number of calls of a command that Redis has processed.
pub async fn calls(redis: &mut MultiplexedConnection, command: &str) -> u64 {
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(redis).await.expect("INFO");
    let line = info.lines().find_map(|it| it.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|it| it.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// A field of a section of INFO that is a number.
pub async fn info(redis: &mut MultiplexedConnection, section: &str, field: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg(section).query_async(redis).await.expect("INFO");
    let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.expect("a field").trim().parse().expect("a number")
}

/// Runs a command of these words, which must succeed.
pub async fn run<T: FromRedisValue>(redis: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(redis).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// A command of Redis from a line, its words separated by blanks.
pub fn command(line: &str) -> redis::Cmd {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a command"));
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

/// The stack's name for a topic's Redis.
pub fn database(topic: Topic) -> Database {
    match topic {
        topics::ORDER => Database::Order,
        topics::INVENTORY => Database::Inventory,
        topics::ACCOUNT => Database::Account,
        topics::MESSAGE => Database::Message,
        other => unreachable!("{} is no topic of the shop", other.name()),
    }
}

/// Publishes an event in the place of a client or a service.
pub async fn publish(redis: &mut MultiplexedConnection, stream: Stream, id: &str, entity: &Value) {
    let event_id = common::random::new_id().to_string();
    let mut add = redis::cmd("XADD");
    add.arg(stream.key()).arg(id).arg(EVENT_ID).arg(event_id).arg(ENTITY).arg(entity.to_string());
    let _: String = add.query_async(redis).await.expect("the entry is added");
}

/// An entry of a stream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The id.
    pub id: String,
    /// The fields.
    pub fields: HashMap<String, String>,
}

impl Entry {
    /// The event.
    pub fn entity(&self) -> Value {
        serde_json::from_str(&self.fields[ENTITY]).expect("JSON")
    }
}
