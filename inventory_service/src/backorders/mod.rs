//! Backorders: the orders that wait for stock, and how incoming stock fills them.

pub(crate) mod fill;
