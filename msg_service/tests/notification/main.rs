//! The messages to customers: given a customer, when an event is handled, then this message is sent.

mod customers;
mod idempotency;
mod messages;
mod subscriptions;
mod support;
