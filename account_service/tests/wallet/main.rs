//! The decisions about wallets: given accounts, when an input is handled, then these are the balances.

mod accounts;
mod cancellations;
mod payments;
mod subscriptions;
mod support;
