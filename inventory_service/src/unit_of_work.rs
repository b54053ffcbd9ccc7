//! The unit of work of one decision: the entities that it requested, and its changes to them.
//!
//! A decision about stock may change products, reservations and queue pages many times before it is
//! done, as an order leaves the queue of one product to be filled with another. It sees its own
//! changes, and nothing leaves the unit of work before [`UnitOfWork::finish`].

use std::collections::BTreeMap;

use common::{
    contract::{
        backorders::{BackorderPage, PageId},
        entities::Product,
        events::{ConfirmedStep, StockConfirmed},
        ids::{OrderId, ProductId},
    },
    decision::{Changes, DecideError, World},
    schema::entity::Entity,
};

use crate::reservation::entity::{Reservation, ReservationState};

/// The limits of one decision that fills backorders; the rest is left to the next decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of orders that are filled.
    pub fills: usize,
    /// The number of queue pages that are scanned.
    pub pages: usize,
    /// The number of entities that are requested, counted before they are loaded. One order is
    /// examined however small this limit is. The default is a quarter of what one commit takes: an
    /// input of a batch may have to be decided again after its neighbours changed what it had read.
    pub entities: usize,
    /// The number of further queues that are filled together with the first one, by sequence number.
    pub queues: usize,
    /// The number of other products that each queue entry of an order lists. A page is written
    /// whenever an order joins or leaves it; this limit bounds its size.
    pub listed_products: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fills: 300, pages: 64, entities: 500, queues: 4, listed_products: 4 }
    }
}

/// The state of an entity within the unit of work.
enum Tracked<'a, E> {
    NotLoaded,
    Unchanged(Option<&'a E>),
    Changed(E),
}

/// The entities of one type that were requested, by id.
pub(crate) struct IdentityMap<'a, I, E>(BTreeMap<I, Tracked<'a, E>>);

impl<'a, I: Ord + Clone, E: Entity<Id = I> + Clone> IdentityMap<'a, I, E> {
    /// The entity with this decision's changes; [`DecideError::Missing`] if it is not loaded yet.
    pub(crate) fn get(&mut self, world: &'a World, id: &I) -> Result<Option<&E>, DecideError> {
        if !self.0.contains_key(id) {
            let tracked = match world.get::<E>(id) {
                Ok(entity) => Tracked::Unchanged(entity),
                Err(DecideError::Missing) => Tracked::NotLoaded,
                Err(error) => return Err(error),
            };
            self.0.insert(id.clone(), tracked);
        }
        match self.0.get(id) {
            Some(Tracked::NotLoaded) | None => Err(DecideError::Missing),
            Some(Tracked::Unchanged(entity)) => Ok(*entity),
            Some(Tracked::Changed(entity)) => Ok(Some(entity)),
        }
    }

    /// Whether the entity was requested, loaded or not.
    pub(crate) fn was_requested(&self, id: &I) -> bool {
        self.0.contains_key(id)
    }

    /// The entity, to be changed.
    pub(crate) fn get_mut(
        &mut self,
        world: &'a World,
        id: &I,
    ) -> Result<Option<&mut E>, DecideError> {
        self.get(world, id)?;
        let Some(tracked) = self.0.get_mut(id) else { return Ok(None) };
        if let Tracked::Unchanged(Some(entity)) = tracked {
            *tracked = Tracked::Changed(entity.clone());
        }
        Ok(match tracked {
            Tracked::NotLoaded | Tracked::Unchanged(_) => None,
            Tracked::Changed(entity) => Some(entity),
        })
    }

    /// Creates or replaces the entity.
    pub(crate) fn put(&mut self, entity: E) {
        self.0.insert(entity.id().clone(), Tracked::Changed(entity));
    }

    fn finish(self, changes: &mut Changes) {
        for tracked in self.0.into_values() {
            if let Tracked::Changed(entity) = tracked {
                changes.put(entity);
            }
        }
    }
}

/// The unit of work of one decision.
pub(crate) struct UnitOfWork<'a> {
    pub(crate) world: &'a World,
    pub(crate) limits: Limits,
    pub(crate) products: IdentityMap<'a, ProductId, Product>,
    pub(crate) reservations: IdentityMap<'a, OrderId, Reservation>,
    pub(crate) pages: IdentityMap<'a, PageId, BackorderPage>,
    /// Events and notes, in the order in which they occurred.
    pub(crate) changes: Changes,
}

impl<'a> UnitOfWork<'a> {
    pub(crate) fn new(world: &'a World, limits: Limits) -> Self {
        Self {
            world,
            limits,
            products: IdentityMap(BTreeMap::new()),
            reservations: IdentityMap(BTreeMap::new()),
            pages: IdentityMap(BTreeMap::new()),
            changes: Changes::none(),
        }
    }

