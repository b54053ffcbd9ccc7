//! The HTTP conventions that the gateway and order_service share.

use std::{str::FromStr, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    extract::{FromRequest, Path, Request, rejection::PathRejection},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::{
    connection::entry::short_reason, contract::ids::InvalidId, http::problem::Problem,
    trace_context,
};

/// The largest request body, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;
/// The time limit for the body of a request.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The header that makes a POST safe to repeat (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that marks the answer of an earlier request.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The header with the caller, which the gateway sends to order_service.
pub const CALLER: HeaderName = HeaderName::from_static("x-caller");
/// The caller without authentication.
pub const ANONYMOUS: &str = "anonymous";
/// The header with the gateway's secret, which authenticates the gateway to order_service.
pub const GATEWAY_SECRET: HeaderName = HeaderName::from_static("x-gateway-secret");
/// The header of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The longest `Idempotency-Key`.
const KEY_LIMIT: usize = 255;

/// Collects a JSON body, or fails with 415, 413, 408 or 400. A body without a declared type is
/// treated as JSON, because the original's clients send such bodies. A page of another site can
/// send one too, and was already refused because of its origin (`server/admission.rs`).
///
/// # Errors
///
/// The problem for the client.
pub async fn json_bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let declared = headers.get_all(header::CONTENT_TYPE).iter();
    let declared = declared.map(|value| value.to_str().unwrap_or(""));
    if let Some(other) = declared.into_iter().find(|media_type| !is_json(media_type)) {
        return Err(Problem::wrong_media_type(format!(
            "send the header Content-Type: application/json (it was {other:?})"
        ))
        .at("Content-Type"));
    }
    check_encoding(headers)?;
    let too_large = || Problem::too_large(format!("at most {BODY_LIMIT} bytes are taken"));
    // A body with a declared length above the limit is refused at once.
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(broken_body()),
        Err(_) => Err(late_body()),
    }
}

/// 400: the client ended the connection, or its framing is wrong.
pub fn broken_body() -> Problem {
    Problem::bad_request("the body ended before it was complete")
}

/// 408: the body took longer than [`BODY_TIMEOUT`].
pub fn late_body() -> Problem {
    Problem::request_timeout("send the whole body within 10 seconds")
}

/// Refuses a body in another content coding than `identity`.
fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_none = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    if codings.all(is_none) {
        return Ok(());
    }
    let detail = "send the body as it is, without a Content-Encoding";
    Err(Problem::wrong_coding(detail).at("Content-Encoding"))
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Parses a body: 400 if it is not JSON, 422 with the field if a value is invalid.
///
/// # Errors
///
/// The problem for the client.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Strings in ignored members are not validated further down.
    if std::str::from_utf8(body).is_err() {
        return Err(Problem::malformed_json("the body is not UTF-8"));
    }
    // serde also accepts a list as an object, member by member, but a client that sends one means
    // something else.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        return Err(Problem::invalid_field("the body is a JSON object").at("(the whole body)"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    let end = |error: serde_json::Error| Problem::malformed_json(error.to_string());
    match parsed {
        Ok(value) => deserializer.end().map(|()| value).map_err(end),
        Err(error) => {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if !inner.is_data() {
                return Err(Problem::malformed_json(inner.to_string()));
            }
            // The rest may be invalid JSON, which takes precedence.
            if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(body) {
                return Err(Problem::malformed_json(error.to_string()));
            }
            let text = short_reason(inner.to_string());
            let missing =
                text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let field = match (path.as_str(), missing) {
                (".", Some(field)) => field.to_owned(),
                (".", None) => "(the whole body)".to_owned(),
                (path, Some(field)) => format!("{path}.{field}"),
                (path, None) => path.to_owned(),
            };
            Err(Problem::invalid_field(text).at(field))
        }
    }
}

/// A JSON body of type `T`.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        parse(&json_bytes(&parts.headers, body).await?).map(Self)
    }
}

/// The request's `Idempotency-Key`, if it has one, without the quotes of the draft.
///
/// # Errors
///
/// 400: the key is empty, too long, contains other than printable ASCII characters, or is sent
/// twice.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bad = |detail: &str| Err(Problem::bad_request(detail).at("Idempotency-Key"));
    if values.next().is_some() {
        return bad("send one Idempotency-Key, not several");
    }
    let printable = |text: &&str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let Some(text) = value.to_str().ok().filter(printable) else {
        return bad("an Idempotency-Key is printable ASCII");
    };
    let text = text.trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if bare.is_empty() || bare.len() > KEY_LIMIT {
        return bad("an Idempotency-Key is 1 to 255 characters long");
    }
    Ok(Some(bare.to_owned()))
}

