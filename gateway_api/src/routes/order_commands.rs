//! The calls that place and process orders, forwarded to order_service.

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    contract::{order::Order, order_routes::OrderAction},
    http::{
        input::PlaceOrder,
        problem::Problem,
        request::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, json_bytes, parse, path_id},
    },
};
use http::{HeaderMap, HeaderValue};

use super::order_calls::{OrderPath, call, call_headers, check_own, pass_on};
use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller},
    docs::{
        examples,
        parameters::{OrderInPath, RequestHeaders},
        responses::{BadBody, BadOrder, NotAllowed, NotDone},
    },
    state::Gateway,
    upstream::{order_client::OrderCall, publish::RequestKey},
};

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
            headers(("Location" = String, description = "The path of the order: /order/{id}")),
            example = json!(examples::placed())),
        NotDone, BadBody, BadOrder,
    ),
)]
pub(crate) async fn place(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body): (_, Body) = request.into_parts();
    let body = json_bytes(&parts.headers, body).await?;
    if caller.limited_to().is_some() {
        let wanted: PlaceOrder = parse(&body)?;
        caller.check(&wanted.customer_id).map_err(|problem| problem.at("customer_id"))?;
    }
    change(&gateway, (&caller, &reader), OrderCall::Place, &parts.headers, body).await
}

/// A call that changes something, with the client's key or one of the gateway's own.
async fn change(
    gateway: &Gateway,
    (caller, reader): (&Caller, &MeteredReader),
    order_call: OrderCall,
    request: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = RequestKey::of(request)?;
    if let Some(id) = order_call.order() {
        check_own(gateway, caller, reader, id).await?;
    }
    let mut headers = call_headers(request, caller);
    // With a key of its own the gateway can repeat the call if the answer is lost.
    let value = HeaderValue::from_str(&key.text);
    headers.insert(IDEMPOTENCY_KEY, value.expect("it came in a header, or is a UUID"));
    let response = match call(gateway, order_call, &headers, body).await {
        Ok(answer) => {
            reader.charge(answer.body().len());
            let mut response = pass_on(&answer);
            // A client that sent no key did not send the request twice.
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

/// The parts of a request for an action.
type ActionRequest = (State<Gateway>, Caller, MeteredReader, OrderPath, HeaderMap);

async fn act(
    action: OrderAction,
    (State(gateway), caller, reader, id, headers): ActionRequest,
) -> Result<Response, Problem> {
    let call = OrderCall::Act(action, path_id(id)?);
    change(&gateway, (&caller, &reader), call, &headers, Bytes::new()).await
}

/// Retry the payment of an order
///
/// For an order with the status `insufficient-fund`, after a top-up. It begins a new attempt: stock is
/// reserved again, or the order waits for stock, and the total follows the prices at that time. An order has
/// at most 10,000 attempts.
#[utoipa::path(
    post, path = "/order/{id}/pay", tag = "orders", operation_id = "pay_order",
    params(OrderInPath, RequestHeaders),
    responses(
        (status = 200, description = "The order is `pending` again, in its next attempt", body = Order,
            example = json!(examples::paid_again())),
        NotDone, NotAllowed,
    ),
)]
pub(crate) async fn pay(request: ActionRequest) -> Result<Response, Problem> {
    act(OrderAction::Pay, request).await
}

/// Mark an order as shipped
///
/// For an order with the status `to-be-shipped`. A shipped order can no longer be cancelled.
#[utoipa::path(
    post, path = "/order/{id}/ship", tag = "orders", operation_id = "ship_order",
    params(OrderInPath, RequestHeaders),
    responses(
        (status = 200, description = "The order is `shipped`", body = Order,
            example = json!(examples::shipped())),
        NotDone, NotAllowed,
    ),
)]
pub(crate) async fn ship(request: ActionRequest) -> Result<Response, Problem> {
    act(OrderAction::Ship, request).await
}

/// Mark an order as completed
///
/// For an order with the status `shipped`.
#[utoipa::path(
    post, path = "/order/{id}/complete", tag = "orders", operation_id = "complete_order",
    params(OrderInPath, RequestHeaders),
    responses(
        (status = 200, description = "The order is `completed`", body = Order,
            example = json!(examples::completed())),
        NotDone, NotAllowed,
    ),
)]
pub(crate) async fn complete(request: ActionRequest) -> Result<Response, Problem> {
    act(OrderAction::Complete, request).await
}

/// Cancel an order
///
/// Possible until it is shipped. Its stock is released, its payment is refunded, and it no longer waits for
/// stock; steps in progress are undone as well. With an `Idempotency-Key` the request can be repeated;
/// without one the second request gets a 409.
#[utoipa::path(
    delete, path = "/order/{id}", tag = "orders", operation_id = "cancel_order",
    params(OrderInPath, RequestHeaders),
    responses(
        (status = 200, description = "The order is `cancelled`", body = Order,
            example = json!(examples::cancelled())),
        NotDone, NotAllowed,
    ),
)]
pub(crate) async fn cancel(request: ActionRequest) -> Result<Response, Problem> {
    act(OrderAction::Cancel, request).await
}
