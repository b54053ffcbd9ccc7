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
    /// Products, and the records of requests about them.
    pub inventory: SharedLink,
    /// Accounts, and the records of requests about them.
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

/// Reads within the time limit, when the client has a permit.
///
/// # Errors
///
/// 429: the client has read too much. 500: the stored data is unreadable. 503: Redis cannot be read.
/// 504: the read took too long.
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

/// Reads optional data of a page: `None` if it cannot be read, with an error in the log.
pub(crate) async fn read_optional<T>(
    what: &str,
    reading: impl Future<Output = Result<T, ConnectionError>>,
) -> Option<T> {
    reading.await.inspect_err(|error| error!("a page is shown without {what}: {error}")).ok()
}

/// Reads the data that a command needs, when the client has a permit.
///
/// # Errors
///
/// As [`MeteredReader::read`] and [`command_outcome`].
pub(crate) async fn read_for_command<T>(
    reader: &MeteredReader,
    reading: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, Problem> {
    command_outcome(reader.read("the stored data", reading).await?)
}

/// 503: Redis cannot be reached. 500: the stored data cannot be read.
pub(crate) fn command_outcome<T>(read: Result<T, ConnectionError>) -> Result<T, Problem> {
    read.map_err(|error| {
        error!("a command did not reach its owner: {error}");
        error.problem(
            "the stored data cannot be read",
            "the command cannot be stored at the moment; repeat the request with the same \
             Idempotency-Key",
        )
    })
}
