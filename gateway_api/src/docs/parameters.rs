//! The request headers that many calls have in common, for the API document.

use utoipa::IntoParams;

/// Headers with which a request is safe to repeat, and found again.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes parameters")]
pub(crate) struct RequestHeaders {
    /// Names the request, 1 to 255 printable ASCII characters of the client's choice
    /// (draft-ietf-httpapi-idempotency-key-header).
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    idempotency_key: Option<String>,
    /// The trace that it belongs to (W3C Trace Context); shows in logs and events.
    #[param(required = false)]
    traceparent: Option<String>,
}
