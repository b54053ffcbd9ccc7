//! The backorder queues: one for each product, kept in pages.
//!
//! An order that is short of anything joins the queues of all of its products. Its sequence number is
//! the same in each of them. Joining and leaving cost one page of each queue, however long it is.

use std::collections::BTreeMap;

use common::{
    clock::Millis,
    contract::{
        backorders::{BackorderEntry, BackorderPage, BackorderQueue, FillProgress, PageId},
        entities::Product,
        events::FillBackorders,
        ids::ProductId,
        order::PRODUCTS_LIMIT,
    },
    decision::DecideError,
};

use crate::{
    reservation::entity::{QueuePosition, Reservation},
    unit_of_work::UnitOfWork,
};

/// The number of orders on a page of a queue.
pub const ORDERS_PER_PAGE: usize = 50;

/// Adds the order to the ends of the queues of all of its products. Its sequence number is higher
/// than every other one in any of them, so orders of several queues can be filled in one sequence
/// that is right for each.
pub(crate) fn join_queues(
    work: &mut UnitOfWork<'_>,
    reservation: &mut Reservation,
    now: Millis,
) -> Result<(), DecideError> {
    let mut sequence = now;
    let mut last = Vec::with_capacity(reservation.quantities.len());
    for id in reservation.quantities.keys() {
        let Some(product) = work.product(id)? else { continue };
        sequence = sequence.max(product.backorders.sequence + 1);
        last.push(PageId { product: id.clone(), number: product.backorders.last });
    }
    work.request_pages(&last)?;
    let mut pages = BTreeMap::new();
    for mut id in last {
        let full = |page: &BackorderPage| page.entries.len() >= ORDERS_PER_PAGE;
        if work.pages.get(work.world, &id)?.is_some_and(full) {
            id.number += 1;
        }
        let page = work.pages.get(work.world, &id)?.cloned();
        let mut page = page.unwrap_or_else(|| BackorderPage::empty(id.clone()));
        let listed = work.limits.listed_products;
        page.entries.push(reservation.queue_entry(&id.product, sequence, listed));
        work.pages.put(page);
        if let Some(product) = work.product_mut(&id.product)? {
            let queue = &mut product.backorders;
            let waiting = queue.waiting + 1;
            *queue = BackorderQueue { waiting, last: id.number, sequence, ..*queue };
        }
        pages.insert(id.product, id.number);
    }
    reservation.position = Some(QueuePosition { sequence, pages });
    Ok(())
}

/// Removes the order from all of its queues.
pub(crate) fn leave_queues(
    work: &mut UnitOfWork<'_>,
    reservation: &Reservation,
) -> Result<(), DecideError> {
    let Some(position) = &reservation.position else { return Ok(()) };
    let ids: Vec<PageId> = page_ids(position).collect();
    let pages = work.request_pages(&ids);
    pages.and(work.request_products(position.pages.keys()))?;
    for id in ids {
        let Some(page) = work.pages.get_mut(work.world, &id)? else { continue };
        let before = page.entries.len();
        page.entries.retain(|entry| entry.order != reservation.order_id);
        if page.entries.len() == before {
            continue;
        }
        let emptied = page.entries.is_empty();
        let Some(product) = work.product_mut(&id.product)? else { continue };
        let queue = &mut product.backorders;
        queue.waiting = queue.waiting.saturating_sub(1);
        if queue.waiting == 0 {
            // All pages are empty: the queue starts anew with the next order.
            *queue = BackorderQueue::default();
        } else if emptied && queue.first == id.number {
            queue.first += 1;
        }
    }
    Ok(())
}

/// Marks the queues of products whose stock came in as to be filled from their beginnings, and
/// publishes the event that fills each of them.
pub(crate) fn start_filling<'p>(
    work: &mut UnitOfWork<'_>,
    arrived: impl IntoIterator<Item = &'p ProductId>,
) -> Result<(), DecideError> {
    for id in arrived {
        if let Some(product) = work.product(id)?.filter(|product| product.backorders.waiting > 0) {
            let start = FillProgress { sequence: 0, page: product.backorders.first };
            set_fill_position(work, id, Some(start))?;
            work.changes.append(&FillBackorders { product_id: id.clone(), after: start.sequence });
        }
    }
    Ok(())
}

/// Publishes the event that continues to fill each of these queues once more, if it is being
/// filled: no queue stands still because such an event was lost.
pub(crate) fn continue_filling<'p>(
    work: &mut UnitOfWork<'_>,
    products: impl IntoIterator<Item = &'p ProductId>,
) -> Result<(), DecideError> {
    for id in products {
        if let Some(position) = work.product(id)?.and_then(|product| product.backorders.fill) {
            work.changes
                .append(&FillBackorders { product_id: id.clone(), after: position.sequence });
        }
    }
    Ok(())
}

/// Stores how far the queue of the product has been filled; `None` if it is not being filled.
pub(crate) fn set_fill_position(
    work: &mut UnitOfWork<'_>,
    id: &ProductId,
    position: Option<FillProgress>,
) -> Result<(), DecideError> {
    if work.product(id)?.is_some_and(|product| product.backorders.fill != position)
        && let Some(product) = work.product_mut(id)?
    {
        product.backorders.fill = position;
    }
    Ok(())
}

/// Whether the queue of the product is being filled and may need what an order of this quantity would
/// take: no order waits for more than [`PRODUCTS_LIMIT`] units.
pub(crate) fn is_promised(product: &Product, quantity: u64) -> bool {
    let needed = product.backorders.waiting.saturating_mul(PRODUCTS_LIMIT as u64);
    product.backorders.fill.is_some() && product.amount < quantity.saturating_add(needed)
}

/// The pages on which the order waits, one for each product.
pub(crate) fn page_ids(position: &QueuePosition) -> impl Iterator<Item = PageId> {
    let pages = position.pages.iter();
    pages.map(|(product, number)| PageId { product: product.clone(), number: *number })
}

impl Reservation {
    /// The entry of the order in the queue of one of its products. It lists the other products if there
    /// are no more than `limit`.
    fn queue_entry(&self, product: &ProductId, sequence: u64, limit: usize) -> BackorderEntry {
        let quantity = self.quantities.get(product).copied().unwrap_or_default();
        let others = self.quantities.iter().filter(|(id, _)| *id != product);
        let count = self.quantities.len().saturating_sub(1);
        let (others, unlisted) = match count <= limit {
            true => (others.map(|(id, quantity)| (id.clone(), *quantity)).collect(), 0),
            false => (BTreeMap::new(), count),
        };
        BackorderEntry { sequence, order: self.order_id, quantity, others, unlisted }
    }

    /// Whether an entry in the queue of a product agrees with the reservation.
    pub fn agrees_with(&self, entry: &BackorderEntry, product: &ProductId) -> bool {
        let mut others = self.quantities.clone();
        let quantity = others.remove(product);
        let lists = match entry.unlisted {
            0 => entry.others == others,
            count => entry.others.is_empty() && count == others.len(),
        };
        quantity == Some(entry.quantity) && lists
    }
}
