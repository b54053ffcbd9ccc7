//! The lifecycle of orders on the real system: backorders, payments, cancellations, shipments.

mod backorders;
mod definitions;
mod idempotency;
mod lists;
mod resends;
mod steps;
mod support;
