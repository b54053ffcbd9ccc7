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
    planted,
};

use super::{
    entity::{Reservation, ReservationState, quantities},
    release::undo,
};
use crate::{
    backorders::queue::{continue_filling, is_promised, join_queues, start_filling},
    unit_of_work::UnitOfWork,
};

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
        if existing.attempt == order.attempt && !planted!("stock is reserved again") {
            if order.resend == 0 || planted!("a resent order gets no answer") {
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
        let arrived = undo(work, existing)?;
        work.put_reservation(Reservation {
            state: ReservationState::Released,
            position: None,
            ..existing.clone()
        });
        start_filling(work, &arrived)?;
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
            join_queues(self, &mut reservation, now)?;
        }
        let waits = reservation.state == ReservationState::Waiting;
        self.publish(reservation, resend);
        if waits { continue_filling(self, quantities.keys()) } else { Ok(()) }
    }
}
