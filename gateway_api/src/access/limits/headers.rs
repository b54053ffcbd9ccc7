//! What every answer tells a browser, besides what the pages say themselves.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Each is set where the answer does not say otherwise.
const ALWAYS: [(HeaderName, HeaderValue); 5] = [
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
/// Whoever was here by HTTPS comes back by HTTPS, for half a year.
const STRICT: HeaderValue = HeaderValue::from_static("max-age=15552000");
/// What is read of orders and accounts stays in no cache.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Adds what is missing; `strict`: that the host is to be reached by HTTPS only.
pub(super) fn complete(headers: &mut HeaderMap, strict: bool) {
    for (name, value) in &ALWAYS {
        add(headers, name, value);
    }
    add(headers, &header::CACHE_CONTROL, &NO_STORE);
    if strict {
        add(headers, &header::STRICT_TRANSPORT_SECURITY, &STRICT);
    }
}

fn add(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    if !headers.contains_key(name) {
        headers.insert(name.clone(), value.clone());
    }
}
