//! The inputs of the decisions about orders, and their answers.

use common::{
    contract::{
        events::{ConfirmedStep, PaymentConfirmed, StockChecked, StockConfirmed, WalletChecked},
        ids::{CustomerId, OrderId, ProductId},
        order::{Confirmation, Order},
        order_routes::OrderAction,
        order_status::OrderStatus,
    },
    schema::entry_id::EntryId,
};
use uuid::Uuid;

/// The events and requests that concern orders.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A customer places an order.
    Place(NewOrder),
    /// A client requests the next step of an order.
    Act(ActionRequest),
    /// An order may have waited for an answer or a confirmation for too long.
    ResendOverdue(OrderId),
    /// inventory_service has lost the backorder queues in which this order waited.
    Requeue(OrderId),
    /// An earlier version stored this order, and it is not in all of its sorted sets.
    Reindex(OrderId),
    /// The result of a stock check, in this entry.
    Stock(StockChecked, EntryId),
    /// The result of a payment, in this entry.
    Wallet(WalletChecked, EntryId),
    /// The confirmation of a step by its owner.
    Confirmed(Confirmed),
}

/// The confirmation of one effect of an order's step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Confirmed {
    /// The order.
    pub order_id: OrderId,
    /// The attempt that the step was part of.
    pub attempt: u32,
    /// The effect.
    pub confirmation: Confirmation,
}

impl From<StockConfirmed> for Confirmed {
    fn from(event: StockConfirmed) -> Self {
        let confirmation = match event.step {
            ConfirmedStep::Cancelled => Confirmation::StockCancelled,
            ConfirmedStep::Shipped => Confirmation::StockShipped,
            ConfirmedStep::Released => Confirmation::StockReleased,
        };
        Self { order_id: event.order_id, attempt: event.attempt, confirmation }
    }
}

impl Confirmed {
    /// The confirmation by account_service; `None` for a step that does not concern payments.
    pub fn of_payment(event: &PaymentConfirmed) -> Option<Self> {
        let PaymentConfirmed { order_id, attempt, step } = *event;
        let confirmation = Confirmation::PaymentCancelled;
        (step == ConfirmedStep::Cancelled).then_some(Self { order_id, attempt, confirmation })
    }
}

/// A new order with its id.
#[derive(Clone, PartialEq, Debug)]
pub struct NewOrder {
    /// The order's id: made from the `Idempotency-Key`, so that a repeated request finds the order.
    pub id: OrderId,
    /// A product id repeated n times means a quantity of n.
    pub product_ids: Vec<ProductId>,
    /// The customer who orders and pays.
    pub customer_id: CustomerId,
}

/// A request for the next step of an order.
#[derive(Clone, PartialEq, Debug)]
pub struct ActionRequest {
    /// The order.
    pub id: OrderId,
    /// The requested action.
    pub action: OrderAction,
    /// The id of the request: made from the `Idempotency-Key`, so that a repetition finds its step.
    pub request: Uuid,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// The request was granted; this is the order.
    Done(Order),
    /// The same request was granted before; this is the order as it was answered then.
    Replayed(Order),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The order does not exist.
    Unknown,
    /// The status of the order does not allow the action.
    WrongState(OrderStatus),
    /// The customer has the largest number of open orders.
    TooManyOpen {
        /// The limit.
        limit: u64,
    },
    /// The order has had its limit of attempts and does not allow the action.
    AttemptLimit {
        /// The status of the order.
        status: OrderStatus,
        /// The limit.
        limit: u32,
    },
    /// There was nothing to resend.
    Nothing,
    /// The last step was not confirmed after it was published for the last time.
    Unconfirmed(Order),
}
