//! A chunk of the ring: messages as text, and the part of each client.

use bytes::{Bytes, BytesMut};
use common::{contract::ids::OrderId, schema::entry_id::EntryId};

use super::{
    change::Whose,
    cursor::{EventCursor, StreamIndex},
    view::View,
};

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) text: Bytes,
    pub(super) messages: Vec<Message>,
}

/// An entry with the position of its message in the chunk's text; the message may be empty.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) index: StreamIndex,
    pub(super) id: EntryId,
    pub(super) order: Option<OrderId>,
    pub(super) of: Option<Whose>,
    /// Whether only clients that may read orders receive it.
    pub(super) is_of_orders: bool,
    /// The part after the line with the cursor with masked e-mail addresses, if that differs.
    pub(super) masked: Option<Box<str>>,
    pub(super) start: usize,
    /// The end of the line with the cursor.
    pub(super) event: usize,
    pub(super) end: usize,
}

/// A client of the ring: its position and its view.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(super) next: u64,
    pub(super) view: View,
    /// The cursor at which the client resumes, until it has caught up: another gateway sent some of the
    /// later entries already, in another order.
    pub(super) seen: Option<Box<EventCursor>>,
}

impl Chunk {
    /// The approximate memory use.
    pub(super) fn size(&self) -> usize {
        let masked = self.messages.iter().filter_map(|it| it.masked.as_deref()).map(str::len);
        self.text.len()
            + masked.sum::<usize>()
            + self.messages.len() * size_of::<Message>()
            + size_of::<Self>()
    }
}

impl Follower {
    /// Whether the client catches up with earlier changes.
    pub(super) fn resumes(&self) -> bool {
        self.seen.is_some()
    }

    /// The part of the chunk for the client.
    pub(super) fn pick(&mut self, chunk: &Chunk) -> Bytes {
        if self.view.is_all() && self.seen.is_none() {
            return chunk.text.clone();
        }
        let mut text = BytesMut::new();
        for message in &chunk.messages {
            if let Some(seen) = &mut self.seen {
                if message.id <= seen.at(message.index) {
                    continue;
                }
                seen.set(message.index, message.id);
            }
            if !self.view.has(message.of.as_ref(), message.order, message.is_of_orders)
                || message.start == message.end
            {
                continue;
            }
            match &self.seen {
                Some(seen) => write_id(&mut text, seen),
                None => text.extend_from_slice(&chunk.text[message.start..message.event]),
            }
            match message.masked.as_deref().filter(|_| !self.view.addresses) {
                Some(masked) => text.extend_from_slice(masked.as_bytes()),
                None => text.extend_from_slice(&chunk.text[message.event..message.end]),
            }
        }
        text.freeze()
    }
}

/// Writes the line with the cursor.
pub(super) fn write_id(text: &mut BytesMut, cursor: &EventCursor) {
    text.extend_from_slice(format!("id: {cursor}\n").as_bytes());
}
