//! Orders: placed, looked at and moved on by order_service; listed from its indexes.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    connection::link::LinkError,
    contract::{
        entities::{Order, OrderStatus},
        ids::{CustomerId, OrderId},
        keys,
    },
    http::{
        input::PlaceOrder,
        problem::Problem,
        request::{
            CALLER, IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, TRACEPARENT, json_bytes, parse, path_id,
            trace,
        },
    },
    trace_context::trace_id,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use crate::{
    Gateway,
    access::{limits::Reader, tokens::Caller},
    docs::{
        examples,
        responses::{BadBody, BadOrder, NoOrder, NotAllowed, NotDone, NotRead},
    },
    upstream::{
        order_client::Route,
        pagination::{self, Cursor, Found, Page},
        publish::RequestKey,
    },
    web::{self, negotiate::wants_html, order::page},
};

/// The headers of order_service's answers that clients see.
const PASSED_ON: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::RETRY_AFTER];

type OrderPath = Result<Path<OrderId>, PathRejection>;

/// Headers with which a request is safe to repeat, and found again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes parameters")]
pub(crate) struct RequestHeaders {
    /// Names the request, 1 to 255 printable ASCII characters of the client's choice
    /// (draft-ietf-httpapi-idempotency-key-header).
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    idempotency_key: Option<String>,
    /// The trace that it belongs to (W3C Trace Context); shows in logs and events.
    #[param(required = false)]
    traceparent: Option<String>,
}

/// Place an order
///
/// The order is accepted before the stock check and the payment; its `Location` has the current status.
/// With an `Idempotency-Key` the request can be repeated at any time: the same key and body get the first
/// answer again, with the header `Idempotent-Replayed: true`.
#[utoipa::path(
    post, path = "/order", tag = "orders", operation_id = "place_order",
    request_body(content = PlaceOrder, example = json!(examples::place_order())),
    params(RequestHeaders),
    responses(
        (status = 200, description = "The order is stored, with status `pending`", body = Order,
            headers(
                ("Location" = String, description = "Where the order is: /order/{id}"),
                ("Idempotent-Replayed" = String, description = "`true`: this is the answer to an earlier request"),
            ),
            example = json!(examples::placed())),
        NotDone, BadBody, BadOrder,
    ),
)]
pub async fn place(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body): (_, Body) = request.into_parts();
    let body = json_bytes(&parts.headers, body).await?;
    if caller.limited_to().is_some() {
        let wanted: PlaceOrder = parse(&body)?;
        caller.check(&wanted.customer_id).map_err(|problem| problem.at("customer_id"))?;
    }
    change(&gateway, (&caller, &reader), Route::Place, &parts.headers, body).await
}

/// 404 for an order that is another customer's: that it exists is told to nobody else.
async fn check_own(
    gateway: &Gateway,
    caller: &Caller,
    reader: &Reader,
    id: OrderId,
) -> Result<(), Problem> {
    if caller.limited_to().is_none() {
        return Ok(());
    }
    let order = gateway.stores.order.get::<Order>(&id);
    let order = pagination::read(reader, "the order", order).await?;
    match order {
        Some(order) if caller.reaches(&order.customer_id) => Ok(()),
        _ => Err(unknown(id)),
    }
}

/// 404, as order_service says it.
pub(crate) fn unknown(id: OrderId) -> Problem {
    Problem::not_found(format!("there is no order {id}"))
}

/// A call that changes something, with the client's key or one of the gateway's own.
async fn change(
    gateway: &Gateway,
    (caller, reader): (&Caller, &Reader),
    route: Route,
    request: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = RequestKey::of(request)?;
    if let Some(id) = route.order() {
        check_own(gateway, caller, reader, id).await?;
    }
    let mut headers = call_headers(request, caller);
    // With a key of its own the gateway can repeat the call when an answer got lost.
    let value = HeaderValue::from_str(&key.text);
    headers.insert(IDEMPOTENCY_KEY, value.expect("it came in a header, or is a UUID"));
    let response = match call(gateway, route, &headers, body).await {
        Ok(answer) => {
            reader.charge(answer.body().len());
            let mut response = pass_on(&answer);
            // Whoever sent no key did not send the request twice.
            let replayed = answer.headers().get(IDEMPOTENT_REPLAYED).filter(|_| key.given);
            if let Some(replayed) = replayed {
                response.headers_mut().insert(IDEMPOTENT_REPLAYED, replayed.clone());
            }
            response
        }
        Err(problem) => problem.into_response(),
    };
    Ok(key.name_in(response))
}

/// Retry the payment of an order
///
/// For an order with the status `insufficient-fund`, after a top-up. It begins a new attempt: stock is reserved
/// again, or the order waits for stock, and the total follows the prices at that time. An order has at most
/// 10,000 attempts.
#[utoipa::path(
    post, path = "/order/{id}/pay", tag = "orders", operation_id = "pay_order",
    params(("id" = uuid::Uuid, Path, description = "The order's id", example = json!(examples::order_id())), RequestHeaders),
    responses(
        (status = 200, description = "The order is `pending` again, in its next attempt", body = Order,
            headers(("Idempotent-Replayed" = String, description = "`true`: this is the answer to an earlier request")),
            example = json!(examples::paid_again())),
        NotDone, NotAllowed,
    ),
)]
pub async fn pay(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    id: OrderPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&gateway, (&caller, &reader), Route::Pay(path_id(id)?), &headers, Bytes::new()).await
}

