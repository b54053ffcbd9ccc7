//! The error answers that many calls have in common, for the API document.

use common::problem::Problem;
use utoipa::IntoResponses;

/// Of calls that read.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotRead {
    /// A parameter does not fit
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// It cannot be read at the moment; see Retry-After
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
    /// It took too long
    #[response(status = 504, content_type = "application/problem+json")]
    TimedOut(Problem),
}

/// Of calls that read one thing.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotFound {
    /// There is no such thing
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// Of calls with a JSON body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum BadBody {
    /// The body took too long to arrive
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// The body is larger than 64 KiB
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not declared as JSON
    #[response(status = 415, content_type = "application/problem+json")]
    WrongMediaType(Problem),
    /// A field is missing or wrong, or the key belongs to another request
    #[response(status = 422, content_type = "application/problem+json")]
    InvalidField(Problem),
}

/// Of calls that change something.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotDone {
    /// The body is not JSON, or a parameter or the key does not fit
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// It cannot be stored at the moment; see Retry-After. Repeat it with the Idempotency-Key of
    /// this answer
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
    /// It took too long, and may have been done all the same. Repeat it with the Idempotency-Key
    /// of this answer
    #[response(status = 504, content_type = "application/problem+json")]
    TimedOut(Problem),
}

/// Of calls that ask something of an order.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotAllowed {
    /// There is no such order
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The order's state does not take it: `state` names it, `allowed` what it takes
    #[response(status = 409, content_type = "application/problem+json")]
    WrongState(Problem),
    /// The key belongs to another request about this order
    #[response(status = 422, content_type = "application/problem+json")]
    KeyReused(Problem),
}
