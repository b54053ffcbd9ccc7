//! Who may call what, and how much: limits of rate and concurrency, bearer tokens, browsers that sign in,
//! and the gate before all routes.

pub mod config;
pub mod gate;
pub mod limits;
pub(crate) mod sign_in;
pub mod tokens;