/// The order, product or customer of a path.
///
/// # Errors
///
/// 400: the path segment is not a valid id.
pub fn path_id<I>(path: Result<Path<I>, PathRejection>) -> Result<I, Problem>
where
    I: FromStr<Err = InvalidId>,
{
    match path {
        Ok(Path(id)) => Ok(id),
        Err(_) => {
            // The text is the client's own, so the problem contains only the rule.
            let rule = "".parse::<I>().err().map_or_else(String::new, |rule| rule.to_string());
            Err(Problem::bad_request(rule).at("id"))
        }
    }
}

/// The caller according to the gateway.
pub fn caller(headers: &HeaderMap) -> &str {
    headers.get(&CALLER).and_then(|value| value.to_str().ok()).unwrap_or(ANONYMOUS)
}

/// The request's `traceparent`, if it has a valid one.
pub fn traceparent(headers: &HeaderMap) -> Option<Box<str>> {
    trace_context::traceparent(headers.get(&TRACEPARENT)?.as_bytes())
}

/// 404 for a path that does not exist.
pub async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!("{} is not a path of this service", uri.path()))
}

/// 405 for a method that a path does not have.
pub async fn wrong_method(method: http::Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "only its parsing is looked at")]
    struct Body {
        ids: Vec<String>,
        customer: String,
    }

    #[test]
    fn an_invalid_body_differs_from_a_malformed_one_and_names_its_field() {
        for (body, status, field) in [
            ("{", 400, None),
            ("", 400, None),
            (r#"{"ids":[],"customer":"1"} x"#, 400, None),
            (r#"{"ids":[1],"customer":"1"} x"#, 400, None),
            ("[]", 422, Some("(the whole body)")),
            (r#"[["1"],"1"]"#, 422, Some("(the whole body)")),
            (r#"{"ids":[]}"#, 422, Some("customer")),
            (r#"{"ids":["1",2],"customer":"1"}"#, 422, Some("ids[1]")),
            (r#"{"ids":"1","customer":"1"}"#, 422, Some("ids")),
            ("7", 422, Some("(the whole body)")),
        ] {
            let problem = parse::<Body>(body.as_bytes()).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (status, field), "{body}");
        }
    }

    #[tokio::test]
    async fn a_body_is_json_unless_another_type_or_a_coding_is_declared() {
        let (content_type, encoding) = (header::CONTENT_TYPE, header::CONTENT_ENCODING);
        for (declared, refused) in [
            (&[][..], None),
            (&[(&content_type, "application/json")], None),
            (&[(&content_type, "Application/JSON; charset=utf-8")], None),
            (&[(&content_type, "application/problem+json")], None),
            (&[(&content_type, "text/plain")], Some("wrong-media-type")),
            (&[(&content_type, "")], Some("wrong-media-type")),
            (
                &[(&content_type, "application/json"), (&content_type, "text/plain")],
                Some("wrong-media-type"),
            ),
            (&[(&encoding, "identity")], None),
            (&[(&encoding, "Identity, identity")], None),
            (&[(&encoding, "")], None),
            (&[(&encoding, "gzip")], Some("wrong-content-coding")),
            (&[(&encoding, "identity, gzip")], Some("wrong-content-coding")),
            (&[(&encoding, "identity"), (&encoding, "br")], Some("wrong-content-coding")),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in declared {
                headers.append(*name, value.parse().unwrap());
            }
            let read = json_bytes(&headers, axum::body::Body::from("{}")).await;
            let expected = match refused {
                None => Ok(Bytes::from_static(b"{}")),
                Some(slug) => Err((415, format!("urn:problem-type:orders:{slug}"))),
            };
            let read = read.map_err(|problem| (problem.status, problem.kind.into_string()));
            assert_eq!(read, expected, "{declared:?}");
        }
    }

    #[test]
    fn keys_are_bare_or_quoted_and_never_empty() {
        let key = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, text.parse().unwrap());
            idempotency_key(&headers)
        };
        assert_eq!(key("abc").unwrap().as_deref(), Some("abc"));
        assert_eq!(key("\"abc\"").unwrap().as_deref(), Some("abc"));
        assert_eq!(key("a key").unwrap().as_deref(), Some("a key"));
        assert_eq!(key("\"\"").unwrap_err().status, 400);
        assert_eq!(key("a\tkey").unwrap_err().status, 400);
        assert_eq!(key(&"x".repeat(256)).unwrap_err().status, 400);
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
    }
}
