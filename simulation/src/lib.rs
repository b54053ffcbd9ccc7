//! The services in a deterministic simulation: their engines, readers and tasks as in production, on
//! simulated Redis servers, a simulated network and a simulated clock.

#[cfg(feature = "run")]
pub mod clients;
#[cfg(feature = "run")]
pub mod commands;
#[cfg(feature = "run")]
pub mod contention;
#[cfg(feature = "run")]
pub mod coverage;
#[cfg(feature = "run")]
pub mod crash_points;
#[cfg(feature = "run")]
pub mod gallery;
#[cfg(feature = "run")]
pub mod history;
#[cfg(feature = "run")]
pub mod network;
#[cfg(feature = "run")]
pub mod operator;
#[cfg(feature = "run")]
pub mod oracle;
#[cfg(feature = "run")]
pub mod plan;
#[cfg(feature = "run")]
pub mod processes;
pub mod redis;
#[cfg(feature = "run")]
pub mod runner;
#[cfg(feature = "run")]
pub mod shrink;
#[cfg(feature = "run")]
pub mod story;
#[cfg(feature = "run")]
pub mod world;
