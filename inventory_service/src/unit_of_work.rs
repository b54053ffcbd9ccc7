//! The desk at which one decision works: copies of what it looks at, written back if they changed.
//!
//! A decision about stock may touch products, reservations and pages of lines many times before it
//! is done, as an order leaves the line of one product to be filled with another. Whoever works
//! here sees their own changes, and nothing leaves the desk before [`Desk::finish`].

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contract::{
        entities::{Line, LinePage, PageId, Product},
        entity::Entity,
        excerpt::{ShortId, clauses, listed},
        ids::{OrderId, ProductId},
    },
    decision::{Changes, Halt, World},
    http::request::PRODUCTS_LIMIT,
};

use crate::reservation::{Holding, Reservation, Waiting};

/// The number of orders on a page of a line: joining and leaving cost one page however long the line is.
pub const PAGE: usize = 50;

/// How much one decision looks at while it serves lines; the rest is left to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many orders are filled.
    pub turns: usize,
    /// How many pages are walked through.
    pub pages: usize,
    /// How many entities are looked at, counted before they are loaded. One order is looked at
    /// however small this is. By default it is a quarter of what one commit takes: an input of a
    /// batch may have to look again after its neighbours changed what it had seen.
    pub entities: usize,
    /// How many further lines are served as one with the first, by ticket.
    pub lines: usize,
    /// How many other products an order repeats in each of its lines. A page is written whenever an
    /// order joins or leaves it: this bounds its size.
    pub others: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turns: 300, pages: 64, entities: 500, lines: 4, others: 4 }
    }
}

/// An entity as it stands in the world, or as this decision changed it.
pub(crate) enum Draft<'a, E> {
    /// It is not loaded yet.
    Missing,
    Seen(Option<&'a E>),
    Changed(E),
}

/// What was looked at, by its ids.
pub(crate) struct Drafts<'a, I, E>(BTreeMap<I, Draft<'a, E>>);

impl<'a, I: Ord + Clone, E: Entity<Id = I> + Clone> Drafts<'a, I, E> {
    pub(crate) fn see(&mut self, world: &'a World, id: &I) -> Result<Option<&E>, Halt> {
        if !self.0.contains_key(id) {
            let draft = match world.get::<E>(id) {
                Ok(entity) => Draft::Seen(entity),
                Err(Halt::Missing) => Draft::Missing,
                Err(fault) => return Err(fault),
            };
            self.0.insert(id.clone(), draft);
        }
        match self.0.get(id) {
            Some(Draft::Missing) | None => Err(Halt::Missing),
            Some(Draft::Seen(entity)) => Ok(*entity),
            Some(Draft::Changed(entity)) => Ok(Some(entity)),
        }
    }

    /// Whether it was looked at, be it loaded or not.
    pub(crate) fn was_seen(&self, id: &I) -> bool {
        self.0.contains_key(id)
    }

    fn change(&mut self, world: &'a World, id: &I) -> Result<Option<&mut E>, Halt> {
        self.see(world, id)?;
        let Some(draft) = self.0.get_mut(id) else { return Ok(None) };
        if let Draft::Seen(Some(entity)) = draft {
            *draft = Draft::Changed(entity.clone());
        }
        Ok(match draft {
            Draft::Missing | Draft::Seen(_) => None,
            Draft::Changed(entity) => Some(entity),
        })
    }

    fn set(&mut self, entity: E) {
        self.0.insert(entity.id().clone(), Draft::Changed(entity));
    }

    fn finish(self, changes: &mut Changes) {
        for draft in self.0.into_values() {
            if let Draft::Changed(entity) = draft {
                changes.put(entity);
            }
        }
    }
}

