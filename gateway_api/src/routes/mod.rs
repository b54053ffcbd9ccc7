//! The handlers, one file per resource, each with its part of the OpenAPI document.

pub mod accounts;
pub mod demo;
pub mod inventory;
pub mod messages;
pub mod orders;
pub mod report;
