//! Streams: entries in nodes, as Redis stores them, and consumer groups.

use std::{collections::BTreeMap, rc::Rc};

use super::{Bytes, EntryId, group::Group, listpack};

/// Fields and values of an entry, alternating; shared by all copies of a stream.
pub type Fields = Rc<[Bytes]>;

/// A stream with its consumer groups.
#[derive(Clone, Default, Debug)]
pub struct Stream {
    /// The entries that were not deleted.
    pub entries: BTreeMap<EntryId, Fields>,
    /// The id that every new entry has to exceed.
    pub last_id: EntryId,
    /// The number of entries that were ever added.
    pub entries_added: u64,
    /// The largest id that XDEL deleted.
    pub max_deleted_id: EntryId,
    /// The consumer groups by name.
    pub groups: BTreeMap<Rc<[u8]>, Group>,
    /// The nodes, by the id of their first entry.
    pub(super) nodes: BTreeMap<EntryId, Node>,
}

/// A run of entries that Redis keeps in one block of memory. Approximate trimming removes whole
/// nodes only.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) live: usize,
    pub(super) deleted: usize,
    /// The last entry, even if it is deleted.
    pub(super) last: EntryId,
    bytes: usize,
    /// The fields of the first entry, which other entries with the same fields do not repeat.
    fields: Fields,
}

/// The limits at which a new node begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeLimits {
    /// The number of entries, of which some may be deleted.
    pub(super) entries: usize,
    /// The size; 0 for no limit.
    pub(super) bytes: usize,
    /// Whether the new entry counts for the size (since 7.0).
    pub(super) counts_new_entry: bool,
}

/// The limit of the size if there is none in the configuration.
const MAX_NODE_BYTES: usize = 1 << 30;

impl NodeLimits {
    fn allow(self, node: &Node, new_bytes: usize) -> bool {
        let limit = if self.bytes == 0 { MAX_NODE_BYTES } else { self.bytes };
        let new_bytes = if self.counts_new_entry { new_bytes } else { 0 };
        let is_small = node.bytes + new_bytes < limit;
        is_small && (self.entries == 0 || node.live + node.deleted < self.entries)
    }
}

impl Stream {
    /// The first entry, or zero if there is none.
    pub(super) fn first_id(&self) -> EntryId {
        self.entries.first_key_value().map_or(EntryId::ZERO, |(id, _)| *id)
    }

    /// Appends an entry whose id is larger than the last id.
    pub(super) fn append(&mut self, id: EntryId, fields: Fields, limits: NodeLimits) {
        let text_bytes = fields.iter().map(Vec::len).sum();
        let last = self.nodes.last_entry().filter(|node| limits.allow(node.get(), text_bytes));
        match last {
            Some(mut node) => {
                let first = *node.key();
                node.get_mut().add(first, id, &fields);
            }
            None => {
                let mut node = Node::new(id, fields.clone());
                node.add(id, id, &fields);
                self.nodes.insert(id, node);
            }
        }
        self.entries.insert(id, fields);
        self.entries_added += 1;
        self.last_id = id;
    }

    /// Deletes an entry; false if it does not exist.
    pub(super) fn delete(&mut self, id: EntryId) -> bool {
        if self.entries.remove(&id).is_none() {
            return false;
        }
        if let Some((first, node)) = self.nodes.range_mut(..=id).next_back() {
            let first = *first;
            node.live -= 1;
            node.deleted += 1;
            if node.live == 0 {
                self.nodes.remove(&first);
            }
        }
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }

    /// Removes the oldest entries and returns their number.
    pub(super) fn trim(&mut self, trim: &Trim) -> usize {
        let before = self.entries.len();
        while let Some((first, node)) = self.nodes.first_key_value() {
            let (first, live) = (*first, node.live);
            let removed = before - self.entries.len();
            let is_short = trim.is_length_reached(self.entries.len());
            if is_short || (trim.limit > 0 && removed + live > trim.limit) {
                break;
            }
            if trim.covers_node(self.entries.len(), node) {
                self.nodes.remove(&first);
                (0..live).for_each(|_| drop(self.entries.pop_first()));
            } else {
                if !trim.approximate {
                    self.trim_within_first_node(trim);
                }
                break;
            }
        }
        before - self.entries.len()
    }

