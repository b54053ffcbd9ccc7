//! Connections to Redis: URLs, TLS, permissions, errors, health.

mod circuit_breaker;
mod connect;
pub mod entry;
pub mod health;
pub mod lag;
pub mod link;
pub mod memory;
pub mod permissions;
mod refusals;
pub mod topology;
pub(crate) mod url;
