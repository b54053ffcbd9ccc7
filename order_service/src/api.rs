//! The HTTP API for the gateway: orders and their actions.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use common::{
    connection::shared_link::SharedLink,
    contract::{
        ids::{OrderId, request_id},
        order::Order,
        order_routes::{OrderAction, PLACE, SHOW},
        order_status::OrderStatus,
        route::Route,
    },
    engine::{EngineHandle, SubmitError},
    http::{
        backlog::MaxBacklog,
        calls::take_calls,
        input::PlaceOrder,
        problem::Problem,
        request::{
            IDEMPOTENT_REPLAYED, JsonBody, caller, idempotency_key, path_id, traceparent,
            unknown_path, wrong_method,
        },
    },
    process::memory_watch::{MemoryWatch, WriteEffect},
    random::new_id,
    trace_context::trace_id,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::watch;
use tracing::error;

use crate::{
    gateway_secret::{self, GatewaySecrets},
    order::{ActionRequest, Answer, Input, NewOrder, Orders},
    progress::Progress,
};

/// The state of the handlers.
#[derive(Clone, Debug)]
pub struct Api {
    /// The handle of the engine.
    pub engine: EngineHandle<Orders>,
    /// The Redis of orders.
    pub store: Arc<SharedLink>,
    /// The progress of the consumer groups that handle orders.
    pub progress: watch::Receiver<Progress>,
    /// The backlog beyond which no order is accepted.
    pub max_backlog: MaxBacklog,
    /// The memory of the Redis servers.
    pub memory: Arc<MemoryWatch>,
}

type OrderPath = Result<Path<OrderId>, PathRejection>;

/// The routes, for requests with one of the secrets.
pub fn router(api: Api, secrets: GatewaySecrets) -> Router {
    let mut router = Router::new()
        .route(PLACE.path, on(filter(PLACE), place))
        .route(SHOW.path, on(filter(SHOW), show));
    for action in OrderAction::ALL {
        let handler = move |State(api): State<Api>, id: OrderPath, headers: HeaderMap| async move {
            act(&api, path_id(id)?, action, &headers).await
        };
        let route = action.route();
        router = router.route(route.path, on(filter(route), handler));
    }
    let calls =
        router.method_not_allowed_fallback(wrong_method).fallback(unknown_path).with_state(api);
    take_calls(calls)
        .layer(middleware::from_fn_with_state(Arc::new(secrets), gateway_secret::authenticate))
}

/// Requests with the method of the route.
fn filter(route: Route) -> MethodFilter {
    let method = route.method.parse::<Method>().expect("a method");
    MethodFilter::try_from(method).expect("a common method")
}

