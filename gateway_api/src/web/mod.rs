//! The pages for browsers: rendered completely here and readable without the script, which only adds
//! updates and buttons. Programs get JSON at the same addresses.

mod assets;
pub(crate) mod flow;
pub(crate) mod format;
pub(crate) mod layout;
mod negotiate;
mod offers;
pub(crate) mod order;
pub(crate) mod render;
pub(crate) mod report;
pub(crate) mod signed_out;

use axum::{
    Router,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::Uri;

use self::render::Representation;
use crate::page_problem::PageProblem;

/// The routes of pages without a JSON form.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(root)).merge(assets::router())
}

/// Redirects browsers to the report.
async fn root(representation: Representation, uri: Uri) -> Result<Response, PageProblem> {
    match representation {
        Representation::Page => Ok(render::negotiated(Redirect::to("/report").into_response())),
        Representation::Json => Err(render::unknown_path(uri).await),
    }
}
