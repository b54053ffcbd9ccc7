//! Checks the backorder queues: every waiting order has its entries in order, and no order waits that
//! could be filled.

use std::{collections::BTreeMap, fmt};

use common::contract::{
    backorders::{BackorderEntry, BackorderPage},
    ids::{OrderId, ProductId},
};
use inventory_service::reservation::{Reservation, ReservationState};

use super::facts::{Snapshot, count};

/// An entry in a backorder queue.
#[derive(PartialEq, Eq)]
struct QueueEntry {
    page: u64,
    sequence: u64,
    quantity: u64,
}

impl fmt::Display for QueueEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page, sequence, quantity } = self;
        write!(f, "on page {page} with number {sequence} for {quantity}")
    }
}

impl Snapshot {
    pub(super) fn check_backorders(&self, findings: &mut Vec<String>) {
        self.check_queue_entries(findings);
        self.check_queue_order(findings);
        for reservation in self.reservations.values() {
            let Reservation { order_id: id, state, position, .. } = reservation;
            let waits = *state == ReservationState::Waiting;
            if waits != position.is_some() {
                let (waits, has) = (does(waits), does(position.is_some()));
                findings
                    .push(format!("order {id}: it {waits} wait, but {has} have a queue position"));
            }
            let is_available = |(product, wanted): (&ProductId, &u64)| {
                self.products.get(product).is_some_and(|product| product.amount >= *wanted)
            };
            if waits && reservation.quantities.iter().all(is_available) {
                let available = reservation.quantities.iter().map(|(product, wanted)| {
                    let amount = self.products.get(product).map_or(0, |product| product.amount);
                    format!("{wanted} of {amount} {product}")
                });
                let available: Vec<String> = available.collect();
                findings.push(format!(
                    "order {id}: it waits, but could have all that it needs: {}",
                    available.join(", ")
                ));
            }
        }
    }

    /// Checks that each waiting order has the entries that its reservation names, and no other order has any.
    fn check_queue_entries(&self, findings: &mut Vec<String>) {
        let mut due: BTreeMap<(OrderId, &ProductId), QueueEntry> = BTreeMap::new();
        for reservation in self.reservations.values() {
            let waiting = reservation
                .position
                .iter()
                .filter(|_| reservation.state == ReservationState::Waiting);
            for (product, page) in waiting.clone().flat_map(|position| &position.pages) {
                let quantity = reservation.quantities.get(product).copied().unwrap_or(0);
                let sequence =
                    reservation.position.as_ref().map_or(0, |position| position.sequence);
                due.insert(
                    (reservation.order_id, product),
                    QueueEntry { page: *page, sequence, quantity },
                );
            }
            let lacks = |product: &&ProductId| {
                reservation
                    .position
                    .as_ref()
                    .is_some_and(|position| !position.pages.contains_key(*product))
            };
            for product in reservation.quantities.keys().filter(lacks) {
                findings.push(format!(
                    "order {}: it waits, but not in the queue of product {product}",
                    reservation.order_id
                ));
            }
        }
        for BackorderPage { id, entries } in self.queue_pages.values() {
            for entry in entries {
                let order = &entry.order;
                let (page, sequence, quantity) = (id.number, entry.sequence, entry.quantity);
                let found = QueueEntry { page, sequence, quantity };
                match due.remove(&(*order, &id.product)) {
                    Some(due) if due == found => {
                        let held = self.reservations.get(order);
                        if !held.is_some_and(|held| held.agrees_with(entry, &id.product)) {
                            findings.push(format!(
                                "order {order}: the queue of product {} says that it needs {}, but \
                                 its reservation {:?}",
                                id.product,
                                needs(entry),
                                held.map(|held| &held.quantities)
                            ));
                        }
                    }
                    Some(due) => findings.push(format!(
                        "order {order}: it is in the queue of product {} {found}, but its \
                         reservation says {due}",
                        id.product
                    )),
                    None => findings.push(format!(
                        "order {order}: it is in the queue of product {} {found}, but should \
                         not",
                        id.product
                    )),
                }
            }
        }
        for ((order, product), due) in due {
            findings.push(format!(
                "order {order}: it should be in the queue of product {product} {due}, but is \
                 not"
            ));
        }
    }

    /// Checks that the sequence numbers rise in each queue, and that its product has its length.
    fn check_queue_order(&self, findings: &mut Vec<String>) {
        let mut queues: BTreeMap<&ProductId, Vec<(u64, &BackorderEntry)>> = BTreeMap::new();
        // Pages sort by their products and then by their numbers.
        for BackorderPage { id, entries } in self.queue_pages.values() {
            let queue = queues.entry(&id.product).or_default();
            queue.extend(entries.iter().map(|entry| (id.number, entry)));
        }
        for (id, product) in &self.products {
            let (entries, queue) = (queues.remove(id).unwrap_or_default(), &product.backorders);
            if usize::try_from(queue.waiting) != Ok(entries.len()) {
                findings.push(format!(
                    "product {id}: {} wait for it, but {} are in its queue",
                    queue.waiting,
                    entries.len()
                ));
            }
            if let Some(position) = queue.fill {
                findings.push(format!(
                    "product {id}: its queue is still being filled, after number {}",
                    position.sequence
                ));
            }
            for pair in entries.windows(2) {
                let [(_, one), (_, next)] = pair else { continue };
                if one.sequence >= next.sequence {
                    findings.push(format!(
                        "product {id}: order {} with number {} is behind order {} with {}",
                        next.order, next.sequence, one.order, one.sequence
                    ));
                }
            }
            if let Some((_, last)) =
                entries.last().filter(|(_, last)| last.sequence > queue.sequence)
            {
                findings.push(format!(
                    "product {id}: order {} has number {}, but {} was given last",
                    last.order, last.sequence, queue.sequence
                ));
            }
            let pages = count(entries.iter().map(|(page, _)| *page));
            let beside = |(page, _): &(&u64, &usize)| !(queue.first..=queue.last).contains(page);
            for (page, number) in pages.iter().filter(beside) {
                findings.push(format!(
                    "product {id}: {number} are on page {page} of its queue, which goes from page \
                     {} to {}",
                    queue.first, queue.last
                ));
            }
        }
        for (id, entries) in queues.into_iter().filter(|(_, entries)| !entries.is_empty()) {
            findings
                .push(format!("product {id}: does not exist, but {} wait for it", entries.len()));
        }
    }
}

/// The quantities that a queue entry lists.
fn needs(entry: &BackorderEntry) -> String {
    match entry.unlisted {
        0 => format!("{} and of others {:?}", entry.quantity, entry.others),
        count => format!("{} and some of {count} others", entry.quantity),
    }
}

fn does(it_does: bool) -> &'static str {
    if it_does { "does" } else { "does not" }
}
