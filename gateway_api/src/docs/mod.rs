//! Documentation, as it is served: for programs `/openapi.json` and `/asyncapi.json`, for people
//! `/docs` (the HTTP interface, to be tried out) and `/docs/events` (the streams).

pub mod asyncapi;
mod channels;
mod events_page;
pub(crate) mod examples;
mod fixed;
pub(crate) mod openapi;
pub(crate) mod parameters;
pub(crate) mod responses;
mod swagger_ui;

use axum::Router;
use utoipa::openapi::OpenApi;

use self::fixed::Fixed;

/// Serves the documents.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(openapi: &OpenApi) -> Router<S> {
    let openapi = openapi.to_json().expect("it has string keys only");
    let asyncapi = serde_json::to_string(&asyncapi::document()).expect("it has string keys only");
    Router::new()
        .route("/openapi.json", Fixed::new("application/json", openapi).route())
        .route("/asyncapi.json", Fixed::new("application/json", asyncapi).route())
        .merge(swagger_ui::router())
        .merge(events_page::router())
}
