//! Checks each order: whether order_service, inventory_service and account_service agree about it.

use std::collections::BTreeMap;

use account_service::wallet::Payment;
use common::contract::{
    events::{OrderUnpaid, Refunded, StockChecked, StockOutcome, WalletChecked, WalletOutcome},
    ids::{OrderId, ProductId},
    messages::MessageSent,
    order::Order,
    order_status::OrderStatus,
    streams,
};
use inventory_service::reservation::{Reservation, ReservationState};

use super::facts::{
    ConfirmationEntry, OrderCreatedEntry, OrderStepEntry, Snapshot, TrimmedStreams,
};

/// The attempt of a result. Services of the original do not name it; audited runs with them have one
/// attempt for each order.
pub(super) fn attempt_of(named: Option<u32>) -> u32 {
    named.unwrap_or(1)
}

/// Everything that the services stored and published about one order.
#[derive(Default)]
pub(super) struct OrderHistory<'a> {
    pub(super) order: Option<&'a Order>,
    pub(super) reservation: Option<&'a Reservation>,
    pub(super) payment: Option<&'a Payment>,
    pub(super) created: Vec<&'a OrderCreatedEntry>,
    pub(super) steps: Vec<&'a OrderStepEntry>,
    pub(super) checks: Vec<&'a StockChecked>,
    pub(super) wallets: Vec<&'a WalletChecked>,
    pub(super) refunds: Vec<&'a Refunded>,
    pub(super) unpaid: Vec<&'a OrderUnpaid>,
    pub(super) confirmed: Vec<&'a ConfirmationEntry>,
    pub(super) sent: Vec<&'a MessageSent>,
    pub(super) stored: Vec<&'a MessageSent>,
}

impl Snapshot {
    /// The history of each order.
    pub(super) fn histories(&self) -> BTreeMap<OrderId, OrderHistory<'_>> {
        let mut histories: BTreeMap<OrderId, OrderHistory<'_>> = BTreeMap::new();
        for (id, order) in &self.orders {
            histories.entry(*id).or_default().order = Some(order);
        }
        for (id, reservation) in &self.reservations {
            histories.entry(*id).or_default().reservation = Some(reservation);
        }
        for (id, payment) in &self.payments {
            histories.entry(*id).or_default().payment = Some(payment);
        }
        for event in &self.created {
            histories.entry(event.order).or_default().created.push(event);
        }
        for event in &self.steps {
            histories.entry(event.order).or_default().steps.push(event);
        }
        for event in &self.checks {
            histories.entry(event.order_id).or_default().checks.push(event);
        }
        for event in &self.wallets {
            histories.entry(event.order_id).or_default().wallets.push(event);
        }
        for event in &self.refunds {
            histories.entry(event.order_id).or_default().refunds.push(event);
        }
        for event in &self.unpaid {
            histories.entry(event.id).or_default().unpaid.push(event);
        }
        for event in &self.confirmed {
            histories.entry(event.order).or_default().confirmed.push(event);
        }
        for message in &self.sent {
            let Some(order) = message.order else { continue };
            histories.entry(order).or_default().sent.push(message);
        }
        for message in self.messages.values() {
            let Some(order) = message.order else { continue };
            histories.entry(order).or_default().stored.push(message);
        }
        histories
    }
}

