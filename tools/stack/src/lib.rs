//! Runs the whole system on one machine without containers: for local use (`cargo stack`) and for
//! tests.
//!
//! Owns: finding (or installing) redis-server and, for tests, a browser; one private
//! [`RedisServer`], or one for each topic's [`Database`]; building and running the five service
//! binaries as child processes; and the [`Stack`] that combines them. It knows the services only by
//! their names, environment variables and `/readyz`, and depends on none of them, so that their own
//! tests can use it. Everything here is synchronous, and every process ends with its owner: `Drop`
//! kills it.

mod aof;
pub mod binaries;
pub mod certs;
mod databases;
mod entrance;
mod error;
pub mod gateway_secret;
mod lock;
mod logs;
pub mod ports;
mod private;
pub mod probe;
pub mod process;
pub mod provision;
pub mod redis;
pub mod run_file;
pub mod service;
mod spawn;
mod stack;
pub mod supervise;
mod tls;
pub mod token_key;
pub mod users;

pub use binaries::Profile;
pub use certs::{CertificatePlan, Certificates};
pub use databases::Database;
pub use error::Error;
pub use process::ServiceProcess;
pub use redis::{Appendfsync, Listen, RedisOptions, RedisServer};
pub use service::Service;
pub use stack::{Instance, Logs, Stack, StackOptions};
pub use users::RedisUsers;
