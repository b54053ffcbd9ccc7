//! Topics and their streams.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A topic: the entities and streams of one owner service, which lie in one Redis.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Topic {
    name: &'static str,
    service: &'static str,
    dead_letters: &'static str,
}

impl Topic {
    /// The topic with this name, e.g. `order`, of this service, e.g. `order_service`, with this
    /// stream of dead letters: `events:{<name>}_dead`.
    ///
    /// # Panics
    ///
    /// If the stream has another key; at compile time if the topic is a constant.
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

    /// The owner service; also the name of its consumer group on every stream that it reads.
    pub const fn service(self) -> &'static str {
        self.service
    }

    /// The stream of [`DeadLetter`]s, the entries that the owner could not handle. No group reads
    /// it.
    pub const fn dead_letters(self) -> Stream {
        Stream::new(self.dead_letters, self, Writer::Owner, &[])
    }
}

/// The beginning of the key of every stream, up to the topic.
const EVENTS: &str = "events:{";

/// The part of a stream's key after its topic.
const fn after_topic<'a>(key: &'a str, topic: &str) -> &'a [u8] {
    after(after(after(key.as_bytes(), EVENTS.as_bytes()), topic.as_bytes()), b"}_")
}

/// The part of a text after a prefix.
///
/// # Panics
///
/// If the text does not begin with the prefix.
pub(super) const fn after<'a>(text: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    let Some((start, rest)) = text.split_at_checked(prefix.len()) else {
        panic!("a key begins with its topic");
    };
    let mut index = 0;
    while index < prefix.len() {
        assert!(start[index] == prefix[index], "a key begins with its topic");
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
    /// The stream with this key in the topic's Redis, with its kind of writer and with the topics
    /// whose owners read it through their consumer groups.
    ///
    /// # Panics
    ///
    /// If the key does not begin with `events:{<topic>}_`; at compile time if the stream is a
    /// constant.
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

    /// The same stream, whose entries carry the id of their subject in this member of the JSON
    /// object: a UUID, which the log names with entries that cannot be handled.
    #[must_use]
    pub const fn about(self, member: &'static str) -> Self {
        Self { subject: Some(member), ..self }
    }

    /// The key in Redis; the braces mark the hash tag for a cluster.
    pub const fn key(self) -> &'static str {
        self.key
    }

    /// The topic whose Redis contains the stream.
    pub const fn topic(self) -> Topic {
        self.topic
    }

    /// The kind of writer.
    pub const fn writer(self) -> Writer {
        self.writer
    }

    /// The topics whose owners read this stream through their consumer groups.
    pub const fn readers(self) -> &'static [Topic] {
        self.readers
    }

    /// The member of the JSON object with the id of the entry's subject.
    pub const fn subject(self) -> Option<&'static str> {
        self.subject
    }

    /// Whether this is its topic's stream of [`DeadLetter`]s.
    pub fn is_dead_letters(self) -> bool {
        self.key == self.topic.dead_letters
    }
}

/// Streams are in the order of their keys, which are unique.
impl PartialOrd for Stream {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stream {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(other.key)
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

/// The kind of writer of a stream; there is one for each stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writer {
    /// Clients, through the gateway: the entries are commands to the topic's owner.
    Clients,
    /// The topic's owner: the entries are events of the past.
    Owner,
}

/// The stream field with the id of the event.
pub const EVENT_ID: &str = "event_id";
/// The stream field with the JSON object.
pub const ENTITY: &str = "entity";
/// The stream field with the `traceparent` of the event (W3C Trace Context); optional.
pub const TRACEPARENT: &str = "traceparent";

/// An event: the JSON object in the `entity` field of its stream's entries.
pub trait Event: Serialize {
    /// The stream of the event.
    const STREAM: Stream;
}

/// An entry that could not be handled, with the data to investigate it and to publish it again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The stream of the entry.
    pub stream: String,
    /// The id of the entry: `<milliseconds>-<number>`.
    pub entry: String,
    /// The group that could not handle the entry.
    pub group: String,
    /// The reason.
    pub reason: String,
    /// The time, in milliseconds since 1970.
    pub at: u64,
    /// The fields of the entry, with bytes that are not UTF-8 replaced: all of them, or their first
    /// 64 KiB. Absent if the entry was deleted while it was pending, or not read because it had
    /// stopped the processes that read it.
    #[schema(value_type = BTreeMap<String, String>)]
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The total size of all names and values in bytes; only if `fields` were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_bytes: Option<u64>,
    /// `sha1:` and the SHA-1 of all names and values, concatenated; only if `fields` were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_digest: Option<String>,
}
