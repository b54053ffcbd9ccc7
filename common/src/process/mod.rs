//! A service's process: configuration, logs, operations port, shutdown.

pub mod auth;
pub mod config;
pub mod memory_watch;
mod operations_port;
pub mod service;
mod serving;