impl OrderHistory<'_> {
    /// Checks the order; returns whether no service has work left for it.
    pub(super) fn check(&self, trimmed: &TrimmedStreams, findings: &mut Vec<String>) -> bool {
        self.check_totals(findings);
        self.check_products(findings);
        self.check_events(trimmed, findings);
        self.check_messages(trimmed, findings);
        self.check_status(trimmed, findings)
    }

    /// Compares the status with the reservation and the payment.
    fn check_status(&self, trimmed: &TrimmedStreams, findings: &mut Vec<String>) -> bool {
        let reservation = self.reservation;
        // A payment of an earlier attempt concerns this one only if the order was cancelled.
        let attempt = reservation.map_or(1, |reservation| reservation.attempt);
        let payment = self.payment.filter(|it| it.cancelled || it.attempt >= attempt);
        let stored = format!(
            "its reservation is {} and its payment {}",
            match reservation {
                None => "missing".to_owned(),
                Some(reservation) if reservation.shipped =>
                    format!("{} and shipped", name(&reservation.state)),
                Some(reservation) => name(&reservation.state),
            },
            match payment {
                None => "missing".to_owned(),
                Some(payment) if payment.cancelled => "cancelled".to_owned(),
                Some(payment) =>
                    payment.outcome.map_or_else(|| "open".to_owned(), |outcome| name(&outcome)),
            },
        );
        let due = due_status(reservation, payment);
        let is_cancelled = due == Some(OrderStatus::Cancelled);
        if let Some(payment) = payment.filter(|it| !is_cancelled && it.attempt != attempt) {
            findings.push(format!(
                "its reservation is of attempt {attempt}, but its payment of {}",
                payment.attempt
            ));
        }
        let Some(order) = self.order else {
            if !trimmed.has(streams::ORDER_CREATED) && self.created.is_empty() {
                findings.push(format!("it was never ordered, but {stored}"));
            } else if self.created.iter().any(|created| created.ours) {
                findings.push(format!("it is published but not stored; {stored}"));
            } else if due.is_none() {
                findings.push(format!("it is not finished: {stored}"));
            }
            return due.is_some();
        };
        if order.status.is_underway() {
            findings.push(format!("it is still {}; {stored}", order.status.name()));
            return false;
        }
        let agrees = match order.status {
            // Only order_service knows whether it was completed.
            OrderStatus::Completed => due == Some(OrderStatus::Shipped),
            status => due == Some(status),
        };
        if !agrees {
            findings.push(format!("it is {}, but {stored}", order.status.name()));
        }
        // A cancelled order may not have reached its last attempt in every service.
        let differs = |attempt| match is_cancelled {
            true => attempt > order.attempt,
            false => attempt != order.attempt,
        };
        if reservation.is_some() && differs(attempt) {
            findings.push(format!(
                "it is in attempt {}, but its reservation in {attempt}",
                order.attempt
            ));
        }
        true
    }

    /// Checks that all services have the same total.
    fn check_totals(&self, findings: &mut Vec<String>) {
        // Nothing was charged if the order was cancelled before.
        let Some(payment) = self.payment.filter(|payment| payment.outcome.is_some()) else {
            return;
        };
        let asks = |check: &&&StockChecked| {
            attempt_of(check.attempt) == payment.attempt
                && check.inventory == StockOutcome::PaymentRequired
        };
        for check in self.checks.iter().filter(asks) {
            let total = check.order_total.unwrap_or(0);
            if total != payment.total {
                findings.push(format!(
                    "its stock check says {total} is to be paid, its payment {}",
                    payment.total
                ));
            }
        }
        if let Some(order) = self.order
            && order.attempt == payment.attempt
            && order.order_total != Some(payment.total)
        {
            let total = order.order_total.map_or("nothing".to_owned(), |it| it.to_string());
            findings.push(format!("its total is {total}, but its payment is of {}", payment.total));
        }
    }

    /// Checks that the reserved products and the customer are those of the order.
    fn check_products(&self, findings: &mut Vec<String>) {
        let Some(order) = self.order else { return };
        let customer = &order.customer_id;
        let payer = self.payment.map(|payment| &payment.customer_id);
        let holder = self.reservation.map(|reservation| &reservation.customer_id);
        for (what, whose) in [("reservation", holder), ("payment", payer)] {
            if let Some(whose) = whose.filter(|whose| *whose != customer) {
                findings.push(format!("it is {customer}'s, but its {what} is {whose}'s"));
            }
        }
        let Some(reservation) = self.reservation else { return };
        // An order that was rejected, or cancelled before its stock check, has no products reserved.
        let is_over =
            matches!(reservation.state, ReservationState::Cancelled | ReservationState::Rejected);
        if is_over && reservation.quantities.is_empty() {
            return;
        }
        let mut ordered: BTreeMap<&ProductId, u64> = BTreeMap::new();
        for product in &order.product_ids {
            *ordered.entry(product).or_default() += 1;
        }
        let reserved =
            reservation.quantities.iter().map(|(product, quantity)| (product, *quantity));
        if !ordered.iter().map(|(product, quantity)| (*product, *quantity)).eq(reserved) {
            findings.push(format!(
                "it is about {ordered:?}, but its reservation about {:?}",
                reservation.quantities
            ));
        }
    }
}

/// The status that follows from the reservation and the payment; `None` if they do not agree or a result
/// is outstanding.
fn due_status(reservation: Option<&Reservation>, payment: Option<&Payment>) -> Option<OrderStatus> {
    let reservation = reservation?;
    let Some(payment) = payment else {
        return match reservation.state {
            ReservationState::Waiting => Some(OrderStatus::OutOfStock),
            ReservationState::Rejected => Some(OrderStatus::Rejected),
            ReservationState::Held | ReservationState::Released | ReservationState::Cancelled => {
                None
            }
        };
    };
    if payment.cancelled || reservation.state == ReservationState::Cancelled {
        let both = payment.cancelled && reservation.state == ReservationState::Cancelled;
        return both.then_some(OrderStatus::Cancelled);
    }
    match (reservation.state, payment.outcome?) {
        (ReservationState::Held, WalletOutcome::ToBeShipped) if reservation.shipped => {
            Some(OrderStatus::Shipped)
        }
        (ReservationState::Held, WalletOutcome::ToBeShipped) => Some(OrderStatus::ToBeShipped),
        (ReservationState::Released, WalletOutcome::InsufficientFund) => {
            Some(OrderStatus::InsufficientFund)
        }
        (ReservationState::Released, WalletOutcome::Rejected) => Some(OrderStatus::Rejected),
        _ => None,
    }
}

/// The name of a state as it is stored.
pub(super) fn name(state: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(state).ok();
    json.and_then(|json| json.as_str().map(str::to_owned)).unwrap_or_default()
}
