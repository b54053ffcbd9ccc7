//! Commands that travel as events: published on an owner's stream, and answered once the owner has
//! taken them up.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use common::{
    decision::Entity,
    entities::Refused,
    events::{ENTITY, EVENT_ID, Event, TRACEPARENT},
    http::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, idempotency_key, trace},
    ids::{EntryId, request_id},
    problem::Problem,
    redis_link::{LinkError, SharedLink},
};
use http::{HeaderMap, HeaderValue};
use redis::{Pipeline, Value};
use serde::Serialize;
use tracing::error;
use uuid::Uuid;

use crate::{Gateway, auth::Caller, guard::Reader};

/// How long the owner may take to take up an event.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// How long between two looks at whether it has.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Publishes events; gives their entries.
pub(crate) async fn publish<V: Event>(
    store: &SharedLink,
    events: &[V],
    trace: Option<&str>,
) -> Result<Vec<EntryId>, LinkError> {
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

/// Publishes a definition and gives what it came to, once its owner has taken it up.
///
/// # Errors
///
/// 503 as well if a service that reads definitions is too far behind.
pub(crate) async fn define<E: Entity, V: Event>(
    gateway: &Gateway,
    reader: &Reader,
    id: &E::Id,
    event: &V,
    applied_by: impl Fn(&E) -> Option<EntryId>,
    trace: Option<&str>,
) -> Result<E, Problem> {
    let store = gateway.stores.of(V::STREAM.topic());
    gateway.backlogs.check::<V>(reader, &gateway.stores).await?;
    let entry = look(publish(store, std::slice::from_ref(event), trace).await)?.pop();
    in_time(async {
        loop {
            let entity = read(reader, store.get::<E>(id)).await?;
            if let Some(entity) = entity.filter(|entity| applied_by(entity) >= entry) {
                return Ok(entity);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
}

/// Reads for a command when it is the client's turn.
///
/// # Errors
///
/// As [`Reader::read`] and [`look`].
pub(crate) async fn read<T>(
    reader: &Reader,
    reading: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, Problem> {
    look(reader.read("what is stored", reading).await?)
}

/// Waits for what the owner makes of something that was published, for as long as that may take.
///
/// # Errors
///
/// 504: it has not taken it up.
async fn in_time<T>(looking: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| Err(not_taken_up()))
}

/// Something that comes in once: an event, and the record that its owner keeps of it.
pub(crate) trait Incoming: Entity<Id = Uuid> {
    /// The event.
    type Event: Event;
    /// What it comes in to.
    type Owner: Entity;
    /// What kind of request it is, for its id.
    const KIND: &'static str;
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
    gateway: &Gateway,
    wanted: &R,
    (caller, reader): (&Caller, &Reader),
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let key = RequestKey::of(headers)?;
    let trace = trace(headers);
    let answered = bring_in_with(gateway, wanted, (caller, reader), &key, trace.as_deref()).await;
    Ok(key.name_in(answered.unwrap_or_else(IntoResponse::into_response)))
}

async fn bring_in_with<R: Incoming + Serialize>(
    gateway: &Gateway,
    wanted: &R,
    (caller, reader): (&Caller, &Reader),
    key: &RequestKey,
    trace: Option<&str>,
) -> Result<Response, Problem> {
    let store = gateway.stores.of(R::Event::STREAM.topic());
    let id = request_id(R::KIND, caller.key(), &key.text);
    if key.given
        && let Some(record) = read(reader, store.get::<R>(&id)).await?
    {
        return told(&record, wanted, true);
    }
    // Nothing is recorded for a mistake that can be noticed now: once it is put right, the request
    // may be repeated.
    if read(reader, store.get::<R::Owner>(wanted.owner())).await?.is_none() {
        return Err(wanted.unknown());
    }
    gateway.backlogs.check::<R::Event>(reader, &gateway.stores).await?;
    let entry = look(publish(store, &[wanted.event(id)], trace).await)?.pop();
    let record = in_time(async {
        loop {
            if let Some(record) = read(reader, store.get::<R>(&id)).await? {
                return Ok(record);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
    let record = record.await?;
    // Of several calls with one key, the others' events came after the one that counts.
    let replayed = key.given && Some(record.entry()) != entry;
    told(&record, wanted, replayed)
}

/// 504: the owner has not taken the event up.
fn not_taken_up() -> Problem {
    Problem::timeout(
        "it is published but not taken up yet; it will be as soon as its service runs. Repeat the \
         request, a POST with the same Idempotency-Key",
    )
}

/// 503: Redis is away. 500: what is stored cannot be read.
fn look<T>(read: Result<T, LinkError>) -> Result<T, Problem> {
    read.map_err(|error| {
        error!("a command did not reach its owner: {error}");
        error.problem(
            "what is stored cannot be read",
            "it cannot be stored at the moment; repeat the request, a POST with the same \
             Idempotency-Key",
        )
    })
}

fn told<R: Incoming + Serialize>(
    record: &R,
    wanted: &R,
    replayed: bool,
) -> Result<Response, Problem> {
    if !record.is_same(wanted) {
        let detail =
            "another request was made with this Idempotency-Key; take a new key for a new request";
        return Err(Problem::key_reused(detail).at("Idempotency-Key"));
    }
    match record.refused() {
        Some(Refused::Unknown) => return Err(record.unknown()),
        Some(Refused::TooMuch) => {
            let detail = "with so much the sum could not be counted any more";
            return Err(Problem::invalid_field(detail).at("amount"));
        }
        None => {}
    }
    let mut response = Json(record).into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}
