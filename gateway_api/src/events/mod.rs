//! `GET /events`: what changes, told as it happens (server-sent events).
//!
//! `feed` reads the streams once for all clients and puts the messages, encoded once, into the
//! `ring`; each client's `stream` is told from there. A `cursor` says how far it was told.

mod change;
mod cursor;
mod feed;
mod ring;
mod stream;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    clock::now_millis,
    contract::ids::OrderId,
    http::{
        problem::Problem,
        server::{Place, Places},
    },
    process::service::Life,
};
use http::{HeaderMap, HeaderName, header};
use serde::Deserialize;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use self::{
    feed::{Feed, Reader},
    ring::View,
    stream::{EventStream, Subject},
};
use crate::{
    Gateway,
    access::{
        limits::{self, Client},
        tokens::{
            Caller,
            caller::{Scope, forbidden},
            token,
        },
    },
    docs::{examples, responses::NotRead},
    upstream::pagination,
};

/// The most streams open at once; well below the most connections, so that other calls get through.
const OPEN: usize = 2_000;
/// The most of them that one subject may have: many tabs, and no more.
const OF_SUBJECT: usize = 32;
/// The most that one address may have where nobody is authenticated: many people may share it.
const OF_ADDRESS: usize = OPEN / 4;
/// When to come back if there are too many, in seconds.
const COME_BACK: u16 = 5;
/// How long the making of a page waits for the position of its event stream.
const POSITION_PATIENCE: Duration = Duration::from_millis(20);
/// How far a client was told; sent by browsers when they connect again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// After how many milliseconds a client is to connect again.
const RETRY: &str = "retry: 2000\n";

/// What event streams are made of.
#[derive(Debug)]
pub struct Live {
    feed: Arc<Feed>,
    open: Arc<Semaphore>,
    of_subjects: Arc<Places<Client>>,
    of_addresses: Arc<Places<Client>>,
    shutdown: CancellationToken,
}

impl Live {
    /// Starts to read, as soon as there is a client.
    pub(crate) fn start(life: &Life) -> Self {
        let servers = life.sources.servers().len();
        let feed = Arc::new(Feed::new(servers));
        for server in 0..servers {
            let reader = Reader::new(&feed, &life.sources, server);
            let shutdown = life.shutdown.clone();
            life.spawn("a reader of changes", async move {
                tokio::select! {
                    () = reader.read_forever() => {}
                    () = shutdown.cancelled() => {}
                }
                Ok(())
            });
        }
        Self {
            feed,
            open: Arc::new(Semaphore::new(OPEN)),
            of_subjects: Places::new(OF_SUBJECT),
            of_addresses: Places::new(OF_ADDRESS),
            shutdown: life.shutdown.clone(),
        }
    }

    /// One of the streams that the client may have; this machine may have all.
    fn share(&self, client: &Client) -> Result<Option<Place<Client>>, Problem> {
        let (share, most) = match client {
            Client::ThisMachine => return Ok(None),
            Client::Address(_) => (&self.of_addresses, OF_ADDRESS),
            Client::Subject(_) => (&self.of_subjects, OF_SUBJECT),
        };
        let crowded = || Problem {
            retry_after: Some(COME_BACK),
            ..Problem::too_many_requests(format!("you have {most} event streams open already"))
        };
        share.take(client.clone()).map(Some).ok_or_else(crowded)
    }

    /// The `last_event_id` of a page that is about to be made: what happens until its event stream
    /// is open is told by that. `None` if it is not known at once: nobody followed before, or Redis
    /// does not answer.
    pub async fn position(&self) -> Option<String> {
        let everything = View { order: None, customer: None, orders: true, addresses: true };
        let joined =
            tokio::time::timeout(POSITION_PATIENCE, self.feed.join(everything, None)).await;
        joined.ok()?.ok().map(|joined| joined.from.to_string())
    }
}

/// What a client wants to be told.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only what is about this order: its `order` and `message` events.
    #[param(value_type = Option<uuid::Uuid>)]
    order: Option<OrderId>,
    /// Only `flow` events, once a second.
    flow: Option<bool>,
    /// As the header `Last-Event-ID`, for the first connection of a page; the header wins.
    last_event_id: Option<String>,
}

/// Headers of a client that connects again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes parameters")]
pub(crate) struct ResumeHeaders {
    /// The `id` of the last event that the client was told, at this or any other gateway.
    #[param(rename = "Last-Event-ID", required = false)]
    last_event_id: Option<String>,
}

