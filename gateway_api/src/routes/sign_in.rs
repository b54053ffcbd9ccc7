//! The pages for sign-in and sign-out. Only browsers use them, so all answers are pages.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use common::http::problem::Problem;
use http::{HeaderMap, HeaderValue, header};

use crate::{
    access::{
        sign_in::flow::{CALLBACK, SIGNED_OUT},
        visitor::Visitor,
    },
    state::Gateway,
    web::{render, signed_out},
};

/// The routes for sign-in and sign-out.
pub(crate) fn router() -> Router<Gateway> {
    Router::new()
        .route("/sign-in", get(begin))
        .route(CALLBACK, get(finish))
        .route("/sign-out", post(sign_out))
        .route(SIGNED_OUT, get(confirm))
}

/// The parameters of a query by their names.
type Parameters = Query<HashMap<String, String>>;

/// The visitor, whom the gate puts into each request.
type Visiting = Extension<Arc<Visitor>>;

/// Sends the browser to the provider.
async fn begin(
    State(gateway): State<Gateway>,
    Extension(visitor): Visiting,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Response {
    let then = parameters.get("then").map(String::as_str);
    let flow = gateway.gate.sign_in_flow();
    answer(&visitor, flow.and_then(|flow| flow.begin(&headers, then)))
}

/// Receives the browser from the provider.
async fn finish(
    State(gateway): State<Gateway>,
    Extension(visitor): Visiting,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Response {
    let (finished, cookie) = match gateway.gate.sign_in_flow() {
        Ok(flow) => flow.finish(&headers, &parameters).await,
        Err(problem) => (Err(problem), None),
    };
    let mut response = answer(&visitor, finished);
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Ends the session here, and redirects to the provider to end it there.
async fn sign_out(
    State(gateway): State<Gateway>,
    Extension(visitor): Visiting,
    headers: HeaderMap,
) -> Response {
    // The session here ends even if the provider cannot be reached.
    let cookies = match gateway.gate.sign_out(&headers) {
        Ok(cookies) => cookies,
        Err(problem) => return answer(&visitor, Err(problem)),
    };
    let url = gateway.gate.sign_in_flow().map(|flow| flow.sign_out_url());
    let mut response = answer(&visitor, url.map(|url| Redirect::to(&url).into_response()));
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Confirms that the session has ended.
async fn confirm(State(gateway): State<Gateway>, Extension(visitor): Visiting) -> Response {
    let flow = gateway.gate.sign_in_flow();
    answer(&visitor, flow.map(|_| signed_out::page().into_response(&visitor)))
}

/// Forbids caching.
fn answer(visitor: &Visitor, answer: Result<Response, Problem>) -> Response {
    let mut response = render::always_page(visitor, answer);
    let kept = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    // The address contains the code.
    let quiet = HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(header::REFERRER_POLICY, quiet);
    response
}
