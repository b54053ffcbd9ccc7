//! Resending: an order without an answer and a step without a confirmation are published again.

use common::{
    clock::Millis,
    contract::{
        events::{OrderCancelled, OrderCreated, OrderShipped, OrderUnpaid},
        ids::OrderId,
        order::{CONFIRMATION_RESENDS_MAX, Confirmation, Order, Resent},
        order_status::OrderStatus,
    },
    decision::{Changes, DecideError, World},
    planted,
};

use super::{
    input::Answer,
    results::{CHECKED, REFUSED, last_of_earlier_attempts},
};

/// The number of times that the waiting time doubles at most.
const DOUBLINGS_MAX: u32 = 6;

/// Publishes an order without an answer, or a step without a confirmation, once more if it is overdue.
pub(super) fn resend_overdue(
    id: OrderId,
    resend_after: Millis,
    world: &World,
    now: Millis,
) -> Result<Changes<Answer>, DecideError> {
    let mut changes = Changes::none();
    let overdue = |order: &&Order| is_overdue(order, resend_after, now);
    let Some(order) = world.get::<Order>(&id)?.filter(overdue) else {
        return Ok(changes.answering(Answer::Nothing));
    };
    let mut order = order.clone();
    let times = order.resent.map_or(0, |resent| resent.times).saturating_add(1);
    order.resent = Some(Resent { at: now, times });
    if order.status.is_underway() {
        changes.append(&created(&order, times));
        changes.note(id, format!("no answer to the order: resend {times}"));
    } else if times > CONFIRMATION_RESENDS_MAX {
        changes.put(order.clone());
        return Ok(changes.answering(Answer::Unconfirmed(order)));
    } else {
        publish_step_again(&order, times, &mut changes);
        let status = order.status.name();
        changes.note(id, format!("no confirmation of {status}: resend {times}"));
    }
    changes.put(order.clone());
    Ok(changes.answering(Answer::Done(order)))
}

/// Whether an order waits for an answer or a confirmation that should have arrived by now. Each
/// resend doubles the waiting time, so that a service that was away for hours does not find the
/// same order a hundred times.
pub(super) fn is_overdue(order: &Order, resend_after: Millis, now: Millis) -> bool {
    if planted!("an overdue order is not resent") {
        return false;
    }
    if !order.status.is_underway() && !order.awaits_confirmation() {
        return false;
    }
    let times = order.resent.map_or(0, |resent| resent.times);
    now.saturating_sub(last_published(order)) >= resend_after << times.min(DOUBLINGS_MAX)
}

/// The time of the last event that asks another service to do something about the order.
pub fn last_published(order: &Order) -> Millis {
    let last_step = order.history.iter().map(|step| step.at).max().unwrap_or(0);
    order.resent.map_or(last_step, |resent| resent.at.max(last_step))
}

/// Publishes the event of an unconfirmed step once more.
fn publish_step_again(order: &Order, resend: u32, changes: &mut Changes<Answer>) {
    let (id, customer_id, attempt) = (order.id, order.customer_id.clone(), order.attempt);
    match order.unconfirmed.first() {
        Some(Confirmation::StockCancelled | Confirmation::PaymentCancelled) => {
            changes.append(&OrderCancelled { id, customer_id, attempt, resend });
        }
        Some(Confirmation::StockShipped) => {
            changes.append(&OrderShipped { id, customer_id, attempt, resend });
        }
        Some(Confirmation::StockReleased) => {
            changes.append(&OrderUnpaid { id, customer_id, attempt, resend });
        }
        None => {}
    }
}

/// Resends an order that waits for stock to an inventory_service that has lost it, so that it joins the
/// backorder queues again or gets another outcome.
pub(super) fn requeue(id: OrderId, world: &World) -> Result<Changes<Answer>, DecideError> {
    let mut changes = Changes::none();
    match world.get::<Order>(&id)? {
        Some(order) if order.status == OrderStatus::OutOfStock => {
            changes.append(&created(order, 1));
            changes.note(id, "position in the backorder queues lost: order resent");
            Ok(changes.answering(Answer::Done(order.clone())))
        }
        _ => Ok(changes.answering(Answer::Nothing)),
    }
}

/// Adds the order to all of its sorted sets.
pub(super) fn reindex(id: OrderId, world: &World) -> Result<Changes<Answer>, DecideError> {
    let mut changes = Changes::none();
    if let Some(order) = world.get::<Order>(&id)? {
        changes.join_again(order.clone());
    }
    Ok(changes.answering(Answer::Nothing))
}

/// The event that asks inventory_service to reserve the stock of an order.
pub(super) fn created(order: &Order, resend: u32) -> OrderCreated {
    OrderCreated {
        id: order.id,
        product_ids: order.product_ids.clone(),
        customer_id: order.customer_id.clone(),
        status: OrderStatus::Pending.name().to_owned(),
        attempt: if planted!("a resend has no attempt") { 1 } else { order.attempt },
        resend,
        checked_by: last_of_earlier_attempts(order, &CHECKED),
        refused_by: last_of_earlier_attempts(order, &REFUSED),
    }
}
