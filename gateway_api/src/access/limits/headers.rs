//! The security headers of every response.

use axum::{extract::Request, middleware::Next, response::Response};
use common::http::server::{Peer, names_this_machine};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that are added unless the response has them.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];
/// `Strict-Transport-Security`: browsers that have used HTTPS use it for half a year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=15552000");
/// Forbids caches to store orders and accounts.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Adds the headers to every response: the outermost layer.
pub(crate) async fn security_headers(request: Request, next: Next) -> Response {
    let strict = is_strict(request.extensions().get::<Peer>(), request.headers());
    let mut response = next.run(request).await;
    complete(response.headers_mut(), strict);
    response
}

/// Whether the response has `Strict-Transport-Security`. Responses for the names of this machine have not,
/// because browsers would then use HTTPS for all its other ports as well.
pub(crate) fn is_strict(peer: Option<&Peer>, headers: &HeaderMap) -> bool {
    peer.is_some_and(|peer| peer.tls) && !names_this_machine(headers)
}

/// Adds missing headers; `strict` adds `Strict-Transport-Security`.
pub(crate) fn complete(headers: &mut HeaderMap, strict: bool) {
    for (name, value) in &SECURITY_HEADERS {
        add(headers, name, value);
    }
    add(headers, &header::CACHE_CONTROL, &NO_STORE);
    if strict {
        add(headers, &header::STRICT_TRANSPORT_SECURITY, &HSTS);
    }
}

fn add(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    if !headers.contains_key(name) {
        headers.insert(name.clone(), value.clone());
    }
}
