//! The OpenAPI document, made from the handlers and types themselves.
//!
//! Served at `/openapi.json`; `gateway_api/swagger.yaml` is the same document, and a test fails
//! when it is stale.

use common::{
    contract::route::{RouteAccess, Scope},
    http::problem::{PROBLEM_JSON, Problem},
};
use http::Method;
use utoipa::openapi::{
    ContentBuilder, Header, HeaderBuilder, InfoBuilder, License, ObjectBuilder, OpenApi,
    OpenApiBuilder, Ref, RefOr, Response as OpenApiResponse, ResponseBuilder, Type,
    path::Parameter,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};

use super::examples;
use crate::access::tokens::rules;

/// The tags of the calls, in the order of display.
const TAGS: [(&str, &str); 5] = [
    ("orders", "Placing, reading and processing orders"),
    ("inventory", "Products and their stock"),
    ("customers", "Accounts and the messages to their owners"),
    ("report", "The state of the shop and of its streams"),
    ("demo", "The demo data"),
];

/// Adds the answer to requests that exceed a limit, which every call can get, and the header of repeated
/// answers to the calls that take an `Idempotency-Key`.
pub(crate) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().filter_map(Option::as_mut) {
            let takes_key = operation.parameters.iter().flatten().any(is_key);
            let responses = &mut operation.responses.responses;
            for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2'))
            {
                if let RefOr::T(response) = response
                    && takes_key
                {
                    response.headers.insert("Idempotent-Replayed".to_owned(), replayed().into());
                }
            }
            responses.insert("429".to_owned(), too_many_requests().into());
        }
    }
}

fn is_key(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.name == "Idempotency-Key")
}

fn replayed() -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("`true`: this is the answer to an earlier request"))
        .build()
}

fn too_many_requests() -> OpenApiResponse {
    let problem = Problem::too_many_requests("the rate exceeds RATE_PER_SUBJECT; try again in 1 s");
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(problem).ok())
        .build();
    let seconds = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
        .description(Some("Seconds to wait before the next attempt"))
        .build();
    ResponseBuilder::new()
        .description("A rate limit of the address or of the subject is exceeded; see Retry-After")
        .content(PROBLEM_JSON, content)
        .header("Retry-After", seconds)
        .build()
}

/// The name of the security scheme.
const TOKEN: &str = "token";

/// Adds the scope that the rules require to each call, and the answers to callers without it.
pub(crate) fn secure(document: &mut OpenApi) {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "A token of the OpenID provider that the gateway trusts. With AUTH_MODE=off, as in the \
             demo, no token is required.",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ] {
            let Some(operation) = operation else { continue };
            let scope = rules::access(&method, path).and_then(RouteAccess::scope);
            let Some(scope) = scope.map(Scope::name) else { continue };
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, [scope])]);
            let refusals = [
                (
                    "401",
                    "The caller is not authenticated: the token is missing or invalid",
                    examples::no_token(),
                ),
                (
                    "403",
                    "The token does not permit this call: `scope` names a sufficient scope, if there is one",
                    examples::no_scope(scope),
                ),
            ];
            for (status, description, example) in refusals {
                let example = serde_json::to_value(example).expect("it has string keys only");
                let content = ContentBuilder::new()
                    .schema(Some(Ref::from_schema_name("Problem")))
                    .example(Some(example))
                    .build();
                let challenge = HeaderBuilder::new()
                    .description(Some("The required authentication (RFC 6750)"))
                    .build();
                let response = ResponseBuilder::new()
                    .description(description)
                    .header("WWW-Authenticate", challenge)
                    .content(PROBLEM_JSON, content)
                    .build();
                operation.responses.responses.insert(status.to_owned(), response.into());
            }
        }
    }
}

/// The document without the calls.
pub(crate) fn skeleton() -> OpenApi {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    let info = InfoBuilder::new()
        .title("Orders")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Accepts orders, reserves stock, charges customers and notifies them, through Redis \
             Streams. An order is accepted at once; its status shows the progress. Every error is \
             `application/problem+json` (RFC 9457) with a stable `type`.\n\nAn interactive version \
             of this document is at [/docs](/docs). The events between the services are at \
             [/docs/events](/docs/events).",
        ))
        .license(Some(license))
        .build();
    let tags =
        TAGS.map(|(name, what)| TagBuilder::new().name(name).description(Some(what)).build());
    OpenApiBuilder::new().info(info).tags(Some(tags)).build()
}
