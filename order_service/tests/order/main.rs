//! The decisions about orders: given an order, when an input is handled, then the order has this state and
//! these events are published.

mod attempts;
mod events;
mod idempotency;
mod indexes;
mod original;
mod resends;
mod scenarios;
mod support;
mod table;
mod transitions;