/// The desk of one decision.
pub(crate) struct Desk<'a> {
    pub(crate) world: &'a World,
    pub(crate) limits: Limits,
    pub(crate) products: Drafts<'a, ProductId, Product>,
    pub(crate) reservations: Drafts<'a, OrderId, Reservation>,
    pub(crate) pages: Drafts<'a, PageId, LinePage>,
    /// Events and notes, in the order in which things happened.
    pub(crate) changes: Changes,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(world: &'a World, limits: Limits) -> Self {
        Self {
            world,
            limits,
            products: Drafts(BTreeMap::new()),
            reservations: Drafts(BTreeMap::new()),
            pages: Drafts(BTreeMap::new()),
            changes: Changes::none(),
        }
    }

    /// What the decision comes to.
    pub(crate) fn finish(self) -> Changes {
        let mut changes = self.changes;
        self.products.finish(&mut changes);
        self.reservations.finish(&mut changes);
        self.pages.finish(&mut changes);
        changes
    }

    pub(crate) fn product(&mut self, id: &ProductId) -> Result<Option<&Product>, Halt> {
        self.products.see(self.world, id)
    }

    pub(crate) fn change_product(&mut self, id: &ProductId) -> Result<Option<&mut Product>, Halt> {
        self.products.change(self.world, id)
    }

    pub(crate) fn set_product(&mut self, product: Product) {
        self.products.set(product);
    }

    pub(crate) fn reservation(&mut self, id: &OrderId) -> Result<Option<&Reservation>, Halt> {
        self.reservations.see(self.world, id)
    }

    pub(crate) fn set_reservation(&mut self, reservation: Reservation) {
        self.reservations.set(reservation);
    }

    /// Takes all of an order's pieces, if that can be done; otherwise it waits in line, or is
    /// rejected. Publishes what it came to.
    pub(crate) fn reserve(
        &mut self,
        mut reservation: Reservation,
        resend: bool,
        now: u64,
    ) -> Result<(), Halt> {
        let (mut unknown, mut short) = (Vec::new(), Vec::new());
        let pieces = reservation.pieces.clone();
        look_at_all(pieces.keys().map(|id| self.products.see(self.world, id).map(|_| ())))?;
        for (id, wanted) in &pieces {
            match self.product(id)? {
                None => unknown.push(ShortId(id.as_str())),
                Some(product) if is_promised(product, *wanted) => {
                    let id = ShortId(id.as_str());
                    short.push(format!("{id}: others wait for what came in"));
                }
                Some(product) if product.amount < *wanted => {
                    let (id, on_hand) = (ShortId(id.as_str()), product.amount);
                    short.push(format!("{id}: {wanted} wanted, {on_hand} on hand"));
                }
                Some(_) => {}
            }
        }
        if !unknown.is_empty() {
            reservation.state = Holding::Rejected;
            let no =
                if unknown.len() == 1 { "there is no product" } else { "there are no products" };
            reservation.reason = Some(format!("{no} {}", listed(unknown.iter())));
        } else if short.is_empty() {
            self.take(&mut reservation)?;
        } else {
            reservation.state = Holding::Waiting;
            reservation.reason = Some(clauses(short.iter()));
            self.join_lines(&mut reservation, now)?;
        }
        let waits = reservation.state == Holding::Waiting;
        self.publish(reservation, resend);
        if waits { self.ask_to_serve_on(pieces.keys()) } else { Ok(()) }
    }

    /// Moves the pieces from the stock to the order; all of them are on hand.
    pub(crate) fn take(&mut self, reservation: &mut Reservation) -> Result<(), Halt> {
        let mut total = Some(0u64);
        for (id, wanted) in &reservation.pieces {
            let price = self.product(id)?.map_or(0, |product| product.price);
            let cost = price.checked_mul(*wanted);
            total = total.zip(cost).and_then(|(total, cost)| total.checked_add(cost));
        }
        let Some(total) = total else {
            reservation.state = Holding::Rejected;
            reservation.reason = Some("the total is too large to be paid".to_owned());
            return Ok(());
        };
        for (id, wanted) in &reservation.pieces {
            if let Some(product) = self.change_product(id)? {
                product.amount -= wanted;
                product.reserved += wanted;
            }
        }
        reservation.state = Holding::Held;
        reservation.total = Some(total);
        reservation.reason = None;
        Ok(())
    }

    pub(crate) fn publish(&mut self, mut reservation: Reservation, resend: bool) {
        if let Some(outcome) = reservation.outcome(resend) {
            self.changes.append(&outcome);
        }
        let note = match &reservation.reason {
            None => "stock is reserved".to_owned(),
            Some(reason) => format!("nothing is reserved: {reason}"),
        };
        self.changes.note(reservation.order_id, note);
        if reservation.state == Holding::Rejected {
            // It will never hold anything, and a repeated request names its products again.
            reservation.product_ids = Vec::new();
            reservation.pieces = BTreeMap::new();
        }
        self.set_reservation(reservation);
    }

    /// Gives back what the order holds, and gives up its place in the lines; gives the products
    /// whose stock came in by that. A product whose data was lost has nothing to be given back to.
    pub(crate) fn undo(&mut self, reservation: &Reservation) -> Result<BTreeSet<ProductId>, Halt> {
        let ids = reservation.pieces.keys();
        match reservation.state {
            Holding::Held => {
                look_at_all(ids.map(|id| self.products.see(self.world, id).map(|_| ())))?;
                for (id, held) in &reservation.pieces {
                    if let Some(product) = self.change_product(id)? {
                        let back = (*held).min(product.reserved);
                        product.reserved -= back;
                        product.amount += back;
                    }
                }
                Ok(reservation.pieces.keys().cloned().collect())
            }
            Holding::Waiting => {
                self.leave_lines(reservation)?;
                Ok(BTreeSet::new())
            }
            Holding::Rejected | Holding::Released | Holding::Cancelled => Ok(BTreeSet::new()),
        }
    }

    /// What the order holds leaves the house.
    pub(crate) fn send_off(&mut self, reservation: &Reservation) -> Result<(), Halt> {
        let ids = reservation.pieces.keys();
        look_at_all(ids.map(|id| self.products.see(self.world, id).map(|_| ())))?;
        for (id, held) in &reservation.pieces {
            if let Some(product) = self.change_product(id)? {
                product.sold = (product.sold + held).min(product.reserved);
            }
        }
        Ok(())
    }

    /// The order joins the lines of all of its products, at their ends. Its ticket is higher than every
    /// other one in any of them, so orders of several lines can be served in one sequence that fits each.
    fn join_lines(&mut self, reservation: &mut Reservation, now: u64) -> Result<(), Halt> {
        let mut ticket = now;
        let mut last = Vec::with_capacity(reservation.pieces.len());
        for id in reservation.pieces.keys() {
            let Some(product) = self.product(id)? else { continue };
            ticket = ticket.max(product.line.ticket + 1);
            last.push(PageId { product: id.clone(), number: product.line.last });
        }
        look_at_all(last.iter().map(|id| self.pages.see(self.world, id).map(|_| ())))?;
        let mut pages = BTreeMap::new();
        for mut id in last {
            let full = |page: &LinePage| page.spots.len() >= PAGE;
            if self.pages.see(self.world, &id)?.is_some_and(full) {
                id.number += 1;
            }
            let page = self.pages.see(self.world, &id)?.cloned();
            let mut page = page.unwrap_or_else(|| LinePage::empty(id.clone()));
            page.spots.push(reservation.spot_in_line(&id.product, ticket, self.limits.others));
            self.pages.set(page);
            if let Some(product) = self.change_product(&id.product)? {
                let line = &mut product.line;
                *line = Line { waiting: line.waiting + 1, last: id.number, ticket, ..*line };
            }
            pages.insert(id.product, id.number);
        }
        reservation.spot = Some(Waiting { ticket, pages });
        Ok(())
    }

    /// The order leaves all of its lines.
    pub(crate) fn leave_lines(&mut self, reservation: &Reservation) -> Result<(), Halt> {
        let Some(spot) = &reservation.spot else { return Ok(()) };
        let ids: Vec<PageId> = page_ids(spot).collect();
        look_at_all(ids.iter().flat_map(|id| {
            [
                self.pages.see(self.world, id).map(|_| ()),
                self.products.see(self.world, &id.product).map(|_| ()),
            ]
        }))?;
        for id in ids {
            let Some(page) = self.pages.change(self.world, &id)? else { continue };
            let before = page.spots.len();
            page.spots.retain(|spot| spot.order != reservation.order_id);
            if page.spots.len() == before {
                continue;
            }
            let emptied = page.spots.is_empty();
            let Some(product) = self.change_product(&id.product)? else { continue };
            let line = &mut product.line;
            line.waiting = line.waiting.saturating_sub(1);
            if line.waiting == 0 {
                // All pages are empty: the next one to wait begins anew.
                *line = Line::default();
            } else if emptied && line.first == id.number {
                line.first += 1;
            }
        }
        Ok(())
    }

    /// How many entities were looked at, including those that are not loaded yet.
    pub(crate) fn seen(&self) -> usize {
        self.products.0.len() + self.reservations.0.len() + self.pages.0.len()
    }
}

/// Whether the line of a product is being served and those who wait in it may need what an order
/// for so many pieces would take: no order waits for more than [`PRODUCTS_LIMIT`] pieces.
fn is_promised(product: &Product, wanted: u64) -> bool {
    let needed = product.line.waiting.saturating_mul(PRODUCTS_LIMIT as u64);
    product.line.served.is_some() && product.amount < wanted.saturating_add(needed)
}

pub(crate) fn page_ids(spot: &Waiting) -> impl Iterator<Item = PageId> {
    let pages = spot.pages.iter();
    pages.map(|(product, number)| PageId { product: product.clone(), number: *number })
}

/// Looks at all of them before it says that one is missing, so that all are loaded together.
pub(crate) fn look_at_all(looks: impl Iterator<Item = Result<(), Halt>>) -> Result<(), Halt> {
    let mut all = Ok(());
    for look in looks {
        all = all.and(look);
    }
    all
}

/// The same; gives whether all are loaded.
pub(crate) fn are_loaded(looks: impl Iterator<Item = Result<(), Halt>>) -> Result<bool, Halt> {
    match look_at_all(looks) {
        Ok(()) => Ok(true),
        Err(Halt::Missing) => Ok(false),
        Err(fault) => Err(fault),
    }
}
