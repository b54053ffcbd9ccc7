//! The two layers of the router that enforce the limits.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody as _},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use common::http::server::{CHUNK_BYTES, Connection, Peer, hold_permit};
use http::{HeaderValue, header};

use super::{
    client::{AuthenticatedSubject, Client, Embedded},
    limiter::Limiter,
    reader::MeteredReader,
};
use crate::page_problem::PageProblem;

/// Limits each address, before authentication.
pub(crate) async fn limit_address(
    State(limiter): State<Arc<Limiter>>,
    request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    let peer = request.extensions().get::<Peer>();
    let client = peer.map_or(Client::ThisMachine, |peer| limiter.client(peer, request.headers()));
    match limiter.admit(request, &client).await {
        Ok((mut request, body, taken)) => {
            request.extensions_mut().insert(MeteredReader::new(&limiter, &client));
            let answer = next.run(request).await;
            drop(body);
            match limiter.hold(&client, &answer) {
                Ok(hold) => {
                    let keeps = taken.permit.is_some() || hold.is_some();
                    // A client that does not receive it can be disconnected in favour of others.
                    let keeps = keeps.then(|| {
                        let clients = [Some(&client), answer.extensions().get::<Client>()];
                        let shares = clients.into_iter().flatten().map(|it| limiter.number(it));
                        (taken, hold, connection.map(|it| it.keep(shares.collect())))
                    });
                    hold_until_sent(answer, keeps)
                }
                // If the answer would be JSON, the refusal is JSON as well.
                Err(problem) if is_page(&answer) => PageProblem::from(problem).into_response(),
                Err(problem) => {
                    let mut refusal = problem.into_response();
                    let accept = HeaderValue::from_static("accept");
                    refusal.headers_mut().insert(header::VARY, accept);
                    refusal
                }
            }
        }
        Err(problem) => PageProblem::from(problem).into_response(),
    }
}

fn is_page(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|it| it.as_bytes().starts_with(b"text/html"))
}

/// Limits each subject, after authentication. A request without an [`AuthenticatedSubject`] passes.
pub(crate) async fn limit_subject(
    State(limiter): State<Arc<Limiter>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(subject) = request.extensions().get::<AuthenticatedSubject>() else {
        return next.run(request).await;
    };
    let client = Client::Subject(subject.0.clone());
    let connection = request.extensions().get::<Connection>().cloned();
    let share = match limiter.count_subject(&subject.0, &request) {
        Ok(true) => limiter.share(&client, connection.as_ref()).await,
        Ok(false) => Ok(None),
        Err(problem) => Err(problem),
    };
    match share {
        Ok(share) => {
            request.extensions_mut().insert(MeteredReader::new(&limiter, &client));
            let mut answer = next.run(request).await;
            // For the outer layer, which counts large answers.
            answer.extensions_mut().insert(client);
            hold_until_sent(answer, share)
        }
        Err(problem) => PageProblem::from(problem).into_response(),
    }
}

/// Keeps the permits of a request until its answer is sent, because unsent answers take memory. Answers that
/// are part of the program, and answers that fit into the connection's buffer, keep no permits.
fn hold_until_sent<T: Send + Unpin + 'static>(answer: Response, taken: Option<T>) -> Response {
    let is_small =
        |body: &Body| body.size_hint().upper().is_some_and(|size| size <= CHUNK_BYTES as u64);
    let is_free = answer.extensions().get::<Embedded>().is_some() || is_small(answer.body());
    match taken.filter(|_| !is_free) {
        Some(taken) => answer.map(|body| hold_permit(body, taken)),
        None => answer,
    }
}
