//! The results of stock checks and payments, and the confirmations of steps.

use common::{
    clock::Millis,
    contract::{
        events::{OrderCancelled, StockChecked, StockOutcome, WalletChecked, WalletOutcome},
        ids::{CustomerId, OrderId},
        order::{Confirmation, Order, Step},
        order_status::OrderStatus,
    },
    decision::{Changes, DecideError, World},
    planted,
    schema::entry_id::EntryId,
};

use super::input::{Answer, Confirmed};

/// The confirmations of a cancellation.
pub(super) const CANCELLATION: [Confirmation; 2] =
    [Confirmation::StockCancelled, Confirmation::PaymentCancelled];

/// The result of a stock check or a payment.
pub(super) struct StepResult<'a> {
    id: OrderId,
    customer: &'a CustomerId,
    status: OrderStatus,
    /// The attempt, if the event names it.
    attempt: Option<u32>,
    reason: Option<&'a String>,
    total: Option<u64>,
    /// The confirmations that an order of this status waits for.
    unconfirmed: &'a [Confirmation],
    /// The entry of a result that does not name its attempt.
    unnumbered: Option<EntryId>,
    /// Whether it answers a resent order.
    answers_resend: bool,
}

impl<'a> StepResult<'a> {
    /// The result of a stock check in this entry.
    pub(super) fn of_stock(check: &'a StockChecked, entry: EntryId) -> Self {
        let (status, reason) = match check.inventory {
            StockOutcome::PaymentRequired => (OrderStatus::PaymentRequired, None),
            StockOutcome::OutOfStock => (OrderStatus::OutOfStock, check.reason.as_ref()),
            StockOutcome::Rejected => (OrderStatus::Rejected, check.reason.as_ref()),
        };
        Self {
            id: check.order_id,
            customer: &check.customer_id,
            status,
            attempt: check.attempt,
            reason,
            total: check.order_total,
            unconfirmed: &[],
            unnumbered: check.attempt.is_none().then_some(entry),
            answers_resend: check.resend,
        }
    }

    /// The result of a payment in this entry.
    pub(super) fn of_payment(payment: &'a WalletChecked, entry: EntryId) -> Self {
        let reason = payment.reason.as_ref();
        let released: &[Confirmation] = &[Confirmation::StockReleased];
        let (status, reason, unconfirmed) = match payment.account {
            WalletOutcome::ToBeShipped => (OrderStatus::ToBeShipped, None, &[][..]),
            WalletOutcome::InsufficientFund => (OrderStatus::InsufficientFund, reason, released),
            WalletOutcome::Rejected => (OrderStatus::Rejected, reason, released),
        };
        Self {
            id: payment.order_id,
            customer: &payment.customer_id,
            status,
            attempt: payment.attempt,
            reason,
            total: payment.order_total,
            unconfirmed,
            unnumbered: payment.attempt.is_none().then_some(entry),
            answers_resend: false,
        }
    }

    /// Whether a service holds or has taken something for the order, or will.
    fn binds(&self) -> bool {
        matches!(
            self.status,
            OrderStatus::OutOfStock | OrderStatus::PaymentRequired | OrderStatus::ToBeShipped
        )
    }

    /// Whether this is a redelivered result of an earlier attempt. An accepted payment never is: a paid
    /// order is not tried again.
    fn is_past(&self, order: &Order) -> bool {
        let statuses: &[OrderStatus] = match self.status {
            OrderStatus::OutOfStock | OrderStatus::PaymentRequired => &CHECKED,
            OrderStatus::InsufficientFund => &REFUSED,
            _ => return false,
        };
        self.unnumbered.is_some() && self.unnumbered <= last_of_earlier_attempts(order, statuses)
    }
}

