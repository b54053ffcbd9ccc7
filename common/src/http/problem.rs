//! Every error that a client sees: `application/problem+json` (RFC 9457).
//!
//! The `type` of a problem is stable; programs go by it. Its `detail` is for people. Internals are
//! logged where they happen and never answered.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::connection::error::ConnectionError;

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error answer. Boxed texts keep it small: it is the error of most functions on the way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is; stable.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:problem-type:orders:invalid-field")]
    pub kind: Box<str>,
    /// The same for people.
    #[schema(value_type = String, example = "Invalid field")]
    pub title: Box<str>,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What is wrong this time, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub detail: Option<Box<str>>,
    /// The field at fault, where there is one: a path within the body, a header or a parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "product_ids")]
    pub field: Option<Box<str>>,
    /// The state of what was asked to change, where that does not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "shipped")]
    pub state: Option<Box<str>>,
    /// What that state takes instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["complete"]))]
    pub allowed: Option<Box<[Box<str>]>>,
    /// The scope that the token lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "orders:write")]
    pub scope: Option<Box<str>>,
    /// What the `WWW-Authenticate` header says.
    #[serde(skip)]
    pub challenge: Challenge,
    /// Seconds after which trying again makes sense; also the `Retry-After` header.
    #[serde(skip)]
    pub retry_after: Option<u16>,
}

/// How to be let in (RFC 9110, section 11.6.1); what to say of a token is in RFC 6750, section 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Challenge {
    /// Nothing about that.
    #[default]
    None,
    /// The gateway's secret, which order_service wants.
    GatewaySecret,
    /// A token.
    Token,
    /// A token that comes in one way; the problem's detail says what is wrong.
    OneToken,
    /// A better token; the problem's detail says what is wrong with this one.
    ValidToken,
    /// A token with the problem's scope.
    Scope,
}

impl Challenge {
    fn text(self, problem: &Problem) -> Option<String> {
        const TOKEN: &str = "Bearer realm=\"orders\"";
        let detail = problem.detail.as_deref().unwrap_or_default();
        Some(match self {
            Self::None => return None,
            Self::GatewaySecret => "X-Gateway-Secret realm=\"order_service\"".to_owned(),
            Self::Token => TOKEN.to_owned(),
            Self::OneToken => {
                format!("{TOKEN}, error=\"invalid_request\", error_description=\"{detail}\"")
            }
            Self::ValidToken => {
                format!("{TOKEN}, error=\"invalid_token\", error_description=\"{detail}\"")
            }
            Self::Scope => {
                let scope = problem.scope.as_deref().unwrap_or_default();
                format!("{TOKEN}, error=\"insufficient_scope\", scope=\"{scope}\"")
            }
        })
    }
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        impl Problem {
            $($(#[$doc])*
            pub fn $name(detail: impl Into<String>) -> Self {
                Self::new(StatusCode::$status, $slug, $title, detail.into())
            })*
        }
    };
}

