//! Releasing the stock of an order: its payment failed, or it was cancelled.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contract::{
        events::{ConfirmedStep, OrderCancelled},
        ids::{OrderId, ProductId},
    },
    decision::DecideError,
    planted,
    schema::entry_id::EntryId,
};

use super::entity::{Reservation, ReservationState};
use crate::{
    backorders::queue::{leave_queues, start_filling},
    unit_of_work::UnitOfWork,
};

/// A failed payment, by the way in which its event names the attempt.
#[derive(Clone, Copy)]
pub(crate) enum FailedPayment {
    /// The payment of this attempt.
    Attempt(u32),
    /// The payment of this attempt; order_service waits for the confirmation that the stock is released.
    Unconfirmed(u32),
    /// The payment of the current attempt, by an entry that names no attempt.
    Unnumbered(EntryId),
}

/// Releases the stock of an order whose payment failed.
pub(crate) fn release(
    work: &mut UnitOfWork<'_>,
    id: OrderId,
    payment: FailedPayment,
) -> Result<(), DecideError> {
    let concerns = |it: &&Reservation| match payment {
        FailedPayment::Attempt(attempt) | FailedPayment::Unconfirmed(attempt) => {
            it.attempt == attempt || planted!("stock of another attempt is released")
        }
        // An older entry was about an earlier attempt.
        FailedPayment::Unnumbered(entry) => it.refused_by < Some(entry),
    };
    let applies = |it: &&Reservation| it.holds() && !it.paid && concerns(it);
    let Some(reservation) = work.reservation(&id)?.filter(applies).cloned() else {
        if let FailedPayment::Unconfirmed(attempt) = payment {
            work.confirm(id, attempt, ConfirmedStep::Released);
        }
        return Ok(());
    };
    let attempt = reservation.attempt;
    let arrived = undo(work, &reservation)?;
    if !planted!("a release has no record") {
        work.put_reservation(Reservation { state: ReservationState::Released, ..reservation });
    }
    work.changes.note(id, "payment failed: stock released");
    work.confirm(id, attempt, ConfirmedStep::Released);
    start_filling(work, &arrived)
}

/// Releases the stock of a cancelled order for good.
pub(crate) fn cancel(work: &mut UnitOfWork<'_>, order: &OrderCancelled) -> Result<(), DecideError> {
    let existing = work.reservation(&order.id)?.cloned();
    if existing.is_none() && planted!("a cancellation that comes first is forgotten by stock") {
        work.confirm(order.id, order.attempt, ConfirmedStep::Cancelled);
        return Ok(());
    }
    // A cancellation that overtakes its order leaves a reservation, so that the order finds it.
    let reservation = existing.unwrap_or_else(|| Reservation {
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        product_ids: Vec::new(),
        attempt: order.attempt,
        state: ReservationState::Rejected,
        quantities: BTreeMap::new(),
        total: None,
        reason: None,
        shipped: false,
        position: None,
        paid: false,
        refused_by: None,
    });
    if reservation.state == ReservationState::Cancelled && order.resend > 0 {
        work.confirm(order.id, order.attempt, ConfirmedStep::Cancelled);
    }
    if (reservation.state == ReservationState::Cancelled || reservation.shipped)
        && !planted!("a cancellation releases shipped stock")
    {
        return Ok(());
    }
    let arrived = undo(work, &reservation)?;
    let state = ReservationState::Cancelled;
    work.put_reservation(Reservation { state, position: None, ..reservation });
    work.changes.note(order.id, "order cancelled: it holds no stock");
    work.confirm(order.id, order.attempt, ConfirmedStep::Cancelled);
    start_filling(work, &arrived)
}

/// Releases the stock of the order and removes it from the backorder queues; returns the
/// products with newly available stock. A product whose data was lost is skipped.
pub(super) fn undo(
    work: &mut UnitOfWork<'_>,
    reservation: &Reservation,
) -> Result<BTreeSet<ProductId>, DecideError> {
    match reservation.state {
        ReservationState::Held => {
            work.request_products(reservation.quantities.keys())?;
            for (id, held) in &reservation.quantities {
                if let Some(product) = work.product_mut(id)? {
                    let released = (*held).min(product.reserved);
                    product.reserved -= released;
                    product.amount += released;
                    if planted!("a release forgets its stock") {
                        product.amount -= released;
                    }
                }
            }
            Ok(reservation.quantities.keys().cloned().collect())
        }
        ReservationState::Waiting => {
            if !planted!("a cancelled order stays in its queues") {
                leave_queues(work, reservation)?;
            }
            Ok(BTreeSet::new())
        }
        ReservationState::Rejected | ReservationState::Released | ReservationState::Cancelled => {
            Ok(BTreeSet::new())
        }
    }
}
