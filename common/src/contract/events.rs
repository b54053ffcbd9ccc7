//! The events on the streams: the public contract of the system.
//!
//! Field names and values are those of the original. The additions of this system (`attempt`,
//! `reason`, `resend`, `keep`, `request`) have defaults, and readers ignore unknown members, so
//! services of both systems can share a Redis. The original caches the members of `…_created` and
//! `…_updated` events in hashes and lists: these events have only numbers, strings and lists of
//! strings as members.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    contract::{
        ids::{CustomerId, OrderId, ProductId},
        streams,
    },
    schema::{
        entry_id::EntryId,
        stream::{Event, Stream},
    },
    text::{read_plain, read_plain_option},
};

pub(crate) const fn first_attempt() -> u32 {
    1
}

/// Whether a member has its default, which is not written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A number that earlier versions wrote as `true` or `false`.
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

/// An order was accepted, or is tried again; nothing was checked yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct OrderCreated {
    /// The order.
    #[schema(value_type = Uuid)]
    pub id: OrderId,
    /// The ordered products; an id repeated n times means n units.
    pub product_ids: Vec<ProductId>,
    /// The customer who ordered and pays.
    pub customer_id: CustomerId,
    /// Always `pending`; no decision depends on it.
    #[serde(default = "pending")]
    pub status: String,
    /// The number of the attempt to fill the order, from 1.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The number of resends for lack of an answer. An owner that has already decided repeats its
    /// answer.
    #[serde(default, deserialize_with = "read_count", skip_serializing_if = "is_zero")]
    pub resend: u32,
    /// Only together with services of the original, whose results carry no attempt: the last entry
    /// of `events:{inventory}_check` that order_service assigned to an earlier attempt. Later
    /// entries belong to this attempt.
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
    const STREAM: Stream = streams::ORDER_CREATED;
}

macro_rules! order_events {
    ($(
        $(#[$doc:meta])*
        $name:ident on $stream:ident { $($(#[$rest:meta])* $member:ident: $kind:ty)? }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
        pub struct $name {
            /// The order.
            #[schema(value_type = Uuid)]
            pub id: OrderId,
            /// The customer of the order.
            pub customer_id: CustomerId,
            /// The current attempt of the order.
            #[serde(default = "first_attempt")]
            pub attempt: u32,
            $(
                $(#[$rest])*
                #[serde(default, skip_serializing_if = "is_zero")]
                pub $member: $kind,
            )?
        }

        impl Event for $name {
            const STREAM: Stream = streams::$stream;
        }
    )*};
}

order_events! {
    /// An order was cancelled: its past and future effects are undone.
    OrderCancelled on ORDER_CANCELLED {
        /// The number of resends for lack of a confirmation.
        resend: u32
    }
    /// An order was shipped.
    OrderShipped on ORDER_SHIPPED {
        /// The number of resends for lack of a confirmation.
        resend: u32
    }
    /// An order arrived.
    OrderCompleted on ORDER_COMPLETED {}
    /// The payment of an order failed, and the release of its stock is not confirmed yet.
    OrderUnpaid on ORDER_UNPAID {
        /// The number of times that it was published.
        resend: u32
    }
}

/// A step of an order that is confirmed by the owner of its effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfirmedStep {
    /// The cancelled order holds nothing and has paid nothing, now and in the future.
    Cancelled,
    /// The quantity of the shipped order is counted as sold.
    Shipped,
    /// The unpaid order holds no stock.
    Released,
}

/// A step of an order has had its effect on the stock.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StockConfirmed {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// The attempt of the confirmed event.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The step.
    pub step: ConfirmedStep,
}

impl Event for StockConfirmed {
    const STREAM: Stream = streams::INVENTORY_CONFIRMED;
}

/// A step of an order has had its effect on the customer's account.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PaymentConfirmed {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// The attempt of the confirmed event.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// The step; always `cancelled`.
    pub step: ConfirmedStep,
}

impl Event for PaymentConfirmed {
    const STREAM: Stream = streams::ACCOUNT_CONFIRMED;
}

/// The outcome of the stock check of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StockOutcome {
    /// The whole quantity is reserved.
    PaymentRequired,
    /// At least one product is short; nothing is reserved, and the order becomes a backorder.
    /// `payment-required` follows when it is filled.
    OutOfStock,
    /// A product does not exist, or the total is too large to be paid; nothing is reserved.
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
    /// The customer who pays.
    pub customer_id: CustomerId,
    /// The ordered products.
    pub product_ids: Vec<ProductId>,
    /// The cost of the reserved quantity; only with `payment-required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The attempt that this result belongs to; if it is missing, the order's current one. The
    /// original omits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The reason for the rejection, or the short products, as text.
    #[serde(
        default,
        deserialize_with = "read_plain_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
    /// Whether this is a repeated answer to a resent order; see `OrderCreated`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resend: bool,
    /// Whether this is repeated after the reserved quantity was released: it must not be paid any
    /// more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub released: bool,
}

impl Event for StockChecked {
    const STREAM: Stream = streams::INVENTORY_CHECK;
}

/// The outcome of the payment of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WalletOutcome {
    /// The order is paid.
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
    /// The customer who pays.
    pub customer_id: CustomerId,
    /// The outcome.
    pub account: WalletOutcome,
    /// The requested amount; the original omits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The attempt that this result belongs to; if it is missing, the order's current one. The
    /// original omits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The reason why nothing was paid, as text.
    #[serde(
        default,
        deserialize_with = "read_plain_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
}

