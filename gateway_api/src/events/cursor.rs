//! The position of a client in all streams, in the form of the header `Last-Event-ID`.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use common::{
    contract::streams::{self, topics},
    schema::{entry_id::EntryId, stream::Stream},
};

/// The streams whose entries are sent to clients. Of two entries with the same time, the one of the earlier
/// stream in this list is sent first: an order is created before it is updated.
pub(super) const STREAMS: [Stream; 9] = [
    streams::ORDER_CREATED,
    streams::ORDER_UPDATED,
    streams::INVENTORY_UPDATED,
    streams::ACCOUNT_UPDATED,
    streams::MESSAGE_SENT,
    topics::ORDER.dead_letters(),
    topics::INVENTORY.dead_letters(),
    topics::ACCOUNT.dead_letters(),
    topics::MESSAGE.dead_letters(),
];

/// A stream, by its position in [`STREAMS`].
pub(super) type StreamIndex = usize;

/// The last sent entry of each stream, `0-0` if there was none. The cursor consists of ids of entries, so it
/// has the same meaning at every gateway.
///
/// The text form is the time of the newest entry, then for each stream the age of its entry relative to that
/// and, unless it is 0, the number within the millisecond; empty if there was none. All numbers are
/// hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct EventCursor([EntryId; STREAMS.len()]);

impl EventCursor {
    pub(super) fn at(&self, index: StreamIndex) -> EntryId {
        self.0[index]
    }

    pub(super) fn set(&mut self, index: StreamIndex, id: EntryId) {
        self.0[index] = id;
    }

    /// Whether everything up to `other` was sent.
    pub(super) fn reaches(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own >= other)
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = self.0.iter().map(|id| id.time).max().unwrap_or(0);
        write!(f, "{newest:x}")?;
        for id in &self.0 {
            f.write_char('.')?;
            if *id != EntryId::default() {
                write!(f, "{:x}", newest - id.time)?;
            }
            if id.sequence != 0 {
                write!(f, "-{:x}", id.sequence)?;
            }
        }
        Ok(())
    }
}

/// A text is not a cursor: truncated, of another version, or invented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotACursor;

impl FromStr for EventCursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| NotACursor);
        let mut parts = text.split('.');
        let newest = number(parts.next().unwrap_or_default())?;
        let mut cursor = Self::default();
        for id in &mut cursor.0 {
            let part = parts.next().ok_or(NotACursor)?;
            if part.is_empty() {
                continue;
            }
            let (age, sequence) = part.split_once('-').unwrap_or((part, "0"));
            let time = newest.checked_sub(number(age)?).ok_or(NotACursor)?;
            *id = EntryId { time, sequence: number(sequence)? };
        }
        if parts.next().is_some() { Err(NotACursor) } else { Ok(cursor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(ids: &[&str]) -> EventCursor {
        let mut cursor = EventCursor::default();
        for (index, id) in ids.iter().enumerate() {
            cursor.set(index, id.parse().unwrap());
        }
        cursor
    }

    #[test]
    fn a_cursor_is_parsed_from_its_text() {
        let now = "1767225600000-3";
        for ids in [
            &[][..],
            &[now],
            &["1767225599000-0", now, "0-0", "0-7"],
            &["1763812345-999999", "18446744073709551615-18446744073709551615"],
            &[now; STREAMS.len()],
        ] {
            let cursor = cursor(ids);
            assert_eq!(cursor.to_string().parse(), Ok(cursor), "{cursor}");
        }
        let short = cursor(&[now, now, "1767225590000-0", "1767225000000-0", now]).to_string();
        assert!(short.len() < 50, "{short}");
    }

    #[test]
    fn anything_else_is_refused() {
        let good = cursor(&["5-0"]).to_string();
        let more = format!("{good}.");
        for wrong in ["", "5", "x........", "5.6........", "5.0-........", &good[..9], &more, "ü"]
        {
            assert_eq!(wrong.parse::<EventCursor>(), Err(NotACursor), "{wrong:?}");
        }
    }

    #[test]
    fn a_cursor_reaches_another_if_it_does_in_every_stream() {
        let (old, new) = (cursor(&["4-0", "5-1"]), cursor(&["5-0", "5-1"]));
        assert!(new.reaches(&old) && new.reaches(&new) && !old.reaches(&new));
        assert!(!cursor(&["9-0"]).reaches(&old));
    }
}
