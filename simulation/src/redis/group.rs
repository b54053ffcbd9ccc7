//! Consumer groups of a stream.

use std::{collections::BTreeMap, rc::Rc};

use super::EntryId;

/// A consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    /// The last entry that was delivered.
    pub last_delivered: EntryId,
    /// The number of entries up to the last delivered one, if it is known.
    pub entries_read: Option<u64>,
    /// The entries that were delivered and not acknowledged.
    pub pending: BTreeMap<EntryId, Pending>,
    /// The consumers by name.
    pub consumers: BTreeMap<Rc<[u8]>, Consumer>,
}

/// The state of an entry that was delivered and not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// The consumer that has to acknowledge it.
    pub consumer: Rc<[u8]>,
    /// The time of the last delivery.
    pub delivered_at: u64,
    /// The number of deliveries.
    pub deliveries: i64,
}

/// A consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consumer {
    /// The last attempt to get entries.
    pub seen_at: u64,
    /// The last time that it got entries (reported since 7.2).
    pub active_at: Option<u64>,
    /// The number of its pending entries.
    pub pending: usize,
}

impl Group {
    pub(super) fn new(last_delivered: EntryId, entries_read: Option<u64>) -> Self {
        let (pending, consumers) = (BTreeMap::new(), BTreeMap::new());
        Self { last_delivered, entries_read, pending, consumers }
    }

    /// The name of a consumer, which is created if necessary, and whose time is updated.
    pub(super) fn see(&mut self, consumer: &[u8], now: u64) -> Rc<[u8]> {
        if let Some((name, _)) = self.consumers.get_key_value(consumer) {
            let name = name.clone();
            if let Some(it) = self.consumers.get_mut(consumer) {
                it.seen_at = now;
            }
            return name;
        }
        let name: Rc<[u8]> = consumer.into();
        let it = Consumer { seen_at: now, active_at: None, pending: 0 };
        self.consumers.insert(name.clone(), it);
        name
    }

    /// Notes that the consumer got entries.
    pub(super) fn note_activity(&mut self, consumer: &[u8], now: u64) {
        if let Some(it) = self.consumers.get_mut(consumer) {
            it.active_at = Some(now);
        }
    }

    /// Makes an entry pending for this consumer, and no longer for another one.
    pub(super) fn assign(&mut self, id: EntryId, pending: Pending) {
        let consumer = pending.consumer.clone();
        let before = self.pending.insert(id, pending);
        self.change_count(before.as_ref(), Some(&consumer));
    }

    /// Removes a pending entry; false if it is not pending.
    pub(super) fn acknowledge(&mut self, id: EntryId) -> bool {
        let before = self.pending.remove(&id);
        self.change_count(before.as_ref(), None);
        before.is_some()
    }

    /// Removes a consumer with its pending entries, and returns their number.
    pub(super) fn remove_consumer(&mut self, consumer: &[u8]) -> usize {
        let Some(removed) = self.consumers.remove(consumer) else { return 0 };
        if removed.pending > 0 {
            self.pending.retain(|_, pending| *pending.consumer != *consumer);
        }
        removed.pending
    }

    fn change_count(&mut self, before: Option<&Pending>, after: Option<&Rc<[u8]>>) {
        if before.map(|it| &it.consumer) == after {
            return;
        }
        if let Some(it) = before.and_then(|it| self.consumers.get_mut(&it.consumer)) {
            it.pending -= 1;
        }
        if let Some(it) = after.and_then(|name| self.consumers.get_mut(name)) {
            it.pending += 1;
        }
    }
}

impl Pending {
    /// The time since the last delivery, negative if the clock was set back.
    pub(super) fn idle(&self, now: u64) -> i64 {
        now.cast_signed().wrapping_sub(self.delivered_at.cast_signed())
    }
}
