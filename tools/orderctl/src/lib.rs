//! The operator's command line.
//!
//! Owns nothing; reads all topics. `audit` checks that all data agree, `load` places many orders and
//! measures, `token` signs tokens with a local key.

pub mod audit;
pub mod load;
pub mod token;

use common::{
    connection::{topology::Sources, url::RedisAccess},
    contract::streams::topics,
};
use stack::run_file::RunFile;

/// The Redis of each topic of a running stack.
///
/// # Errors
///
/// The run file has an invalid Redis URL.
pub fn sources(run: &RunFile) -> anyhow::Result<Sources> {
    let unusable = |reason: String| anyhow::anyhow!("run.json: {reason}");
    let sources = Sources::try_new(&topics::ALL, |topic| run.redis_of(topic.name()).url.parse());
    let access = RedisAccess {
        redis_password_file: run.redis.password_file.clone(),
        redis_tls_ca: run.redis.tls_ca.clone(),
        ..RedisAccess::default()
    };
    sources.map_err(unusable)?.with(&access).map_err(|error| unusable(error.reason))
}
