//! The handlers, one file per resource, each with its part of the OpenAPI document.

pub(crate) mod accounts;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod flow;
pub(crate) mod inventory;
pub(crate) mod messages;
mod order_calls;
pub(crate) mod order_commands;
pub(crate) mod orders;
pub(crate) mod report;
pub(crate) mod sign_in;
