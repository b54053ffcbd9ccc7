//! The whole system: the real binaries, a real Redis, HTTP from outside.
//!
//! One program, so that slow tests run beside quick ones; a module for each concern.

mod auditor_control;
mod auth;
mod chaos;
mod command_limit;
mod documents;
mod event_stream;
mod failover;
mod flow;
mod http;
mod isolated;
mod limits;
mod log_lines;
mod many_instances;
mod operator;
mod order_lifecycle;
mod original;
mod own_tokens;
mod poison;
mod power_loss;
mod privacy;
mod process_lifecycle;
mod readme;
mod sign_in;
mod steps;
mod storage;
mod unread_logs;
mod unreadable;
mod user_guide;
mod web;
