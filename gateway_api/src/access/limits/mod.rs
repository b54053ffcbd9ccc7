//! Rate and concurrency limits of the gateway.
//!
//! Two layers: `limit_address` limits each address before authentication, `limit_subject` limits each
//! [`AuthenticatedSubject`](client::AuthenticatedSubject) after it. Requests for another
//! host or by pages of other sites do not reach them: the server refuses these (`common::http::server`).
//!
//! Limits also count the cost of a request: handlers read through the
//! [`MeteredReader`](reader::MeteredReader) of the request, alternating with the reads of other clients, and
//! the bytes that they read count as further requests.

mod body;
mod budget;
pub mod client;
pub mod config;
mod forwarded;
pub(crate) mod headers;
pub(crate) mod layers;
pub mod limiter;
mod rate;
pub mod reader;
mod reads;
