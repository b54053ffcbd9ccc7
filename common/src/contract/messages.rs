//! Messages to customers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    contract::{
        ids::{CustomerId, NAMESPACE, OrderId},
        keys, streams,
    },
    schema::{
        entity::{Entity, Kind},
        stream::{Event, Stream},
    },
};

/// The subject of a message to a customer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// The order was received.
    OrderReceived,
    /// The whole quantity is reserved, and payment follows.
    StockReserved,
    /// The order waits for stock.
    OutOfStock,
    /// The order is paid and on its way.
    OnItsWay,
    /// The balance is too low.
    InsufficientFund,
    /// The order contains an unknown product or customer.
    Rejected,
    /// The customer paid again, and the order is tried again.
    TriedAgain,
    /// The order is cancelled.
    Cancelled,
    /// The cost of the order is refunded.
    Refunded,
    /// The order was shipped.
    Shipped,
    /// The order arrived.
    Completed,
    /// The deposit was credited.
    ToppedUp,
}

impl MessageKind {
    /// All kinds that concern orders, in the order in which one attempt sends them.
    pub const ABOUT_ORDERS: [Self; 11] = [
        Self::OrderReceived,
        Self::TriedAgain,
        Self::OutOfStock,
        Self::StockReserved,
        Self::OnItsWay,
        Self::InsufficientFund,
        Self::Rejected,
        Self::Cancelled,
        Self::Refunded,
        Self::Shipped,
        Self::Completed,
    ];

    /// The name in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrderReceived => "order-received",
            Self::StockReserved => "stock-reserved",
            Self::OutOfStock => "out-of-stock",
            Self::OnItsWay => "on-its-way",
            Self::InsufficientFund => "insufficient-fund",
            Self::Rejected => "rejected",
            Self::TriedAgain => "tried-again",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
            Self::ToppedUp => "topped-up",
        }
    }
}

/// A message that was sent to a customer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageSent {
    /// The id of the message: one per cause, which is an attempt of an order and a kind, or a
    /// deposit.
    pub id: Uuid,
    /// The customer who receives it.
    pub customer: CustomerId,
    /// The order, if the message concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub order: Option<OrderId>,
    /// The subject.
    pub kind: MessageKind,
    /// A one-line summary.
    #[schema(example = "Your order is paid")]
    pub subject: String,
    /// The text.
    pub body: String,
}

impl MessageSent {
    /// The id of the only message of this kind about this attempt of an order.
    pub fn id_about(order: OrderId, attempt: u32, kind: MessageKind) -> Uuid {
        let name = format!("message\n{order}\n{attempt}\n{}", kind.name());
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }
}

impl Event for MessageSent {
    const STREAM: Stream = streams::MESSAGE_SENT;
}

impl Entity for MessageSent {
    type Id = Uuid;
    const KIND: &'static Kind = &keys::MESSAGE;
    fn id(&self) -> &Uuid {
        &self.id
    }
    fn lists(&self) -> Vec<String> {
        vec![keys::messages_to(&self.customer)]
    }
}
