//! What the servers store, read without a command.

use common::schema::{
    entity::Entity,
    stored_form,
    stream::{ENTITY, Topic},
};
use serde_json::Value as Json;

use crate::{
    redis::{Appended, Value},
    world::World,
};

/// All entities of a kind.
pub fn all<E: Entity>(world: &World, topic: Topic) -> Vec<E> {
    let documents = documents(world, topic, E::KIND.prefix).into_iter();
    documents.filter_map(|json| serde_json::from_value(json).ok()).collect()
}

/// All documents below a prefix of keys.
pub fn documents(world: &World, topic: Topic, prefix: &str) -> Vec<Json> {
    let redis = world.servers[world.server_of(topic)].redis.borrow();
    let mut found = Vec::new();
    for (key, value) in redis.keys() {
        if key.starts_with(prefix.as_bytes())
            && let Value::String(text) = value
            && let Some((_, json)) = stored_form::parse(&String::from_utf8_lossy(text))
        {
            found.extend(serde_json::from_str::<Json>(json).ok());
        }
    }
    found
}

/// All events that were ever published on a stream, those that were trimmed included.
pub fn events(world: &World, topic: Topic, stream: &str) -> Vec<Json> {
    let redis = world.servers[world.server_of(topic)].redis.borrow();
    let of_stream = redis.appended().iter().filter(|it| *it.key == *stream.as_bytes());
    of_stream.filter_map(entity).collect()
}

/// The document in an entry.
pub fn entity(entry: &Appended) -> Option<Json> {
    let value = entry.fields.chunks(2).find(|pair| pair[0] == ENTITY.as_bytes())?.get(1)?;
    serde_json::from_slice(value).ok()
}
