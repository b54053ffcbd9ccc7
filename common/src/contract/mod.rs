//! The public contract: events and streams, entities, routes, ids, keys.

pub mod backorders;
pub mod definitions;
pub mod entities;
pub mod events;
pub mod excerpt;
pub mod ids;
pub mod keys;
pub mod messages;
pub mod order;
pub mod order_routes;
pub mod order_status;
pub mod route;
pub mod streams;
