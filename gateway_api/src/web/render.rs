//! The one place that decides between JSON and HTML.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use common::http::{problem::Problem, request};
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};

use super::{layout, negotiate::wants_html};
use crate::{access::visitor::Visitor, page_problem::PageProblem};

/// The representation that a client prefers, for routes with a page and JSON. An extractor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Representation {
    /// HTML.
    Page,
    /// JSON.
    Json,
}

impl Representation {
    fn preferred(headers: &HeaderMap) -> Self {
        if wants_html(headers) { Self::Page } else { Self::Json }
    }
}

impl<S: Sync> FromRequestParts<S> for Representation {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::preferred(&parts.headers))
    }
}

/// The layer that renders each [`PageProblem`] as the client prefers it.
pub(crate) async fn problems(request: Request, next: Next) -> Response {
    let representation = Representation::preferred(request.headers());
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<PageProblem>() else { return response };
    match representation {
        Representation::Page => {
            let visitor = response.extensions_mut().remove::<Arc<Visitor>>().unwrap_or_default();
            problem_page(&problem, &visitor)
        }
        Representation::Json => negotiated(response),
    }
}

/// The response to a request that the server refuses before it reaches the router.
pub(crate) fn refusal(problem: Problem, headers: &HeaderMap) -> Response {
    match Representation::preferred(headers) {
        Representation::Page => layout::problem(&problem, &Visitor::default()),
        Representation::Json => negotiated(problem.into_response()),
    }
}

/// A response of routes that only browsers use.
pub(crate) fn always_page(visitor: &Visitor, answer: Result<Response, Problem>) -> Response {
    answer.unwrap_or_else(|problem| layout::problem(&problem, visitor))
}

/// A response of a route with several representations.
pub(crate) fn negotiated(mut response: Response) -> Response {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// 404: there is nothing at this path.
pub(crate) async fn unknown_path(uri: Uri) -> PageProblem {
    request::unknown_path(uri).await.into()
}

fn problem_page(problem: &PageProblem, visitor: &Visitor) -> Response {
    match &problem.sign_in_url {
        Some(url) => negotiated(Redirect::to(url).into_response()),
        None => layout::problem(&problem.problem, visitor),
    }
}
