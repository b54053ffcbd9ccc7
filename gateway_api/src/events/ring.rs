//! The last messages, encoded once for all clients.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use common::{connection::entry::Entry, contract::route::Scope, schema::entry_id::EntryId};

use super::{
    change::Change,
    chunk::{Chunk, Follower, Message, write_id},
    cursor::{EventCursor, STREAMS, StreamIndex},
    view::View,
};

/// The size of the ring in bytes of text: some thousands of messages.
const RING_BYTES: usize = 4 * 1024 * 1024;
/// The maximum size of a chunk, unless a single message is longer. A client that does not read keeps at most
/// a few chunks in memory that the ring has dropped.
const CHUNK_BYTES: usize = 8 * 1024;

/// The message for lost changes.
pub(super) const RESET_EVENT: &str = "event: reset\ndata: {}\n\n";

/// The last messages in chunks. A chunk is the concatenated text of some messages.
///
/// Chunks are numbered; a [`Follower`] has the number of its next chunk. A follower whose next chunk was
/// dropped gets a `reset`.
#[derive(Debug)]
pub(super) struct Ring {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk, from 1.
    first: u64,
    bytes: usize,
    /// The position before the first chunk.
    base: EventCursor,
    /// The position after the last chunk.
    head: EventCursor,
    /// For each server: whether its streams are being read.
    begun: Vec<bool>,
}

