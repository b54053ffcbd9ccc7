//! The OpenAPI document, made from the handlers and types themselves.
//!
//! Served at `/openapi.json`; `gateway_api/swagger.yaml` is the same document, and a test fails
//! when it is stale.

use std::sync::Arc;

use axum::{Router, response::IntoResponse, routing::get};
use http::header;
use utoipa::openapi::{InfoBuilder, License, OpenApi, OpenApiBuilder};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Gateway, accounts, demo, inventory, messages, orders, report};

/// The documented routes.
pub fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::with_openapi(skeleton())
        .routes(routes!(orders::place))
        .routes(routes!(orders::show, orders::cancel))
        .routes(routes!(orders::pay))
        .routes(routes!(orders::ship))
        .routes(routes!(orders::complete))
        .routes(routes!(orders::list))
        .routes(routes!(inventory::list))
        .routes(routes!(inventory::show, inventory::define))
        .routes(routes!(inventory::restock))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show, accounts::define))
        .routes(routes!(accounts::top_up))
        .routes(routes!(messages::list))
        .routes(routes!(demo::init_data))
        .routes(routes!(report::report))
}

/// The document.
pub fn document() -> OpenApi {
    routes().into_openapi()
}

/// Serves the document.
pub(crate) fn router(document: OpenApi) -> Router<Gateway> {
    let json: Arc<str> = document.to_json().expect("it has string keys only").into();
    let show = move || async move {
        ([(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
    };
    Router::new().route("/openapi.json", get(show))
}

fn skeleton() -> OpenApi {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    let info = InfoBuilder::new()
        .title("Orders")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Takes orders, reserves stock, takes the money and tells the customer, through Redis \
             Streams. An order is accepted at once; what becomes of it shows in its status. Every \
             error is `application/problem+json` (RFC 9457) with a stable `type`.",
        ))
        .license(Some(license))
        .build();
    OpenApiBuilder::new().info(info).build()
}
