//! Entries of streams in the form in which Redis returns them.

use redis::Value;
use sha1_smol::Sha1;
use uuid::Uuid;

use crate::schema::{
    entry_id::EntryId,
    stream::{ENTITY, Stream},
};

/// The largest accepted event entry in bytes. The gateway accepts bodies of 64 KiB, and an event
/// carries little more than the body that caused it.
pub(crate) const EVENT_BYTES: usize = 1024 * 1024;
/// How many bytes of an entry its dead letter keeps.
pub(crate) const LETTER_BYTES: usize = 64 * 1024;
/// The longest reason in a dead letter, in bytes.
const REASON_BYTES: usize = 1024;
/// The memory overhead of a field, in bytes.
const FIELD_BYTES: usize = 128;

/// An entry of a stream.
#[derive(Debug)]
pub struct Entry {
    /// The id of the entry in its stream.
    pub id: EntryId,
    /// The content of the entry.
    pub fields: Fields,
}

/// The fields of an entry, unparsed.
#[derive(Debug, Default)]
pub struct Fields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// The value of the field, if the entry has it.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(field, _)| field == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// The id of the entity that an entry of this stream concerns; see [`Stream::about`]. `None` if
    /// the member is not a UUID: arbitrary text is not logged.
    pub(crate) fn subject(&self, stream: Stream) -> Option<Uuid> {
        let entity: serde_json::Value = serde_json::from_slice(self.get(ENTITY)?).ok()?;
        entity.get(stream.subject()?)?.as_str()?.parse().ok()
    }

    pub(crate) fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.iter().map(|(name, value)| (text(name), text(value).into())).collect()
    }

    /// The total size of all names and values in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The approximate memory that the fields occupy.
    pub(crate) fn memory(&self) -> usize {
        self.bytes() + self.0.len() * FIELD_BYTES
    }

    /// Shortens the fields to the size that a dead letter keeps. Returns the identity of the whole
    /// entry if anything was cut.
    pub(crate) fn cut(&mut self) -> Option<Whole> {
        if self.memory() <= LETTER_BYTES {
            return None;
        }
        let mut digest = Sha1::new();
        for (name, value) in &self.0 {
            digest.update(name);
            digest.update(value);
        }
        let whole = Whole { bytes: self.bytes(), digest: format!("sha1:{}", digest.digest()) };
        let mut room = LETTER_BYTES;
        self.0.retain_mut(|(name, value)| {
            let Some(left) = room.checked_sub(FIELD_BYTES) else { return false };
            room = left;
            for text in [name, value] {
                cut_text(text, room);
                room -= text.len();
            }
            true
        });
        self.0.shrink_to_fit();
        Some(whole)
    }
}

/// The size and digest of an entry that was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Whole {
    /// The total size of all names and values in bytes.
    pub(crate) bytes: usize,
    /// The SHA-1 of all names and values, concatenated.
    pub(crate) digest: String,
}

/// Shortens a reason for a dead letter and the log: the errors of parsers quote the text that they
/// rejected.
pub(crate) fn short_reason(mut reason: String) -> String {
    if reason.len() > REASON_BYTES {
        let end = (0..=REASON_BYTES).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or(0));
        reason.push('…');
        reason.shrink_to_fit();
    }
    reason
}

/// Shortens a text to at most this many bytes, at a character boundary.
fn cut_text(text: &mut Vec<u8>, most: usize) {
    if text.len() <= most {
        return;
    }
    text.truncate(most);
    if let Err(error) = std::str::from_utf8(text)
        && error.error_len().is_none()
    {
        text.truncate(error.valid_up_to());
    }
    text.shrink_to_fit();
}

/// Parses the answer to XREAD and XREADGROUP: `[[stream, [entry…]]…]`, or a map in RESP3; nil after
/// a timeout.
pub fn read_reply(value: Value) -> Vec<(String, Vec<Entry>)> {
    let pairs: Vec<(Value, Value)> = match value {
        Value::Map(pairs) => pairs,
        Value::Array(streams) => streams
            .into_iter()
            .filter_map(|stream| {
                let Value::Array(pair) = stream else { return None };
                let mut pair = pair.into_iter();
                Some((pair.next()?, pair.next()?))
            })
            .collect(),
        _ => Vec::new(),
    };
    pairs.into_iter().filter_map(|(name, list)| Some((text(name)?, entries(list)))).collect()
}

/// Parses the answer to XRANGE: `[[id, [field, value…]]…]`; the fields of a deleted entry are nil.
pub fn entries(value: Value) -> Vec<Entry> {
    let Value::Array(items) = value else { return Vec::new() };
    items
        .into_iter()
        .filter_map(|item| {
            let Value::Array(parts) = item else { return None };
            let mut parts = parts.into_iter();
            let id = text(parts.next()?)?.parse().ok()?;
            let mut fields = Vec::new();
            if let Some(Value::Array(flat)) = parts.next() {
                let mut flat = flat.into_iter();
                while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                    if let (Value::BulkString(name), Value::BulkString(value)) = (name, value) {
                        fields.push((name, value));
                    }
                }
            }
            Some(Entry { id, fields: Fields(fields) })
        })
        .collect()
}

pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &[u8])]) -> Fields {
        Fields(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn a_small_entry_is_not_cut() {
        let mut small = fields(&[("event_id", b"1"), ("entity", &[b'x'; 60_000])]);
        assert_eq!(small.cut(), None);
        assert_eq!(small.bytes(), 60_015);
    }

    #[test]
    fn a_large_entry_keeps_its_beginning_its_length_and_its_digest() {
        let value = "ä".repeat(100_000);
        let mut large = fields(&[("a", b"1"), ("entity", value.as_bytes()), ("z", b"2")]);
        let whole = large.cut().unwrap();
        assert_eq!(whole.bytes, 200_000 + 10);
        let digest = Sha1::from(format!("a1entity{value}z2")).hexdigest();
        assert_eq!(whole.digest, format!("sha1:{digest}"));
        assert!(large.memory() <= LETTER_BYTES);
        assert_eq!(large.get("a"), Some(&b"1"[..]));
        let kept = std::str::from_utf8(large.get("entity").unwrap()).expect("whole characters");
        assert!(kept.len() > LETTER_BYTES - 500 && value.starts_with(kept), "{}", kept.len());
    }

    #[test]
    fn an_entry_of_many_small_fields_is_cut_by_their_number() {
        let mut many = Fields((0..100_000_u32).map(|n| (n.to_string().into(), vec![])).collect());
        assert!(many.cut().is_some());
        assert!(many.0.len() <= LETTER_BYTES / FIELD_BYTES, "{}", many.0.len());
    }
}