/// Mark an order as shipped
///
/// For an order with the status `to-be-shipped`. A shipped order can no longer be cancelled.
#[utoipa::path(
    post, path = "/order/{id}/ship", tag = "orders", operation_id = "ship_order",
    params(("id" = uuid::Uuid, Path, description = "The order's id", example = json!(examples::order_id())), RequestHeaders),
    responses(
        (status = 200, description = "The order is `shipped`", body = Order,
            headers(("Idempotent-Replayed" = String, description = "`true`: this is the answer to an earlier request")),
            example = json!(examples::shipped())),
        NotDone, NotAllowed,
    ),
)]
pub async fn ship(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    id: OrderPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&gateway, (&caller, &reader), Route::Ship(path_id(id)?), &headers, Bytes::new()).await
}

/// Mark an order as completed
///
/// For an order with the status `shipped`.
#[utoipa::path(
    post, path = "/order/{id}/complete", tag = "orders", operation_id = "complete_order",
    params(("id" = uuid::Uuid, Path, description = "The order's id", example = json!(examples::order_id())), RequestHeaders),
    responses(
        (status = 200, description = "The order is `completed`", body = Order,
            headers(("Idempotent-Replayed" = String, description = "`true`: this is the answer to an earlier request")),
            example = json!(examples::completed())),
        NotDone, NotAllowed,
    ),
)]
pub async fn complete(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    id: OrderPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&gateway, (&caller, &reader), Route::Complete(path_id(id)?), &headers, Bytes::new())
        .await
}

/// Cancel an order
///
/// Possible until it is shipped. Its stock is released, its payment is refunded, and it no longer waits for stock;
/// steps in progress are undone as well. With an `Idempotency-Key` the request can be repeated; without one the second
/// request gets a 409.
#[utoipa::path(
    delete, path = "/order/{id}", tag = "orders", operation_id = "cancel_order",
    params(("id" = uuid::Uuid, Path, description = "The order's id", example = json!(examples::order_id())), RequestHeaders),
    responses(
        (status = 200, description = "The order is `cancelled`", body = Order,
            headers(("Idempotent-Replayed" = String, description = "`true`: this is the answer to an earlier request")),
            example = json!(examples::cancelled())),
        NotDone, NotAllowed,
    ),
)]
pub async fn cancel(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    id: OrderPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&gateway, (&caller, &reader), Route::Cancel(path_id(id)?), &headers, Bytes::new()).await
}

/// A page of orders.
#[derive(ToSchema)]
#[schema(as = Orders)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct OrdersDocument {
    /// The newest first.
    orders: Vec<Order>,
    /// The cursor of the next older ones, if there may be any.
    #[schema(example = "o64")]
    next: Option<String>,
}

/// Which orders are wanted.
#[derive(Deserialize, IntoParams, Debug)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only those of this customer.
    #[param(inline)]
    customer_id: Option<CustomerId>,
    /// Only those that have this status.
    status: Option<OrderStatus>,
    /// The most orders wanted, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u64>,
    /// `next` of the page before.
    #[param(max_length = 64)]
    cursor: Option<String>,
}