impl Event for WalletChecked {
    const STREAM: Stream = streams::ACCOUNT_WALLET;
}

/// The cost of an order was refunded.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Refunded {
    /// The order.
    #[schema(value_type = Uuid)]
    pub order_id: OrderId,
    /// The customer who had paid.
    pub customer_id: CustomerId,
    /// The amount, in whole units of money.
    pub amount: u64,
    /// The attempt that was paid.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
}

impl Event for Refunded {
    const STREAM: Stream = streams::ACCOUNT_REFUNDED;
}

/// A delivery of stock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Restock {
    /// The id of the delivery, which has its effect once however often it is published.
    pub id: Uuid,
    /// The product.
    pub product_id: ProductId,
    /// The quantity.
    pub amount: u64,
}

impl Event for Restock {
    const STREAM: Stream = streams::INVENTORY_RESTOCK;
}

/// A customer's deposit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopUp {
    /// The id of the deposit, which has its effect once however often it is published.
    pub id: Uuid,
    /// The customer.
    pub customer_id: CustomerId,
    /// The amount, in whole units of money.
    pub amount: u64,
}

impl Event for TopUp {
    const STREAM: Stream = streams::ACCOUNT_TOP_UP;
}

/// A customer's deposit was credited.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToppedUp {
    /// The deposit.
    pub id: Uuid,
    /// The customer.
    pub customer_id: CustomerId,
    /// The amount, in whole units of money.
    pub amount: u64,
    /// The balance after the deposit.
    pub balance: u64,
}

impl Event for ToppedUp {
    const STREAM: Stream = streams::ACCOUNT_TOPPED_UP;
}

/// Orders wait for a product that was restocked: the next part of its backorder queue is to be
/// filled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = LineMoves)]
pub struct FillBackorders {
    /// The restocked product.
    pub product_id: ProductId,
    /// The sequence number of the last order that was considered; 0 at the beginning of the queue.
    pub after: u64,
}

impl Event for FillBackorders {
    const STREAM: Stream = streams::INVENTORY_FILL;
}

/// A client's definition of a product. A definition of an existing product resets it to these
/// values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProductCreated {
    /// The product.
    pub id: ProductId,
    /// The display name.
    #[serde(deserialize_with = "read_plain")]
    pub name: String,
    /// The price of one unit, in whole units of money.
    pub price: u64,
    /// The available quantity.
    pub amount: u64,
    /// 1: an existing product keeps its quantity.
    #[serde(
        default,
        deserialize_with = "read_flag",
        serialize_with = "write_flag",
        skip_serializing_if = "is_false"
    )]
    #[schema(value_type = u8, maximum = 1)]
    pub keep: bool,
    /// The id of the request, which has its effect once however often it is published. Absent if no
    /// client waits for the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
}

impl Event for ProductCreated {
    const STREAM: Stream = streams::INVENTORY_CREATED;
}

/// A client's definition of a customer's account. A definition of an existing account resets it to
/// these values.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountCreated {
    /// The customer.
    pub id: CustomerId,
    /// The display name.
    #[serde(deserialize_with = "read_plain")]
    pub name: String,
    /// The e-mail address for messages.
    #[serde(deserialize_with = "read_plain")]
    pub email: String,
    /// The balance, in whole units of money.
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
    /// The id of the request, which has its effect once however often it is published. Absent if no
    /// client waits for the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
}

impl Event for AccountCreated {
    const STREAM: Stream = streams::ACCOUNT_CREATED;
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