impl Ring {
    /// A ring for the changes of this number of servers, none of which is read yet.
    pub(super) fn new(servers: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            first: 1,
            bytes: 0,
            base: EventCursor::default(),
            head: EventCursor::default(),
            begun: vec![false; servers],
        }
    }

    /// Drops all messages. Followers get a `reset` when every server is read again.
    pub(super) fn clear(&mut self) {
        self.first = self.end() + 1;
        self.chunks.clear();
        self.bytes = 0;
        self.begun.fill(false);
    }

    /// Begins a server's streams at these entries; later entries follow.
    pub(super) fn begin(&mut self, server: usize, bases: &[(StreamIndex, EntryId)]) {
        for (index, id) in bases {
            self.base.set(*index, *id);
            self.head.set(*index, *id);
        }
        self.begun[server] = true;
    }

    pub(super) fn has_begun(&self, server: usize) -> bool {
        self.begun[server]
    }

    /// Whether the streams of all servers are being read.
    pub(super) fn is_live(&self) -> bool {
        self.begun.iter().all(|begun| *begun)
    }

    pub(super) fn head(&self) -> &EventCursor {
        &self.head
    }

    /// The number of the next chunk.
    fn end(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Appends entries in the order of sending.
    pub(super) fn append(&mut self, entries: &[(StreamIndex, Entry)]) {
        let mut text = BytesMut::new();
        let mut messages = Vec::new();
        for (index, entry) in entries {
            self.head.set(*index, entry.id);
            let change = Change::of_entry(STREAMS[*index], entry);
            let start = text.len();
            let (mut event, mut order, mut of, mut masked) = (start, None, None, None);
            let is_of_orders = change.as_ref().is_some_and(|it| it.scope == Scope::OrdersRead);
            if let Some(Change { kind, json, .. }) = &change {
                write_id(&mut text, &self.head);
                event = text.len();
                for part in ["event: ", kind, "\ndata: ", json, "\n\n"] {
                    text.extend_from_slice(part.as_bytes());
                }
            }
            if let Some(change) = change {
                let kind = change.kind;
                let event = |json: String| format!("event: {kind}\ndata: {json}\n\n").into();
                (order, of, masked) = (change.order, Some(change.of), change.masked.map(event));
            }
            let (index, id, end) = (*index, entry.id, text.len());
            messages.push(Message {
                index,
                id,
                order,
                of,
                is_of_orders,
                masked,
                start,
                event,
                end,
            });
            if end >= CHUNK_BYTES {
                self.push(Chunk { text: text.split().freeze(), messages });
                messages = Vec::new();
            }
        }
        if !messages.is_empty() {
            self.push(Chunk { text: text.freeze(), messages });
        }
    }

    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.size();
        self.chunks.push_back(chunk);
        while self.bytes > RING_BYTES
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.size();
            self.first += 1;
            for message in oldest.messages {
                self.base.set(message.index, message.id);
            }
        }
    }

    /// Whether the ring has all entries after the cursor: it contains each entry of the cursor, or its base
    /// is that entry. A cursor from before a loss of the streams has other entries.
    fn knows(&self, cursor: &EventCursor) -> bool {
        let mut unknown: Vec<(StreamIndex, EntryId)> = (0..STREAMS.len())
            .map(|index| (index, cursor.at(index)))
            .filter(|(index, id)| self.base.at(*index) != *id && self.head.at(*index) != *id)
            .collect();
        for message in self.chunks.iter().flat_map(|chunk| &chunk.messages) {
            if unknown.is_empty() {
                break;
            }
            unknown.retain(|named| *named != (message.index, message.id));
        }
        unknown.is_empty()
    }

    /// A follower of future changes; begins with a `reset` if the ring is not live.
    pub(super) fn follow(&self, view: View) -> Follower {
        let next = if self.is_live() { self.end() } else { 0 };
        Follower { next, view, seen: None }
    }

    /// A follower that resumes at this cursor; `None` if changes after it were dropped.
    pub(super) fn resume(&self, cursor: &EventCursor, view: &View) -> Option<Follower> {
        let seen = Some(Box::new(*cursor));
        self.knows(cursor).then(|| Follower { next: self.first, view: view.clone(), seen })
    }

    /// The next text for a follower; `None` if there is none yet.
    pub(super) fn next(&self, follower: &mut Follower) -> Option<Bytes> {
        if !self.is_live() {
            return None;
        }
        // The follower is too slow, or the ring was cleared.
        if follower.next < self.first {
            *follower = self.follow(follower.view.clone());
            return Some(self.reset());
        }
        while let Some(chunk) = self.chunk(follower.next) {
            follower.next += 1;
            let text = follower.pick(chunk);
            if !text.is_empty() {
                return Some(text);
            }
        }
        follower.seen = None;
        None
    }

    fn chunk(&self, number: u64) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn reset(&self) -> Bytes {
        let mut text = BytesMut::new();
        write_id(&mut text, &self.head);
        text.extend_from_slice(RESET_EVENT.as_bytes());
        text.freeze()
    }

    /// The position of a follower without messages, which messages for others advance as well.
    pub(super) fn mark(&self, follower: &Follower) -> Bytes {
        let mut text = BytesMut::from(":\n");
        match &follower.seen {
            Some(seen) => write_id(&mut text, seen),
            None if follower.next == self.end() => write_id(&mut text, &self.head),
            None => {}
        }
        text.extend_from_slice(b"\n");
        text.freeze()
    }
}

#[cfg(test)]
mod tests {
    use common::{
        connection::entry::Fields,
        contract::{
            ids::OrderId,
            messages::{MessageKind, MessageSent},
            streams,
        },
        schema::stream::ENTITY,
    };
    use uuid::Uuid;

    use super::*;

    /// The indexes of two streams of messages.
    const ONE: StreamIndex = 4;
    const OTHER: StreamIndex = 0;

    const ALL: View = View { order: None, customer: None, orders: true, addresses: true };

    fn id(time: u64) -> EntryId {
        EntryId { time, sequence: 0 }
    }

    /// A message at this time, about the order with this number.
    fn message(time: u64, order: u128, length: usize) -> (StreamIndex, Entry) {
        let message = MessageSent {
            id: Uuid::nil(),
            customer: "101".parse().unwrap(),
            order: Some(OrderId(Uuid::from_u128(order))),
            kind: MessageKind::OnItsWay,
            subject: time.to_string(),
            body: "x".repeat(length),
        };
        let entity = serde_json::to_string(&message).unwrap();
        (ONE, Entry { id: id(time), fields: Fields(vec![(ENTITY.into(), entity.into())]) })
    }

