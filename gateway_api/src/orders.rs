//! `POST /order` and `GET /order/{id}`, passed on to order_service.

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    api::PlaceOrder,
    engine::trace_id,
    entities::Order,
    http::{
        ANONYMOUS, CALLER, IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, TRACEPARENT, idempotency_key,
        json_bytes, order_id, trace,
    },
    ids::OrderId,
    problem::Problem,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tracing::warn;

use crate::{Gateway, order_client::Route};

/// The headers of order_service's answers that clients see.
const PASSED_ON: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::RETRY_AFTER];

/// Place an order
///
/// The order is accepted before stock or money are looked at; follow its `Location` to see what
/// becomes of it. With an `Idempotency-Key` the request is safe to repeat for ever: the same key and
/// body give the same order again, with the header `Idempotent-Replayed: true`.
#[utoipa::path(
    post, path = "/order", tag = "orders", operation_id = "place_order",
    request_body = PlaceOrder,
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "Names the request, 1 to 255 printable ASCII characters of the client's \
                           choice (draft-ietf-httpapi-idempotency-key-header)"),
        ("traceparent" = Option<String>, Header,
            description = "The trace that the order belongs to (W3C Trace Context); shows in logs and events"),
    ),
    responses(
        (status = 200, description = "The order is stored, with status `pending`", body = Order,
            headers(
                ("Location" = String, description = "Where the order is: /order/{id}"),
                ("Idempotent-Replayed" = String, description = "`true`: this is the order of an earlier request"),
            )),
        (status = 400, description = "The body is not JSON, or the key does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long to arrive", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 64 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not declared as JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is missing or wrong, or the key belongs to another request", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Orders cannot be stored at the moment; see Retry-After. Repeat it with the Idempotency-Key of this answer", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "It took too long, and the order may be stored all the same. Repeat it with the Idempotency-Key of this answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn place(State(gateway): State<Gateway>, request: Request) -> Result<Response, Problem> {
    let (parts, body): (_, Body) = request.into_parts();
    let body = json_bytes(&parts.headers, body).await?;
    let mut headers = call_headers(&parts.headers);
    // Forwarded as it came; order_service reads it the same way.
    let given = idempotency_key(&parts.headers)?.and(parts.headers.get(&IDEMPOTENCY_KEY));
    // With a key of its own the gateway can repeat the call when an answer got lost.
    let key = given.cloned().unwrap_or_else(|| {
        let key = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&key).expect("a UUID is plain")
    });
    headers.insert(IDEMPOTENCY_KEY, key.clone());
    let mut response = match call(&gateway, Route::Place, &headers, body).await {
        Ok(answer) => {
            let mut response = pass_on(&answer);
            // Whoever sent no key did not send the request twice.
            let replayed = answer.headers().get(IDEMPOTENT_REPLAYED).filter(|_| given.is_some());
            if let Some(replayed) = replayed {
                response.headers_mut().insert(IDEMPOTENT_REPLAYED, replayed.clone());
            }
            response
        }
        Err(problem) => problem.into_response(),
    };
    if response.status().is_server_error() {
        // The order may be there all the same: with this key the client can find out.
        response.headers_mut().insert(IDEMPOTENCY_KEY, key);
    }
    Ok(response)
}

/// Look at an order
///
/// With the statuses that it went through.
#[utoipa::path(
    get, path = "/order/{id}", tag = "orders", operation_id = "get_order",
    params(("id" = uuid::Uuid, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order", body = Order),
        (status = 400, description = "That is no id of an order", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such order", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Orders cannot be read at the moment; see Retry-After", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "It took too long", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(gateway): State<Gateway>,
    id: Result<Path<OrderId>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = order_id(id)?;
    let answer = call(&gateway, Route::Show(id), &call_headers(&headers), Bytes::new()).await?;
    Ok(pass_on(&answer))
}

async fn call(
    gateway: &Gateway,
    route: Route,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<http::Response<Bytes>, Problem> {
    gateway.orders.call(route, headers, body).await.inspect_err(|problem| {
        let detail = problem.detail.as_deref().unwrap_or_default();
        let order = match route {
            Route::Place => None,
            Route::Show(id) => Some(id.to_string()),
        };
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
fn call_headers(request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CALLER, HeaderValue::from_static(ANONYMOUS));
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
