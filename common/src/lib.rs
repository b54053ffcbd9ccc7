//! What the five services share, in rooms from the top floor down. A room imports only rooms below it.
//!
//! - [`process`]: a service's process: configuration, logs, operations port, shutdown
//! - [`consumer`]: the readers of streams: consumer groups, checkpoints, trimming, lag
//! - [`engine`]: reads, decides, commits with one script and acknowledges, for many events at a time
//! - [`http`]: the HTTP server, problems, and the parsing of requests
//! - [`connection`]: connections to Redis: URLs, TLS, permissions, errors, memory
//! - [`decision`]: the vocabulary of pure decisions, and a run-time for them in memory
//! - [`contract`]: events and streams, entities, ids, keys: the public contract
//!
//! Below all rooms: [`auth`], [`backlog`], [`health`], [`pem`], [`secret`].
//!
//! Consumes: Redis Streams and, through [`engine::Door`], commands from HTTP.
//! Emits: entities and events, in one script call per batch.
//!
//! The services use this crate; this crate knows no service.

pub mod auth;
pub mod backlog;
pub mod connection;
pub mod consumer;
pub mod contract;
pub mod decision;
pub mod engine;
pub mod health;
pub mod http;
pub mod pem;
pub mod process;
pub mod secret;
