//! Serving lines: who waits for what came in, and can be filled, in the order of arrival.
//!
//! Lines are served by ticket, several as one. Where that is more than one decision looks at, it
//! notes how far it came and leaves the rest to the next one.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    decision::Halt,
    entities::Served,
    events::LineMoves,
    ids::{OrderId, ProductId},
};

use crate::{
    desk::{Desk, look_at_all, page_ids},
    line::{PageId, Spot},
    reservation::{Holding, Reservation},
};

/// How many lines one decision serves before it leaves further ones to themselves.
const LINES: usize = 8;
/// How many pages are loaded together.
const PAGES_AHEAD: u64 = 8;

/// Where a decision is in the line of a product that came in.
struct Walk {
    page: u64,
    /// The last ticket that had its turn.
    after: u64,
}

/// What comes next in a line.
enum Next {
    /// The order with this ticket: it can be filled whole.
    Turn(u64, OrderId),
    /// Somebody who comes after others in the line of this product, too, which another decision
    /// began to serve: it has to be served on here.
    Join(ProductId, Served),
    /// Nobody.
    End,
    /// One decision cannot look further.
    Enough,
}

/// Who of some that wait can be filled.
enum Fillable {
    /// These, whole.
    Whole(Vec<Spot>),
    /// The first of them, but others come before it in the line of this product, too, which this
    /// decision does not serve yet.
    Behind(ProductId, Served),
}