problems! {
    /// 400: the body is not JSON.
    malformed_json = BAD_REQUEST, "malformed-json", "Malformed JSON";
    /// 400: the address takes HTTPS and was spoken to in plain HTTP.
    https_required = BAD_REQUEST, "https-required", "HTTPS required";
    /// 400: a header or parameter is invalid.
    bad_request = BAD_REQUEST, "bad-request", "Invalid request";
    /// 403: a page of another site asks for it, or may, with the cookie of a signed-in browser.
    cross_site = FORBIDDEN, "cross-site", "Cross-site request rejected";
    /// 401: nobody knows who asks.
    unauthenticated = UNAUTHORIZED, "unauthenticated", "Authentication required";
    /// 403: who asks may not do that.
    forbidden = FORBIDDEN, "forbidden", "Insufficient permissions";
    /// 400: signing in with the provider did not work.
    sign_in_failed = BAD_REQUEST, "sign-in-failed", "Sign-in failed";
    /// 404: there is nothing at that path.
    not_found = NOT_FOUND, "not-found", "Not found";
    /// 405: the path exists, but not with that method.
    method_not_allowed = METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed";
    /// 408: the request took too long to arrive.
    request_timeout = REQUEST_TIMEOUT, "request-timeout", "Request timeout";
    /// 409: what is asked for does not fit the state that something is in.
    wrong_state = CONFLICT, "wrong-state", "Conflict with the current state";
    /// 409: something that was asked for later had its effect first.
    superseded = CONFLICT, "superseded", "Superseded by a newer request";
    /// 409: the customer has as many open orders as one may have.
    too_many_open = CONFLICT, "too-many-open-orders", "Too many open orders";
    /// 413: the body is too large.
    too_large = PAYLOAD_TOO_LARGE, "too-large", "Body too large";
    /// 414: the path and query are too long.
    uri_too_long = URI_TOO_LONG, "uri-too-long", "URI too long";
    /// 415: the body is declared as something else than JSON.
    wrong_media_type = UNSUPPORTED_MEDIA_TYPE, "wrong-media-type", "Unsupported media type";
    /// 415: the body is compressed, or in another content coding.
    wrong_coding = UNSUPPORTED_MEDIA_TYPE, "wrong-content-coding", "Unsupported content coding";
    /// 421: it was sent under the name of another host.
    wrong_host = MISDIRECTED_REQUEST, "wrong-host", "Unknown host";
    /// 422: a field is missing or has a wrong value.
    invalid_field = UNPROCESSABLE_ENTITY, "invalid-field", "Invalid field";
    /// 422: an `Idempotency-Key` was used before, with another body.
    key_reused = UNPROCESSABLE_ENTITY, "idempotency-key-reused", "Idempotency-Key already used";
    /// 429: the client asks more often than it may; set `retry_after` as well.
    too_many_requests = TOO_MANY_REQUESTS, "too-many-requests", "Too many requests";
    /// 500: a defect; details are in the log.
    internal = INTERNAL_SERVER_ERROR, "internal", "Internal error";
    /// 501: the body comes in a transfer coding that is not understood.
    unknown_coding = NOT_IMPLEMENTED, "unknown-transfer-coding", "Unsupported transfer coding";
    /// 503: something that is needed is away.
    unavailable = SERVICE_UNAVAILABLE, "unavailable", "Service unavailable";
    /// 504: something that is needed did not answer in time.
    timeout = GATEWAY_TIMEOUT, "timeout", "Gateway timeout";
}

impl Problem {
    fn new(status: StatusCode, slug: &str, title: &str, detail: String) -> Self {
        Self {
            kind: format!("urn:problem-type:orders:{slug}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: (!detail.is_empty()).then(|| detail.into()),
            field: None,
            state: None,
            allowed: None,
            scope: None,
            challenge: Challenge::None,
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// Names the state and what it takes.
    #[must_use]
    pub fn in_state(mut self, state: &str, allowed: &[&str]) -> Self {
        self.state = Some(state.into());
        self.allowed = Some(allowed.iter().map(|&action| action.into()).collect());
        self
    }

    /// Names the scope that would allow it.
    #[must_use]
    pub fn lacking(mut self, scope: &str) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Says in `WWW-Authenticate` how to be let in (RFC 9110, section 11.6.1).
    #[must_use]
    pub fn challenging(mut self, challenge: Challenge) -> Self {
        self.challenge = challenge;
        self
    }

    /// The headers that go with it, besides that of its type.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        if self.field.as_deref() == Some("Content-Encoding") {
            // What would be supported (RFC 9110, section 12.5.3).
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let challenge = self.challenge.text(self);
        if let Some(challenge) = challenge.and_then(|it| HeaderValue::from_str(&it).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into().into());
        self
    }
}

impl ConnectionError {
    /// What a client is answered: 500 where what is stored cannot be read, which trying again does not
    /// change, and else 503.
    pub fn problem(&self, unreadable: &str, unavailable: impl Into<String>) -> Problem {
        match self {
            Self::Unreadable { .. } => Problem::internal(unreadable),
            _ => Problem::unavailable(unavailable),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("it has string keys only");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        self.add_headers(headers);
        response
    }
}
