//! A service's process: configuration, logs, operations port, shutdown.

pub mod config;
pub mod logs;
mod operations_port;
pub mod service;
