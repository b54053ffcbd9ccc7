//! The HTTP interface towards the gateway: `POST /order`, `GET /order/{id}`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use common::{
    api::PlaceOrder,
    engine::{Door, Refusal, trace_id},
    entities::Order,
    http::{
        ANONYMOUS, CALLER, IDEMPOTENT_REPLAYED, JsonBody, idempotency_key, order_id, trace,
        unknown_path, wrong_method,
    },
    ids::OrderId,
    problem::Problem,
    redis_link::SharedLink,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::error;

use crate::order::{Answer, Input, Orders, Place};

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where commands go.
    pub door: Door<Orders>,
    /// Where orders are read.
    pub store: Arc<SharedLink>,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/order", post(place))
        .route("/order/{id}", get(show))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .with_state(api)
}

async fn place(
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<PlaceOrder>,
) -> Result<Response, Problem> {
    body.check()?;
    let caller = headers.get(&CALLER).and_then(|value| value.to_str().ok()).unwrap_or(ANONYMOUS);
    let id = match idempotency_key(&headers)? {
        Some(key) => OrderId::for_key(caller, &key),
        None => OrderId::random(),
    };
    let PlaceOrder { product_ids, customer_id } = body;
    let command = Input::Place(Place { id, product_ids, customer_id });
    let (order, replayed) = match api.door.ask(command, trace(&headers)).await {
        Ok(Answer::Placed(order)) => (order, false),
        Ok(Answer::Replayed(order)) => (order, true),
        Ok(Answer::KeyReused) => {
            let detail = "another order was placed with this Idempotency-Key; take a new key for a new order";
            return Err(Problem::key_reused(detail).at("Idempotency-Key"));
        }
        Err(refusal) => return Err(refused(id, refusal, trace(&headers).as_deref())),
    };
    let mut response = Json(order).into_response();
    let location = HeaderValue::from_str(&format!("/order/{id}")).expect("a UUID is plain");
    response.headers_mut().insert(header::LOCATION, location);
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn refused(id: OrderId, refusal: Refusal, trace: Option<&str>) -> Problem {
    match refusal {
        Refusal::Unavailable => Problem::unavailable(
            "orders cannot be stored at the moment; repeat the request with the same Idempotency-Key",
        ),
        Refusal::TimedOut => Problem::timeout(
            "the order was not confirmed in time; repeat the request with the same Idempotency-Key",
        ),
        Refusal::Fault(fault) => {
            error!(order.id = %id, trace.id = trace_id(trace), "placing the order failed: {fault}");
            Problem::internal("the order was not placed")
        }
    }
}

async fn show(
    State(api): State<Api>,
    id: Result<Path<OrderId>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = order_id(id)?;
    match api.store.get::<Order>(&id).await {
        Ok(Some(order)) => Ok((StatusCode::OK, Json(order)).into_response()),
        Ok(None) => Err(Problem::not_found(format!("there is no order {id}"))),
        Err(error) => {
            let trace = trace(&headers);
            error!(order.id = %id, trace.id = trace_id(trace.as_deref()),
                "reading the order failed: {error}");
            Err(Problem::unavailable("orders cannot be read at the moment"))
        }
    }
}
