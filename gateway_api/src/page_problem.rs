//! A problem that browsers get as a page.
//!
//! Handlers, limits and the gate return it as data; `web::render` decides how the client gets it.

use axum::response::{IntoResponse, Response};
use common::http::problem::Problem;

/// A problem whose representation depends on what the client prefers. As a response it is JSON, and in the
/// extensions of the response, so that the layer which renders pages finds it.
#[derive(Clone, Debug)]
pub(crate) struct PageProblem {
    pub(crate) problem: Problem,
    /// Where a browser goes instead: signing in would help.
    pub(crate) sign_in_url: Option<String>,
}

impl From<Problem> for PageProblem {
    fn from(problem: Problem) -> Self {
        Self { problem, sign_in_url: None }
    }
}

impl IntoResponse for PageProblem {
    fn into_response(self) -> Response {
        let mut response = self.problem.clone().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
