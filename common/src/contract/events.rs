//! The events on the streams: the public contract of the system.
//!
//! Field names and values are those of the original. What this system adds (`attempt`, `reason`,
//! `resend`, `keep`, `request`) has a default, and a reader ignores what it does not know, so services of both kinds can sit on
//! the same Redis. The original keeps what it reads from `…_created` and `…_updated` in hashes and lists: these events have
//! only numbers, strings and lists of strings as members.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::contract::{
    ids::{CustomerId, EntryId, NAMESPACE, OrderId, ProductId},
    text::{read_plain, read_plain_option},
};

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
    /// [`OrderUpdated`](crate::contract::entities::OrderUpdated), by order_service.
    OrderUpdated,
    /// [`OrderCancelled`], by order_service.
    OrderCancelled,
    /// [`OrderShipped`], by order_service.
    OrderShipped,
    /// [`OrderCompleted`], by order_service.
    OrderCompleted,
    /// [`OrderUnpaid`], by order_service.
    OrderUnpaid,
    /// [`ProductCreated`], by clients through the gateway.
    InventoryCreated,
    /// [`Restock`], by clients through the gateway.
    InventoryRestock,
    /// [`StockChecked`], by inventory_service.
    InventoryCheck,
    /// [`StockConfirmed`], by inventory_service.
    InventoryConfirmed,
    /// [`LineMoves`], by inventory_service for itself.
    InventoryLine,
    /// [`ProductUpdated`](crate::contract::entities::ProductUpdated), by inventory_service.
    InventoryUpdated,
    /// [`AccountCreated`], by clients through the gateway.
    AccountCreated,
    /// [`TopUp`], by clients through the gateway.
    AccountTopUp,
    /// [`ToppedUp`], by account_service.
    AccountToppedUp,
    /// [`WalletChecked`], by account_service.
    AccountWallet,
    /// [`Refunded`], by account_service.
    AccountRefunded,
    /// [`PaymentConfirmed`], by account_service.
    AccountConfirmed,
    /// [`Account`](crate::contract::entities::Account), by account_service.
    AccountUpdated,
    /// [`MessageSent`], by msg_service.
    MessageSent,
    /// [`DeadLetter`]: what the topic's owner could not handle, by that owner.
    Dead(Topic),
}

