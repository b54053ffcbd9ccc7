//! The AsyncAPI document: every stream as a channel, with its writer and its readers.
//!
//! Served at `/asyncapi.json`; `gateway_api/asyncapi.yaml` is the same document, and a test fails
//! when it is stale. Redis has no binding in AsyncAPI: its properties are in `x-redis`.

use std::collections::BTreeMap;

use common::schema::stream::{ENTITY, EVENT_ID, TRACEPARENT};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, schema::Schema};

use super::{
    channels::{self, Description},
    examples,
};

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AsyncApi {
    asyncapi: &'static str,
    info: Value,
    default_content_type: &'static str,
    servers: Value,
    channels: Map<Channel>,
    operations: Map<Operation>,
    components: Components,
}

#[derive(Serialize)]
struct Channel {
    address: &'static str,
    description: &'static str,
    messages: BTreeMap<&'static str, Reference>,
    tags: [Tag; 1],
    #[serde(rename = "x-redis")]
    redis: Value,
}

#[derive(Serialize)]
struct Operation {
    action: &'static str,
    channel: Reference,
    summary: String,
    tags: [Tag; 1],
    messages: [Reference; 1],
    #[serde(rename = "x-redis")]
    redis: Value,
}

#[derive(Serialize)]
struct Components {
    messages: BTreeMap<&'static str, Message>,
    schemas: BTreeMap<String, RefOr<Schema>>,
}

#[derive(Serialize)]
struct Message {
    name: &'static str,
    headers: Reference,
    payload: Reference,
    examples: [Value; 1],
    #[serde(rename = "x-redis")]
    redis: Value,
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "$ref")]
    to: String,
}

#[derive(Serialize)]
struct Tag {
    name: &'static str,
}

/// The name of the schema of an entry's other fields.
const HEADERS: &str = "EntryFields";

/// The document.
///
/// # Panics
///
/// An example is not JSON, which no type gives.
pub fn document() -> AsyncApi {
    let mut channels = Map::default();
    let mut operations = Map::default();
    let mut messages = BTreeMap::new();
    let mut schemas = BTreeMap::from([(HEADERS.to_owned(), channels::other_fields().into())]);
    for description in channels::all() {
        channels.add(description.id(), channel(&description));
        let sender = description.sender();
        operations.add(
            format!("{sender}-send-{}", description.id()),
            operation(&description, "send", sender, json!({ "command": "XADD" })),
        );
        for reader in description.stream.readers() {
            let reader = reader.service();
            operations.add(
                format!("{reader}-receive-{}", description.id()),
                operation(
                    &description,
                    "receive",
                    reader,
                    json!({ "command": "XREADGROUP", "group": reader }),
                ),
            );
        }
        messages.insert(description.message, message(&description));
        let named = description.parts.into_iter().chain([description.payload]);
        schemas.extend(named.map(|(name, schema)| (name, as_json_schema(schema))));
    }
    AsyncApi {
        asyncapi: "3.0.0",
        info: info(),
        default_content_type: "application/json",
        servers: servers(),
        channels,
        operations,
        components: Components { messages, schemas },
    }
}

fn info() -> Value {
    json!({
        "title": "Orders: the events",
        "version": env!("CARGO_PKG_VERSION"),
        "description": format!(
            "The events between the services, on Redis Streams. An entry has the fields `{EVENT_ID}`, \
             `{ENTITY}`, which is a JSON object as text, and, if there is a trace context, \
             `{TRACEPARENT}`. Readers ignore unknown members and have defaults for members that are \
             not required, so services of several versions may run together. Each service reads \
             through the consumer group of its name. An entry is acknowledged when its effect is \
             stored. It may be delivered several times before that, but has its effect once. These \
             pages are also at `/docs/events`; the HTTP interface is at `/docs`."
        ),
        "license": { "name": "MIT OR Apache-2.0" },
    })
}

fn servers() -> Value {
    json!({
        "redis": {
            "host": "127.0.0.1:6379",
            "protocol": "redis",
            "description": "The Redis of all topics (REDIS_URL). A topic may have its own: \
                ORDER_REDIS_URL, INVENTORY_REDIS_URL, ACCOUNT_REDIS_URL, MESSAGE_REDIS_URL.",
        },
    })
}

fn channel(description: &Description) -> Channel {
    let stream = description.stream;
    let groups: Vec<&str> = stream.readers().iter().map(|reader| reader.service()).collect();
    let trimmed = match stream {
        _ if stream.is_dead_letters() => "never",
        _ if groups.is_empty() => {
            "all entries but the last STREAM_KEEP, or fewer if those exceed STREAM_KEEP_BYTES"
        }
        _ => {
            "entries that all groups have acknowledged, but not the last STREAM_KEEP, or fewer if \
             those exceed STREAM_KEEP_BYTES"
        }
    };
    Channel {
        address: stream.key(),
        description: description.meaning,
        messages: BTreeMap::from([(
            description.message,
            reference("components/messages", description.message),
        )]),
        tags: [Tag { name: stream.topic().name() }],
        redis: json!({ "type": "stream", "groups": groups, "trimmed": trimmed }),
    }
}

fn operation(
    description: &Description,
    action: &'static str,
    service: &'static str,
    redis: Value,
) -> Operation {
    let id = description.id();
    let how = match (action, service) {
        ("receive", _) => "through its consumer group",
        (_, "gateway_api") => "for its clients",
        _ => "as the owner of the topic",
    };
    Operation {
        action,
        summary: format!("{service} {action}s {}, {how}", description.message),
        channel: reference("channels", &id),
        tags: [Tag { name: service }],
        messages: [reference(&format!("channels/{id}/messages"), description.message)],
        redis,
    }
}

fn message(description: &Description) -> Message {
    let payload: Value = serde_json::from_str(&description.example).expect("it was made from JSON");
    let headers = json!({ EVENT_ID: examples::event_id(), TRACEPARENT: examples::TRACE });
    Message {
        name: description.message,
        headers: reference("components/schemas", HEADERS),
        payload: reference("components/schemas", &description.payload.0),
        examples: [json!({ "headers": headers, "payload": payload })],
        redis: json!({ "payload": { "field": ENTITY }, "headers": "the other fields" }),
    }
}

fn reference(section: &str, name: &str) -> Reference {
    Reference { to: format!("#/{section}/{name}") }
}

/// OpenAPI's `example` is `examples` in JSON Schema.
fn as_json_schema(schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = schema else { return schema };
    object.examples.extend(object.example.take());
    for property in object.properties.values_mut() {
        *property = as_json_schema(property.clone());
    }
    RefOr::T(Schema::Object(object))
}

/// A map in the order in which it was filled.
struct Map<V>(Vec<(String, V)>);

impl<V> Map<V> {
    fn add(&mut self, name: String, value: V) {
        self.0.push((name, value));
    }
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Serialize> Serialize for Map<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