async fn place(
    State(api): State<Api>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<PlaceOrder>,
) -> Result<Response, Problem> {
    body.check()?;
    let id = match idempotency_key(&headers)? {
        Some(key) => OrderId::for_key(caller(&headers), &key),
        None => OrderId::random(),
    };
    let PlaceOrder { product_ids, customer_id } = body;
    let mut response =
        submit(&api, id, Input::Place(NewOrder { id, product_ids, customer_id }), &headers).await?;
    let location = HeaderValue::from_str(&SHOW.path_of(id)).expect("a UUID is plain");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

async fn act(
    api: &Api,
    id: OrderId,
    action: OrderAction,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let request = match idempotency_key(headers)? {
        Some(key) => request_id("step", caller(headers), &key),
        None => new_id(),
    };
    submit(api, id, Input::Act(ActionRequest { id, action, request }), headers).await
}

async fn submit(
    api: &Api,
    id: OrderId,
    command: Input,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    check_capacity(api, id, &command).await?;
    let traceparent = traceparent(headers);
    let answer = api.engine.submit(command, traceparent.clone()).await;
    let (order, replayed) = match answer
        .map_err(|it| submit_problem(id, it, traceparent.as_deref()))?
    {
        Answer::Done(order) => (order, false),
        Answer::Replayed(order) => (order, true),
        Answer::KeyReused => {
            let detail = "another request was made with this Idempotency-Key; take a new key for a new \
                          request";
            return Err(Problem::key_reused(detail).at("Idempotency-Key"));
        }
        Answer::Unknown => return Err(unknown(id)),
        Answer::WrongState(status) => {
            return Err(not_allowed(status, &format!("the order is {}", status.name()), |_| true));
        }
        Answer::TooManyOpen { limit } => return Err(too_many_open(limit)),
        Answer::AttemptLimit { status, limit } => {
            let state = status.name();
            let why = format!("the order is {state} and has had its limit of {limit} attempts");
            return Err(not_allowed(status, &why, |action| action != OrderAction::Pay));
        }
        Answer::Nothing | Answer::Unconfirmed(_) => {
            return Err(Problem::internal("the order was not changed"));
        }
    };
    let mut response = Json(order).into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn too_many_open(limit: u64) -> Problem {
    let detail = format!(
        "the customer has {limit} open orders, the most that one may have (MAX_OPEN_ORDERS); repeat \
         the request when some of them are completed or cancelled"
    );
    Problem::too_many_open(detail).at("customer_id")
}

/// The problem of an action that the status does not allow, with the allowed actions.
fn not_allowed(status: OrderStatus, why: &str, allows: impl Fn(OrderAction) -> bool) -> Problem {
    let fitting =
        OrderAction::ALL.into_iter().filter(|action| action.fits(status) && allows(*action));
    let allowed: Vec<&str> = fitting.map(OrderAction::name).collect();
    let detail = match allowed.as_slice() {
        [] => format!("{why}; no further action is possible"),
        some => format!("{why}; allowed now: {}", some.join(", ")),
    };
    Problem::wrong_state(detail).in_state(status.name(), &allowed)
}

/// Refuses new orders while a Redis is nearly full, and changes to orders while it is almost full; and
/// refuses new attempts while a service on their path is too far behind (backpressure). Repeated
/// requests are answered in any case.
async fn check_capacity(api: &Api, id: OrderId, command: &Input) -> Result<(), Problem> {
    let starts_attempt = match command {
        Input::Place(_) => true,
        Input::Act(act) => act.action == OrderAction::Pay,
        _ => false,
    };
    let change = match command {
        Input::Place(_) => WriteEffect::Adds,
        _ => WriteEffect::Ends,
    };
    let problem = if let Some(nearly_full) = api.memory.nearly_full(change) {
        nearly_full.problem()
    } else if starts_attempt
        && let Some(backlog) = api.max_backlog.exceeded_by(api.progress.borrow().largest)
    {
        backlog.problem()
    } else {
        return Ok(());
    };
    let is_new = match (command, api.store.get::<Order>(&id).await) {
        (Input::Act(act), Ok(Some(order))) => {
            let known = order.history.iter().any(|step| step.request == Some(act.request));
            !known && act.action.fits(order.status)
        }
        (Input::Act(_), Ok(None)) | (_, Ok(Some(_))) => false,
        (_, Ok(None) | Err(_)) => true,
    };
    if is_new { Err(problem) } else { Ok(()) }
}

fn unknown(id: OrderId) -> Problem {
    Problem::not_found(format!("there is no order {id}"))
}

fn submit_problem(id: OrderId, error: SubmitError, traceparent: Option<&str>) -> Problem {
    match error {
        SubmitError::Unavailable => Problem::unavailable(
            "orders cannot be stored at the moment; repeat the request with the same Idempotency-Key",
        ),
        SubmitError::TimedOut => Problem::timeout(
            "it was not confirmed in time; repeat the request with the same Idempotency-Key",
        ),
        SubmitError::Invalid(reason) => {
            error!(subject.id = %id, trace.id = trace_id(traceparent), "request failed: {reason}");
            Problem::internal("the order was not changed")
        }
    }
}

async fn show(
    State(api): State<Api>,
    id: OrderPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    match api.store.get::<Order>(&id).await {
        Ok(Some(order)) => Ok((StatusCode::OK, Json(order)).into_response()),
        Ok(None) => Err(unknown(id)),
        Err(error) => {
            let traceparent = traceparent(&headers);
            error!(subject.id = %id, trace.id = trace_id(traceparent.as_deref()),
                "cannot read the order: {error}");
            Err(error.problem("the order cannot be read", "orders cannot be read at the moment"))
        }
    }
}
