//! Rate and concurrency limits of the gateway.
//!
//! Two layers: `limit_address` limits each address before authentication, `limit_subject` limits each
//! [`AuthenticatedSubject`](client::AuthenticatedSubject) after it. Requests for another
//! host or by pages of other sites do not come here: the server refuses them (`common::http::server`).
//!
//! Limits also count what a request costs: handlers read through the
//! [`MeteredReader`](reader::MeteredReader) of the request, alternating with the reads of other clients, and
//! what they read counts as further requests.

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
