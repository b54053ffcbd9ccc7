//! The code that the five services share, as rooms from the top down. A room imports only rooms
//! below it.
//!
//! - [`process`]: a service's process: configuration, logs, operations port, shutdown
//! - [`consumer`]: the readers of streams: consumer groups, checkpoints, trimming, lag
//! - [`engine`]: reads, decides, commits with one script and acknowledges, for many events at a time
//! - [`http`]: the HTTP server, problems, and the parsing of requests
//! - [`connection`]: connections to Redis: URLs, TLS, permissions, errors, health
//! - [`decision`]: the vocabulary of pure decisions, and an in-memory runtime for them
//! - [`schema`]: the declarations of a service: topics, streams, entities and keys, as values
//!
//! [`contract`] contains the shop's own declarations, the public contract: events, streams, entities,
//! routes, ids and keys. Of the rooms only [`http`] imports it, for the bodies of requests.
//!
//! Below all rooms: [`clock`], [`config_error`], [`logs`], [`pem`], [`mod@planted`],
//! [`random`], [`secret`], [`text`], [`trace_context`].
//!
//! Consumes: Redis Streams and, through [`engine::EngineHandle`], commands from HTTP.
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
pub mod planted;
pub mod process;
pub mod random;
pub mod schema;
pub mod secret;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod text;
pub mod trace_context;

/// The names that a service needs for its declarations.
pub mod prelude {
    pub use crate::{
        clock::Millis,
        consumer::{StreamEntry, Subscription},
        decision::{Changes, DecideError, Decider, Reads, World},
        process::{
            config::CommonConfig,
            service::{ServiceConfig, ServiceContext, main as run_service},
        },
        schema::{
            entity::{Entity, Kind},
            stream::{Event, Stream, Topic, Writer},
        },
    };
}
