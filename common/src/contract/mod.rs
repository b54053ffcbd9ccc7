//! The public contract: events and streams, entities, ids, keys.

pub mod definitions;
pub mod entities;
pub mod entity;
pub mod events;
pub mod excerpt;
pub mod ids;
pub mod json;
pub mod keys;
pub mod text;
