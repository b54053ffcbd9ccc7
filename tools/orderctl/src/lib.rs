//! The operator's command line.
//!
//! Owns nothing; reads all topics. `audit` checks the books, `load` places many orders and measures.

pub mod audit;
pub mod load;

use common::config::Sources;
use stack::run_file::RunFile;

/// Where each topic of a running stack lives.
///
/// # Errors
///
/// The run file has something that is not the URL of a Redis.
pub fn sources(run: &RunFile) -> anyhow::Result<Sources> {
    Sources::try_new(|topic| run.redis_of(topic.name()).url.parse())
        .map_err(|reason: String| anyhow::anyhow!("run.json: {reason}"))
}