    /// An entry without a message.
    fn silent(index: StreamIndex, time: u64) -> (StreamIndex, Entry) {
        (index, Entry { id: id(time), fields: Fields::default() })
    }

    fn live_ring() -> Ring {
        let mut ring = Ring::new(1);
        ring.begin(0, &[(ONE, id(10))]);
        ring
    }

    /// The subjects of messages and the resets that the follower gets; and the last id.
    fn sent(ring: &Ring, follower: &mut Follower) -> (Vec<String>, Option<EventCursor>) {
        let mut text = String::new();
        while let Some(more) = ring.next(follower) {
            text.push_str(std::str::from_utf8(&more).unwrap());
        }
        let news = |line: &str| {
            let subject = line.split_once("\"subject\":\"").map(|(_, rest)| rest.split('"'));
            subject.and_then(|mut rest| rest.next().map(str::to_owned)).or_else(|| {
                line.strip_prefix("event: ").filter(|kind| *kind == "reset").map(str::to_owned)
            })
        };
        let mut ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        (text.lines().filter_map(news).collect(), ids.next_back().map(|id| id.parse().unwrap()))
    }

    #[test]
    fn a_new_follower_gets_later_messages_in_order() {
        let mut ring = live_ring();
        ring.append(&[message(11, 1, 0)]);
        let mut follower = ring.follow(ALL);
        assert_eq!(sent(&ring, &mut follower), (vec![], None));
        ring.append(&[message(12, 1, 0), message(13, 2, 0)]);
        ring.append(&[message(14, 1, 0)]);
        let (subjects, last) = sent(&ring, &mut follower);
        assert_eq!(
            (subjects, last),
            (vec!["12".into(), "13".into(), "14".into()], Some(ring.head))
        );
    }

    #[test]
    fn a_resumed_follower_gets_each_missed_message_once() {
        let mut ring = live_ring();
        ring.append(&[silent(OTHER, 3), message(11, 1, 0), silent(OTHER, 5), message(12, 1, 0)]);
        let mut cursor = EventCursor::default();
        // Another gateway sent 5 of the other stream before 11.
        cursor.set(ONE, id(10));
        cursor.set(OTHER, id(5));
        let mut follower = ring.resume(&cursor, &ALL).unwrap();
        let first = ring.next(&mut follower).unwrap();
        let first = std::str::from_utf8(&first).unwrap();
        let after_first: EventCursor = first.lines().next().unwrap()[4..].parse().unwrap();
        assert_eq!((after_first.at(ONE), after_first.at(OTHER)), (id(11), id(5)));
        let mut again = ring.resume(&after_first, &ALL).unwrap();
        assert_eq!(sent(&ring, &mut again), (vec!["12".into()], Some(ring.head)));
        // Later messages are sent from the shared text.
        ring.append(&[message(13, 1, 0)]);
        assert_eq!(sent(&ring, &mut again), (vec!["13".into()], Some(ring.head)));
        assert!(again.seen.is_none());
    }

    #[test]
    fn a_cursor_that_names_an_unknown_entry_cannot_be_resumed() {
        let mut ring = live_ring();
        ring.append(&[message(11, 1, 0), message(13, 1, 0)]);
        let at = |time| {
            let mut cursor = EventCursor::default();
            cursor.set(ONE, id(time));
            cursor
        };
        for time in [10, 11, 13] {
            assert!(ring.resume(&at(time), &ALL).is_some(), "{time}");
        }
        for time in [0, 9, 12, 14] {
            assert!(ring.resume(&at(time), &ALL).is_none(), "{time}");
        }
    }

    #[test]
    fn a_view_of_one_order_skips_others_and_marks_the_head() {
        let mut ring = live_ring();
        let mut follower = ring.follow(View { order: Some(OrderId(Uuid::from_u128(2))), ..ALL });
        ring.append(&[message(11, 1, 0), message(12, 2, 0), message(13, 1, 0)]);
        assert_eq!(sent(&ring, &mut follower).0, ["12"]);
        let mark = ring.mark(&follower);
        assert_eq!(mark, format!(":\nid: {}\n\n", ring.head));
    }

