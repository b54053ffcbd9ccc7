//! Connections to Redis: URLs, TLS, permissions, errors, memory.

mod circuit_breaker;
mod connect;
pub mod link;
pub mod memory;
pub mod permissions;
mod refusals;
pub(crate) mod url;