/// Applies a result to its order. `single_redis`: see [`Orders`](super::Orders).
pub(super) fn apply(
    result: &StepResult<'_>,
    single_redis: bool,
    world: &World,
    now: Millis,
) -> Result<Changes<Answer>, DecideError> {
    let mut changes = Changes::none();
    let id = result.id;
    let Some(order) = world.get::<Order>(&id)? else {
        // An order of another order service, or one whose data was lost.
        let status = result.status.name();
        changes.note(id, format!("{status} received for an unknown order"));
        if single_redis && result.binds() {
            let (customer_id, attempt) = (result.customer.clone(), result.attempt.unwrap_or(1));
            changes.append(&OrderCancelled { id, customer_id, attempt, resend: 0 });
        }
        return Ok(changes);
    };
    let attempt = result.attempt.unwrap_or(order.attempt);
    let here = (attempt, rank(result.status));
    let known = order.history.iter().any(|step| (step.attempt, rank(step.status)) == here);
    // An account_service of the original charges the customer for each event that asks for it, so it
    // may accept the payment after it has refused it.
    let is_paid_after_all = result.attempt.is_none()
        && result.status == OrderStatus::ToBeShipped
        && order.status == OrderStatus::InsufficientFund;
    if result.is_past(order) {
        return Ok(changes);
    }
    if attempt != order.attempt || known && !is_paid_after_all {
        let paid = result.status == OrderStatus::ToBeShipped && attempt == order.attempt;
        if paid && order.status == OrderStatus::Rejected {
            // Only if inventory_service lost the reservation and rejected the resent order while the
            // payment was under way: the payment is refunded (compensation).
            let customer_id = order.customer_id.clone();
            changes.append(&OrderCancelled { id, customer_id, attempt, resend: 0 });
            changes.note(id, "payment accepted for a rejected order: refund requested");
            changes.put(Order { unconfirmed: CANCELLATION.to_vec(), ..order.clone() });
            return Ok(changes);
        }
        let is_same = |step: &Step| (step.attempt, step.status) == (attempt, result.status);
        if let Some(index) = order.history.iter().position(is_same)
            && order.history[index].reported_by < result.unnumbered
        {
            // The same result in another entry, which may be redelivered in the next attempt.
            let mut order = order.clone();
            order.history[index].reported_by = result.unnumbered;
            changes.put(order);
        }
        return Ok(changes);
    }
    let mut order = order.clone();
    let index = order.history.partition_point(|step| (step.attempt, rank(step.status)) <= here);
    let steps = order.history.len();
    let late = (index < steps).then(|| u32::try_from(steps).unwrap_or(u32::MAX));
    let carries_total =
        order.order_total.is_none() && result.status != OrderStatus::PaymentRequired;
    let order_total = result.total.filter(|_| carries_total);
    let reported_by = result.unnumbered;
    let step = Step { late, order_total, reported_by, ..Step::new(result.status, now, attempt) };
    order.history.insert(index, step);
    if result.total.is_some() {
        order.order_total = result.total;
    }
    // inventory_service lost the reservation before it was paid, and the resent order waits for stock.
    let waits_again = result.answers_resend
        && result.status == OrderStatus::OutOfStock
        && order.status == OrderStatus::PaymentRequired;
    if rank(result.status) > rank(order.status)
        || is_paid_after_all
        || waits_again
        || planted!("the last result counts, whatever its rank")
    {
        order.status = result.status;
        order.reason = result.reason.cloned();
        order.resent = None;
        order.unconfirmed = result.unconfirmed.to_vec();
    }
    // One line for each order at level info: the status that its customer waits for.
    let line = format!("order is {}", order.status.name());
    match order.status {
        OrderStatus::PaymentRequired => changes.detail(id, line),
        _ => changes.note(id, line),
    }
    changes.put(order);
    Ok(changes)
}

/// Applies a confirmation if it is still outstanding; a confirmation of an older attempt or step is
/// ignored.
pub(super) fn confirm(
    confirmed: &Confirmed,
    world: &World,
) -> Result<Changes<Answer>, DecideError> {
    let mut changes = Changes::none();
    let Some(order) = world.get::<Order>(&confirmed.order_id)?.filter(|order| {
        order.attempt == confirmed.attempt && order.unconfirmed.contains(&confirmed.confirmation)
    }) else {
        return Ok(changes);
    };
    let mut order = order.clone();
    order.unconfirmed.retain(|it| *it != confirmed.confirmation);
    if order.unconfirmed.is_empty() {
        order.resent = None;
    }
    changes.put(order);
    Ok(changes)
}

/// The statuses to which a stock check leads, apart from the end of the order.
pub(super) const CHECKED: [OrderStatus; 2] =
    [OrderStatus::OutOfStock, OrderStatus::PaymentRequired];
/// The status to which a failed payment leads, apart from the end of the order.
pub(super) const REFUSED: [OrderStatus; 1] = [OrderStatus::InsufficientFund];

/// The last entry without an attempt that led to one of these statuses in an earlier attempt.
pub(super) fn last_of_earlier_attempts(order: &Order, statuses: &[OrderStatus]) -> Option<EntryId> {
    let earlier = order.history.iter().filter(|step| step.attempt < order.attempt);
    earlier.filter(|step| statuses.contains(&step.status)).filter_map(|step| step.reported_by).max()
}

/// The rank of a status within its attempt. Of two statuses with the same rank only one can occur.
fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Pending => 0,
        OrderStatus::OutOfStock => 1,
        OrderStatus::PaymentRequired => 2,
        OrderStatus::InsufficientFund | OrderStatus::ToBeShipped => 3,
        // By the stock check or by the payment: either way the end.
        OrderStatus::Rejected => 3,
        OrderStatus::Shipped => 4,
        OrderStatus::Completed => 5,
        OrderStatus::Cancelled => 6,
    }
}
