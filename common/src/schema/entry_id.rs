//! The ids of stream entries.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The id of an entry in a Redis stream: milliseconds since 1970 (seconds, from the original's
/// services) and a sequence number within them.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId {
    /// The part before the dash.
    pub time: u64,
    /// The part after the dash.
    pub sequence: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time, self.sequence)
    }
}

impl FromStr for EntryId {
    type Err = InvalidEntryId;

    fn from_str(text: &str) -> Result<Self, InvalidEntryId> {
        let parsed = text
            .split_once('-')
            .and_then(|(time, sequence)| Some((time.parse().ok()?, sequence.parse().ok()?)));
        let (time, sequence) = parsed.ok_or(InvalidEntryId)?;
        Ok(Self { time, sequence })
    }
}

impl TryFrom<String> for EntryId {
    type Error = InvalidEntryId;

    fn try_from(text: String) -> Result<Self, InvalidEntryId> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> String {
        id.to_string()
    }
}

/// The error for a text that is not an entry id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry id is <number>-<number>")]
pub struct InvalidEntryId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids_compare_as_numbers() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-1") < id("10-0"));
        // The original's seconds are smaller than any id that Redis generates.
        assert!(id("1763812345-999999") < id("1763812345000-0"));
        assert!("10".parse::<EntryId>().is_err());
    }
}
