//! Serving lines: incoming stock fills waiting orders in the order of arrival.
//!
//! A decision that brings stock in only notes that the lines are to be served and publishes a
//! [`LineMoves`] for each. The decision about that event serves, by ticket, several lines as one if
//! their orders depend on each other. It looks at a bounded number of entities, counted before they
//! are loaded; then it notes how far it came, within a page as well, and leaves the rest to the next
//! event.

use std::collections::BTreeMap;

use common::{
    contract::{
        entities::{PageId, Served, Spot},
        events::LineMoves,
        ids::ProductId,
    },
    decision::Halt,
};

use crate::{
    reservation::{Holding, Reservation},
    unit_of_work::{Desk, are_loaded, look_at_all, page_ids},
};

/// How many pages are loaded together.
const PAGES_AHEAD: u64 = 8;
/// How many entities are loaded together for orders that come next.
const ENTITIES_AHEAD: usize = 100;

/// Where a decision is in the line of a product.
struct Walk {
    /// Where the decision before left the line.
    began: Served,
    now: Served,
}

impl Walk {
    fn from(served: Served) -> Self {
        Self { began: served, now: served }
    }
}

/// What a decision has done so far.
#[derive(Default)]
struct Progress {
    filled: usize,
    pages: usize,
    /// How many further lines it serves.
    joined: usize,
    /// Whether it passed any order or page: only then may it leave the rest to the next one.
    moved: bool,
}

/// What comes next in a line.
enum Next {
    /// The order that may be filled, as far as the product of this line is concerned.
    Order(Spot),
    /// Nobody.
    End,
    /// One decision cannot look further.
    Enough,
}

/// What became of the order whose turn it is.
enum Turn {
    Filled,
    /// It cannot be filled now.
    Passed,
    /// Others come before it in the line of this product, too, which another decision began to
    /// serve: it has to be served on here.
    Behind(ProductId, Served),
    /// One decision cannot look further.
    Enough,
}

/// Whether an order can be filled.
enum Look {
    /// It is short of something.
    Short,
    /// What it needs is not loaded yet.
    Unknown,
    /// Everything that it needs is available; `ready` if all that is written then is loaded.
    Fillable { reservation: Box<Reservation>, ready: bool },
    /// Everything that it lists is available; its reservation is not loaded yet.
    Likely,
}

