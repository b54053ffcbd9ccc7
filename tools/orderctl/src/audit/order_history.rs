//! Checks each order: whether what order_service, inventory_service and account_service keep of it
//! tells one story.

use std::collections::BTreeMap;

use account_service::wallet::Payment;
use common::contract::{
    entities::{Order, OrderStatus},
    events::{
        MessageSent, OrderUnpaid, Refunded, StockChecked, StockOutcome, Stream, WalletChecked,
        WalletOutcome,
    },
    ids::ProductId,
};
use inventory_service::reservation::{Reservation, ReservationState};

use super::snapshot::{Act, ConfirmedEntry, Created, Trimmed};

/// The attempt that a result is about. Services of the original do not say; beside them nobody asks for a second one in
/// the runs that are audited.
pub(super) fn attempt_of(named: Option<u32>) -> u32 {
    named.unwrap_or(1)
}

/// What is known about one order.
#[derive(Default)]
pub(super) struct Story<'a> {
    pub(super) order: Option<&'a Order>,
    pub(super) reservation: Option<&'a Reservation>,
    pub(super) payment: Option<&'a Payment>,
    pub(super) created: Vec<&'a Created>,
    pub(super) acts: Vec<&'a Act>,
    pub(super) checks: Vec<&'a StockChecked>,
    pub(super) wallets: Vec<&'a WalletChecked>,
    pub(super) refunds: Vec<&'a Refunded>,
    pub(super) unpaid: Vec<&'a OrderUnpaid>,
    pub(super) confirmed: Vec<&'a ConfirmedEntry>,
    pub(super) sent: Vec<&'a MessageSent>,
    pub(super) stored: Vec<&'a MessageSent>,
}

impl Story<'_> {
    /// Gives whether no service has to do anything about the order any more.
    pub(super) fn check(&self, trimmed: &Trimmed, findings: &mut Vec<String>) -> bool {
        self.check_totals(findings);
        self.check_pieces(findings);
        self.check_events(trimmed, findings);
        self.check_messages(trimmed, findings);
        self.check_standing(trimmed, findings)
    }

    /// Stock, money and status tell the same.
    fn check_standing(&self, trimmed: &Trimmed, findings: &mut Vec<String>) -> bool {
        let reservation = self.reservation;
        // A payment of an earlier attempt says nothing about this one, except that nothing will be
        // paid any more.
        let attempt = reservation.map_or(1, |reservation| reservation.attempt);
        let payment = self.payment.filter(|it| it.cancelled || it.attempt >= attempt);
        let books = format!(
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
            if !trimmed.has(Stream::OrderCreated) && self.created.is_empty() {
                findings.push(format!("nobody ordered it, but {books}"));
            } else if self.created.iter().any(|created| created.ours) {
                findings.push(format!("it is published but not stored; {books}"));
            } else if due.is_none() {
                findings.push(format!("it did not come to its end: {books}"));
            }
            return due.is_some();
        };
        if order.status.is_underway() {
            findings.push(format!("it is still {}; {books}", order.status.name()));
            return false;
        }
        let agrees = match order.status {
            // Whether it arrived is known to order_service alone.
            OrderStatus::Completed => due == Some(OrderStatus::Shipped),
            status => due == Some(status),
        };
        if !agrees {
            findings.push(format!("it is {}, but {books}", order.status.name()));
        }
        // Called off, an order goes no further where it had not got to its last attempt yet.
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

    /// Everybody means the same amount of money.
    fn check_totals(&self, findings: &mut Vec<String>) {
        // Nothing was asked for where the order was called off before.
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

    /// The pieces that are held are those that were ordered, and by whom.
    fn check_pieces(&self, findings: &mut Vec<String>) {
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
        // Rejected, or called off before its stock was looked at, it has none.
        let is_over =
            matches!(reservation.state, ReservationState::Cancelled | ReservationState::Rejected);
        if is_over && reservation.quantities.is_empty() {
            return;
        }
        let mut ordered: BTreeMap<&ProductId, u64> = BTreeMap::new();
        for product in &order.product_ids {
            *ordered.entry(product).or_default() += 1;
        }
        let reserved = reservation.quantities.iter().map(|(product, pieces)| (product, *pieces));
        if !ordered.iter().map(|(product, pieces)| (*product, *pieces)).eq(reserved) {
            findings.push(format!(
                "it is about {ordered:?}, but its reservation about {:?}",
                reservation.quantities
            ));
        }
    }
}

/// Where an order stands by what it holds and what it paid; `None` if the two do not fit or
/// something is still to come.
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
