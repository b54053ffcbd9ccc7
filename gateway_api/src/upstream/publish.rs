//! Commands as events: published on an owner's stream, and answered when the owner has applied them.

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
        request::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, idempotency_key, traceparent},
    },
    random::new_id,
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

/// The maximum wait until the owner has applied a command.
pub(crate) const APPLY_TIMEOUT: Duration = Duration::from_secs(4);
/// The first and the longest pause between two checks.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// The pauses between checks whether a command is applied, which usually takes a moment: each is twice as
/// long as the previous one, up to a limit.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> + Send {
    let [first, longest] = POLL_INTERVALS;
    iter::successors(Some(first), move |pause| Some((*pause * 2).min(longest)))
}

/// Publishes commands.
#[derive(Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) backlogs: &'a Backlogs,
}

/// Publishes events; returns the ids of their entries.
pub(crate) async fn publish<V: Event>(
    store: &SharedLink,
    events: &[V],
    traceparent: Option<&str>,
) -> Result<Vec<EntryId>, ConnectionError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = Pipeline::with_capacity(events.len());
    for event in events {
        let json = serde_json::to_string(event).expect("it has string keys only");
        let event_id = new_id().to_string();
        pipeline.cmd("XADD").arg(V::STREAM.key()).arg("*");
        pipeline.arg(EVENT_ID).arg(event_id).arg(ENTITY).arg(json);
        if let Some(traceparent) = traceparent {
            pipeline.arg(TRACEPARENT).arg(traceparent);
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

/// The key of a request: the client's, or a generated one, which the answer contains.
pub(crate) struct RequestKey {
    pub(crate) text: String,
    pub(crate) given: bool,
}

impl RequestKey {
    /// # Errors
    ///
    /// 400: the client's key is invalid.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let given = idempotency_key(headers)?;
        Ok(match given {
            Some(text) => Self { text, given: true },
            None => Self { text: new_id().to_string(), given: false },
        })
    }

    /// Adds the key to an answer after which the request may still take effect, so that the client can
    /// repeat the request with it.
    pub(crate) fn name_in(&self, mut response: Response) -> Response {
        if response.status().is_server_error()
            && let Ok(key) = HeaderValue::from_str(&self.text)
        {
            response.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        response
    }
}

/// Publishes a definition, once for each key, and answers with the owner's record of the request: the state
/// when the request took effect. `location` is the path of the entity, `event` makes the event from the id
/// of the request, `shown` reduces the entity to the part that the caller may see.
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
    // Each resource has its own kind of requests; the event contains the id of the resource.
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
        // If the stored entity cannot be read, the owner could only make a dead letter of the event.
        read_for_command(reader, store.get::<E>(defined)).await?;
        publisher.backlogs.check::<V>(reader, publisher.stores).await?;
        let traceparent = traceparent(headers);
        let entry = command_outcome(
            publish(store, std::slice::from_ref(&event), traceparent.as_deref()).await,
        )?;
        let record = wait_for_record::<Definition<V, E>>(reader, store, &id).await?;
        // Of several calls with one key, only the first event has an effect.
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

/// A restock or a top-up: an event that has its effect once, and the owner's record of it.
pub(crate) trait Addition: Entity<Id = Uuid> {
    /// The event.
    type Event: Event;
    /// The type of the product or account.
    type Owner: Entity;
    /// The kind of the request, which is part of its id.
    const PURPOSE: &'static str;
    /// The event with this id.
    fn event(&self, id: Uuid) -> Self::Event;
    /// The id of the product or account.
    fn owner(&self) -> &<Self::Owner as Entity>::Id;
    /// Whether the record belongs to the same request.
    fn is_same(&self, other: &Self) -> bool;
    /// The entry of the event.
    fn entry(&self) -> EntryId;
    /// The reason of a refusal, if there was one.
    fn refused(&self) -> Option<Refused>;
    /// The answer if the product or account does not exist.
    fn unknown(&self) -> Problem;
}

/// Publishes a restock or a top-up, once for each key.
pub(crate) async fn add<R: Addition + Serialize>(
    publisher: Publisher<'_>,
    wanted: &R,
    (caller, reader): (&Caller, &MeteredReader),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let key = RequestKey::of(headers)?;
    let traceparent = traceparent(headers);
    let answered =
        add_with_key(publisher, wanted, (caller, reader), &key, traceparent.as_deref()).await;
    Ok(key.name_in(answered.unwrap_or_else(IntoResponse::into_response)))
}

async fn add_with_key<R: Addition + Serialize>(
    publisher: Publisher<'_>,
    wanted: &R,
    (caller, reader): (&Caller, &MeteredReader),
    key: &RequestKey,
    traceparent: Option<&str>,
) -> Result<Response, Problem> {
    let store = publisher.stores.of(R::Event::STREAM.topic());
    let id = request_id(R::PURPOSE, caller.key(), &key.text);
    if key.given
        && let Some(record) = read_for_command(reader, store.get::<R>(&id)).await?
    {
        return outcome(&record, wanted, true);
    }
    // Mistakes that are detected here are not recorded, so the corrected request may use the same key.
    if read_for_command(reader, store.get::<R::Owner>(wanted.owner())).await?.is_none() {
        return Err(wanted.unknown());
    }
    publisher.backlogs.check::<R::Event>(reader, publisher.stores).await?;
    let entry = command_outcome(publish(store, &[wanted.event(id)], traceparent).await)?.pop();
    let record = wait_for_record::<R>(reader, store, &id).await?;
    // Of several calls with one key, only the first event has an effect.
    let replayed = key.given && Some(record.entry()) != entry;
    outcome(&record, wanted, replayed)
}

/// Waits for the owner's record of a request.
///
/// # Errors
///
/// 504: the record did not appear in time. Otherwise as [`read_for_command`].
async fn wait_for_record<R: Entity<Id = Uuid>>(
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
        Err(not_applied())
    };
    tokio::time::timeout(APPLY_TIMEOUT, looking).await.unwrap_or_else(|_| Err(not_applied()))
}

/// 409: a newer definition was applied before.
pub(crate) fn superseded() -> Problem {
    Problem::superseded(
        "a newer definition was applied before this one, which had no effect; repeat it with a new \
         Idempotency-Key if it is still wanted",
    )
}

/// 422: the key was used for another request.
fn key_reused() -> Problem {
    let detail =
        "another request was made with this Idempotency-Key; take a new key for a new request";
    Problem::key_reused(detail).at("Idempotency-Key")
}

/// Marks an answer as the answer to an earlier request.
pub(crate) fn mark_replayed(mut response: Response) -> Response {
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// 504: the owner has not applied the command.
fn not_applied() -> Problem {
    Problem::timeout(
        "the command is published but not applied yet; its service applies it as soon as it runs. Repeat the \
         request with the same Idempotency-Key",
    )
}

/// The answer according to the record of a request.
fn outcome<R: Addition + Serialize>(
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
            let detail = "the resulting sum would exceed the largest number";
            return Err(Problem::invalid_field(detail).at("amount"));
        }
        None => {}
    }
    let response = Json(record).into_response();
    Ok(if replayed { mark_replayed(response) } else { response })
}
