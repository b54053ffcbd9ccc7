//! The operator's command line.
//!
//! Owns nothing; reads all topics. `audit` checks the books, `load` places many orders and measures, `token` signs
//! tokens with a key of one's own.

pub mod audit;
pub mod load;
pub mod token;

use common::connection::{link::RedisAccess, topology::Sources};
use stack::run_file::RunFile;

/// Where each topic of a running stack lives.
///
/// # Errors
///
/// The run file has something that is not the URL of a Redis.
pub fn sources(run: &RunFile) -> anyhow::Result<Sources> {
    let unusable = |reason: String| anyhow::anyhow!("run.json: {reason}");
    let sources = Sources::try_new(|topic| run.redis_of(topic.name()).url.parse());
    let access = RedisAccess {
        redis_password_file: run.redis.password_file.clone(),
        redis_tls_ca: run.redis.tls_ca.clone(),
        ..RedisAccess::default()
    };
    sources.map_err(unusable)?.with(&access).map_err(|fault| unusable(fault.reason))
}