impl Stream {
    /// All streams.
    pub const ALL: [Stream; 24] = [
        Self::OrderCreated,
        Self::OrderUpdated,
        Self::OrderCancelled,
        Self::OrderShipped,
        Self::OrderCompleted,
        Self::OrderUnpaid,
        Self::InventoryCreated,
        Self::InventoryRestock,
        Self::InventoryCheck,
        Self::InventoryConfirmed,
        Self::InventoryLine,
        Self::InventoryUpdated,
        Self::AccountCreated,
        Self::AccountTopUp,
        Self::AccountToppedUp,
        Self::AccountWallet,
        Self::AccountRefunded,
        Self::AccountConfirmed,
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
            Self::OrderCancelled => "events:{order}_cancelled",
            Self::OrderShipped => "events:{order}_shipped",
            Self::OrderCompleted => "events:{order}_completed",
            Self::OrderUnpaid => "events:{order}_unpaid",
            Self::InventoryCreated => "events:{inventory}_created",
            Self::InventoryRestock => "events:{inventory}_restock",
            Self::InventoryCheck => "events:{inventory}_check",
            Self::InventoryConfirmed => "events:{inventory}_confirmed",
            Self::InventoryLine => "events:{inventory}_line",
            Self::InventoryUpdated => "events:{inventory}_updated",
            Self::AccountCreated => "events:{account}_created",
            Self::AccountTopUp => "events:{account}_top-up",
            Self::AccountToppedUp => "events:{account}_topped-up",
            Self::AccountWallet => "events:{account}_wallet",
            Self::AccountRefunded => "events:{account}_refunded",
            Self::AccountConfirmed => "events:{account}_confirmed",
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
            Self::OrderCreated
            | Self::OrderUpdated
            | Self::OrderCancelled
            | Self::OrderShipped
            | Self::OrderCompleted
            | Self::OrderUnpaid => Topic::Order,
            Self::InventoryCreated
            | Self::InventoryRestock
            | Self::InventoryCheck
            | Self::InventoryConfirmed
            | Self::InventoryLine
            | Self::InventoryUpdated => Topic::Inventory,
            Self::AccountCreated
            | Self::AccountTopUp
            | Self::AccountToppedUp
            | Self::AccountWallet
            | Self::AccountRefunded
            | Self::AccountConfirmed
            | Self::AccountUpdated => Topic::Account,
            Self::MessageSent => Topic::Message,
            Self::Dead(topic) => topic,
        }
    }

    /// Who appends to it.
    pub const fn writer(self) -> Writer {
        match self {
            Self::InventoryCreated
            | Self::InventoryRestock
            | Self::AccountCreated
            | Self::AccountTopUp => Writer::Clients,
            Self::OrderCreated
            | Self::OrderUpdated
            | Self::OrderCancelled
            | Self::OrderShipped
            | Self::OrderCompleted
            | Self::OrderUnpaid
            | Self::InventoryCheck
            | Self::InventoryConfirmed
            | Self::InventoryLine
            | Self::InventoryUpdated
            | Self::AccountToppedUp
            | Self::AccountWallet
            | Self::AccountRefunded
            | Self::AccountConfirmed
            | Self::AccountUpdated
            | Self::MessageSent
            | Self::Dead(_) => Writer::Owner,
        }
    }

    /// The owners of the topics whose services read this stream through their group.
    pub const fn readers(self) -> &'static [Topic] {
        match self {
            Self::OrderCreated => &[Topic::Inventory, Topic::Message],
            Self::OrderCancelled => &[Topic::Inventory, Topic::Account, Topic::Message],
            Self::OrderShipped => &[Topic::Inventory, Topic::Message],
            Self::OrderCompleted => &[Topic::Message],
            Self::OrderUnpaid
            | Self::InventoryCreated
            | Self::InventoryRestock
            | Self::InventoryLine => &[Topic::Inventory],
            Self::InventoryConfirmed | Self::AccountConfirmed => &[Topic::Order],
            Self::InventoryCheck => &[Topic::Account, Topic::Order, Topic::Message],
            Self::AccountCreated => &[Topic::Account, Topic::Message],
            Self::AccountTopUp => &[Topic::Account],
            Self::AccountToppedUp | Self::AccountRefunded => &[Topic::Message],
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

/// Who appends to a stream; there is one kind of writer for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writer {
    /// Clients, through the gateway: what is in it asks something of the topic's owner.
    Clients,
    /// The topic's owner: what is in it has happened.
    Owner,
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

pub(crate) const fn first_attempt() -> u32 {
    1
}

/// Whether a member has its default, which is not written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A number where earlier versions wrote `true` or `false`.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrFlag {
    Number(u32),
    Flag(bool),
}

fn read_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(match NumberOrFlag::deserialize(deserializer)? {
        NumberOrFlag::Number(number) => number,
        NumberOrFlag::Flag(flag) => flag.into(),
    })
}

fn read_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    read_count(deserializer).map(|number| number > 0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn write_flag<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8((*flag).into())
}

/// Whether a member has its default, which is not written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An order was accepted, or is to be tried again; nothing was looked at yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct OrderCreated {
    /// The order.
    #[schema(value_type = Uuid)]
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
    /// The number of times that it was published again because no answer came: whoever has decided
    /// already says again what.
    #[serde(default, deserialize_with = "read_count", skip_serializing_if = "is_zero")]
    pub resend: u32,
    /// Only beside services of the original, whose results name no attempt: the last entry of
    /// `events:{inventory}_check` that order_service took for an earlier attempt. Those after it are about
    /// this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub checked_by: Option<EntryId>,
    /// The same for failed payments on `events:{account}_wallet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub refused_by: Option<EntryId>,
}

fn pending() -> String {
    "pending".to_owned()
}

impl Event for OrderCreated {
    const STREAM: Stream = Stream::OrderCreated;
}

macro_rules! order_events {
    ($($(#[$doc:meta])* $name:ident { $($(#[$rest:meta])* $member:ident: $kind:ty)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
        pub struct $name {
            /// The order.
            #[schema(value_type = Uuid)]
            pub id: OrderId,
            /// Whose it is.
            pub customer_id: CustomerId,
            /// The attempt that it was in.
            #[serde(default = "first_attempt")]
            pub attempt: u32,
            $(
                $(#[$rest])*
                #[serde(default, skip_serializing_if = "is_zero")]
                pub $member: $kind,
            )?
        }

        impl Event for $name {
            const STREAM: Stream = Stream::$name;
        }
    )*};
}

order_events! {
    /// An order was called off: what was done for it, and what still will be, is undone.
    OrderCancelled {
        /// The number of times that it was published again because no confirmation arrived.
        resend: u32
    }
    /// An order left the house.
    OrderShipped {
        /// The number of times that it was published again because no confirmation arrived.
        resend: u32
    }
    /// An order arrived.
    OrderCompleted {}
    /// The stock of an order whose payment failed is still to be confirmed as released.
    OrderUnpaid {
        /// The number of times that it was published.
        resend: u32
    }
}

/// A step of an order that is confirmed by the owner of its effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfirmedStep {
    /// The cancelled order holds nothing and has paid nothing, and never will.
    Cancelled,
    /// The quantity of the shipped order is counted as sold.
    Shipped,
    /// The order that was not paid holds no stock.
    Released,
}

/// A step of an order has had its effect on the stock.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StockConfirmed {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// The attempt that the confirmed event named.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The step.
    pub step: ConfirmedStep,
}

