//! The operator's command line.
//!
//! Owns nothing; reads all topics. `audit` checks the books, `load` places many orders and measures.

pub mod audit;
pub mod load;
