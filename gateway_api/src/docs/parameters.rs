//! The parameters that many calls share, for the API document.

use utoipa::IntoParams;
use uuid::Uuid;

use super::examples;

/// The order in the path of a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes parameters")]
pub(crate) struct OrderInPath {
    /// The order's id
    #[param(example = json!(examples::order_id()))]
    id: Uuid,
}

/// Headers for safe repetition and for tracing of a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes parameters")]
pub(crate) struct RequestHeaders {
    /// Identifies the request: 1 to 255 printable ASCII characters of the client's choice
    /// (draft-ietf-httpapi-idempotency-key-header).
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    idempotency_key: Option<String>,
    /// The trace context of the request (W3C Trace Context), which appears in logs and events.
    #[param(required = false)]
    traceparent: Option<String>,
}
