//! The router: all routes, and the layers around them.

use std::sync::Arc;

use axum::{
    Router, middleware,
    response::{IntoResponse as _, Response},
};
use common::http::{
    problem::Problem,
    request::wrong_method,
    server::{Peer, survive_panics},
};
use http::request::Parts;
use tower_http::csrf::{CsrfLayer, ProtectionError, ProtectionErrorKind};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    access::{
        gate,
        limits::{headers, layers, limiter::Limiter},
    },
    docs,
    routes::{
        accounts, demo, events, flow, inventory, messages, order_commands, orders, report, sign_in,
    },
    state::Gateway,
    web::{self, render},
};

/// The routes in the OpenAPI document.
fn documented() -> OpenApiRouter<Gateway> {
    let mut routes = OpenApiRouter::with_openapi(docs::openapi::skeleton())
        .routes(routes!(order_commands::place))
        .routes(routes!(orders::show, order_commands::cancel))
        .routes(routes!(order_commands::pay))
        .routes(routes!(order_commands::ship))
        .routes(routes!(order_commands::complete))
        .routes(routes!(orders::list))
        .routes(routes!(orders::counts))
        .routes(routes!(inventory::list))
        .routes(routes!(inventory::show, inventory::define))
        .routes(routes!(inventory::restock))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show, accounts::define))
        .routes(routes!(accounts::top_up))
        .routes(routes!(messages::list))
        .routes(routes!(demo::init_data))
        .routes(routes!(report::report))
        .routes(routes!(flow::flow))
        .routes(routes!(events::events));
    docs::openapi::complete(routes.get_openapi_mut());
    routes
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    let mut document = documented().into_openapi();
    docs::openapi::secure(&mut document);
    document
}

/// All routes. A request passes the layers from the last one here to the first: the limits count addresses
/// before authentication and subjects after it.
pub(crate) fn router(gateway: Gateway, limiter: Arc<Limiter>) -> Router {
    let (routes, mut document) = documented().split_for_parts();
    docs::openapi::secure(&mut document);
    let gate = Arc::clone(&gateway.gate);
    let routes = routes
        .merge(docs::router(&document))
        .merge(web::router())
        .merge(sign_in::router())
        .method_not_allowed_fallback(wrong_method)
        .fallback(render::unknown_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&gate), gate::authorize))
        .layer(middleware::from_fn_with_state(Arc::clone(&limiter), layers::limit_subject))
        .layer(middleware::from_fn_with_state(gate, gate::authenticate))
        .with_state(gateway);
    // The answer to a panic passes through the layers below, too.
    survive_panics(routes)
        .layer(CsrfLayer::new().with_rejection_response(cross_site))
        .layer(middleware::from_fn_with_state(limiter, layers::limit_address))
        .layer(middleware::from_fn(render::problems))
        .layer(middleware::from_fn(headers::security_headers))
}

/// The answer to a request with effects that a page of another site made.
fn cross_site(error: ProtectionError) -> Response {
    let field = match error.kind() {
        ProtectionErrorKind::CrossOriginRequest => "Sec-Fetch-Site",
        _ => "Origin",
    };
    let detail = "a page of another site may not change anything here";
    Problem::cross_site(detail).at(field).into_response()
}

/// The answer to a request that the server refuses before it reaches the router.
pub(crate) fn refuse(problem: Problem, request: &Parts, peer: Peer) -> Response {
    let mut response = render::refusal(problem, &request.headers);
    let strict = headers::is_strict(Some(&peer), &request.headers);
    headers::complete(response.headers_mut(), strict);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::access::tokens::rules::{self, RULES};

    #[test]
    fn every_route_of_the_api_document_has_a_rule() {
        let document = serde_json::to_value(document()).unwrap();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let method = method.to_uppercase().parse().unwrap();
                assert!(rules::access(&method, path).is_some(), "{method} {path} has no rule");
            }
        }
    }

    #[test]
    fn every_other_route_has_a_rule_and_every_rule_a_route() {
        let (routes, document) = documented().split_for_parts();
        let router =
            routes.merge(docs::router(&document)).merge(web::router()).merge(sign_in::router());
        // The router has no list of its paths, but its debug output contains them.
        let shown = format!("{router:?}");
        let (_, paths) = shown.split_once("paths: {").expect("it shows its paths");
        let texts = paths.split('"').skip(1).step_by(2);
        let routed: BTreeSet<&str> =
            texts.filter(|text| text.starts_with('/') && !text.contains("axum_fallback")).collect();
        let ruled: BTreeSet<&str> = RULES.iter().map(|rule| rule.path).collect();
        assert!(routed.len() > 20, "{routed:?}");
        assert_eq!(routed, ruled);
    }
}
