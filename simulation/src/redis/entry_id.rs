//! Ids of stream entries, and their forms in arguments.

use std::fmt;

use super::reply::{Reply, Stop, error};

/// The id of a stream entry.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// The time at which the entry was added, in milliseconds since 1970.
    pub millis: u64,
    /// Distinguishes entries of the same millisecond.
    pub sequence: u64,
}

const INVALID: Stop = error("ERR Invalid stream ID specified as stream command argument");

impl EntryId {
    /// The smallest id, which no entry has.
    pub const ZERO: Self = Self { millis: 0, sequence: 0 };
    /// The largest id.
    pub const MAX: Self = Self { millis: u64::MAX, sequence: u64::MAX };

    /// The following id; `None` after the largest.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => self.millis.checked_add(1).map(|millis| Self { millis, sequence: 0 }),
        }
    }

    /// The preceding id; `None` before the smallest.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        match self.sequence.checked_sub(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => self.millis.checked_sub(1).map(|millis| Self { millis, sequence: u64::MAX }),
        }
    }

    /// The id as a reply.
    pub(super) fn reply(self) -> Reply {
        Reply::text(self.to_string())
    }

    /// Parses a complete id, or one without a sequence, which is then 0.
    pub(super) fn parse(word: &[u8]) -> Result<Self, Stop> {
        Self::parse_with(word, 0).ok_or(INVALID)
    }

    /// Parses an id, or `-` or `+` for the smallest or largest.
    pub(super) fn parse_or_edge(word: &[u8], missing_sequence: u64) -> Result<Self, Stop> {
        match word {
            b"-" => Ok(Self::ZERO),
            b"+" => Ok(Self::MAX),
            word => Self::parse_with(word, missing_sequence).ok_or(INVALID),
        }
    }

    /// Parses the start of a range, which `(` excludes.
    pub(super) fn parse_start(word: &[u8]) -> Result<Self, Stop> {
        match exclusive(word) {
            Some(id) => {
                let id = Self::parse(id)?;
                id.next().ok_or(error("ERR invalid start ID for the interval"))
            }
            None => Self::parse_or_edge(word, 0),
        }
    }

    /// Parses the end of a range, which `(` excludes.
    pub(super) fn parse_end(word: &[u8]) -> Result<Self, Stop> {
        match exclusive(word) {
            Some(id) => {
                let id = Self::parse_with(id, u64::MAX).ok_or(INVALID)?;
                id.previous().ok_or(error("ERR invalid end ID for the interval"))
            }
            None => Self::parse_or_edge(word, u64::MAX),
        }
    }

    fn parse_with(word: &[u8], missing_sequence: u64) -> Option<Self> {
        if word.len() > 127 {
            return None;
        }
        let mut parts = word.splitn(2, |byte| *byte == b'-');
        let millis = digits(parts.next()?)?;
        let sequence = parts.next().map_or(Some(missing_sequence), digits)?;
        Some(Self { millis, sequence })
    }
}

fn exclusive(word: &[u8]) -> Option<&[u8]> {
    word.strip_prefix(b"(").filter(|id| !id.is_empty())
}

fn digits(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}
