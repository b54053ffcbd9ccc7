//! Detects the history of a system whose services give entries ids in seconds, as the Python original does. A
//! service that reads it from the beginning would repeat all effects that it has had.

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

/// The times of entries whose ids are `<seconds>-<microseconds>` since 1970, as the original makes them,
/// from 2001 on. In milliseconds they would lie in the first three years.
const SECONDS: std::ops::Range<u64> = 1_000_000_000..100_000_000_000;

/// Checks that no stream of an owner begins with entries of the original that this service's group has
/// never read. The streams that clients write may be read at any time.
///
/// # Errors
///
/// [`ConnectionError::Unsuitable`] names the stream and what to do; otherwise as [`Link::send`].
pub(super) async fn check_for_history(
    link: &mut Link,
    reader: Topic,
    streams: &[Stream],
) -> Result<(), ConnectionError> {
    let streams: Vec<Stream> =
        streams.iter().copied().filter(|stream| stream.writer() == Writer::Owner).collect();
    // The original knows no users of Redis, and others may not ask.
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
            // No such key, or a key of another type, which the reader meets later.
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
    SECONDS.contains(&id.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_seconds_and_of_milliseconds_are_told_apart() {
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
