//! Entries of streams, as Redis gives them.

use redis::Value;

use crate::{
    events::{ENTITY, Stream},
    ids::EntryId,
};

/// An entry of a stream.
#[derive(Debug)]
pub struct Entry {
    /// Its id in the stream.
    pub id: EntryId,
    /// What it says.
    pub fields: Fields,
}

/// The fields of an entry as they came.
#[derive(Debug, Default)]
pub struct Fields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// The value of the field, if it is there.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(field, _)| field == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// The order that an entry of this stream is about, as far as one can tell.
    pub(crate) fn order(&self, stream: Stream) -> Option<String> {
        let entity: serde_json::Value = serde_json::from_slice(self.get(ENTITY)?).ok()?;
        let field = if stream == Stream::OrderCreated { "id" } else { "order_id" };
        Some(entity.get(field)?.as_str()?.to_owned())
    }

    pub(crate) fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.iter().map(|(name, value)| (text(name), text(value).into())).collect()
    }
}

/// The answer to XREAD and XREADGROUP: `[[stream, [entry…]]…]`, or a map in RESP3; nil when nothing
/// came in time.
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

/// The answer to XRANGE: `[[id, [field, value…]]…]`; the fields of a deleted entry are nil.
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