impl Desk<'_> {
    /// Notes that the lines of products that came in are to be served from their beginnings.
    pub(crate) fn begin_to_serve<'p>(
        &mut self,
        arrived: impl IntoIterator<Item = &'p ProductId>,
    ) -> Result<(), Halt> {
        for id in arrived {
            if let Some(product) = self.product(id)?.filter(|product| product.line.waiting > 0) {
                let served = Served { ticket: 0, page: product.line.first };
                self.set_served(id, Some(served))?;
                self.changes.append(&LineMoves { product_id: id.clone(), after: served.ticket });
            }
        }
        Ok(())
    }

    /// Asks once more for the next decision about each of these lines that is being served: no line
    /// stands still because the event that should move it was lost.
    pub(crate) fn ask_to_serve_on<'p>(
        &mut self,
        products: impl IntoIterator<Item = &'p ProductId>,
    ) -> Result<(), Halt> {
        for id in products {
            if let Some(served) = self.product(id)?.and_then(|product| product.line.served) {
                self.changes.append(&LineMoves { product_id: id.clone(), after: served.ticket });
            }
        }
        Ok(())
    }

    /// Serves the line of a product on from where the last decision left it: every order that can be
    /// filled whole is filled. An order that needs more than there is does not hold up the others.
    pub(crate) fn serve(&mut self, event: &LineMoves) -> Result<(), Halt> {
        let served = self.product(&event.product_id)?.and_then(|product| product.line.served);
        let Some(served) = served.filter(|served| served.ticket == event.after) else {
            return Ok(());
        };
        let mut walks = BTreeMap::from([(event.product_id.clone(), Walk::from(served))]);
        self.walk(&mut walks)?;
        for (product_id, Walk { began, now }) in walks {
            self.set_served(&product_id, Some(now))?;
            // The event of a line that was joined and did not move is still to come.
            if now != began || product_id == event.product_id {
                self.changes.append(&LineMoves { product_id, after: now.ticket });
            }
        }
        Ok(())
    }

    /// Walks through these lines by ticket. Those that are left have not come to their ends.
    fn walk(&mut self, walks: &mut BTreeMap<ProductId, Walk>) -> Result<(), Halt> {
        let mut progress = Progress::default();
        loop {
            let mut heads: Vec<(Spot, ProductId)> = Vec::new();
            let (mut over, mut enough) = (Vec::new(), false);
            for (id, walk) in &mut *walks {
                match self.next_in_line(id, walk, &mut progress)? {
                    Next::Order(spot) => heads.push((spot, id.clone())),
                    Next::End => over.push(id.clone()),
                    Next::Enough => enough = true,
                }
            }
            for id in over {
                walks.remove(&id);
                self.set_served(&id, None)?;
            }
            if enough {
                return Ok(());
            }
            heads.sort_unstable_by_key(|(spot, _)| (spot.ticket, spot.order));
            let Some((spot, id)) = heads.first() else { return Ok(()) };
            let affords = self.affords(spot);
            if progress.moved && (!affords || progress.filled >= self.limits.turns) {
                return Ok(());
            }
            if !affords && walks.len() > 1 {
                // A decision that begins with this line looks at its next order in any case.
                return self.ask_to_serve_on([id]);
            }
            let others = heads.iter().find(|(head, _)| head.order != spot.order);
            let until = others.map_or(u64::MAX, |(head, _)| head.ticket);
            match self.turn(spot, id, walks, &progress, until)? {
                Turn::Behind(other, _) if progress.joined >= self.limits.lines => {
                    return self.ask_to_serve_on([&other]);
                }
                Turn::Behind(other, served) => {
                    progress.joined += 1;
                    walks.insert(other, Walk::from(served));
                    continue;
                }
                Turn::Enough => return Ok(()),
                Turn::Filled => progress.filled += 1,
                Turn::Passed => {}
            }
            progress.moved = true;
            let order = (spot.ticket, spot.order);
            for (_, id) in heads.iter().filter(|(head, _)| (head.ticket, head.order) == order) {
                if let Some(walk) = walks.get_mut(id) {
                    walk.now.ticket = spot.ticket;
                }
            }
        }
    }

    /// Goes on in the line to the first order that does not need more pieces of the product than
    /// there are.
    fn next_in_line(
        &mut self,
        id: &ProductId,
        walk: &mut Walk,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        let Some(product) = self.product(id)? else { return Ok(Next::End) };
        let (amount, first, last) = (product.amount, product.line.first, product.line.last);
        if amount == 0 || product.line.waiting == 0 {
            return Ok(Next::End);
        }
        let page_id = |number| PageId { product: id.clone(), number };
        let Served { ticket, page } = &mut walk.now;
        *page = (*page).max(first);
        while *page <= last {
            if !self.pages.was_seen(&page_id(*page)) {
                if progress.moved && self.seen() >= self.limits.entities {
                    return Ok(Next::Enough);
                }
                let room = self.limits.entities.saturating_sub(self.seen()).max(1);
                let ahead = (*page..=last.min(*page + PAGES_AHEAD)).map(page_id).take(room);
                look_at_all(ahead.map(|page| self.pages.see(self.world, &page).map(|_| ())))?;
            }
            let spots = self.pages.see(self.world, &page_id(*page))?;
            let spots = spots.map_or(&[][..], |page| &page.spots);
            let mut next = spots.iter().filter(|it| it.ticket > *ticket && it.pieces <= amount);
            if let Some(spot) = next.next() {
                return Ok(Next::Order(spot.clone()));
            }
            let last_ticket = spots.last().map_or(0, |spot| spot.ticket);
            let is_empty = spots.is_empty();
            if *page < last && progress.pages >= self.limits.pages {
                return Ok(Next::Enough);
            }
            progress.pages += 1;
            progress.moved = true;
            // A page may have emptied before the one in front of it: nobody walks it twice.
            if is_empty
                && *page < last
                && let Some(product) = self.change_product(id)?
                && product.line.first == *page
            {
                product.line.first += 1;
            }
            *page += 1;
            *ticket = (*ticket).max(last_ticket);
        }
        Ok(Next::End)
    }

    /// Whether the order can be looked at and filled within the limit.
    fn affords(&mut self, spot: &Spot) -> bool {
        let unseen = self.unseen(spot);
        unseen == 0 || self.seen() + unseen <= self.limits.entities
    }

    /// How many entities are still to be looked at for the order, at most: its reservation, its
    /// products and a page of the line of each.
    fn unseen(&mut self, spot: &Spot) -> usize {
        let seen = self.reservations.was_seen(&spot.order);
        let Some(reservation) = seen.then(|| self.reservation(&spot.order).ok()).flatten() else {
            return 1 + 2 * (1 + spot.others.len().max(spot.unlisted));
        };
        let reservation = reservation.cloned();
        let products = reservation.iter().flat_map(|it| it.pieces.keys());
        let pages = reservation.iter().filter_map(|it| it.spot.as_ref()).flat_map(page_ids);
        products.filter(|id| !self.products.was_seen(id)).count()
            + pages.filter(|id| !self.pages.was_seen(id)).count()
    }

    /// Fills the order, if that can be done. The orders that come next in its line, up to the ticket
    /// `until`, are looked at together with it.
    fn turn(
        &mut self,
        spot: &Spot,
        id: &ProductId,
        walks: &BTreeMap<ProductId, Walk>,
        progress: &Progress,
        until: u64,
    ) -> Result<Turn, Halt> {
        let (reservation, ready) = match self.look_at(spot) {
            Ok(Look::Fillable { reservation, ready }) => (reservation, ready),
            Ok(Look::Short) => return Ok(Turn::Passed),
            Ok(Look::Unknown | Look::Likely) => {
                return Err(self.look_ahead(id, walks, progress, until));
            }
            // What cannot be read holds up nobody but its own order.
            Err(Halt::Fault(reason)) => {
                self.changes.note(spot.order, format!("it cannot be filled: {reason}"));
                return Ok(Turn::Passed);
            }
            Err(halt) => return Err(halt),
        };
        let mut lines = Vec::new();
        for id in reservation.pieces.keys() {
            if let Some(served) = self.is_served_apart(id, spot, walks) {
                let first = self.product(id)?.map_or(0, |product| product.line.first);
                let number = served.page.max(first);
                lines.push((PageId { product: id.clone(), number }, served));
            }
        }
        let unseen = lines.iter().filter(|(page, _)| !self.pages.was_seen(page)).count();
        if progress.moved && unseen > 0 && self.seen() + unseen > self.limits.entities {
            return Ok(Turn::Enough);
        }
        look_at_all(lines.iter().map(|(id, _)| self.pages.see(self.world, id).map(|_| ())))?;
        for (page, served) in lines {
            let amount = self.product(&page.product)?.map_or(0, |product| product.amount);
            let spots = self.pages.see(self.world, &page)?.map_or(&[][..], |page| &page.spots);
            let mut next =
                spots.iter().filter(|it| it.ticket > served.ticket && it.pieces <= amount);
            if next.next().is_none_or(|next| next.order != spot.order) {
                return Ok(Turn::Behind(page.product, served));
            }
        }
        if !ready {
            return Err(self.look_ahead(id, walks, progress, until));
        }
        self.leave_lines(&reservation)?;
        let mut filled = Reservation { spot: None, ..*reservation };
        self.take(&mut filled)?;
        self.publish(filled, false);
        Ok(Turn::Filled)
    }

    /// How far the line of a product was served by other decisions, if they did not come to this
    /// order yet.
    fn is_served_apart(
        &mut self,
        id: &ProductId,
        spot: &Spot,
        walks: &BTreeMap<ProductId, Walk>,
    ) -> Option<Served> {
        let product = self.product(id).ok().flatten().filter(|_| !walks.contains_key(id))?;
        product.line.served.filter(|served| served.ticket < spot.ticket)
    }

    /// Looks at all that decides whether the order can be filled, and at what is written then.
    fn look_at(&mut self, spot: &Spot) -> Result<Look, Halt> {
        match self.are_available(&spot.others)? {
            None => return Ok(Look::Unknown),
            Some(false) => return Ok(Look::Short),
            Some(true) => {}
        }
        let reservation = match self.reservation(&spot.order) {
            Ok(Some(reservation)) if reservation.state == Holding::Waiting => reservation.clone(),
            Ok(_) => return Ok(Look::Short),
            Err(Halt::Missing) if spot.unlisted == 0 => return Ok(Look::Likely),
            Err(Halt::Missing) => return Ok(Look::Unknown),
            Err(fault) => return Err(fault),
        };
        match self.are_available(&reservation.pieces)? {
            None => return Ok(Look::Unknown),
            Some(false) => return Ok(Look::Short),
            Some(true) => {}
        }
        let pages: Vec<PageId> = reservation.spot.iter().flat_map(page_ids).collect();
        let ready = are_loaded(pages.iter().map(|id| self.pages.see(self.world, id).map(|_| ())))?;
        Ok(Look::Fillable { reservation: Box::new(reservation), ready })
    }

    /// Whether this quantity of each product is available; `None` while one of them is not loaded.
    fn are_available(&mut self, pieces: &BTreeMap<ProductId, u64>) -> Result<Option<bool>, Halt> {
        if !are_loaded(pieces.keys().map(|id| self.products.see(self.world, id).map(|_| ())))? {
            return Ok(None);
        }
        for (id, wanted) in pieces {
            if self.product(id)?.is_none_or(|product| product.amount < *wanted) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Looks at the orders that come next in this line as well, so that all of it is loaded
    /// together: as far as they can be filled after the ones before them.
    fn look_ahead(
        &mut self,
        id: &ProductId,
        walks: &BTreeMap<ProductId, Walk>,
        progress: &Progress,
        until: u64,
    ) -> Halt {
        let most = self.seen() + ENTITIES_AHEAD;
        let mut turns = self.limits.turns.saturating_sub(progress.filled);
        let mut taken: BTreeMap<ProductId, u64> = BTreeMap::new();
        let last = self.product(id).ok().flatten().map_or(0, |product| product.line.last);
        let Served { ticket, page } = walks[id].now;
        for number in page..=last {
            let page = PageId { product: id.clone(), number };
            if !self.pages.was_seen(&page) {
                break;
            }
            let Ok(Some(page)) = self.pages.see(self.world, &page) else { break };
            let next = page.spots.iter().filter(|spot| spot.ticket > ticket && spot.ticket < until);
            for spot in next.cloned().collect::<Vec<Spot>>() {
                if turns == 0 || self.seen() >= most || !self.affords(&spot) {
                    return Halt::Missing;
                }
                let mut pieces = spot.others.clone();
                pieces.insert(id.clone(), spot.pieces);
                if !self.are_left(&pieces, &taken) {
                    continue;
                }
                match self.look_at(&spot) {
                    Ok(Look::Fillable { reservation, .. }) => pieces = reservation.pieces,
                    Ok(Look::Likely) => {}
                    _ => continue,
                }
                if pieces.keys().any(|id| self.is_served_apart(id, &spot, walks).is_some()) {
                    return Halt::Missing;
                }
                if self.are_left(&pieces, &taken) {
                    pieces.into_iter().for_each(|(id, it)| *taken.entry(id).or_default() += it);
                    turns -= 1;
                }
            }
        }
        Halt::Missing
    }

    /// Whether so many pieces of each product are left once others are taken; yes where that is not
    /// loaded yet.
    fn are_left(
        &mut self,
        pieces: &BTreeMap<ProductId, u64>,
        taken: &BTreeMap<ProductId, u64>,
    ) -> bool {
        pieces.iter().all(|(id, wanted)| {
            let taken = taken.get(id).copied().unwrap_or(0);
            let seen = self.products.was_seen(id).then(|| self.product(id).ok()).flatten();
            seen.is_none_or(|product| {
                product.is_some_and(|it| it.amount.saturating_sub(taken) >= *wanted)
            })
        })
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
