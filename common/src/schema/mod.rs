//! The declarations of a service: its topic, streams, entities and keys, as values that the engine
//! uses unchanged.
//!
//! Nothing here is specific to the shop. The shop's own declarations are in
//! [`contract`](crate::contract).

pub mod entity;
pub mod entry_id;
pub mod json;
pub mod keys;
pub mod stored_form;
pub mod stream;
