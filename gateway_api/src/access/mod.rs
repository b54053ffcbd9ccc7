//! Access: authentication, authorization and limits.
//!
//! `limits` bounds rate and concurrency, `tokens` verifies bearer tokens, `sign_in` keeps the sessions of
//! browsers, `gate` stands before all routes.

pub mod config;
pub mod gate;
pub mod limits;
pub(crate) mod sign_in;
pub mod tokens;
pub(crate) mod visitor;