impl Event for StockConfirmed {
    const STREAM: Stream = Stream::InventoryConfirmed;
}

/// A step of an order has had its effect on the customer's account.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PaymentConfirmed {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// The attempt that the confirmed event named.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The step; always `cancelled`.
    pub step: ConfirmedStep,
}

impl Event for PaymentConfirmed {
    const STREAM: Stream = Stream::AccountConfirmed;
}

/// What the stock check of an order came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StockOutcome {
    /// All pieces are reserved.
    PaymentRequired,
    /// At least one product is short; nothing is reserved, and the order waits in line. Its
    /// `payment-required` follows when it was filled.
    OutOfStock,
    /// A product does not exist, or the total cannot be paid; nothing is reserved.
    Rejected,
}

/// The stock check of an order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StockChecked {
    /// The outcome.
    pub inventory: StockOutcome,
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// As ordered.
    pub product_ids: Vec<ProductId>,
    /// What the reserved pieces cost; only with `payment-required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The attempt that this answers; where it is missing, the order's current one. The original does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it was rejected, or what is short; for people.
    #[serde(
        default,
        deserialize_with = "read_plain_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
    /// Said again, because the order was sent again; see `OrderCreated`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resend: bool,
    /// Said again after the pieces were given back: nothing may be taken for them any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub released: bool,
}

impl Event for StockChecked {
    const STREAM: Stream = Stream::InventoryCheck;
}

/// What the payment of an order came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct WalletChecked {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// The outcome.
    pub account: WalletOutcome,
    /// What was asked for; the original does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The attempt that this answers; where it is missing, the order's current one. The original does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why nothing was paid; for people.
    #[serde(
        default,
        deserialize_with = "read_plain_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
}

impl Event for WalletChecked {
    const STREAM: Stream = Stream::AccountWallet;
}

/// What an order had cost was given back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Refunded {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// Who had paid.
    pub customer_id: CustomerId,
    /// How much, in whole units of money.
    pub amount: u64,
    /// The attempt that was paid.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
}

impl Event for Refunded {
    const STREAM: Stream = Stream::AccountRefunded;
}

/// Stock comes in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Restock {
    /// Names the delivery: however often it is published, it comes in once.
    pub id: Uuid,
    /// The product.
    pub product_id: ProductId,
    /// How many pieces.
    pub amount: u64,
}

impl Event for Restock {
    const STREAM: Stream = Stream::InventoryRestock;
}

/// A customer pays money in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopUp {
    /// Names the deposit: however often it is published, it comes in once.
    pub id: Uuid,
    /// The customer.
    pub customer_id: CustomerId,
    /// In whole units of money.
    pub amount: u64,
}

impl Event for TopUp {
    const STREAM: Stream = Stream::AccountTopUp;
}

/// A customer's money came in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToppedUp {
    /// The deposit.
    pub id: Uuid,
    /// The customer.
    pub customer_id: CustomerId,
    /// How much, in whole units of money.
    pub amount: u64,
    /// The balance with it.
    pub balance: u64,
}

impl Event for ToppedUp {
    const STREAM: Stream = Stream::AccountToppedUp;
}

/// Orders wait for a product that came in: the next part of its line is to be served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LineMoves {
    /// The product that came in.
    pub product_id: ProductId,
    /// The last ticket that was looked at; 0 at the beginning of the line.
    pub after: u64,
}

impl Event for LineMoves {
    const STREAM: Stream = Stream::InventoryLine;
}

/// A product as a client defines it; again for an existing one, it is reset to these values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProductCreated {
    /// The product.
    pub id: ProductId,
    /// For people.
    #[serde(deserialize_with = "read_plain")]
    pub name: String,
    /// Of one piece, in whole units of money.
    pub price: u64,
    /// Pieces on hand.
    pub amount: u64,
    /// 1: an existing product keeps its amount.
    #[serde(
        default,
        deserialize_with = "read_flag",
        serialize_with = "write_flag",
        skip_serializing_if = "is_false"
    )]
    #[schema(value_type = u8, maximum = 1)]
    pub keep: bool,
    /// Names the request: however often it is published, it has its effect once. Absent where nobody
    /// asks what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
}

