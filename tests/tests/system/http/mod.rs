//! The HTTP behaviour of the gateway towards clients.

mod errors;
mod failover;
mod forwarding;
mod idempotency;
mod paging;
mod support;
