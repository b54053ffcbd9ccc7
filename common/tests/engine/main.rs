//! The engine, the readers and the scripts against a real redis-server, one for each test.
//!
//! A small [ledger](support::ledger) represents the services: it counts deposits, and each deposit
//! leaves a receipt, so that a lost or doubly counted deposit is detected.

mod batches;
mod conflicts;
mod dead_letters;
mod failover;
mod lags;
mod lost_data;
mod memory;
mod obstacles;
mod outages;
mod reads;
mod recovery;
mod scripts;
mod submit;
mod support;
mod trimming;
mod trouble;
mod two_servers;
