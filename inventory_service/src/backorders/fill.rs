//! Filling backorders: incoming stock fills waiting orders in the order of their arrival.
//!
//! A decision that brings stock in only marks the queues as to be filled and publishes a
//! [`FillBackorders`] for each. The decision about that event fills orders by sequence number, in several
//! queues at once if their orders depend on each other. It requests a bounded number of entities,
//! counted before they are loaded; then it stores its position, within a page as well, and leaves the
//! rest to the next event.

use std::collections::BTreeMap;

use common::{
    contract::{
        backorders::{BackorderEntry, FillProgress, PageId},
        events::FillBackorders,
        ids::ProductId,
    },
    decision::DecideError,
};

use crate::{
    backorders::queue::{continue_filling, leave_queues, page_ids, set_fill_position},
    reservation::entity::{Reservation, ReservationState},
    unit_of_work::{UnitOfWork, is_loaded},
};

/// The number of further pages that are loaded together with one.
const PAGES_AHEAD: u64 = 8;
/// The number of entities that are loaded ahead for the next orders.
const ENTITIES_AHEAD: usize = 100;

/// The scan of one queue by a decision.
struct QueueScan {
    /// The position at which the previous decision stopped.
    start: FillProgress,
    position: FillProgress,
}

impl QueueScan {
    fn from(start: FillProgress) -> Self {
        Self { start, position: start }
    }
}

/// The work of a decision so far.
#[derive(Default)]
struct FillTotals {
    filled: usize,
    pages: usize,
    /// The number of queues that it fills besides the first one.
    joined: usize,
    /// Whether it passed any order or page: only then may it leave the rest to the next decision.
    moved: bool,
}

/// The next candidate in a queue.
enum Candidate {
    /// The order may be filled, as far as the product of this queue is concerned.
    Order(BackorderEntry),
    /// No further order can be filled.
    End,
    /// The limit of one decision is reached.
    LimitReached,
}

/// The result of an attempt to fill an order.
enum FillResult {
    Filled,
    /// The order cannot be filled now.
    Skipped,
    /// Earlier orders wait in the queue of this product as well, which other decisions fill: that
    /// queue has to be filled further first.
    Behind(ProductId, FillProgress),
    /// The limit of one decision is reached.
    LimitReached,
}

/// Whether an order can be filled.
enum Fillability {
    /// A product is short.
    Short,
    /// An entity that decides it is not loaded yet.
    NotLoaded,
    /// Everything that it needs is available; `ready` if everything to be written is loaded.
    Fillable { reservation: Box<Reservation>, ready: bool },
    /// Everything that its queue entry lists is available; its reservation is not loaded yet.
    Likely,
}

/// Fills the queue of a product from the position at which the last decision stopped: every order that
/// can be filled completely is filled. An order that needs more than is available does not delay the
/// others.
pub(crate) fn fill_backorders(
    work: &mut UnitOfWork<'_>,
    event: &FillBackorders,
) -> Result<(), DecideError> {
    let start = work.product(&event.product_id)?.and_then(|product| product.backorders.fill);
    let Some(start) = start.filter(|start| start.sequence == event.after) else {
        return Ok(());
    };
    let mut scans = BTreeMap::from([(event.product_id.clone(), QueueScan::from(start))]);
    work.scan(&mut scans)?;
    for (product_id, QueueScan { start, position }) in scans {
        set_fill_position(work, &product_id, Some(position))?;
        // The event of a queue that was joined and did not move is still to come.
        if position != start || product_id == event.product_id {
            work.changes.append(&FillBackorders { product_id, after: position.sequence });
        }
    }
    Ok(())
}

