//! Calls to order_service on behalf of a client.

use axum::{
    extract::{Path, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    contract::{ids::OrderId, order::Order},
    http::{
        problem::Problem,
        request::{CALLER, TRACEPARENT, traceparent},
    },
    trace_context::trace_id,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tracing::warn;

use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller},
    state::Gateway,
    upstream::{order_client::OrderCall, queries::unknown_order, stores::read},
};

/// The headers of order_service's answers that clients see.
const FORWARDED_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::LOCATION, header::RETRY_AFTER];

/// The id in the path of a request.
pub(super) type OrderPath = Result<Path<OrderId>, PathRejection>;

/// Answers 404 for an order of another customer, as if it did not exist.
pub(super) async fn check_own(
    gateway: &Gateway,
    caller: &Caller,
    reader: &MeteredReader,
    id: OrderId,
) -> Result<(), Problem> {
    if caller.limited_to().is_none() {
        return Ok(());
    }
    let order = gateway.stores.order.get::<Order>(&id);
    let order = read(reader, "the order", order).await?;
    match order {
        Some(order) if caller.reaches(&order.customer_id) => Ok(()),
        _ => Err(unknown_order(id)),
    }
}

/// Calls order_service; logs failures.
pub(super) async fn call(
    gateway: &Gateway,
    order_call: OrderCall,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<http::Response<Bytes>, Problem> {
    gateway.orders.call(order_call, headers, body).await.inspect_err(|problem| {
        let detail = problem.detail.as_deref().unwrap_or_default();
        let order = order_call.order().map(|id| id.to_string());
        let traceparent = headers.get(&TRACEPARENT).and_then(|value| value.to_str().ok());
        warn!(
            subject.id = order,
            trace.id = trace_id(traceparent),
            status = problem.status,
            "order_service cannot be reached: {detail}"
        );
    })
}

/// The headers of a call to order_service.
pub(super) fn call_headers(request: &HeaderMap, caller: &Caller) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let name = HeaderValue::from_str(caller.key());
    headers.insert(CALLER, name.expect("a caller's key is plain"));
    if let Some(value) = traceparent(request).and_then(|it| HeaderValue::from_str(&it).ok()) {
        headers.insert(TRACEPARENT, value);
    }
    headers
}

/// The answer of order_service as the answer to the client.
pub(super) fn pass_on(answer: &http::Response<Bytes>) -> Response {
    let mut response = (answer.status(), answer.body().clone()).into_response();
    for name in FORWARDED_HEADERS {
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