impl Desk<'_> {
    /// Serves the lines of products that came in, in the order of arrival: every order that can be
    /// filled whole now is filled. Whoever needs more than there is does not hold up the others.
    pub(crate) fn serve(&mut self, arrived: &BTreeSet<ProductId>) -> Result<(), Halt> {
        let mut walks = BTreeMap::new();
        for id in arrived {
            if let Some(product) = self.product(id)?.filter(|product| product.line.waiting > 0) {
                walks.insert(id.clone(), Walk { page: product.line.first, after: 0 });
            }
        }
        self.walk(walks)
    }

    /// Serves lines on from where the last decision left them.
    pub(crate) fn serve_on<'p>(
        &mut self,
        products: impl IntoIterator<Item = &'p ProductId>,
    ) -> Result<(), Halt> {
        let mut walks = BTreeMap::new();
        for id in products {
            if let Some(Served { ticket, page }) = self.product(id)?.and_then(|it| it.line.served) {
                walks.insert(id.clone(), Walk { page, after: ticket });
            }
        }
        self.walk(walks)
    }

    fn walk(&mut self, mut walks: BTreeMap<ProductId, Walk>) -> Result<(), Halt> {
        let (mut turns, mut pages) = (0, 0);
        'walking: loop {
            let firsts = walks.iter().map(|(id, walk)| (id.clone(), walk.page));
            let firsts: Vec<PageId> =
                firsts.map(|(product, number)| PageId { product, number }).collect();
            look_at_all(firsts.iter().map(|id| self.pages.see(self.world, id).map(|_| ())))?;
            let served: BTreeSet<ProductId> = walks.keys().cloned().collect();
            let mut heads: Vec<(u64, OrderId, ProductId)> = Vec::new();
            let mut over = Vec::new();
            let mut joined = None;
            for (id, walk) in &mut walks {
                match self.next_in_line(id, walk, &served, &mut pages)? {
                    Next::Turn(ticket, order) => heads.push((ticket, order, id.clone())),
                    Next::Join(other, served) => joined = Some((other, served)),
                    Next::End => over.push(id.clone()),
                    Next::Enough => break 'walking,
                }
            }
            if let Some((other, Served { ticket, page })) = joined {
                walks.insert(other, Walk { page, after: ticket });
                continue;
            }
            for id in over {
                walks.remove(&id);
                self.set_served(&id, None)?;
            }
            let Some((ticket, order, _)) = heads.iter().min().cloned() else { return Ok(()) };
            // The first one has its turn in any case, or nothing would ever move.
            let enough = turns >= self.limits.turns || self.seen() > self.limits.entities;
            if turns > 0 && enough {
                break;
            }
            turns += 1;
            for (_, _, id) in heads.iter().filter(|head| (head.0, head.1) == (ticket, order)) {
                if let Some(walk) = walks.get_mut(id) {
                    walk.after = ticket;
                }
            }
            self.fill(order)?;
        }
        // Enough for one decision: whoever comes next has to join the line until the rest is done.
        for (product_id, Walk { after, page }) in walks {
            self.set_served(&product_id, Some(Served { ticket: after, page }))?;
            self.changes.append(&LineMoves { product_id, after });
        }
        Ok(())
    }

    /// Goes on in the line to the first order that can be filled whole. `served` are the lines that
    /// this decision serves.
    fn next_in_line(
        &mut self,
        id: &ProductId,
        walk: &mut Walk,
        served: &BTreeSet<ProductId>,
        pages: &mut usize,
    ) -> Result<Next, Halt> {
        let Some(product) = self.product(id)? else { return Ok(Next::End) };
        let (amount, first, last) = (product.amount, product.line.first, product.line.last);
        if amount == 0 || product.line.waiting == 0 {
            return Ok(Next::End);
        }
        let page_id = |number| PageId { product: id.clone(), number };
        walk.page = walk.page.max(first);
        while walk.page <= last {
            let ahead = (walk.page..=last.min(walk.page + PAGES_AHEAD)).map(page_id);
            look_at_all(ahead.map(|page| self.pages.see(self.world, &page).map(|_| ())))?;
            let page = self.pages.see(self.world, &page_id(walk.page))?;
            let spots = page.map_or(&[][..], |page| &page.spots);
            let is_empty = spots.is_empty();
            let last_ticket = spots.last().map_or(0, |spot| spot.ticket);
            let candidates =
                spots.iter().filter(|it| it.ticket > walk.after && it.pieces <= amount);
            let candidates = candidates.cloned().collect();
            let candidates = match self.fillable(candidates, served)? {
                Fillable::Whole(spots) => spots,
                Fillable::Behind(other, line) => return Ok(Next::Join(other, line)),
            };
            if let Some(next) = candidates.first() {
                self.look_ahead(&candidates, amount)?;
                return Ok(Next::Turn(next.ticket, next.order));
            }
            if walk.page < last && *pages >= self.limits.pages {
                return Ok(Next::Enough);
            }
            *pages += 1;
            // A page may have emptied before the one in front of it: nobody walks it twice.
            if is_empty
                && walk.page < last
                && let Some(product) = self.change_product(id)?
                && product.line.first == walk.page
            {
                product.line.first += 1;
            }
            walk.page += 1;
            walk.after = walk.after.max(last_ticket);
        }
        Ok(Next::End)
    }

    /// Those of which everything else is on hand, too.
    fn fillable(
        &mut self,
        spots: Vec<Spot>,
        served: &BTreeSet<ProductId>,
    ) -> Result<Fillable, Halt> {
        let others: BTreeSet<&ProductId> = spots.iter().flat_map(|it| it.others.keys()).collect();
        look_at_all(others.iter().map(|id| self.products.see(self.world, id).map(|_| ())))?;
        let mut on_hand = BTreeMap::new();
        for &id in &others {
            let product = self.products.see(self.world, id)?;
            let elsewhere = product.and_then(|it| it.line.served).filter(|_| !served.contains(id));
            on_hand.insert(id, (product.map_or(0, |product| product.amount), elsewhere));
        }
        let mut fillable = Vec::new();
        for spot in &spots {
            if spot.others.iter().any(|(id, wanted)| on_hand[id].0 < *wanted) {
                continue;
            }
            let mut lines = spot.others.keys().filter_map(|id| Some((id, on_hand[id].1?)));
            match lines.find(|(_, line)| line.ticket < spot.ticket) {
                None => fillable.push(spot.clone()),
                Some((id, line)) if fillable.is_empty() && served.len() < LINES => {
                    return Ok(Fillable::Behind(id.clone(), line));
                }
                // It has its turn there.
                Some(_) => {}
            }
        }
        Ok(Fillable::Whole(fillable))
    }

    /// Looks at what it takes to fill these orders, so that all of it is loaded together; `amount`
    /// is what they share.
    fn look_ahead(&mut self, candidates: &[Spot], amount: u64) -> Result<(), Halt> {
        if candidates.first().is_some_and(|spot| self.look_at(spot).is_ok()) {
            return Ok(());
        }
        let mut left = amount;
        let likely = candidates.iter().take(self.limits.turns).take_while(|spot| {
            let enough = spot.pieces <= left;
            left = left.saturating_sub(spot.pieces);
            enough
        });
        let mut missing = 0;
        for spot in likely {
            if self.seen() + missing <= self.limits.entities {
                missing += usize::from(self.look_at(spot).is_err());
            }
        }
        if missing > 0 { Err(Halt::Missing) } else { Ok(()) }
    }

    /// Looks at what it takes to fill this order.
    fn look_at(&mut self, spot: &Spot) -> Result<(), Halt> {
        let waiting = self.reservations.see(self.world, &spot.order)?;
        let waiting = waiting.and_then(|reservation| reservation.spot.clone());
        look_at_all(waiting.iter().flat_map(page_ids).flat_map(|page| {
            [
                self.products.see(self.world, &page.product).map(|_| ()),
                self.pages.see(self.world, &page).map(|_| ()),
            ]
        }))
    }

    /// Fills the order if everything is on hand, as its place in the line says.
    fn fill(&mut self, order: OrderId) -> Result<(), Halt> {
        let Some(reservation) = self.reservation(&order)?.cloned() else { return Ok(()) };
        if reservation.state != Holding::Waiting {
            return Ok(());
        }
        look_at_all(
            reservation.pieces.keys().map(|id| self.products.see(self.world, id).map(|_| ())),
        )?;
        for (id, wanted) in &reservation.pieces {
            if self.product(id)?.is_none_or(|product| product.amount < *wanted) {
                return Ok(());
            }
        }
        self.leave_lines(&reservation)?;
        let mut filled = Reservation { spot: None, ..reservation };
        self.take(&mut filled)?;
        self.publish(filled, false);
        Ok(())
    }

    fn set_served(&mut self, id: &ProductId, served: Option<Served>) -> Result<(), Halt> {
        if self.product(id)?.is_some_and(|product| product.line.served != served)
            && let Some(product) = self.change_product(id)?
        {
            product.line.served = served;
        }
        Ok(())
    }
}
