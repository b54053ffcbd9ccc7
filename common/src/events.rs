//! The events on the streams: the public contract of the system.
//!
//! Field names and values are those of the original. What this system adds (`attempt`, `reason`)
//! has a default, and a reader ignores what it does not know, so services of both kinds can sit on
//! the same Redis.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{CustomerId, OrderId, ProductId};

/// A topic has one owner service, which keeps its entities and writes its streams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// Owned by `order_service`.
    Order,
    /// Owned by `inventory_service`.
    Inventory,
    /// Owned by `account_service`.
    Account,
    /// Owned by `msg_service`.
    Message,
}

impl Topic {
    /// All topics.
    pub const ALL: [Topic; 4] = [Self::Order, Self::Inventory, Self::Account, Self::Message];

    /// The hash tag without its braces, e.g. `order`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Account => "account",
            Self::Message => "message",
        }
    }

    /// The owner; also the name of its consumer group on every stream that it reads.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Order => "order_service",
            Self::Inventory => "inventory_service",
            Self::Account => "account_service",
            Self::Message => "msg_service",
        }
    }
}

/// A stream of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    /// [`OrderCreated`], by order_service.
    OrderCreated,
    /// The whole order, by order_service.
    OrderUpdated,
    /// [`ProductCreated`], by clients through the gateway.
    InventoryCreated,
    /// [`StockChecked`], by inventory_service.
    InventoryCheck,
    /// The whole product, by inventory_service.
    InventoryUpdated,
    /// [`AccountCreated`], by clients through the gateway.
    AccountCreated,
    /// [`WalletChecked`], by account_service.
    AccountWallet,
    /// The whole account, by account_service.
    AccountUpdated,
    /// [`MessageSent`], by msg_service.
    MessageSent,
    /// [`DeadLetter`]: what the topic's owner could not handle, by that owner.
    Dead(Topic),
}

impl Stream {
    /// All streams.
    pub const ALL: [Stream; 13] = [
        Self::OrderCreated,
        Self::OrderUpdated,
        Self::InventoryCreated,
        Self::InventoryCheck,
        Self::InventoryUpdated,
        Self::AccountCreated,
        Self::AccountWallet,
        Self::AccountUpdated,
        Self::MessageSent,
        Self::Dead(Topic::Order),
        Self::Dead(Topic::Inventory),
        Self::Dead(Topic::Account),
        Self::Dead(Topic::Message),
    ];

    /// The key in Redis; the braces are the cluster's hash tag.
    pub const fn key(self) -> &'static str {
        match self {
            Self::OrderCreated => "events:{order}_created",
            Self::OrderUpdated => "events:{order}_updated",
            Self::InventoryCreated => "events:{inventory}_created",
            Self::InventoryCheck => "events:{inventory}_check",
            Self::InventoryUpdated => "events:{inventory}_updated",
            Self::AccountCreated => "events:{account}_created",
            Self::AccountWallet => "events:{account}_wallet",
            Self::AccountUpdated => "events:{account}_updated",
            Self::MessageSent => "events:{message}_sent",
            Self::Dead(Topic::Order) => "events:{order}_dead",
            Self::Dead(Topic::Inventory) => "events:{inventory}_dead",
            Self::Dead(Topic::Account) => "events:{account}_dead",
            Self::Dead(Topic::Message) => "events:{message}_dead",
        }
    }

    /// The topic in whose Redis the stream lies.
    pub const fn topic(self) -> Topic {
        match self {
            Self::OrderCreated | Self::OrderUpdated => Topic::Order,
            Self::InventoryCreated | Self::InventoryCheck | Self::InventoryUpdated => {
                Topic::Inventory
            }
            Self::AccountCreated | Self::AccountWallet | Self::AccountUpdated => Topic::Account,
            Self::MessageSent => Topic::Message,
            Self::Dead(topic) => topic,
        }
    }

    /// The owners of the topics whose services read this stream through their group.
    pub const fn readers(self) -> &'static [Topic] {
        match self {
            Self::OrderCreated => &[Topic::Inventory, Topic::Message],
            Self::InventoryCreated => &[Topic::Inventory],
            Self::InventoryCheck => &[Topic::Account, Topic::Order, Topic::Message],
            Self::AccountCreated => &[Topic::Account, Topic::Message],
            Self::AccountWallet => &[Topic::Order, Topic::Inventory, Topic::Message],
            Self::OrderUpdated
            | Self::InventoryUpdated
            | Self::AccountUpdated
            | Self::MessageSent
            | Self::Dead(_) => &[],
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// The stream field that names the event.
pub const EVENT_ID: &str = "event_id";
/// The stream field with the JSON object.
pub const ENTITY: &str = "entity";
/// The stream field with the trace that the event belongs to (W3C Trace Context); optional.
pub const TRACEPARENT: &str = "traceparent";

/// An event is the JSON object in the `entity` field of its stream's entries.
pub trait Event: Serialize {
    /// Where it is published.
    const STREAM: Stream;
}

const fn first_attempt() -> u32 {
    1
}

/// An order was accepted; nothing was looked at yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OrderCreated {
    /// The order.
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    pub product_ids: Vec<ProductId>,
    /// Who ordered, and pays.
    pub customer_id: CustomerId,
    /// Always `pending`; nobody decides by it.
    #[serde(default = "pending")]
    pub status: String,
    /// Counts the tries to fill the order, from 1.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
}

