//! Commands that travel as events: published on an owner's stream, and answered once the owner has
//! taken them up.

use std::{iter, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use common::{
    connection::{error::ConnectionError, shared_link::SharedLink},
    contract::{definitions::Definition, entities::Refused, ids::request_id},
    http::{
        problem::Problem,
        request::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, idempotency_key, trace},
    },
    schema::{
        entity::Entity,
        entry_id::EntryId,
        stream::{ENTITY, EVENT_ID, Event, TRACEPARENT},
    },
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use redis::{Pipeline, Value};
use serde::Serialize;
use uuid::Uuid;

use super::{
    backlogs::Backlogs,
    stores::{Stores, command_outcome, read_for_command},
};
use crate::access::{limits::reader::MeteredReader, tokens::caller::Caller};

/// The longest wait until the owner has taken up an event.
pub(crate) const TAKE_UP_TIMEOUT: Duration = Duration::from_secs(4);
/// The first and the longest pause between two looks at whether it has.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// The pauses between looks at whether an event was taken up, which mostly takes a moment: each is twice as
/// long as the one before, up to a limit.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> + Send {
    let [first, longest] = POLL_INTERVALS;
    iter::successors(Some(first), move |pause| Some((*pause * 2).min(longest)))
}

/// What publishing a command needs.
#[derive(Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) backlogs: &'a Backlogs,
}

/// Publishes events; gives their entries.
pub(crate) async fn publish<V: Event>(
    store: &SharedLink,
    events: &[V],
    trace: Option<&str>,
) -> Result<Vec<EntryId>, ConnectionError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(events.len());
    for event in events {
        let json = serde_json::to_string(event).expect("it has string keys only");
        let event_id = Uuid::new_v4().to_string();
        pipeline.cmd("XADD").arg(V::STREAM.key()).arg("*");
        pipeline.arg(EVENT_ID).arg(event_id).arg(ENTITY).arg(json);
        if let Some(trace) = trace {
            pipeline.arg(TRACEPARENT).arg(trace);
        }
    }
    Ok(store.send(&pipeline).await?.iter().map(entry_id).collect())
}

fn entry_id(value: &Value) -> EntryId {
    let text = match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or(""),
        Value::SimpleString(text) => text,
        _ => "",
    };
    text.parse().unwrap_or_default()
}

/// The key of a request: the client's, or one made here so that the answer can name it.
pub(crate) struct RequestKey {
    pub(crate) text: String,
    pub(crate) given: bool,
}

impl RequestKey {
    /// # Errors
    ///
    /// 400: the client's does not fit.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let given = idempotency_key(headers)?;
        Ok(match given {
            Some(text) => Self { text, given: true },
            None => Self { text: Uuid::new_v4().to_string(), given: false },
        })
    }

    /// Names the key in an answer after which the request may have had its effect all the same:
    /// with this key the client can find out.
    pub(crate) fn name_in(&self, mut response: Response) -> Response {
        if response.status().is_server_error()
            && let Ok(key) = HeaderValue::from_str(&self.text)
        {
            response.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        response
    }
}

