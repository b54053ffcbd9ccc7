//! The error responses that many calls share, for the API document.

use common::http::problem::Problem;
use utoipa::IntoResponses;

use super::examples;
use crate::upstream::publish;

/// Errors of calls that read.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotRead {
    /// A parameter is invalid
    #[response(status = 400, content_type = "application/problem+json",
        example = json!(examples::wrong_parameter()))]
    BadRequest(Problem),
    /// The stored data cannot be read
    #[response(status = 500, content_type = "application/problem+json",
        example = json!(Problem::internal("the stored data cannot be read")))]
    Unreadable(Problem),
    /// The data cannot be read at the moment; see Retry-After
    #[response(status = 503, content_type = "application/problem+json",
        example = json!(Problem::unavailable("the data cannot be read at the moment")))]
    Unavailable(Problem),
    /// The read timed out
    #[response(status = 504, content_type = "application/problem+json",
        example = json!(Problem::timeout("the data was not read in time")))]
    TimedOut(Problem),
}

macro_rules! unknown {
    ($($(#[$doc:meta])* $name:ident: $example:expr;)*) => {$(
        $(#[$doc])*
        #[derive(IntoResponses)]
        #[expect(dead_code, reason = "it describes answers")]
        pub(crate) enum $name {
            $(#[$doc])*
            #[response(status = 404, content_type = "application/problem+json",
                example = json!($example))]
            NotFound(Problem),
        }
    )*};
}

unknown! {
    /// There is no such order
    NoOrder: examples::no_order();
    /// There is no such product
    NoProduct: Problem::not_found("there is no product 999");
    /// There is no such customer
    NoCustomer: Problem::not_found("there is no customer 999");
}

/// Errors of calls with a JSON body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum BadBody {
    /// The body is not JSON, or a parameter or the key is invalid
    #[response(status = 400, content_type = "application/problem+json", examples(
        ("malformed-json" = (value = json!(examples::malformed()))),
        ("bad-request" = (value = json!(examples::wrong_key()))),
    ))]
    BadRequest(Problem),
    /// The body took too long to arrive
    #[response(status = 408, content_type = "application/problem+json",
        example = json!(Problem::request_timeout("send the whole body within 10 seconds")))]
    TooSlow(Problem),
    /// The body is larger than 64 KiB
    #[response(status = 413, content_type = "application/problem+json",
        example = json!(Problem::too_large("at most 65536 bytes are taken")))]
    TooLarge(Problem),
    /// The body is compressed, or its Content-Type is not JSON
    #[response(status = 415, content_type = "application/problem+json", examples(
        ("wrong-media-type" = (value = json!(examples::wrong_media_type()))),
        ("wrong-content-coding" = (value = json!(examples::wrong_coding()))),
    ))]
    WrongMediaType(Problem),
}

/// Errors of calls that place an order.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum BadOrder {
    /// The customer has the maximum number of open orders
    #[response(status = 409, content_type = "application/problem+json",
        example = json!(examples::too_many_open()))]
    TooManyOpen(Problem),
    /// A field is missing or wrong, or the key belongs to another request
    #[response(status = 422, content_type = "application/problem+json", examples(
        ("invalid-field" = (value = json!(examples::no_products()))),
        ("idempotency-key-reused" = (value = json!(examples::key_reused()))),
    ))]
    InvalidField(Problem),
}

/// Errors of calls that define a product or an account.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum BadDefinition {
    /// A newer definition was applied before this one, which had no effect
    #[response(status = 409, content_type = "application/problem+json",
        example = json!(publish::superseded()))]
    Superseded(Problem),
    /// A field is missing or wrong, or the key belongs to another request
    #[response(status = 422, content_type = "application/problem+json", examples(
        ("invalid-field" = (value = json!(examples::no_name()))),
        ("idempotency-key-reused" = (value = json!(examples::key_reused()))),
    ))]
    InvalidField(Problem),
}

/// Errors of calls that restock or top up.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum BadAmount {
    /// A field is missing or wrong, or the key belongs to another request
    #[response(status = 422, content_type = "application/problem+json", examples(
        ("invalid-field" = (value = json!(examples::no_amount()))),
        ("idempotency-key-reused" = (value = json!(examples::key_reused()))),
    ))]
    InvalidField(Problem),
}

/// Errors of calls that change data.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotDone {
    /// The stored data cannot be read
    #[response(status = 500, content_type = "application/problem+json",
        example = json!(Problem::internal("the stored data cannot be read")))]
    Unreadable(Problem),
    /// The change cannot be stored at the moment, or a service is too far behind; see Retry-After.
    /// Repeat the request with the Idempotency-Key of this response
    #[response(status = 503, content_type = "application/problem+json",
        example = json!(examples::not_stored()))]
    Unavailable(Problem),
    /// The request timed out and may have taken effect. Repeat it with the Idempotency-Key of this
    /// response
    #[response(status = 504, content_type = "application/problem+json",
        example = json!(examples::not_applied()))]
    TimedOut(Problem),
}

/// Errors of calls that process an order.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes answers")]
pub(crate) enum NotAllowed {
    /// The id or the key is invalid
    #[response(status = 400, content_type = "application/problem+json",
        example = json!(examples::wrong_key()))]
    BadRequest(Problem),
    /// There is no such order
    #[response(status = 404, content_type = "application/problem+json",
        example = json!(examples::no_order()))]
    NotFound(Problem),
    /// The order's state does not permit the call, or its attempts are used up: `state` is the state,
    /// `allowed` lists the permitted calls
    #[response(status = 409, content_type = "application/problem+json",
        example = json!(examples::wrong_state()))]
    WrongState(Problem),
    /// The key belongs to another request about this order
    #[response(status = 422, content_type = "application/problem+json",
        example = json!(examples::key_reused()))]
    KeyReused(Problem),
}
