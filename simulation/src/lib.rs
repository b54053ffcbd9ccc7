//! The services in a deterministic simulation: their engines, readers and tasks as in production, on
//! simulated Redis servers, a simulated network and a simulated clock.

pub mod redis;
