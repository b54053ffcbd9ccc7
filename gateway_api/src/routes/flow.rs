//! `GET /flow`: the event flow.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;

use crate::{
    access::visitor::Visitor,
    docs::{examples, responses::NotRead},
    page_problem::PageProblem,
    state::Gateway,
    upstream::flow::Flow,
    web::{
        flow::page as flow_page,
        render::{self, Representation},
    },
};

/// Get the event flow
///
/// The streams between the services, with the backlog of each consumer group, the rates of appended and
/// handled entries, and the dead letters. Rates cover the last second and are missing in the first answer;
/// `GET /events?flow=true` sends the same once a second. A browser (`Accept: text/html`) gets a diagram.
#[utoipa::path(
    get, path = "/flow", tag = "report", operation_id = "flow",
    responses(
        (status = 200, description = "The event flow", body = Flow, example = json!(examples::flow())),
        NotRead,
    ),
)]
pub(crate) async fn flow(
    State(gateway): State<Gateway>,
    Extension(visitor): Extension<Arc<Visitor>>,
    representation: Representation,
) -> Result<Response, PageProblem> {
    let sample = gateway.flow.now().await?;
    if representation == Representation::Page {
        return Ok(flow_page::page(&sample.flow).into_response(&visitor));
    }
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok(render::negotiated((headers, sample.json.clone()).into_response()))
}
