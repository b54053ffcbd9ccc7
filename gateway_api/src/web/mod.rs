//! The pages that people see in a browser: made whole here, readable without the script, which
//! only adds life and buttons. Programs get JSON at the same addresses.

mod assets;
pub(crate) mod flow;
mod format;
pub(crate) mod layout;
pub(crate) mod negotiate;
pub(crate) mod order;
pub(crate) mod report;
pub(crate) mod visitor;

use axum::{
    Router,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use common::http::problem::Problem;
use http::{HeaderMap, HeaderValue, Uri, header};

use self::negotiate::wants_html;
use crate::Gateway;

/// What the pages need besides the routes that they share with programs.
pub(crate) fn router() -> Router<Gateway> {
    Router::new().route("/", get(root)).merge(assets::router())
}

/// Browsers begin at the report.
async fn root(headers: HeaderMap, uri: Uri) -> Response {
    if wants_html(&headers) {
        let mut response = Redirect::to("/report").into_response();
        vary(&mut response);
        return response;
    }
    json(Err(common::http::request::unknown_path(uri).await))
}

/// 404 for a path that does not exist.
pub(crate) async fn unknown_path(headers: HeaderMap, uri: Uri) -> Response {
    let problem = common::http::request::unknown_path(uri).await;
    if wants_html(&headers) { html(Err(problem)) } else { json(Err(problem)) }
}

/// An answer to somebody who wants a page.
pub(crate) fn html(answer: Result<Response, Problem>) -> Response {
    answer.unwrap_or_else(|problem| layout::problem(&problem))
}

/// An answer to somebody who wants JSON where there is a page as well.
pub(crate) fn json(answer: Result<Response, Problem>) -> Response {
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    vary(&mut response);
    response
}

fn vary(response: &mut Response) {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
}
