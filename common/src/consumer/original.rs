//! Detects streams of the original Python system, whose entry ids are in seconds. A service that
//! reads them from the beginning would repeat all of their effects.

use redis::Pipeline;

use crate::{
    connection::{
        error::ConnectionError,
        lag::{GroupFacts, StreamFacts, ask_about},
        link::Link,
        replies::is_error,
        url::DEFAULT_USER,
    },
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic, Writer},
    },
};

/// The times of entries with ids of the form `<seconds>-<microseconds>` since 1970, the original's
/// form, from 2001 on. As milliseconds they would lie in the first three years after 1970.
const EPOCH_SECONDS: std::ops::Range<u64> = 1_000_000_000..100_000_000_000;

/// Checks that no stream of an owner begins with entries of the original that this service's group
/// has never read. Streams that clients write are exempt.
///
/// # Errors
///
/// [`ConnectionError::Unsuitable`] names the stream and the remedy; otherwise as [`Link::send`].
pub(super) async fn check_for_history(
    link: &mut Link,
    reader: Topic,
    streams: &[Stream],
) -> Result<(), ConnectionError> {
    let streams: Vec<Stream> =
        streams.iter().copied().filter(|stream| stream.writer() == Writer::Owner).collect();
    // The original has no named Redis users, and these may not run the commands below.
    if streams.is_empty() || link.user() != DEFAULT_USER {
        return Ok(());
    }
    let mut ask = Pipeline::new();
    for stream in &streams {
        ask_about(&mut ask, DEFAULT_USER, stream.key());
        ask.cmd("XINFO").arg("GROUPS").arg(stream.key());
    }
    let mut answers = link.send(&ask).await?.into_iter();
    for stream in streams {
        let (Some(facts), Some(groups)) = (answers.next(), answers.next()) else { break };
        if is_error(&facts, "ERR") {
            // The key is missing, or has another type, which the reader reports later.
            continue;
        }
        let (facts, groups) = (link.accept("XINFO", facts)?, link.accept("XINFO", groups)?);
        let Some(first) = StreamFacts::from_reply(facts).first else { continue };
        let groups = GroupFacts::from_reply(groups);
        let was_read = groups.iter().any(|group| group.name == reader.service());
        if is_of_the_original(first) && !was_read {
            return Err(ConnectionError::Unsuitable {
                address: link.address(),
                reason: format!(
                    "a system of the original has filled {stream} (from {first} on), and reading it would \
                     repeat what it has caused; start on an empty Redis, and define there what must not be \
                     lost (docs/interoperability.md)"
                ),
            });
        }
    }
    Ok(())
}

fn is_of_the_original(id: EntryId) -> bool {
    EPOCH_SECONDS.contains(&id.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_seconds_and_of_milliseconds_are_distinguished() {
        for (id, original) in [
            ("1767225600-123456", true),
            ("1500000000-0", true),
            ("1767225600000-0", false),
            ("1-1", false),
            ("18446744073709551615-18446744073709551615", false),
        ] {
            assert_eq!(is_of_the_original(id.parse().unwrap()), original, "{id}");
        }
    }
}
