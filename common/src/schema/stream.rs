//! Topics and their streams.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A topic: the entities and streams of one owner service, which lie in one Redis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Topic {
    name: &'static str,
    service: &'static str,
    dead_letters: &'static str,
}

impl Topic {
    /// The topic with this name, e.g. `order`, of this service, e.g. `order_service`, with this stream of dead
    /// letters: `events:{<name>}_dead`.
    ///
    /// # Panics
    ///
    /// At compile time where the topic is a constant: the stream has another key.
    pub const fn new(
        name: &'static str,
        service: &'static str,
        dead_letters: &'static str,
    ) -> Self {
        let what = after_topic(dead_letters, name);
        assert!(
            after(what, b"dead").is_empty(),
            "the stream of dead letters is events:{{<topic>}}_dead"
        );
        Self { name, service, dead_letters }
    }

    /// The hash tag without its braces, e.g. `order`.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The owner; also the name of its consumer group on every stream that it reads.
    pub const fn service(self) -> &'static str {
        self.service
    }

    /// The stream of [`DeadLetter`]s: what the owner could not handle. Nobody reads it through a group.
    pub const fn dead_letters(self) -> Stream {
        Stream::new(self.dead_letters, self, Writer::Owner, &[])
    }
}

/// With what the key of every stream begins, up to the topic.
const EVENTS: &str = "events:{";

/// What the key of a stream of this topic ends with.
const fn after_topic<'a>(key: &'a str, topic: &str) -> &'a [u8] {
    after(after(after(key.as_bytes(), EVENTS.as_bytes()), topic.as_bytes()), b"}_")
}

/// What follows this prefix.
///
/// # Panics
///
/// The text begins otherwise.
const fn after<'a>(text: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    let Some((start, rest)) = text.split_at_checked(prefix.len()) else {
        panic!("the key of a stream is events:{{<topic>}}_<what>");
    };
    let mut index = 0;
    while index < prefix.len() {
        assert!(start[index] == prefix[index], "the key of a stream is events:{{<topic>}}_<what>");
        index += 1;
    }
    rest
}

/// A stream of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    key: &'static str,
    topic: Topic,
    writer: Writer,
    readers: &'static [Topic],
    subject: Option<&'static str>,
}

impl Stream {
    /// The stream with this key, which lies in the topic's Redis, is appended to by this kind of writer and is
    /// read by the owners of these topics through their consumer groups.
    ///
    /// # Panics
    ///
    /// At compile time where the stream is a constant: the key does not begin with `events:{<topic>}_`.
    pub const fn new(
        key: &'static str,
        topic: Topic,
        writer: Writer,
        readers: &'static [Topic],
    ) -> Self {
        assert!(
            !after_topic(key, topic.name).is_empty(),
            "the key of a stream is events:{{<topic>}}_<what>"
        );
        Self { key, topic, writer, readers, subject: None }
    }

    /// The same stream, whose entries name in this member of their JSON object what they are about: a UUID,
    /// which is logged with entries that cannot be handled.
    #[must_use]
    pub const fn about(self, member: &'static str) -> Self {
        Self { subject: Some(member), ..self }
    }

    /// The key in Redis; the braces are the cluster's hash tag.
    pub const fn key(self) -> &'static str {
        self.key
    }

    /// The topic in whose Redis the stream lies.
    pub const fn topic(self) -> Topic {
        self.topic
    }

    /// Who appends to it.
    pub const fn writer(self) -> Writer {
        self.writer
    }

    /// The owners of the topics whose services read this stream through their group.
    pub const fn readers(self) -> &'static [Topic] {
        self.readers
    }

    /// The member of the JSON object that names what an entry is about.
    pub const fn subject(self) -> Option<&'static str> {
        self.subject
    }

    /// Whether this is its topic's stream of [`DeadLetter`]s.
    pub fn is_dead_letters(self) -> bool {
        self.key == self.topic.dead_letters
    }
}

impl std::hash::Hash for Stream {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Who appends to a stream; there is one kind of writer for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writer {
    /// Clients, through the gateway: what is in it asks something of the topic's owner.
    Clients,
    /// The topic's owner: what is in it has happened.
    Owner,
}

/// The stream field that names the event.
pub const EVENT_ID: &str = "event_id";
/// The stream field with the JSON object.
pub const ENTITY: &str = "entity";
/// The stream field with the trace that the event belongs to (W3C Trace Context); optional.
pub const TRACEPARENT: &str = "traceparent";

/// An event is the JSON object in the `entity` field of its stream's entries.
pub trait Event: Serialize {
    /// Where it is published.
    const STREAM: Stream;
}

/// An entry that could not be handled, with all that is needed to look into it and send it again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The stream that it came from.
    pub stream: String,
    /// Its entry there: `<milliseconds>-<number>`.
    pub entry: String,
    /// The group that could not handle it.
    pub group: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Its fields, bytes that are not UTF-8 replaced: whole, or their first 64 KiB. None if it was deleted
    /// while it was pending, or not read because it had stopped the processes that read it.
    #[schema(value_type = BTreeMap<String, String>)]
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The bytes of all its names and values; only if `fields` were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_bytes: Option<u64>,
    /// `sha1:` and the SHA-1 of all its names and values, one after the other; only if `fields` were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_digest: Option<String>,
}