impl UnitOfWork<'_> {
    /// Scans these queues by sequence number. The scans that remain have not reached their ends.
    fn scan(&mut self, scans: &mut BTreeMap<ProductId, QueueScan>) -> Result<(), DecideError> {
        let mut totals = FillTotals::default();
        loop {
            let mut heads: Vec<(BackorderEntry, ProductId)> = Vec::new();
            let (mut over, mut limit_reached) = (Vec::new(), false);
            for (id, scan) in &mut *scans {
                match self.next_candidate(id, scan, &mut totals)? {
                    Candidate::Order(entry) => heads.push((entry, id.clone())),
                    Candidate::End => over.push(id.clone()),
                    Candidate::LimitReached => limit_reached = true,
                }
            }
            for id in over {
                scans.remove(&id);
                set_fill_position(self, &id, None)?;
            }
            if limit_reached {
                return Ok(());
            }
            heads.sort_unstable_by_key(|(entry, _)| (entry.sequence, entry.order));
            let Some((entry, id)) = heads.first() else { return Ok(()) };
            let fits = self.fits_limit(entry);
            if totals.moved && (!fits || totals.filled >= self.limits.fills) {
                return Ok(());
            }
            if !fits && scans.len() > 1 {
                // A decision that begins with this queue examines its next order in any case.
                return continue_filling(self, [id]);
            }
            let others = heads.iter().find(|(head, _)| head.order != entry.order);
            let until = others.map_or(u64::MAX, |(head, _)| head.sequence);
            match self.try_fill(entry, id, scans, &totals, until)? {
                FillResult::Behind(other, _) if totals.joined >= self.limits.queues => {
                    return continue_filling(self, [&other]);
                }
                FillResult::Behind(other, start) => {
                    totals.joined += 1;
                    scans.insert(other, QueueScan::from(start));
                    continue;
                }
                FillResult::LimitReached => return Ok(()),
                FillResult::Filled => totals.filled += 1,
                FillResult::Skipped => {}
            }
            totals.moved = true;
            let order = (entry.sequence, entry.order);
            for (_, id) in heads.iter().filter(|(head, _)| (head.sequence, head.order) == order) {
                if let Some(scan) = scans.get_mut(id) {
                    scan.position.sequence = entry.sequence;
                }
            }
        }
    }

    /// Advances to the first order in the queue that needs no more of the product than is
    /// available.
    fn next_candidate(
        &mut self,
        id: &ProductId,
        scan: &mut QueueScan,
        totals: &mut FillTotals,
    ) -> Result<Candidate, DecideError> {
        let Some(product) = self.product(id)? else { return Ok(Candidate::End) };
        let (amount, first, last) =
            (product.amount, product.backorders.first, product.backorders.last);
        if amount == 0 || product.backorders.waiting == 0 {
            return Ok(Candidate::End);
        }
        let page_id = |number| PageId { product: id.clone(), number };
        let FillProgress { sequence, page } = &mut scan.position;
        *page = (*page).max(first);
        while *page <= last {
            if !self.pages.was_requested(&page_id(*page)) {
                if totals.moved && self.requested() >= self.limits.entities {
                    return Ok(Candidate::LimitReached);
                }
                let room = self.limits.entities.saturating_sub(self.requested()).max(1);
                let ahead = (*page..=last.min(*page + PAGES_AHEAD)).map(page_id).take(room);
                let ahead: Vec<PageId> = ahead.collect();
                self.request_pages(&ahead)?;
            }
            let entries = self.pages.get(self.world, &page_id(*page))?;
            let entries = entries.map_or(&[][..], |page| &page.entries);
            let mut next =
                entries.iter().filter(|it| it.sequence > *sequence && it.quantity <= amount);
            if let Some(entry) = next.next() {
                return Ok(Candidate::Order(entry.clone()));
            }
            let last_in_page = entries.last().map_or(0, |entry| entry.sequence);
            let is_empty = entries.is_empty();
            if *page < last && totals.pages >= self.limits.pages {
                return Ok(Candidate::LimitReached);
            }
            totals.pages += 1;
            totals.moved = true;
            // A page may have emptied before the one in front of it: it is not scanned twice.
            if is_empty
                && *page < last
                && let Some(product) = self.product_mut(id)?
                && product.backorders.first == *page
            {
                product.backorders.first += 1;
            }
            *page += 1;
            *sequence = (*sequence).max(last_in_page);
        }
        Ok(Candidate::End)
    }

    /// Whether the order can be examined and filled within the limit.
    fn fits_limit(&mut self, entry: &BackorderEntry) -> bool {
        let missing = self.missing_entities(entry);
        missing == 0 || self.requested() + missing <= self.limits.entities
    }

    /// The largest number of entities that are still to be requested for the order: its reservation,
    /// its products and a page of the queue of each.
    fn missing_entities(&mut self, entry: &BackorderEntry) -> usize {
        let known = self.reservations.was_requested(&entry.order);
        let Some(reservation) = known.then(|| self.reservation(&entry.order).ok()).flatten() else {
            return 1 + 2 * (1 + entry.others.len().max(entry.unlisted));
        };
        let reservation = reservation.cloned();
        let products = reservation.iter().flat_map(|it| it.quantities.keys());
        let pages = reservation.iter().filter_map(|it| it.position.as_ref()).flat_map(page_ids);
        products.filter(|id| !self.products.was_requested(id)).count()
            + pages.filter(|id| !self.pages.was_requested(id)).count()
    }

    /// Fills the order, if possible. The next orders of its queue, up to the sequence number `until`,
    /// are prefetched together with it.
    fn try_fill(
        &mut self,
        entry: &BackorderEntry,
        id: &ProductId,
        scans: &BTreeMap<ProductId, QueueScan>,
        totals: &FillTotals,
        until: u64,
    ) -> Result<FillResult, DecideError> {
        let (reservation, ready) = match self.assess(entry) {
            Ok(Fillability::Fillable { reservation, ready }) => (reservation, ready),
            Ok(Fillability::Short) => return Ok(FillResult::Skipped),
            Ok(Fillability::NotLoaded | Fillability::Likely) => {
                return Err(self.prefetch(id, scans, totals, until));
            }
            // An entity that cannot be read delays only its own order.
            Err(DecideError::Invalid(reason)) => {
                self.changes.note(entry.order, format!("order cannot be filled: {reason}"));
                return Ok(FillResult::Skipped);
            }
            Err(error) => return Err(error),
        };
        let mut queues = Vec::new();
        for id in reservation.quantities.keys() {
            if let Some(position) = self.position_of_others(id, entry, scans) {
                let first = self.product(id)?.map_or(0, |product| product.backorders.first);
                let number = position.page.max(first);
                queues.push((PageId { product: id.clone(), number }, position));
            }
        }
        let missing = queues.iter().filter(|(page, _)| !self.pages.was_requested(page)).count();
        if totals.moved && missing > 0 && self.requested() + missing > self.limits.entities {
            return Ok(FillResult::LimitReached);
        }
        self.request_pages(queues.iter().map(|(page, _)| page))?;
        for (page, position) in queues {
            let amount = self.product(&page.product)?.map_or(0, |product| product.amount);
            let entries = self.pages.get(self.world, &page)?.map_or(&[][..], |page| &page.entries);
            let mut next = entries
                .iter()
                .filter(|it| it.sequence > position.sequence && it.quantity <= amount);
            if next.next().is_none_or(|next| next.order != entry.order) {
                return Ok(FillResult::Behind(page.product, position));
            }
        }
        if !ready {
            return Err(self.prefetch(id, scans, totals, until));
        }
        leave_queues(self, &reservation)?;
        let mut filled = Reservation { position: None, ..*reservation };
        self.take(&mut filled)?;
        self.publish(filled, false);
        Ok(FillResult::Filled)
    }

    /// The position at which other decisions stopped in the queue of a product, if that is before
    /// this order.
    fn position_of_others(
        &mut self,
        id: &ProductId,
        entry: &BackorderEntry,
        scans: &BTreeMap<ProductId, QueueScan>,
    ) -> Option<FillProgress> {
        let product = self.product(id).ok().flatten().filter(|_| !scans.contains_key(id))?;
        product.backorders.fill.filter(|position| position.sequence < entry.sequence)
    }

    /// Requests everything that decides whether the order can be filled, and what is written then.
    fn assess(&mut self, entry: &BackorderEntry) -> Result<Fillability, DecideError> {
        match self.are_available(&entry.others)? {
            None => return Ok(Fillability::NotLoaded),
            Some(false) => return Ok(Fillability::Short),
            Some(true) => {}
        }
        let reservation = match self.reservation(&entry.order) {
            Ok(Some(reservation)) if reservation.state == ReservationState::Waiting => {
                reservation.clone()
            }
            Ok(_) => return Ok(Fillability::Short),
            Err(DecideError::Missing) if entry.unlisted == 0 => return Ok(Fillability::Likely),
            Err(DecideError::Missing) => return Ok(Fillability::NotLoaded),
            Err(error) => return Err(error),
        };
        match self.are_available(&reservation.quantities)? {
            None => return Ok(Fillability::NotLoaded),
            Some(false) => return Ok(Fillability::Short),
            Some(true) => {}
        }
        let pages: Vec<PageId> = reservation.position.iter().flat_map(page_ids).collect();
        let ready = is_loaded(self.request_pages(&pages))?;
        Ok(Fillability::Fillable { reservation: Box::new(reservation), ready })
    }

    /// Whether this quantity of each product is available; `None` while one of them is not loaded.
    fn are_available(
        &mut self,
        quantities: &BTreeMap<ProductId, u64>,
    ) -> Result<Option<bool>, DecideError> {
        if !is_loaded(self.request_products(quantities.keys()))? {
            return Ok(None);
        }
        for (id, wanted) in quantities {
            if self.product(id)?.is_none_or(|product| product.amount < *wanted) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Requests the entities of the next orders in this queue as well, so that they are loaded
    /// together: as far as these orders can be filled after the ones before them.
    fn prefetch(
        &mut self,
        id: &ProductId,
        scans: &BTreeMap<ProductId, QueueScan>,
        totals: &FillTotals,
        until: u64,
    ) -> DecideError {
        let most = self.requested() + ENTITIES_AHEAD;
        let mut fills = self.limits.fills.saturating_sub(totals.filled);
        let mut taken: BTreeMap<ProductId, u64> = BTreeMap::new();
        let last = self.product(id).ok().flatten().map_or(0, |product| product.backorders.last);
        let FillProgress { sequence, page } = scans[id].position;
        for number in page..=last {
            let page = PageId { product: id.clone(), number };
            if !self.pages.was_requested(&page) {
                break;
            }
            let Ok(Some(page)) = self.pages.get(self.world, &page) else { break };
            let next = page
                .entries
                .iter()
                .filter(|entry| entry.sequence > sequence && entry.sequence < until);
            for entry in next.cloned().collect::<Vec<BackorderEntry>>() {
                if fills == 0 || self.requested() >= most || !self.fits_limit(&entry) {
                    return DecideError::Missing;
                }
                let mut quantities = entry.others.clone();
                quantities.insert(id.clone(), entry.quantity);
                if !self.are_left(&quantities, &taken) {
                    continue;
                }
                match self.assess(&entry) {
                    Ok(Fillability::Fillable { reservation, .. }) => {
                        quantities = reservation.quantities
                    }
                    Ok(Fillability::Likely) => {}
                    _ => continue,
                }
                if quantities.keys().any(|id| self.position_of_others(id, &entry, scans).is_some())
                {
                    return DecideError::Missing;
                }
                if self.are_left(&quantities, &taken) {
                    quantities.into_iter().for_each(|(id, it)| *taken.entry(id).or_default() += it);
                    fills -= 1;
                }
            }
        }
        DecideError::Missing
    }

    /// Whether this quantity of each product is left once `taken` is taken; `true` if the product is
    /// not loaded yet.
    fn are_left(
        &mut self,
        quantities: &BTreeMap<ProductId, u64>,
        taken: &BTreeMap<ProductId, u64>,
    ) -> bool {
        quantities.iter().all(|(id, wanted)| {
            let taken = taken.get(id).copied().unwrap_or(0);
            let product = self.products.was_requested(id).then(|| self.product(id).ok()).flatten();
            product.is_none_or(|product| {
                product.is_some_and(|it| it.amount.saturating_sub(taken) >= *wanted)
            })
        })
    }
}
