//! Receives the body of a request before the request takes shared resources.

use std::sync::Arc;

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
};
use bytes::BytesMut;
use common::http::{
    problem::Problem,
    request::{BODY_LIMIT, BODY_TIMEOUT, broken_body, late_body},
};
use http_body_util::BodyExt as _;

use super::{
    budget::{Budget, Full, Hold},
    client::Client,
};

/// The memory limit of large bodies, in bytes: 512 of the largest.
pub(super) const LARGE_BODIES: usize = 32 * 1024 * 1024;
/// Bodies up to this size are not counted, in bytes: a connection buffers more than that.
const SMALL_BODY: usize = 4 * 1024;

/// The request with its complete body, and the memory permit of a large body. Bodies with a declared length
/// above the limit, and bodies of requests that only read, are not awaited.
///
/// # Errors
///
/// 400 or 408: the body does not arrive. 429 or 503: the memory limit is reached.
pub(super) async fn receive(
    request: Request,
    client: &Client,
    budget: &Arc<Budget>,
) -> Result<(Request, Option<Hold>), Problem> {
    let hint = request.body().size_hint();
    let is_too_large = hint.lower() > BODY_LIMIT as u64;
    if request.method().is_safe() || request.body().is_end_stream() || is_too_large {
        return Ok((request, None));
    }
    let length = hint.exact().and_then(|it| usize::try_from(it).ok()).unwrap_or(BODY_LIMIT);
    let (parts, mut body) = request.into_parts();
    let receiving = async {
        // Copied into one buffer: frames of a single byte would each take the memory of a pointer.
        let (mut bytes, mut hold) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| broken_body())?.into_data() else { continue };
            if hold.is_none() && bytes.len() + data.len() > SMALL_BODY {
                hold = Some(budget.hold(client, length).map_err(no_room)?);
                bytes.reserve(length - bytes.len());
            }
            bytes.extend_from_slice(&data);
            // The parser refuses a body that is too large.
            if bytes.len() > BODY_LIMIT {
                break;
            }
        }
        Ok((bytes.freeze(), hold))
    };
    let received = tokio::time::timeout(BODY_TIMEOUT, receiving).await;
    let (bytes, hold) = received.unwrap_or_else(|_| Err(late_body()))?;
    Ok((Request::from_parts(parts, Body::from(bytes)), hold))
}

fn no_room(full: Full) -> Problem {
    match full {
        Full::Client => Problem {
            retry_after: Some(1),
            ..Problem::too_many_requests("too many of your requests have large bodies; try again")
        },
        Full::All => Problem::unavailable("too many requests have large bodies; try again"),
    }
}