    #[test]
    fn a_view_without_orders_has_no_messages_about_orders() {
        let mut ring = live_ring();
        let view = View { orders: false, ..ALL };
        let (mut follower, mut all) = (ring.follow(view.clone()), ring.follow(ALL));
        let product = r#"{"id":"201","name":"N","price":1,"amount":1,"subject":"product"}"#;
        let product =
            Entry { id: id(12), fields: Fields(vec![(ENTITY.into(), product.to_owned().into())]) };
        let index = |stream| STREAMS.iter().position(|it| *it == stream).unwrap();
        ring.append(&[message(11, 1, 0), (index(streams::INVENTORY_UPDATED), product)]);
        let kinds = |follower: &mut Follower| {
            let text = ring.next(follower).unwrap();
            let text = std::str::from_utf8(&text).unwrap().to_owned();
            let kinds = text.lines().filter_map(|it| it.strip_prefix("event: ").map(str::to_owned));
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(kinds(&mut all), ["message", "product"]);
        assert_eq!(kinds(&mut follower), ["product"]);
        // The same for a follower that resumes.
        let mut begin = ring.head;
        begin.set(ONE, id(10));
        begin.set(index(streams::INVENTORY_UPDATED), EntryId::default());
        let mut follower = ring.resume(&begin, &view).unwrap();
        assert_eq!(kinds(&mut follower), ["product"]);
    }

    #[test]
    fn a_slow_follower_gets_a_reset_and_continues_at_the_head() {
        let mut ring = live_ring();
        let (mut slow, mut quick) = (ring.follow(ALL), ring.follow(ALL));
        let count = 2 * RING_BYTES / 10_000;
        for number in 0..count {
            ring.append(&[message(11 + number as u64, 1, 10_000)]);
            assert_eq!(sent(&ring, &mut quick).0, [(11 + number).to_string()]);
        }
        assert!(ring.bytes <= RING_BYTES && ring.chunks.len() > count / 3);
        assert_eq!(sent(&ring, &mut slow), (vec!["reset".into()], Some(ring.head)));
        ring.append(&[message(100_000, 1, 0)]);
        assert_eq!(sent(&ring, &mut slow).0, ["100000"]);
        // The base has moved with the dropped chunks.
        let mut oldest = ring.head;
        oldest.set(ONE, ring.base.at(ONE));
        assert!(ring.base.at(ONE) > id(11) && ring.resume(&oldest, &ALL).is_some());
    }

    #[test]
    fn a_large_batch_is_sent_in_small_chunks() {
        let mut ring = live_ring();
        let batch: Vec<_> = (0..100).map(|number| message(11 + number, 1, 500)).collect();
        let mut follower = ring.follow(ALL);
        ring.append(&batch);
        let longest = ring.chunks.iter().map(|chunk| chunk.text.len()).max().unwrap();
        assert!(longest < CHUNK_BYTES + 1_000 && ring.chunks.len() > 5, "{longest}");
        assert_eq!(sent(&ring, &mut follower).0.len(), 100);
    }

    #[test]
    fn all_followers_get_a_reset_after_the_ring_was_cleared() {
        let mut ring = live_ring();
        let mut follower = ring.follow(ALL);
        ring.append(&[message(11, 1, 0)]);
        let cursor = ring.head;
        ring.clear();
        assert!(ring.next(&mut follower).is_none(), "the new position is not known yet");
        let mut late = ring.follow(ALL);
        ring.begin(0, &[(ONE, EntryId::default())]);
        ring.append(&[message(19, 1, 0)]);
        assert_eq!(sent(&ring, &mut follower).0, ["reset"]);
        assert_eq!(sent(&ring, &mut late).0, ["reset"]);
        ring.append(&[message(20, 1, 0)]);
        assert_eq!(sent(&ring, &mut follower).0, ["20"]);
        assert!(ring.resume(&cursor, &ALL).is_none());
    }
}
