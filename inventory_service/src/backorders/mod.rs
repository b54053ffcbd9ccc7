//! Backorders: the orders that wait for stock. [`queue`] keeps a queue for each product; [`fill`] gives
//! incoming stock to the orders in it.

pub(crate) mod fill;
pub(crate) mod queue;
