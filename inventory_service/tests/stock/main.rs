//! The decisions about stock: given products, when an input is handled, then this stock is left and these
//! outcomes are published. Stock and queues are checked after every input.

mod backorders;
mod definitions;
mod lifecycle;
mod long_backorders;
mod random;
mod reservations;
mod subscriptions;
mod support;
mod wide_orders;
