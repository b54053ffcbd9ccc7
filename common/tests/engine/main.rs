//! The engine, the readers and the scripts against a real redis-server, one for each test.
//!
//! A small [ledger](support::ledger) stands for the services: what is deposited is counted, and each
//! deposit leaves a receipt, so that losing one or counting one twice shows.

mod batches;
mod conflicts;
mod dead_letters;
mod failover;
mod lags;
mod lost_data;
mod obstacles;
mod outages;
mod reads;
mod recovery;
mod scripts;
mod submit;
mod support;
mod trouble;
mod two_servers;
