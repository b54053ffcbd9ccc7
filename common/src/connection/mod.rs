//! Connections to Redis: URLs, TLS, permissions, errors, health.

pub mod backoff;
mod circuit_breaker;
mod connect;
pub mod entry;
pub mod error;
pub mod health;
pub mod lag;
pub mod link;
pub mod memory;
pub mod permissions;
mod refusals;
pub mod replies;
pub mod shared_link;
pub(crate) mod startup;
pub mod topology;
pub mod url;
