//! Reserving stock for an order: all of it, or nothing.

use std::collections::BTreeMap;

use common::{
    clock::Millis,
    contract::{
        events::{OrderCreated, StockChecked},
        excerpt::{ShortId, clauses, listed},
        order::PRODUCTS_LIMIT,
    },
    decision::DecideError,
};

use super::entity::{Reservation, ReservationState, quantities};
use crate::{backorders::queue::is_promised, unit_of_work::UnitOfWork};

/// Reserves the products of a new order or a new attempt. An order that is short of anything joins the
/// backorder queues; an order that can never be filled is rejected.
pub(crate) fn reserve(
    work: &mut UnitOfWork<'_>,
    order: &OrderCreated,
    now: Millis,
) -> Result<(), DecideError> {
    let existing = work.reservation(&order.id)?.cloned();
    if let Some(existing) = &existing {
        let is_over = existing.state == ReservationState::Cancelled || existing.shipped;
        if is_over || existing.attempt > order.attempt {
            return Ok(());
        }
        if existing.attempt == order.attempt {
            if order.resend == 0 {
                return Ok(());
            }
            if let Some(outcome) = existing.outcome(true) {
                let product_ids = order.product_ids.clone();
                work.changes.append(&StockChecked { product_ids, ..outcome });
            }
            work.changes.note(order.id, "order resent: stock check published again");
            return Ok(());
        }
    }
    if order.product_ids.is_empty() {
        return Err(DecideError::invalid("the order has no products".to_owned()));
    }
    // A new attempt may overtake the event that the payment of the previous attempt failed.
    if let Some(existing) = &existing {
        let arrived = work.undo(existing)?;
        work.put_reservation(Reservation {
            state: ReservationState::Released,
            position: None,
            ..existing.clone()
        });
        work.start_filling(&arrived)?;
    }
    let reservation = Reservation {
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        product_ids: order.product_ids.clone(),
        attempt: order.attempt,
        state: ReservationState::Waiting,
        quantities: quantities(&order.product_ids),
        total: None,
        reason: None,
        shipped: false,
        position: None,
        paid: existing.as_ref().is_some_and(|existing| existing.paid),
        refused_by: order.refused_by.max(existing.and_then(|existing| existing.refused_by)),
    };
    let count = reservation.quantities.len();
    if count > PRODUCTS_LIMIT {
        let rejected = Reservation {
            state: ReservationState::Rejected,
            quantities: BTreeMap::new(),
            reason: Some(format!("it names {count} products; the limit is {PRODUCTS_LIMIT}")),
            ..reservation
        };
        work.publish(rejected, order.resend > 0);
        return Ok(());
    }
    work.reserve(reservation, order.resend > 0, now)
}

impl UnitOfWork<'_> {
    /// Takes all products of the order if all are available. Otherwise the order joins the backorder
    /// queues or is rejected. Publishes the outcome.
    fn reserve(
        &mut self,
        mut reservation: Reservation,
        resend: bool,
        now: Millis,
    ) -> Result<(), DecideError> {
        let (mut unknown, mut short) = (Vec::new(), Vec::new());
        let quantities = reservation.quantities.clone();
        self.request_products(quantities.keys())?;
        for (id, wanted) in &quantities {
            match self.product(id)? {
                None => unknown.push(ShortId(id.as_str())),
                Some(product) if is_promised(product, *wanted) => {
                    let id = ShortId(id.as_str());
                    short.push(format!("{id}: earlier backorders wait for it"));
                }
                Some(product) if product.amount < *wanted => {
                    let (id, available) = (ShortId(id.as_str()), product.amount);
                    short.push(format!("{id}: {wanted} wanted, {available} available"));
                }
                Some(_) => {}
            }
        }
        if !unknown.is_empty() {
            reservation.state = ReservationState::Rejected;
            let no =
                if unknown.len() == 1 { "there is no product" } else { "there are no products" };
            reservation.reason = Some(format!("{no} {}", listed(unknown.iter())));
        } else if short.is_empty() {
            self.take(&mut reservation)?;
        } else {
            reservation.state = ReservationState::Waiting;
            reservation.reason = Some(clauses(short.iter()));
            self.join_queues(&mut reservation, now)?;
        }
        let waits = reservation.state == ReservationState::Waiting;
        self.publish(reservation, resend);
        if waits { self.continue_filling(quantities.keys()) } else { Ok(()) }
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
        self.changes.note(reservation.order_id, note);
        if reservation.state == ReservationState::Rejected {
            // The reservation will never hold anything, and a repeated request contains its
            // products again.
            reservation.product_ids = Vec::new();
            reservation.quantities = BTreeMap::new();
        }
        self.put_reservation(reservation);
    }
}
