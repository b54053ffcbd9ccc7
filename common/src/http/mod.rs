//! The HTTP server, problems, and the parsing of requests.

pub mod backlog;
pub mod calls;
pub mod input;
pub mod network;
pub mod problem;
pub mod request;
pub mod server;
