//! The OpenAPI document, made from the handlers and types themselves.
//!
//! Served at `/openapi.json`; `gateway_api/swagger.yaml` is the same document, and a test fails
//! when it is stale.

use common::problem::{PROBLEM_JSON, Problem};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, InfoBuilder, License, ObjectBuilder, OpenApi, OpenApiBuilder,
    Ref, Response as OpenApiResponse, ResponseBuilder, Type, tag::TagBuilder,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Gateway, accounts, demo, flow, inventory, live, messages, orders, report};

/// What the calls are about, in the order in which they are shown.
const TAGS: [(&str, &str); 5] = [
    ("orders", "Placed, looked at, and moved on"),
    ("inventory", "Products and their stock"),
    ("customers", "Accounts, and what their owners were told"),
    ("report", "How things stand"),
    ("demo", "Something to begin with"),
];

/// The documented routes.
pub fn routes() -> OpenApiRouter<Gateway> {
    let mut routes = OpenApiRouter::with_openapi(skeleton())
        .routes(routes!(orders::place))
        .routes(routes!(orders::show, orders::cancel))
        .routes(routes!(orders::pay))
        .routes(routes!(orders::ship))
        .routes(routes!(orders::complete))
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
        .routes(routes!(live::events));
    limit(routes.get_openapi_mut());
    routes
}

/// Every call may be made too often.
fn limit(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().filter_map(Option::as_mut) {
            let responses = &mut operation.responses.responses;
            responses.insert("429".to_owned(), too_many_requests().into());
        }
    }
}

fn too_many_requests() -> OpenApiResponse {
    let problem = Problem::too_many_requests("try again in 1 s");
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(problem).ok())
        .build();
    let seconds = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
        .description(Some("Seconds after which trying again makes sense"))
        .build();
    ResponseBuilder::new()
        .description("Asked more often than one address or one subject may; see Retry-After")
        .content(PROBLEM_JSON, content)
        .header("Retry-After", seconds)
        .build()
}

/// The document.
pub fn document() -> OpenApi {
    routes().into_openapi()
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
             error is `application/problem+json` (RFC 9457) with a stable `type`.\n\nTo be \
             read and tried out at [/docs](/docs). What the services tell each other is at \
             [/docs/events](/docs/events).",
        ))
        .license(Some(license))
        .build();
    let tags =
        TAGS.map(|(name, what)| TagBuilder::new().name(name).description(Some(what)).build());
    OpenApiBuilder::new().info(info).tags(Some(tags)).build()
}
