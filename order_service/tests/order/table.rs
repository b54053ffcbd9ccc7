//! The transition table, written down a second time, so that a change of the rules is noticed.

use common::{
    clock::Millis,
    contract::{
        events::{OrderCancelled, OrderCompleted, OrderShipped, StockOutcome, WalletOutcome},
        order::{Confirmation, Order, Step},
        order_routes::OrderAction,
        order_status::OrderStatus,
    },
    decision::Append,
};
use order_service::order::ActionRequest;

use crate::support::{announced, append, step, updated};

use Confirmation::{PaymentCancelled, StockCancelled, StockReleased, StockShipped};
use OrderStatus::{
    Cancelled, Completed, InsufficientFund, OutOfStock, PaymentRequired, Pending, Rejected,
    Shipped, ToBeShipped,
};

/// What transitions orders.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Cause {
    Stock(StockOutcome),
    Wallet(WalletOutcome),
    Asked(OrderAction),
}

pub(crate) const OUT_OF_STOCK: Cause = Cause::Stock(StockOutcome::OutOfStock);

pub(crate) const RESERVED: Cause = Cause::Stock(StockOutcome::PaymentRequired);

pub(crate) const STOCK_REJECTED: Cause = Cause::Stock(StockOutcome::Rejected);

pub(crate) const PAID: Cause = Cause::Wallet(WalletOutcome::ToBeShipped);

pub(crate) const UNPAID: Cause = Cause::Wallet(WalletOutcome::InsufficientFund);

pub(crate) const PAYMENT_REJECTED: Cause = Cause::Wallet(WalletOutcome::Rejected);

pub(crate) const PAY: Cause = Cause::Asked(OrderAction::Pay);

pub(crate) const SHIP: Cause = Cause::Asked(OrderAction::Ship);

pub(crate) const COMPLETE: Cause = Cause::Asked(OrderAction::Complete);

pub(crate) const CANCEL: Cause = Cause::Asked(OrderAction::Cancel);

/// All results.
pub(crate) const RESULTS: [Cause; 6] =
    [OUT_OF_STOCK, RESERVED, STOCK_REJECTED, PAID, UNPAID, PAYMENT_REJECTED];

/// All that transitions an order of each status, if it is about the order's own attempt, and where to.
/// Nothing else ever changes a status.
pub(crate) const TRANSITIONS: [(OrderStatus, &[(Cause, OrderStatus)]); 9] = [
    (
        Pending,
        &[
            (OUT_OF_STOCK, OutOfStock),
            (RESERVED, PaymentRequired),
            (STOCK_REJECTED, Rejected),
            // The payment result may arrive before the result of the stock check.
            (PAID, ToBeShipped),
            (UNPAID, InsufficientFund),
            (PAYMENT_REJECTED, Rejected),
            (CANCEL, Cancelled),
        ],
    ),
    (
        OutOfStock,
        &[
            (RESERVED, PaymentRequired),
            (STOCK_REJECTED, Rejected),
            (PAID, ToBeShipped),
            (UNPAID, InsufficientFund),
            (PAYMENT_REJECTED, Rejected),
            (CANCEL, Cancelled),
        ],
    ),
    (
        PaymentRequired,
        &[
            (STOCK_REJECTED, Rejected),
            (PAID, ToBeShipped),
            (UNPAID, InsufficientFund),
            (PAYMENT_REJECTED, Rejected),
            (CANCEL, Cancelled),
        ],
    ),
    (InsufficientFund, &[(PAY, Pending), (CANCEL, Cancelled)]),
    (ToBeShipped, &[(SHIP, Shipped), (CANCEL, Cancelled)]),
    (Shipped, &[(COMPLETE, Completed)]),
    (Completed, &[]),
    (Rejected, &[]),
    (Cancelled, &[]),
];

/// The statuses in which an order waits for an answer and is resent without one.
pub(crate) const AWAITS_ANSWER: [OrderStatus; 2] = [Pending, PaymentRequired];

/// The status to which this cause leads, if any.
pub(crate) fn next_status(from: OrderStatus, cause: Cause) -> Option<OrderStatus> {
    let (_, transitions) = TRANSITIONS.iter().find(|(status, _)| *status == from).unwrap();
    transitions.iter().find(|(it, _)| *it == cause).map(|(_, to)| *to)
}

/// The rank of each status.
pub(crate) fn rank(status: OrderStatus) -> u8 {
    match status {
        Pending => 0,
        OutOfStock => 1,
        PaymentRequired => 2,
        InsufficientFund | ToBeShipped | Rejected => 3,
        Shipped => 4,
        Completed => 5,
        Cancelled => 6,
    }
}

/// The reason of an order after this cause: only if something went wrong.
pub(crate) fn reason(cause: Cause) -> Option<String> {
    match cause {
        RESERVED | PAID | Cause::Asked(_) => None,
        Cause::Stock(outcome) => Some(format!("{outcome:?}, says the stock")),
        Cause::Wallet(outcome) => Some(format!("{outcome:?}, says the wallet")),
    }
}

/// The confirmations that are due after this cause.
pub(crate) fn unconfirmed(cause: Cause) -> Vec<Confirmation> {
    match cause {
        CANCEL => vec![StockCancelled, PaymentCancelled],
        SHIP => vec![StockShipped],
        UNPAID | PAYMENT_REJECTED => vec![StockReleased],
        _ => Vec::new(),
    }
}

/// The order and the events that this cause leads to, by [`TRANSITIONS`].
pub(crate) fn expected(
    given: &Order,
    cause: Cause,
    act: Option<&ActionRequest>,
    now: Millis,
) -> (Order, Vec<Append>) {
    let mut order = given.clone();
    let to = next_status(given.status, cause);
    if let Some(to) = to {
        order.status = to;
        order.reason = reason(cause);
        if cause != COMPLETE {
            order.resent = None;
            order.unconfirmed = unconfirmed(cause);
        }
    }
    if cause == PAY {
        order.attempt += 1;
        order.order_total = None;
    }
    if matches!(cause, RESERVED | Cause::Wallet(_)) {
        order.order_total = Some(900);
    }
    let reached = match cause {
        OUT_OF_STOCK => OutOfStock,
        RESERVED => PaymentRequired,
        PAID => ToBeShipped,
        UNPAID => InsufficientFund,
        STOCK_REJECTED | PAYMENT_REJECTED => Rejected,
        Cause::Asked(_) => order.status,
    };
    let far = |step: &Step| (step.attempt, rank(step.status));
    let mut reached = step(reached, now, order.attempt);
    reached.request = act.map(|act| act.request);
    let follows = order.history.iter().any(|step| far(step) > far(&reached));
    reached.late = follows.then_some(order.history.len() as u32);
    let describe = matches!(cause, Cause::Wallet(_)) && given.order_total.is_none();
    reached.order_total = describe.then_some(900);
    order.history.push(reached);
    order.history.sort_by_key(far);

    let (id, customer_id, attempt) = (order.id, order.customer_id.clone(), order.attempt);
    let event = match cause {
        PAY => Some(append(&announced(&order, 0))),
        SHIP => Some(append(&OrderShipped { id, customer_id, attempt, resend: 0 })),
        COMPLETE => Some(append(&OrderCompleted { id, customer_id, attempt })),
        CANCEL => Some(append(&OrderCancelled { id, customer_id, attempt, resend: 0 })),
        _ => None,
    };
    let published = [updated(&order)].into_iter().chain(event).collect();
    (order, published)
}
