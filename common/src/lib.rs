//! What the five services share, in rooms from the top floor down. A room imports only rooms below it.
//!
//! - [`process`]: a service's process: configuration, logs, operations port, shutdown
//! - [`consumer`]: the readers of streams: consumer groups, checkpoints, trimming, lag
//! - [`engine`]: reads, decides, commits with one script and acknowledges, for many events at a time
//! - [`http`]: the HTTP server, problems, and the parsing of requests
//! - [`connection`]: connections to Redis: URLs, TLS, permissions, errors, health
//! - [`decision`]: the vocabulary of pure decisions, and a run-time for them in memory
//! - [`contract`]: events and streams, entities, ids, keys: the public contract
//!
//! Below all rooms: [`clock`], [`config_error`], [`logs`], [`pem`], [`secret`], [`trace_context`].
//!
//! Consumes: Redis Streams and, through [`engine::Door`], commands from HTTP.
//! Emits: entities and events, in one script call per batch.
//!
//! The services use this crate; this crate knows no service.

pub mod clock;
pub mod config_error;
pub mod connection;
pub mod consumer;
pub mod contract;
pub mod decision;
pub mod engine;
pub mod http;
pub mod logs;
pub mod pem;
pub mod process;
pub mod secret;
pub mod trace_context;
