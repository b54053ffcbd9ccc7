//! What the five services share.
//!
//! Owns: the event types and stream names ([`events`]), the ids ([`ids`]), the keys of everything
//! stored in Redis ([`keys`]), the vocabulary of pure decisions ([`decision`]), the engine that
//! applies them exactly once ([`engine`]), the readers of streams ([`consumer`]) and the run-time
//! of a service ([`service`]: configuration, logs, operations port, shutdown).
//!
//! Consumes: Redis Streams and, through [`engine::Door`], commands from HTTP.
//! Emits: entities and events, in one script call per batch.
//!
//! Imports run one way: the services use this crate, this crate knows no service.

pub mod api;
pub mod auth;
pub mod backlog;
pub mod bookmarks;
mod circuit_breaker;
pub mod config;
pub mod consumer;
pub mod decision;
pub mod definitions;
pub mod engine;
pub mod entities;
pub mod entry;
pub mod events;
pub mod excerpt;
pub mod health;
pub mod http;
pub mod ids;
pub mod json;
pub mod keys;
pub mod lag;
pub mod memory;
pub mod metrics;
pub mod network;
mod ops;
pub mod pem;
pub mod problem;
mod redis_connect;
pub mod redis_link;
pub mod redis_memory;
mod redis_url;
mod refusals;
pub mod rights;
pub mod secret;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod trim;
