//! The result of a decision.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    decision::stored::{Document, Stored},
    schema::{
        entity::{Entity, Kind, SortedSetEntry},
        keys::Key,
        stream::{Event, Stream},
    },
};

/// The result of a decision. Creating one has no effect.
#[derive(Debug)]
pub struct Changes<A = ()> {
    pub(crate) puts: Vec<Put>,
    pub(crate) appends: Vec<Append>,
    pub(crate) notes: Vec<Note>,
    pub(crate) deliveries: Vec<String>,
    /// A limit, and the answer if it is already reached.
    pub(crate) limit: Option<(SetLimit, A)>,
    pub(crate) answer: Option<A>,
}

/// A limit for the members of a sorted set that a decision adds a member to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SetLimit {
    /// The key of the set.
    pub(crate) set: String,
    /// The prefix of the members that count.
    pub(crate) prefix: String,
    /// The maximum number of these members.
    pub(crate) members: u64,
}

#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(super) kind: &'static Kind,
    pub(super) entity: Arc<dyn Stored>,
    pub(super) sorted_sets_of: fn(&Document) -> Vec<SortedSetEntry>,
    pub(super) joins_again: bool,
}

#[cfg(feature = "simulation")]
impl Put {
    /// The new document.
    pub(crate) fn json(&self) -> String {
        self.entity.json()
    }
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The stream.
    pub stream: Stream,
    /// The JSON object.
    pub json: String,
}

/// A line for the log, written once the decision is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether the line is written at level debug only.
    pub is_detail: bool,
    /// The id of the entity, if the line concerns a single one.
    pub subject: Option<Uuid>,
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
    /// No changes.
    pub fn none() -> Self {
        Self::default()
    }

    /// Writes an entity, which `reads` must have named as loaded or fresh. Its last state in a
    /// commit is announced once, if its kind has a stream for that; a new entity joins the index of
    /// its kind and its own lists. Its sorted sets follow [`Entity::sorted_sets`].
    pub fn put<E: Entity>(&mut self, entity: E) {
        let key = Key::new(E::KIND, entity.id());
        let sorted_sets_of = Document::sorted_sets::<E>;
        let (kind, entity) = (E::KIND, Arc::new(entity));
        self.puts.push(Put { key, kind, entity, sorted_sets_of, joins_again: false });
    }

    /// Writes an unchanged entity so that it joins all of its sorted sets: an earlier version of
    /// the program wrote it with fewer. It is not announced.
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
    pub fn note(&mut self, subject: impl Into<Uuid>, text: impl Into<String>) {
        let subject = Some(subject.into());
        self.notes.push(Note { is_detail: false, subject, text: text.into() });
    }

    /// Logs, at level debug, a sentence about the entity with this id: about a step that every
    /// entity takes.
    pub fn detail(&mut self, subject: impl Into<Uuid>, text: impl Into<String>) {
        let subject = Some(subject.into());
        self.notes.push(Note { is_detail: true, subject, text: text.into() });
    }

    /// Logs a sentence that concerns no single entity.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.notes.push(Note { is_detail: false, subject: None, text: text.into() });
    }

    /// Prints a line on standard output once the decision is committed. The line is not part of the
    /// log, so no log level suppresses it.
    pub fn deliver(&mut self, line: String) {
        self.deliveries.push(line);
    }

    /// Limits the number of members with this prefix of a sorted set that [`put`](Self::put) adds a
    /// member to. The commit counts them first: if the limit is reached, nothing of this decision
    /// is written, and the caller gets the other answer.
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

    /// Whether there is nothing to store or publish.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.appends.is_empty()
    }
}