/// List orders
///
/// The newest first; optionally of one customer, of one status, or both. Pages are stable while orders arrive.
/// A page may have fewer orders than requested although more follow, because it ends at 1 MiB: continue while
/// there is a `next`.
#[utoipa::path(
    get, path = "/orders", tag = "orders", operation_id = "list_orders",
    params(Wanted),
    responses(
        (status = 200, description = "A page of orders", body = OrdersDocument,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`, if there may be one (RFC 8288)")),
            example = json!(examples::page("orders", examples::paid(), "o64"))),
        NotRead,
    ),
)]
pub async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Wanted { customer_id, status, limit, cursor } =
        pagination::query(wanted, &["customer_id", "status", "limit", "cursor"])?;
    let customer_id = own(&caller, customer_id)?;
    let page = Page { limit, cursor };
    let limit = page.limit()?;
    let found = find(&gateway, &reader, customer_id.as_ref(), status, &page, limit).await?;
    let limit = limit.to_string();
    let mut query = Vec::new();
    query.extend(customer_id.as_ref().map(|customer| ("customer_id", customer.as_str())));
    query.extend(status.map(|status| ("status", status.name())));
    query.push(("limit", limit.as_str()));
    Ok(pagination::answer("orders", &found, "/orders", &query))
}

/// The customer whose orders are shown: a customer sees their own, and asks for no others.
///
/// # Errors
///
/// 403.
pub(crate) fn own(
    caller: &Caller,
    wanted: Option<CustomerId>,
) -> Result<Option<CustomerId>, Problem> {
    if let Some(wanted) = &wanted {
        caller.check(wanted).map_err(|problem| problem.at("customer_id"))?;
    }
    Ok(wanted.or_else(|| caller.limited_to().cloned()))
}

/// A page of the orders of this customer, with this status, or of both.
///
/// # Errors
///
/// 400: the cursor is not of such a page; otherwise as [`pagination::read`].
pub(crate) async fn find(
    gateway: &Gateway,
    reader: &Reader,
    customer: Option<&CustomerId>,
    status: Option<OrderStatus>,
    page: &Page,
    limit: u64,
) -> Result<Found, Problem> {
    let store = &gateway.stores.order;
    match (customer, status) {
        (None, None) => {
            let before = page.position(Cursor::AllOrders)?;
            let list = keys::ORDER.index.unwrap_or_default();
            let newest = pagination::newest::<Order>(store, list, Cursor::AllOrders, before, limit);
            pagination::read(reader, "orders", newest).await
        }
        (Some(customer), None) => {
            let before = page.position(Cursor::OrdersOfCustomer)?;
            let (list, kind) = (keys::orders_of(customer), Cursor::OrdersOfCustomer);
            let newest = pagination::newest::<Order>(store, &list, kind, before, limit);
            pagination::read(reader, "orders", newest).await
        }
        (customer, Some(status)) => {
            let before = page.cursor.as_deref().map(pagination::member).transpose()?;
            let newest = pagination::with_status(store, customer, status, before, limit);
            pagination::read(reader, "orders", newest).await
        }
    }
}

/// How many orders have each status.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderCounts {
    /// A number for every status.
    #[schema(value_type = std::collections::BTreeMap<String, u64>, example = json!({"pending": 1, "to-be-shipped": 12}))]
    counts: BTreeMap<&'static str, u64>,
    /// All orders.
    #[schema(example = 13)]
    total: u64,
}

/// Count orders
///
/// The number of orders with each status; customers get the numbers of their own orders.
#[utoipa::path(
    get, path = "/orders/counts", tag = "orders", operation_id = "count_orders",
    responses(
        (status = 200, description = "The numbers", body = OrderCounts,
            example = json!({"counts": {"pending": 1, "to-be-shipped": 12}, "total": 13})),
        NotRead,
    ),
)]
pub async fn counts(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
) -> Result<Response, Problem> {
    let counted = count(&gateway, &caller);
    let counted = pagination::read(&reader, "the numbers of orders", counted).await?;
    let total = counted.iter().map(|(_, count)| count).sum();
    let counts = counted.into_iter().map(|(status, count)| (status.name(), count)).collect();
    Ok(Json(OrderCounts { counts, total }).into_response())
}

/// How many orders that the caller reaches have each status.
pub(crate) async fn count(
    gateway: &Gateway,
    caller: &Caller,
) -> Result<Vec<(OrderStatus, u64)>, LinkError> {
    pagination::counts(&gateway.stores.order, caller.limited_to()).await
}

/// Get an order
///
/// The order with the history of its statuses. A browser (`Accept: text/html`) gets a page.
#[utoipa::path(
    get, path = "/order/{id}", tag = "orders", operation_id = "get_order",
    params(("id" = uuid::Uuid, Path, description = "The order's id", example = json!(examples::order_id()))),
    responses(
        (status = 200, description = "The order", body = Order, example = json!(examples::paid())),
        NoOrder, NotRead,
    ),
)]
pub async fn show(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: Reader,
    id: OrderPath,
    headers: HeaderMap,
) -> Response {
    if wants_html(&headers) {
        return web::html(page::show(&gateway, &caller, &reader, path_id(id)).await);
    }
    let answer = async {
        let id = path_id(id)?;
        check_own(&gateway, &caller, &reader, id).await?;
        let headers = call_headers(&headers, &caller);
        reader.begin()?;
        let answer = call(&gateway, Route::Show(id), &headers, Bytes::new()).await?;
        reader.charge(answer.body().len());
        Ok(pass_on(&answer))
    };
    web::json(answer.await)
}

async fn call(
    gateway: &Gateway,
    route: Route,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<http::Response<Bytes>, Problem> {
    gateway.orders.call(route, headers, body).await.inspect_err(|problem| {
        let detail = problem.detail.as_deref().unwrap_or_default();
        let order = route.order().map(|id| id.to_string());
        let trace = headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok());
        warn!(
            order.id = order,
            trace.id = trace_id(trace),
            status = problem.status,
            "order_service was not reached: {detail}"
        );
    })
}

/// What order_service is told of a request besides its body.
fn call_headers(request: &HeaderMap, caller: &Caller) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let name = HeaderValue::from_str(caller.key());
    headers.insert(CALLER, name.expect("a caller's key is plain"));
    if let Some(trace) = trace(request).and_then(|trace| HeaderValue::from_str(&trace).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
    headers
}

fn pass_on(answer: &http::Response<Bytes>) -> Response {
    let mut response = (answer.status(), answer.body().clone()).into_response();
    for name in PASSED_ON {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
