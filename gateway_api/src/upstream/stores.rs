//! Connections to the Redis of each topic, and the answers to clients when one cannot be read.

use common::{
    connection::{error::ConnectionError, shared_link::SharedLink},
    contract::streams::topics,
    http::problem::Problem,
    schema::stream::Topic,
};
use tracing::error;

use crate::access::limits::reader::MeteredReader;

/// Connections to the Redis of each topic that the gateway reads.
#[derive(Debug)]
pub(crate) struct Stores {
    /// Orders.
    pub order: SharedLink,
    /// Products, and what clients say of them.
    pub inventory: SharedLink,
    /// Accounts, and what clients say of them.
    pub account: SharedLink,
    /// Messages.
    pub message: SharedLink,
}

impl Stores {
    /// The connection to the Redis of a topic.
    pub(crate) fn of(&self, topic: Topic) -> &SharedLink {
        match topic {
            topics::ORDER => &self.order,
            topics::INVENTORY => &self.inventory,
            topics::ACCOUNT => &self.account,
            topics::MESSAGE => &self.message,
            other => unreachable!("{} is no topic of the shop", other.name()),
        }
    }
}

/// Reads within the time limit, once the client has a permit.
///
/// # Errors
///
/// 429: the client has read too much. 500: what is stored cannot be read, today or later. 503: Redis cannot
/// be read. 504: it took too long.
pub(crate) async fn read<T>(
    reader: &MeteredReader,
    what: &str,
    reading: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, Problem> {
    reader.read(what, reading).await?.map_err(|error| {
        error!("reading {what} failed: {error}");
        error.problem(
            &format!("{what} cannot be read"),
            format!("{what} cannot be read at the moment"),
        )
    })
}

/// Reads what a page for people can do without: `None` if it cannot be read, with an error in the log.
pub(crate) async fn read_optional<T>(
    what: &str,
    reading: impl Future<Output = Result<T, ConnectionError>>,
) -> Option<T> {
    reading.await.inspect_err(|error| error!("a page is shown without {what}: {error}")).ok()
}

/// Reads what a command needs, once the client has a permit.
///
/// # Errors
///
/// As [`MeteredReader::read`] and [`command_outcome`].
pub(crate) async fn read_for_command<T>(
    reader: &MeteredReader,
    reading: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, Problem> {
    command_outcome(reader.read("what is stored", reading).await?)
}

/// 503: Redis is away. 500: what is stored cannot be read.
pub(crate) fn command_outcome<T>(read: Result<T, ConnectionError>) -> Result<T, Problem> {
    read.map_err(|error| {
        error!("a command did not reach its owner: {error}");
        error.problem(
            "what is stored cannot be read",
            "it cannot be stored at the moment; repeat the request with the same \
             Idempotency-Key",
        )
    })
}
