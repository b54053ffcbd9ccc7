//! What orders hold of the stock and who waits for it: given products, when something happens, then
//! so much is left and so many are told. Books and lines are checked after everything that happens.

mod backorders;
mod definitions;
mod lifecycle;
mod long_backorders;
mod random;
mod reservations;
mod subscriptions;
mod support;
mod wide_orders;
