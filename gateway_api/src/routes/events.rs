//! `GET /events`: changes as server-sent events.

use std::time::Duration;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use common::{
    clock::now_millis,
    contract::{ids::OrderId, route::Scope},
    http::problem::Problem,
};
use http::{HeaderMap, HeaderName, header};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::{
    access::{
        limits::reader::MeteredReader,
        tokens::{
            caller::{Caller, forbidden},
            token,
        },
    },
    docs::{examples, responses::NotRead},
    events::{EventStreams, stream::EventStream, view::View},
    state::Gateway,
    upstream::pagination,
};

/// The position of a client; browsers send it when they connect again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The query of an event stream.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only the `order` and `message` events of this order.
    #[param(value_type = Option<uuid::Uuid>)]
    order: Option<OrderId>,
    /// Only `flow` events, once a second.
    flow: Option<bool>,
    /// Same as the header `Last-Event-ID`, for the first connection of a page; the header takes precedence.
    last_event_id: Option<String>,
}

/// Headers of a client that connects again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes parameters")]
pub(crate) struct ResumeHeaders {
    /// The `id` of the last event that the client received, from this or any other gateway.
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
/// An `id` stands for everything up to it. A client that reconnects with its last `id`, to any gateway, gets
/// the missed events if they are recent enough; otherwise, or if the `id` is invalid, the stream begins with
/// `reset`. A client that reads too slowly gets a `reset` as well. `order` and `message` events also require
/// the scope `orders:read`. Customers get events about products and their own data. E-mail addresses are
/// complete only with the scope `admin`, and never for customers. The stream ends when the token expires, and
/// when the browser that opened it signs out. An `id` may come without data. A comment follows 15 s of
/// silence.
#[utoipa::path(
    get, path = "/events", tag = "events", operation_id = "events",
    params(EventsQuery, ResumeHeaders),
    responses(
        (status = 200, description = "The events, until either side closes the connection", body = String,
            content_type = "text/event-stream", example = json!(examples::event_stream())),
        NotRead,
    ),
)]
pub(crate) async fn events(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = pagination::query(query, &["order", "flow", "last_event_id"])?;
    let flow = query.flow.unwrap_or(false);
    if flow && query.order.is_some() {
        return Err(Problem::bad_request("flow=true cannot be combined with an order").at("order"));
    }
    if flow && let Some(own) = caller.limited_to() {
        let detail = format!("the token is customer {own}'s, and flow=true is not for customers");
        return Err(Problem::forbidden(detail).at("flow"));
    }
    if query.order.is_some() && !caller.may(Scope::OrdersRead) {
        let detail = "events of an order require the scope orders:read";
        return Err(forbidden(Scope::OrdersRead, detail).at("order"));
    }
    let permit = gateway.events.permit(reader.client())?;
    let (greeting, content) = if flow {
        EventStreams::flow(gateway.flow.follow())
    } else {
        let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
        let last = header.or(query.last_event_id.as_deref()).filter(|last| !last.is_empty());
        let view = View {
            order: query.order,
            customer: caller.limited_to().cloned(),
            orders: caller.may(Scope::OrdersRead),
            addresses: caller.sees_addresses(),
        };
        gateway.events.changes(view, last, reader).await?
    };
    let sessions = gateway.gate.sessions().cloned().unwrap_or_default();
    let stream = EventStream {
        greeting: Some(greeting),
        content,
        shutdown: gateway.events.shutdown(),
        expires: caller.expires().map(|at| Instant::now() + until(at)),
        signed_out: Box::pin(sessions.signed_out(&headers, now_millis() / 1_000)),
        _permit: permit,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // A proxy that compressed the events would delay them.
        (header::CACHE_CONTROL, "no-store, no-transform"),
        // nginx delays events unless this header is set.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, stream.into_body()).into_response())
}

/// The duration until a token is refused that expires at this time, in seconds since 1970; at most a day.
fn until(expires: u64) -> Duration {
    let end = expires.saturating_add(token::LEEWAY_SECONDS);
    let left = end.saturating_mul(1_000).saturating_sub(now_millis());
    Duration::from_millis(left).min(Duration::from_secs(86_400))
}