impl Event for ProductCreated {
    const STREAM: Stream = Stream::InventoryCreated;
}

/// A customer's account as a client defines it; again for an existing one, it is reset to these values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountCreated {
    /// The customer.
    pub id: CustomerId,
    /// For people.
    #[serde(deserialize_with = "read_plain")]
    pub name: String,
    /// For messages.
    #[serde(deserialize_with = "read_plain")]
    pub email: String,
    /// In whole units of money.
    pub balance: u64,
    /// 1: an existing account keeps its balance.
    #[serde(
        default,
        deserialize_with = "read_flag",
        serialize_with = "write_flag",
        skip_serializing_if = "is_false"
    )]
    #[schema(value_type = u8, maximum = 1)]
    pub keep: bool,
    /// Names the request: however often it is published, it has its effect once. Absent where nobody
    /// asks what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
}

impl Event for AccountCreated {
    const STREAM: Stream = Stream::AccountCreated;
}

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
    const STREAM: Stream = Stream::MessageSent;
}

/// An entry that could not be handled, with all that is needed to look into it and send it again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The stream that it came from.
    pub stream: String,
    /// Its entry there: `<milliseconds>-<number>`.
    pub entry: String,
    /// The group that could not handle it.
    pub group: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Its fields, bytes that are not UTF-8 replaced: whole, or their first 64 KiB. None if it was deleted
    /// while it was pending, or not read because it had stopped the processes that read it.
    #[schema(value_type = BTreeMap<String, String>)]
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The bytes of all its names and values; only if `fields` were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_bytes: Option<u64>,
    /// `sha1:` and the SHA-1 of all its names and values, one after the other; only if `fields` were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_digest: Option<String>,
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
        assert_eq!(event.attempt, None);
        assert_eq!(event.order_total, Some(800));
        assert_eq!(event.reason, None);
    }

    #[test]
    fn flags_are_numbers_for_the_original_and_are_read_in_the_form_of_earlier_versions() {
        for (keep, written) in [(true, Some(1)), (false, None)] {
            let (name, request) = ("Denon".to_owned(), None);
            let id = "201".parse().unwrap();
            let event = ProductCreated { id, name, price: 800, amount: 4, keep, request };
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json.get("keep").and_then(serde_json::Value::as_u64), written);
            assert_eq!(serde_json::from_value::<ProductCreated>(json).unwrap(), event);
        }
        let id = "9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";
        for (resend, read) in [("true", 1), ("false", 0), ("0", 0), ("3", 3)] {
            let product =
                format!(r#"{{"id":"1","name":"A","price":1,"amount":1,"keep":{resend}}}"#);
            let product: ProductCreated = serde_json::from_str(&product).unwrap();
            assert_eq!(product.keep, read > 0, "{resend}");
            let order = format!(
                r#"{{"id":"{id}","product_ids":["201"],"customer_id":"101","resend":{resend}}}"#
            );
            let order: OrderCreated = serde_json::from_str(&order).unwrap();
            assert_eq!(order.resend, read, "{resend}");
        }
    }

    #[test]
    fn texts_of_others_have_no_control_characters_once_they_are_read() {
        let account: AccountCreated = serde_json::from_str(
            r#"{"id":"101","name":"A\nB\u001b[31m","email":"a@b\r\nBcc: c@d","balance":1}"#,
        )
        .unwrap();
        assert_eq!(account.name, "A\u{fffd}B\u{fffd}[31m");
        assert_eq!(account.email, "a@b\u{fffd}\u{fffd}Bcc: c@d");
        let product: ProductCreated =
            serde_json::from_str(r#"{"id":"201","name":"\u202eA\u0000","price":1,"amount":1}"#)
                .unwrap();
        assert_eq!(product.name, "\u{fffd}A\u{fffd}");
        for (reason, read) in
            [(r#""a\tb""#, Some("a\u{fffd}b")), (r#""a b""#, Some("a b")), ("null", None)]
        {
            let event: WalletChecked = serde_json::from_str(&format!(
                r#"{{"order_id":"9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11","customer_id":"101",
                    "account":"rejected","reason":{reason}}}"#,
            ))
            .unwrap();
            assert_eq!(event.reason.as_deref(), read);
        }
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