/// Has something defined, once for each key, and answers with what its owner's record of the request
/// says: how it was when the request had its effect. `location` is the path of what has this id, `event` the
/// event of the request with an id of its own, `shown` what the caller may see of it.
pub(crate) async fn define<V: Event + PartialEq, E: Entity>(
    publisher: Publisher<'_>,
    (location, defined): (&str, &E::Id),
    event: impl FnOnce(Uuid) -> V,
    (caller, reader): (&Caller, &MeteredReader),
    headers: &HeaderMap,
    shown: impl FnOnce(E) -> E,
) -> Result<Response, Problem>
where
    Definition<V, E>: Entity<Id = Uuid>,
{
    let key = RequestKey::of(headers)?;
    // Each resource has requests of its own kind; which one it is about shows in the event.
    let kind = format!("define-{}", V::STREAM.topic().name());
    let id = request_id(&kind, caller.key(), &key.text);
    let event = event(id);
    let recorded = async {
        let store = publisher.stores.of(V::STREAM.topic());
        if key.given
            && let Some(record) =
                read_for_command(reader, store.get::<Definition<V, E>>(&id)).await?
        {
            return Ok((record, true));
        }
        // Where what stands cannot be read, the owner could only make a dead letter of the event.
        read_for_command(reader, store.get::<E>(defined)).await?;
        publisher.backlogs.check::<V>(reader, publisher.stores).await?;
        let trace = trace(headers);
        let entry =
            command_outcome(publish(store, std::slice::from_ref(&event), trace.as_deref()).await)?;
        let record = taken_up::<Definition<V, E>>(reader, store, &id).await?;
        // Of several calls with one key, the others' events came after the one that counts.
        let replayed = key.given && Some(&record.entry) != entry.first();
        Ok((record, replayed))
    };
    let answer = recorded.await.and_then(|(record, replayed)| {
        if record.asked != event {
            return Err(key_reused());
        }
        let entity = record.made.map(shown).ok_or_else(superseded)?;
        let mut response = Json(entity).into_response();
        if record.is_new {
            *response.status_mut() = StatusCode::CREATED;
            let location = HeaderValue::from_str(location).expect("ids are plain");
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(if replayed { mark_replayed(response) } else { response })
    });
    Ok(key.name_in(answer.unwrap_or_else(IntoResponse::into_response)))
}

/// Something that comes in once: an event, and the record that its owner keeps of it.
pub(crate) trait Incoming: Entity<Id = Uuid> {
    /// The event.
    type Event: Event;
    /// What it comes in to.
    type Owner: Entity;
    /// What kind of request it is, for its id.
    const PURPOSE: &'static str;
    /// The event with this id.
    fn event(&self, id: Uuid) -> Self::Event;
    /// What it comes in to.
    fn owner(&self) -> &<Self::Owner as Entity>::Id;
    /// Whether the record is of the same request as this one.
    fn is_same(&self, other: &Self) -> bool;
    /// The entry that brought it.
    fn entry(&self) -> EntryId;
    /// Why it was turned away, if it was.
    fn refused(&self) -> Option<Refused>;
    /// The answer where there is nothing that it could come in to.
    fn unknown(&self) -> Problem;
}

/// Has something come in, once for each key.
pub(crate) async fn bring_in<R: Incoming + Serialize>(
    publisher: Publisher<'_>,
    wanted: &R,
    (caller, reader): (&Caller, &MeteredReader),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let key = RequestKey::of(headers)?;
    let trace = trace(headers);
    let answered = bring_in_with(publisher, wanted, (caller, reader), &key, trace.as_deref()).await;
    Ok(key.name_in(answered.unwrap_or_else(IntoResponse::into_response)))
}

async fn bring_in_with<R: Incoming + Serialize>(
    publisher: Publisher<'_>,
    wanted: &R,
    (caller, reader): (&Caller, &MeteredReader),
    key: &RequestKey,
    trace: Option<&str>,
) -> Result<Response, Problem> {
    let store = publisher.stores.of(R::Event::STREAM.topic());
    let id = request_id(R::PURPOSE, caller.key(), &key.text);
    if key.given
        && let Some(record) = read_for_command(reader, store.get::<R>(&id)).await?
    {
        return outcome(&record, wanted, true);
    }
    // Nothing is recorded for a mistake that can be noticed now: once it is put right, the request
    // may be repeated.
    if read_for_command(reader, store.get::<R::Owner>(wanted.owner())).await?.is_none() {
        return Err(wanted.unknown());
    }
    publisher.backlogs.check::<R::Event>(reader, publisher.stores).await?;
    let entry = command_outcome(publish(store, &[wanted.event(id)], trace).await)?.pop();
    let record = taken_up::<R>(reader, store, &id).await?;
    // Of several calls with one key, the others' events came after the one that counts.
    let replayed = key.given && Some(record.entry()) != entry;
    outcome(&record, wanted, replayed)
}

/// The record of a request, once its owner has taken the event up.
///
/// # Errors
///
/// 504: it has not in time. Otherwise as [`read_for_command`].
async fn taken_up<R: Entity<Id = Uuid>>(
    reader: &MeteredReader,
    store: &SharedLink,
    id: &Uuid,
) -> Result<R, Problem> {
    let looking = async {
        for pause in pauses() {
            if let Some(record) = read_for_command(reader, store.get::<R>(id)).await? {
                return Ok(record);
            }
            tokio::time::sleep(pause).await;
        }
        Err(not_taken_up())
    };
    tokio::time::timeout(TAKE_UP_TIMEOUT, looking).await.unwrap_or_else(|_| Err(not_taken_up()))
}

/// 409: its entry was handled after that of a newer definition.
pub(crate) fn superseded() -> Problem {
    Problem::superseded(
        "a newer definition was applied before this one, which changed nothing; repeat it with a new \
         Idempotency-Key if it is still wanted",
    )
}

/// 422: the key was used for another request.
fn key_reused() -> Problem {
    let detail =
        "another request was made with this Idempotency-Key; take a new key for a new request";
    Problem::key_reused(detail).at("Idempotency-Key")
}

/// Says of an answer that it is that of an earlier request.
pub(crate) fn mark_replayed(mut response: Response) -> Response {
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// 504: the owner has not taken the event up.
fn not_taken_up() -> Problem {
    Problem::timeout(
        "it is published but not taken up yet; it will be as soon as its service runs. Repeat the \
         request with the same Idempotency-Key",
    )
}

/// The answer that the record of a request stands for.
fn outcome<R: Incoming + Serialize>(
    record: &R,
    wanted: &R,
    replayed: bool,
) -> Result<Response, Problem> {
    if !record.is_same(wanted) {
        return Err(key_reused());
    }
    match record.refused() {
        Some(Refused::Unknown) => return Err(record.unknown()),
        Some(Refused::TooMuch) => {
            let detail = "with so much the sum could not be counted any more";
            return Err(Problem::invalid_field(detail).at("amount"));
        }
        None => {}
    }
    let response = Json(record).into_response();
    Ok(if replayed { mark_replayed(response) } else { response })
}
