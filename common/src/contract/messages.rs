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

/// What a message to the customer is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// The order was received.
    OrderReceived,
    /// All pieces are reserved, payment is next.
    StockReserved,
    /// The order waits for stock.
    OutOfStock,
    /// Paid; on its way.
    OnItsWay,
    /// The customer has to top up.
    InsufficientFund,
    /// The order names something that does not exist.
    Rejected,
    /// The customer paid again, and the order is tried again.
    TriedAgain,
    /// The order is called off.
    Cancelled,
    /// What the order had cost is given back.
    Refunded,
    /// The order left the house.
    Shipped,
    /// The order arrived.
    Completed,
    /// The customer's money came in.
    ToppedUp,
}

impl MessageKind {
    /// All that are about orders, in the order in which they are sent where an attempt leads to several.
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

    /// As in the event.
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
    /// The message: one per cause, which is an attempt of an order and a kind, or a deposit.
    pub id: Uuid,
    /// To whom.
    pub customer: CustomerId,
    /// About which order, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub order: Option<OrderId>,
    /// What about.
    pub kind: MessageKind,
    /// One line.
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
