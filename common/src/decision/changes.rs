//! What a decision comes to.

use std::{fmt, sync::Arc};

use crate::{
    decision::stored::{Document, Stored},
    schema::{
        entity::{Entity, Kind, Place},
        keys::Key,
        stream::{Event, Stream},
    },
};

/// What a decision comes to. Nothing happens by making one.
#[derive(Debug)]
pub struct Changes<A = ()> {
    pub(crate) puts: Vec<Put>,
    pub(crate) appends: Vec<Append>,
    pub(crate) notes: Vec<Note>,
    pub(crate) deliveries: Vec<String>,
    /// A limit, and the answer if it is reached already.
    pub(crate) limit: Option<(SetLimit, A)>,
    pub(crate) answer: Option<A>,
}

/// A limit for the members of a sorted set that a decision adds one to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SetLimit {
    /// The key of the set.
    pub(crate) set: String,
    /// With what the members begin that count.
    pub(crate) prefix: String,
    /// The most of them.
    pub(crate) members: u64,
}

#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(super) kind: &'static Kind,
    pub(super) entity: Arc<dyn Stored>,
    pub(super) places_of: fn(&Document) -> Vec<Place>,
    pub(super) joins_again: bool,
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where.
    pub stream: Stream,
    /// The JSON object.
    pub json: String,
}

/// A line for the log, written once the decision is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The id of what it is about, if it is about one entity.
    pub subject: Option<String>,
    /// A sentence.
    pub text: String,
}

impl<A> Default for Changes<A> {
    fn default() -> Self {
        Self {
            puts: Vec::new(),
            appends: Vec::new(),
            notes: Vec::new(),
            deliveries: Vec::new(),
            limit: None,
            answer: None,
        }
    }
}

impl<A> Changes<A> {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// Writes an entity, which `reads` must have named as loaded or fresh. It is announced once
    /// per commit with its last state, where its kind has a stream for that; a new one joins its
    /// kind's index and its own lists. Its sorted sets follow [`Entity::places`].
    pub fn put<E: Entity>(&mut self, entity: E) {
        let key = Key::new(E::KIND, entity.id());
        let places_of = Document::places::<E>;
        let (kind, entity) = (E::KIND, Arc::new(entity));
        self.puts.push(Put { key, kind, entity, places_of, joins_again: false });
    }

    /// Writes an entity that has not changed, so that it joins all of its sorted sets: an earlier
    /// version of the program that wrote it knew fewer. It is not announced.
    pub fn join_again<E: Entity>(&mut self, entity: E) {
        self.put(entity);
        self.puts.iter_mut().next_back().expect("it was just put").joins_again = true;
    }

    /// Publishes an event.
    pub fn append<E: Event>(&mut self, event: &E) {
        let json = serde_json::to_string(event).expect("events have string keys only");
        self.appends.push(Append { stream: E::STREAM, json });
    }

    /// Logs a sentence about the entity with this id.
    pub fn note(&mut self, subject: impl fmt::Display, text: impl Into<String>) {
        self.notes.push(Note { subject: Some(subject.to_string()), text: text.into() });
    }

    /// Logs a sentence about something else.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.notes.push(Note { subject: None, text: text.into() });
    }

    /// Prints a line on standard output once the decision is committed. It is no part of the log: no
    /// level keeps it back.
    pub fn deliver(&mut self, line: String) {
        self.deliveries.push(line);
    }

    /// Limits the members with this prefix of a sorted set which [`put`](Self::put) adds one to. The
    /// commit counts them before it adds one: where there are as many already, nothing of this decision
    /// happens and the caller gets the other answer.
    pub fn limit(&mut self, set: &str, prefix: String, members: u64, otherwise: A) {
        self.limit = Some((SetLimit { set: set.to_owned(), prefix, members }, otherwise));
    }

    /// Answers the caller of a command.
    #[must_use]
    pub fn answering(mut self, answer: A) -> Self {
        self.answer = Some(answer);
        self
    }

    /// The answer to the caller, for tests.
    pub fn into_answer(self) -> Option<A> {
        self.answer
    }

    /// The events to publish, for tests.
    pub fn events(&self) -> &[Append] {
        &self.appends
    }

    /// Whether nothing is to be stored or published.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.appends.is_empty()
    }
}