fn pending() -> String {
    "pending".to_owned()
}

impl Event for OrderCreated {
    const STREAM: Stream = Stream::OrderCreated;
}

/// What the stock check of an order came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StockOutcome {
    /// All pieces are reserved.
    PaymentRequired,
    /// At least one product is short; nothing is reserved.
    OutOfStock,
    /// A product does not exist; nothing is reserved.
    Rejected,
}

/// The stock check of an order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StockChecked {
    /// The outcome.
    pub inventory: StockOutcome,
    /// The order.
    pub order_id: OrderId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// As ordered.
    pub product_ids: Vec<ProductId>,
    /// What the reserved pieces cost; only with `payment-required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The attempt that this answers.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// Why it was rejected, or what is short; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Event for StockChecked {
    const STREAM: Stream = Stream::InventoryCheck;
}

/// What the payment of an order came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalletOutcome {
    /// Paid.
    ToBeShipped,
    /// The balance is below the total; nothing was taken.
    InsufficientFund,
    /// The customer does not exist; nothing was taken.
    Rejected,
}

/// The payment of an order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WalletChecked {
    /// The order.
    pub order_id: OrderId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// The outcome.
    pub account: WalletOutcome,
    /// The attempt that this answers.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// Why it was rejected; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Event for WalletChecked {
    const STREAM: Stream = Stream::AccountWallet;
}

/// A product as a client defines it; again for an existing one, it is reset to these values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProductCreated {
    /// The product.
    pub id: ProductId,
    /// For people.
    pub name: String,
    /// Of one piece, in whole units of money.
    pub price: u64,
    /// Pieces on hand.
    pub amount: u64,
}

impl Event for ProductCreated {
    const STREAM: Stream = Stream::InventoryCreated;
}

/// A customer's account as a client defines it; again for an existing one, it is reset to these values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountCreated {
    /// The customer.
    pub id: CustomerId,
    /// For people.
    pub name: String,
    /// For messages.
    pub email: String,
    /// In whole units of money.
    pub balance: u64,
}

impl Event for AccountCreated {
    const STREAM: Stream = Stream::AccountCreated;
}

/// What a message to the customer is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
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
}

impl MessageKind {
    /// As in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrderReceived => "order-received",
            Self::StockReserved => "stock-reserved",
            Self::OutOfStock => "out-of-stock",
            Self::OnItsWay => "on-its-way",
            Self::InsufficientFund => "insufficient-fund",
            Self::Rejected => "rejected",
        }
    }
}

/// A message that was sent to a customer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MessageSent {
    /// The message: one per order, attempt and kind.
    pub id: uuid::Uuid,
    /// To whom.
    pub customer: CustomerId,
    /// About which order.
    pub order: OrderId,
    /// What about.
    pub kind: MessageKind,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
}

impl Event for MessageSent {
    const STREAM: Stream = Stream::MessageSent;
}

/// An entry that could not be handled, with all that is needed to look into it and send it again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The stream that it came from.
    pub stream: String,
    /// Its entry there.
    pub entry: String,
    /// The group that could not handle it.
    pub group: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Its fields as they were, bytes that are not UTF-8 replaced.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_the_original_is_read_with_defaults_and_strangers_ignored() {
        let event: StockChecked = serde_json::from_str(
            r#"{"inventory":"payment-required","order_id":"9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11",
                "customer_id":"101","product_ids":["201"],"order_total":800,"colour":"red"}"#,
        )
        .unwrap();
        assert_eq!(event.attempt, 1);
        assert_eq!(event.order_total, Some(800));
        assert_eq!(event.reason, None);
    }

    #[test]
    fn outcomes_have_the_names_of_the_contract() {
        let json = |outcome| serde_json::to_string(&outcome).unwrap();
        assert_eq!(json(StockOutcome::PaymentRequired), r#""payment-required""#);
        assert_eq!(json(StockOutcome::OutOfStock), r#""out-of-stock""#);
        let json = |outcome| serde_json::to_string(&outcome).unwrap();
        assert_eq!(json(WalletOutcome::ToBeShipped), r#""to-be-shipped""#);
        assert_eq!(json(WalletOutcome::InsufficientFund), r#""insufficient-fund""#);
    }

    #[test]
    fn every_stream_lies_under_its_topics_hash_tag() {
        for stream in Stream::ALL {
            let tag = format!("{{{}}}", stream.topic().name());
            assert!(stream.key().contains(&tag), "{stream}");
        }
    }
}