/// Subscribe to changes
///
/// An endless stream of server-sent events. Each message has an `id`, an `event`, which names the type of
/// `data`, and `data`, a JSON object on one line:
///
/// - `order`: a new or changed order: its members in `GET /order/{id}` except
///   `history`, `omitted` and `resent`, and `created_at` and `updated_at` in milliseconds since 1970
/// - `product`: a product, as in `GET /inventory/{id}`, but with `waiting`, the number of orders
///   that wait for it, instead of `line`
/// - `account`: an account, as in `GET /accounts/{id}`
/// - `message`: a message that was sent to a customer, as in `GET /customers/{id}/messages`
/// - `dead`: an entry that a service could not handle: `topic` of that service, `stream`, `entry`,
///   `group`, `reason`, and `at` in milliseconds since 1970
/// - `flow`: the event flow, as in `GET /flow`; only with `flow=true`, and without `id`
/// - `reset`: `{}`: missed events are no longer available; reload what is shown
///
/// An `id` stands for everything up to it. A client that reconnects with its last `id`, to any gateway, gets the
/// missed events if they are recent enough; otherwise, or if the `id` is invalid, the stream begins with
/// `reset`. A client that reads too slowly gets a `reset` as well. `order` and `message` events also require the
/// scope `orders:read`. Customers get events about products and their own data. E-mail addresses are complete
/// only with the scope `admin`, and never for customers. The stream ends when the token expires, and
/// when the browser that opened it signs out. An `id` may come without data. A comment follows 15 s of silence.
#[utoipa::path(
    get, path = "/events", tag = "events", operation_id = "events",
    params(Wanted, ResumeHeaders),
    responses(
        (status = 200, description = "The events, until either side ends it", body = String,
            content_type = "text/event-stream", example = json!(examples::event_stream())),
        NotRead,
    ),
)]
pub async fn events(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: limits::Reader,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = pagination::query(wanted, &["order", "flow", "last_event_id"])?;
    let flow = wanted.flow.unwrap_or(false);
    if flow && wanted.order.is_some() {
        return Err(Problem::bad_request("flow=true tells nothing of an order").at("order"));
    }
    if flow && let Some(own) = caller.limited_to() {
        let detail = format!("the token is customer {own}'s, and flow=true is not for customers");
        return Err(Problem::forbidden(detail).at("flow"));
    }
    if wanted.order.is_some() && !caller.may(Scope::OrdersRead) {
        let detail = "what happens to an order is told to those who may read orders";
        return Err(forbidden(Scope::OrdersRead, detail).at("order"));
    }
    let live = &gateway.live;
    let permit = Arc::clone(&live.open).try_acquire_owned().map_err(|_| Problem {
        retry_after: Some(COME_BACK),
        ..Problem::unavailable("too many event streams are open")
    })?;
    let own = live.share(reader.client())?;
    let (greeting, subject) = if flow {
        (Bytes::from(format!("{RETRY}\n")), Subject::Flow(gateway.flow.follow()))
    } else {
        changes(live, (&caller, reader), &wanted, &headers).await?
    };
    let shutdown = live.shutdown.clone();
    let expires = caller.expires().map(|at| Instant::now() + until(at));
    let sessions = gateway.gate.sessions().cloned().unwrap_or_default();
    let signed_out = Box::pin(sessions.signed_out(&headers, now_millis() / 1_000));
    let stream = EventStream {
        greeting: Some(greeting),
        subject,
        shutdown,
        expires,
        signed_out,
        _permits: (permit, own),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // A proxy that compressed the events would hold them back.
        (header::CACHE_CONTROL, "no-store, no-transform"),
        // nginx would hold them back in any case.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, stream.into_body()).into_response())
}

/// How long it is until then, in seconds since 1970. Nothing lasts longer than a day.
fn until(at: u64) -> Duration {
    let left = at.saturating_add(token::LEEWAY).saturating_mul(1_000).saturating_sub(now_millis());
    Duration::from_millis(left).min(Duration::from_secs(86_400))
}

async fn changes(
    live: &Live,
    (caller, reader): (&Caller, limits::Reader),
    wanted: &Wanted,
    headers: &HeaderMap,
) -> Result<(Bytes, Subject), Problem> {
    let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let last = header.or(wanted.last_event_id.as_deref()).filter(|last| !last.is_empty());
    let view = View {
        order: wanted.order,
        customer: caller.limited_to().cloned(),
        orders: caller.may(Scope::OrdersRead),
        addresses: caller.sees_addresses(),
    };
    let joined = live.feed.join(view, last.map(str::parse)).await;
    let joined =
        joined.map_err(|_| Problem::unavailable("changes cannot be told at the moment"))?;
    let mut greeting = format!("{RETRY}id: {}\n\n", joined.from);
    if joined.reset {
        greeting.push_str(ring::RESET);
    }
    let (feed, follower, changes) = (Arc::clone(&live.feed), joined.follower, joined.changes);
    Ok((greeting.into(), Subject::Changes { feed, follower, changes, reader }))
}
