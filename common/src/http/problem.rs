//! Every error that a client sees: `application/problem+json` (RFC 9457).
//!
//! The `type` of a problem is stable, and programs may rely on it. Its `detail` is for people.
//! Internal causes are logged where they occur and never sent to clients.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::connection::error::ConnectionError;

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error response. Boxed texts keep it small, because most functions that handle requests return
/// it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of the problem; stable.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:problem-type:orders:invalid-field")]
    pub kind: Box<str>,
    /// The kind of the problem as text.
    #[schema(value_type = String, example = "Invalid field")]
    pub title: Box<str>,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// The cause in this case, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub detail: Option<Box<str>>,
    /// The invalid field, if there is one: a path within the body, a header or a parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "product_ids")]
    pub field: Option<Box<str>>,
    /// The current state of the entity, if that state does not allow the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "shipped")]
    pub state: Option<Box<str>>,
    /// The requests that the state allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["complete"]))]
    pub allowed: Option<Box<[Box<str>]>>,
    /// The scope that the token lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "orders:write")]
    pub scope: Option<Box<str>>,
    /// The challenge in the `WWW-Authenticate` header.
    #[serde(skip)]
    pub challenge: Challenge,
    /// The seconds after which the request may be repeated; also the `Retry-After` header.
    #[serde(skip)]
    pub retry_after: Option<u16>,
}

/// An authentication challenge (RFC 9110, section 11.6.1); RFC 6750, section 3, defines it for
/// tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Challenge {
    /// No challenge.
    #[default]
    None,
    /// order_service requires the gateway's secret.
    GatewaySecret,
    /// A token is required.
    Token,
    /// A token must be sent in one way only; the problem's detail names the fault.
    OneToken,
    /// A valid token is required; the problem's detail names the fault of this one.
    ValidToken,
    /// A token with the problem's scope is required.
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
    /// 400: the address requires HTTPS, and the request used plain HTTP.
    https_required = BAD_REQUEST, "https-required", "HTTPS required";
    /// 400: a header or parameter is invalid.
    bad_request = BAD_REQUEST, "bad-request", "Invalid request";
    /// 403: a page of another site caused the request, or may have, with the cookie of a signed-in
    /// browser.
    cross_site = FORBIDDEN, "cross-site", "Cross-site request rejected";
    /// 401: the caller is not authenticated.
    unauthenticated = UNAUTHORIZED, "unauthenticated", "Authentication required";
    /// 403: the caller lacks the permission.
    forbidden = FORBIDDEN, "forbidden", "Insufficient permissions";
    /// 400: signing in at the identity provider failed.
    sign_in_failed = BAD_REQUEST, "sign-in-failed", "Sign-in failed";
    /// 404: the path does not exist.
    not_found = NOT_FOUND, "not-found", "Not found";
    /// 405: the path exists, but not with that method.
    method_not_allowed = METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed";
    /// 408: the request took too long to arrive.
    request_timeout = REQUEST_TIMEOUT, "request-timeout", "Request timeout";
    /// 409: the current state does not allow the request.
    wrong_state = CONFLICT, "wrong-state", "Conflict with the current state";
    /// 409: a later request took effect first.
    superseded = CONFLICT, "superseded", "Superseded by a newer request";
    /// 409: the customer has reached the limit of open orders.
    too_many_open = CONFLICT, "too-many-open-orders", "Too many open orders";
    /// 413: the body is too large.
    too_large = PAYLOAD_TOO_LARGE, "too-large", "Body too large";
    /// 414: the path and query are too long.
    uri_too_long = URI_TOO_LONG, "uri-too-long", "URI too long";
    /// 415: the declared media type of the body is not JSON.
    wrong_media_type = UNSUPPORTED_MEDIA_TYPE, "wrong-media-type", "Unsupported media type";
    /// 415: the body is compressed, or in another content coding.
    wrong_coding = UNSUPPORTED_MEDIA_TYPE, "wrong-content-coding", "Unsupported content coding";
    /// 421: the request names another host.
    wrong_host = MISDIRECTED_REQUEST, "wrong-host", "Unknown host";
    /// 422: a field is missing or has a wrong value.
    invalid_field = UNPROCESSABLE_ENTITY, "invalid-field", "Invalid field";
    /// 422: an `Idempotency-Key` was used before, with another body.
    key_reused = UNPROCESSABLE_ENTITY, "idempotency-key-reused", "Idempotency-Key already used";
    /// 429: the client exceeds its rate; set `retry_after` as well.
    too_many_requests = TOO_MANY_REQUESTS, "too-many-requests", "Too many requests";
    /// 500: a defect; details are in the log.
    internal = INTERNAL_SERVER_ERROR, "internal", "Internal error";
    /// 501: the transfer coding of the body is not supported.
    unknown_coding = NOT_IMPLEMENTED, "unknown-transfer-coding", "Unsupported transfer coding";
    /// 503: a required component is away.
    unavailable = SERVICE_UNAVAILABLE, "unavailable", "Service unavailable";
    /// 504: a required component did not answer in time.
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

    /// Adds the current state and the requests that it allows.
    #[must_use]
    pub fn in_state(mut self, state: &str, allowed: &[&str]) -> Self {
        self.state = Some(state.into());
        self.allowed = Some(allowed.iter().map(|&action| action.into()).collect());
        self
    }

    /// Adds the scope that would allow the request.
    #[must_use]
    pub fn lacking(mut self, scope: &str) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Adds an authentication challenge (RFC 9110, section 11.6.1).
    #[must_use]
    pub fn challenging(mut self, challenge: Challenge) -> Self {
        self.challenge = challenge;
        self
    }

    /// Adds the headers of the problem, except its media type.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        if self.field.as_deref() == Some("Content-Encoding") {
            // The supported codings (RFC 9110, section 12.5.3).
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

    /// Adds the invalid field.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into().into());
        self
    }
}

impl ConnectionError {
    /// The response for a client: 500 if a stored value cannot be read, which a repetition does not
    /// change, otherwise 503.
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