    /// The changes of the decision, including every changed entity.
    pub(crate) fn finish(self) -> Changes {
        let mut changes = self.changes;
        self.products.finish(&mut changes);
        self.reservations.finish(&mut changes);
        self.pages.finish(&mut changes);
        changes
    }

    pub(crate) fn product(&mut self, id: &ProductId) -> Result<Option<&Product>, DecideError> {
        self.products.get(self.world, id)
    }

    pub(crate) fn product_mut(
        &mut self,
        id: &ProductId,
    ) -> Result<Option<&mut Product>, DecideError> {
        self.products.get_mut(self.world, id)
    }

    pub(crate) fn put_product(&mut self, product: Product) {
        self.products.put(product);
    }

    pub(crate) fn reservation(
        &mut self,
        id: &OrderId,
    ) -> Result<Option<&Reservation>, DecideError> {
        self.reservations.get(self.world, id)
    }

    pub(crate) fn put_reservation(&mut self, reservation: Reservation) {
        self.reservations.put(reservation);
    }

    /// Requests all of these products before it reports that one is not loaded.
    pub(crate) fn request_products<'p>(
        &mut self,
        ids: impl IntoIterator<Item = &'p ProductId>,
    ) -> Result<(), DecideError> {
        request_all(ids.into_iter().map(|id| self.products.get(self.world, id).map(|_| ())))
    }

    /// Requests all of these queue pages before it reports that one is not loaded.
    pub(crate) fn request_pages<'p>(
        &mut self,
        ids: impl IntoIterator<Item = &'p PageId>,
    ) -> Result<(), DecideError> {
        request_all(ids.into_iter().map(|id| self.pages.get(self.world, id).map(|_| ())))
    }

    /// The number of entities that were requested, including those that are not loaded yet.
    pub(crate) fn requested(&self) -> usize {
        self.products.0.len() + self.reservations.0.len() + self.pages.0.len()
    }

    /// Moves the quantities from the available stock to the order; all of them are available.
    pub(crate) fn take(&mut self, reservation: &mut Reservation) -> Result<(), DecideError> {
        let mut total = Some(0u64);
        for (id, quantity) in &reservation.quantities {
            let price = self.product(id)?.map_or(0, |product| product.price);
            let cost = price.checked_mul(*quantity);
            total = total.zip(cost).and_then(|(total, cost)| total.checked_add(cost));
        }
        let Some(total) = total else {
            reservation.state = ReservationState::Rejected;
            reservation.reason = Some("the total is too large to be paid".to_owned());
            return Ok(());
        };
        for (id, quantity) in &reservation.quantities {
            if let Some(product) = self.product_mut(id)? {
                product.amount -= quantity;
                product.reserved += quantity;
            }
        }
        reservation.state = ReservationState::Held;
        reservation.total = Some(total);
        reservation.reason = None;
        Ok(())
    }

    /// Stores the reservation and publishes its outcome.
    pub(crate) fn publish(&mut self, mut reservation: Reservation, resend: bool) {
        if let Some(outcome) = reservation.outcome(resend) {
            self.changes.append(&outcome);
        }
        let note = match &reservation.reason {
            None => "stock reserved".to_owned(),
            Some(reason) => format!("no stock reserved: {reason}"),
        };
        self.changes.detail(reservation.order_id, note);
        if reservation.state == ReservationState::Rejected {
            // The reservation will never hold anything, and a repeated request contains its
            // products again.
            reservation.product_ids = Vec::new();
            reservation.quantities = BTreeMap::new();
        }
        self.put_reservation(reservation);
    }

    /// Publishes the confirmation of a step to order_service. A redelivered event needs no second
    /// confirmation; an event that order_service published again does.
    pub(crate) fn confirm(&mut self, order_id: OrderId, attempt: u32, step: ConfirmedStep) {
        self.changes.append(&StockConfirmed { order_id, attempt, step });
    }
}

/// Evaluates every request before it reports a missing entity, so that all are loaded together.
fn request_all(requests: impl Iterator<Item = Result<(), DecideError>>) -> Result<(), DecideError> {
    let mut all = Ok(());
    for request in requests {
        all = all.and(request);
    }
    all
}

/// Whether everything that was requested is loaded.
pub(crate) fn is_loaded(request: Result<(), DecideError>) -> Result<bool, DecideError> {
    match request {
        Ok(()) => Ok(true),
        Err(DecideError::Missing) => Ok(false),
        Err(error) => Err(error),
    }
}