    fn trim_within_first_node(&mut self, trim: &Trim) {
        let Some(mut node) = self.nodes.first_entry() else { return };
        let node = node.get_mut();
        while let Some(entry) = self.entries.first_entry()
            && *entry.key() <= node.last
        {
            let keeps = match trim.bound {
                TrimBound::MaxLength(length) => node.live == 0 || self.entries.len() <= length,
                TrimBound::MinId(id) => *entry.key() >= id,
            };
            if keeps {
                break;
            }
            self.entries.pop_first();
            node.live -= 1;
            node.deleted += 1;
        }
    }

    /// Whether XDEL deleted entries from `start` on that a group cannot have counted.
    pub(super) fn has_deleted_since(&self, start: EntryId, checks_first: bool) -> bool {
        if self.entries.is_empty() || self.max_deleted_id == EntryId::ZERO {
            return false;
        }
        if checks_first && self.first_id() > self.max_deleted_id {
            return false;
        }
        start <= self.max_deleted_id
    }

    /// An estimate of the bytes in memory.
    pub(super) fn memory(&self) -> usize {
        let pending: usize = self.groups.values().map(|group| group.pending.len()).sum();
        self.nodes.values().map(|node| node.bytes + 64).sum::<usize>() + 100 * pending + 200
    }
}

impl Node {
    fn new(first: EntryId, fields: Fields) -> Self {
        let names = fields.iter().step_by(2);
        let count = fields.len() / 2;
        // The number of entries (1), of deleted entries (0), of fields, and the final zero.
        let numbers = [1, 0, count as u64, 0].map(listpack::number_size);
        let bytes = listpack::OVERHEAD
            + numbers.iter().sum::<usize>()
            + names.map(|name| listpack::text_size(name)).sum::<usize>();
        Self { live: 0, deleted: 0, last: first, bytes, fields }
    }

    fn add(&mut self, first: EntryId, id: EntryId, fields: &Fields) {
        self.live += 1;
        self.last = id;
        let count = fields.len() / 2;
        let names = || fields.iter().step_by(2);
        let is_same =
            self.fields.len() == fields.len() && names().eq(self.fields.iter().step_by(2));
        let mut pieces = 3 + count;
        // The flags, which are below 64, and the difference to the id of the node.
        self.bytes += listpack::number_size(0)
            + listpack::number_size(id.millis - first.millis)
            + listpack::number_size(id.sequence.wrapping_sub(first.sequence));
        if !is_same {
            pieces += count + 1;
            self.bytes += listpack::number_size(count as u64);
            self.bytes += names().map(|name| listpack::text_size(name)).sum::<usize>();
        }
        let values = fields.iter().skip(1).step_by(2);
        self.bytes += values.map(|value| listpack::text_size(value)).sum::<usize>();
        self.bytes += listpack::number_size(pieces as u64);
    }
}

/// A limit for the entries of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    pub(super) bound: TrimBound,
    /// Only whole nodes are removed.
    pub(super) approximate: bool,
    /// The number of entries to remove at most; 0 for no limit.
    pub(super) limit: usize,
}

/// The entries to keep.
#[derive(Clone, Copy, Debug)]
pub(super) enum TrimBound {
    MaxLength(usize),
    MinId(EntryId),
}

impl Trim {
    fn is_length_reached(&self, length: usize) -> bool {
        matches!(self.bound, TrimBound::MaxLength(max) if length <= max)
    }

    fn covers_node(&self, length: usize, node: &Node) -> bool {
        match self.bound {
            TrimBound::MaxLength(max) => length - node.live >= max,
            TrimBound::MinId(id) => node.last < id,
        }
    }
}
