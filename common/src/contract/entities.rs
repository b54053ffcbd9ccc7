//! The entities that the report shows: stored by their owners, read by the gateway, published on the
//! `…_updated` streams. The rules by which they change are in their owners' pure files.
//!
//! What those streams carry ([`OrderUpdated`], [`ProductUpdated`], and [`Account`] as it is) is flat:
//! strings, numbers and lists of strings. Caches store each member on its own.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    clock::Millis,
    contract::{
        entity::{Entity, Place},
        ids::{CustomerId, EntryId, OrderId, ProductId},
        keys::{self, Kind},
    },
};

/// How many attempts an order may have.
pub const MAX_ATTEMPTS: u32 = 10_000;
/// How many attempts an order may have whose history was never shortened. Earlier versions stored all
/// steps of all attempts, and what is shortened at once has to fit into one commit.
pub const MAX_UNSHORTENED_ATTEMPTS: u32 = 50;
/// The attempts whose steps an order keeps, the current one included.
pub const KEPT_ATTEMPTS: u32 = 10;

/// Where an order stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderStatus {
    /// Accepted; nothing was looked at yet.
    Pending,
    /// Waits for stock; nothing is reserved.
    OutOfStock,
    /// All pieces are reserved; payment is under way.
    PaymentRequired,
    /// Waits for the customer to top up; nothing is reserved.
    InsufficientFund,
    /// Paid.
    ToBeShipped,
    /// On its way.
    Shipped,
    /// Arrived.
    Completed,
    /// It names a product or customer that does not exist; see `reason`.
    Rejected,
    /// Called off.
    Cancelled,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [OrderStatus; 9] = [
        Self::Pending,
        Self::OutOfStock,
        Self::PaymentRequired,
        Self::InsufficientFund,
        Self::ToBeShipped,
        Self::Shipped,
        Self::Completed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// Whether the next step is a service's, and not the customer's or the warehouse's.
    pub const fn is_underway(self) -> bool {
        matches!(self, Self::Pending | Self::PaymentRequired)
    }

    /// Whether something can still become of the order.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Completed | Self::Rejected | Self::Cancelled)
    }

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::OutOfStock => "out-of-stock",
            Self::PaymentRequired => "payment-required",
            Self::InsufficientFund => "insufficient-fund",
            Self::ToBeShipped => "to-be-shipped",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A step in the life of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The status that it reached.
    pub status: OrderStatus,
    /// When order_service learned of it, in milliseconds since 1970.
    #[schema(value_type = u64, example = 1_767_225_600_000_u64)]
    pub at: Millis,
    /// In which attempt, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// The request that asked for it, if one did; made from its `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// Only if order_service learned of it after a step that follows it: how many steps it knew
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<u32>,
    /// Only if the order's total became known by it and not by `payment-required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The last entry with this result; only if that does not say which attempt it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600-000123")]
    pub told_by: Option<EntryId>,
}

impl Step {
    /// A step that nobody asked for, known in time.
    pub const fn new(status: OrderStatus, at: Millis, attempt: u32) -> Self {
        Self { status, at, attempt, request: None, late: None, order_total: None, told_by: None }
    }
}

/// The largest number of times that order_service asks for the confirmation of a step.
pub const CONFIRMATION_RESENDS_MAX: u32 = 20;

/// An effect of an order's last step that its owner has to confirm to order_service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// The cancelled order holds no stock; by inventory_service.
    StockCancelled,
    /// The shipped order is counted as sold; by inventory_service.
    StockShipped,
    /// The order that was not paid holds no stock; by inventory_service.
    StockReleased,
    /// The payment of the cancelled order is refunded; by account_service.
    PaymentCancelled,
}

/// How often an order was sent again because no answer or confirmation came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Resent {
    /// When for the last time, in milliseconds since 1970.
    #[schema(value_type = u64, example = 1_767_225_660_000_u64)]
    pub at: Millis,
    /// How often since its last step.
    #[schema(example = 1)]
    pub times: u32,
}

/// An order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// The order's id.
    #[schema(value_type = uuid::Uuid)]
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    #[schema(example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who ordered, and pays.
    pub customer_id: CustomerId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Counts the tries to fill the order, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// What it costs, in whole units of money; known once its stock is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub order_total: Option<u64>,
    /// Why it was rejected, or what is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The statuses that it went through, oldest first: the first step and those of the latest
    /// attempts.
    pub history: Vec<Step>,
    /// How many steps after the first one are not kept in `history` any more; they belong to
    /// earlier attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 27)]
    pub omitted: Option<u32>,
    /// Only while an answer or a confirmation is overdue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resent: Option<Resent>,
    /// The effects of its last step that are not confirmed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    pub unconfirmed: Vec<Confirmation>,
}

impl Order {
    /// How many attempts it may have.
    pub const fn attempt_limit(&self) -> u32 {
        if self.attempt > KEPT_ATTEMPTS && self.omitted.is_none() {
            MAX_UNSHORTENED_ATTEMPTS
        } else {
            MAX_ATTEMPTS
        }
    }

    /// When it was placed.
    pub fn created(&self) -> Millis {
        self.history.first().map_or(0, |step| step.at)
    }

    /// Whether order_service still asks for the confirmation of a step.
    pub fn awaits_confirmation(&self) -> bool {
        let times = self.resent.map_or(0, |resent| resent.times);
        !self.unconfirmed.is_empty() && times <= CONFIRMATION_RESENDS_MAX
    }

    /// As it was answered to the request that asked for the step at this place of its history:
    /// with what was known by then.
    #[must_use]
    pub fn as_of(&self, place: usize) -> Self {
        let arrivals = self.arrivals();
        let steps = self.history.iter().zip(&arrivals);
        let history: Vec<Step> = steps
            .filter(|(_, arrival)| **arrival <= arrivals[place])
            .map(|(step, _)| *step)
            .collect();
        let Step { status, attempt, .. } = self.history[place];
        let total = |step: &Step| match step.status {
            OrderStatus::PaymentRequired => self.order_total,
            _ => step.order_total,
        };
        let order_total = history.iter().filter(|step| step.attempt == attempt).find_map(total);
        // Steps are omitted when an attempt begins, so earlier answers had all of them.
        let omitted = self.omitted.filter(|_| attempt == self.attempt);
        Self {
            status,
            attempt,
            order_total,
            reason: None,
            history,
            omitted,
            resent: None,
            unconfirmed: Vec::new(),
            ..self.clone()
        }
    }

    /// For each step of the history, how many were known before it. Those that came late tell; the
    /// others came one after the other.
    pub fn arrivals(&self) -> Vec<u32> {
        let late: Vec<u32> = self.history.iter().filter_map(|step| step.late).collect();
        let mut in_time = (0..).filter(|number| !late.contains(number));
        let arrival = |step: &Step| step.late.or_else(|| in_time.next()).unwrap_or(0);
        self.history.iter().map(arrival).collect()
    }
}

impl Entity for Order {
    type Id = OrderId;
    fn kind() -> &'static Kind {
        &keys::ORDER
    }
    fn id(&self) -> &OrderId {
        &self.id
    }
    fn lists(&self) -> Vec<String> {
        vec![keys::orders_of(&self.customer_id)]
    }
    fn places(&self) -> Vec<Place> {
        let member = format!("{:012x}-{}", self.created(), self.id);
        let of_customer = format!("{}{member}", keys::of_customer(&self.customer_id));
        let mut places = vec![
            Place::new(keys::orders_with(self.status), member.clone()),
            Place::new(keys::customers_orders_with(self.status), of_customer.clone()),
        ];
        if self.awaits_confirmation() {
            places.push(Place::new(keys::UNCONFIRMED_ORDERS, member));
        }
        if self.status.is_open() {
            places.push(Place::new(keys::OPEN_ORDERS, of_customer));
        }
        places
    }
    fn announcement(&self) -> Option<String> {
        Some(json(&OrderUpdated::from(self)))
    }
}

fn json(announcement: &impl Serialize) -> String {
    serde_json::to_string(announcement).expect("it has string keys only")
}

/// An order as `events:{order}_updated` carries it: without its history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(from = "AnyOrderUpdated")]
pub struct OrderUpdated {
    /// The order.
    #[schema(value_type = Uuid)]
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    #[schema(example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who ordered, and pays.
    pub customer_id: CustomerId,
    /// Its status.
    pub status: OrderStatus,
    /// Counts the tries to fill the order, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// What it costs, in whole units of money; known once its stock is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub order_total: Option<u64>,
    /// Why it was rejected, or what is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was placed, in milliseconds since 1970; absent where the publisher does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 1_767_225_600_000_u64)]
    pub created_at: Option<Millis>,
    /// The time of its last step, or when it was sent again after that, in milliseconds since 1970;
    /// absent where the publisher does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 1_767_225_600_007_u64)]
    pub updated_at: Option<Millis>,
}

impl From<&Order> for OrderUpdated {
    fn from(order: &Order) -> Self {
        Self {
            id: order.id,
            product_ids: order.product_ids.clone(),
            customer_id: order.customer_id.clone(),
            status: order.status,
            attempt: order.attempt,
            order_total: order.order_total,
            reason: order.reason.as_deref().map(no_key_of_the_original),
            created_at: order.history.first().map(|step| step.at),
            updated_at: last_change(&order.history, order.resent),
        }
    }
}

/// The original takes every text with `_` and `:` in an event that it caches for a key of its cache, and answers 500
/// for ever when there is none. Reasons name ids, and ids may have either.
fn no_key_of_the_original(reason: &str) -> String {
    if reason.contains('_') { reason.replace(':', " -") } else { reason.to_owned() }
}

/// The time of the latest step, or of sending the order again.
fn last_change(history: &[Step], resent: Option<Resent>) -> Option<Millis> {
    history.iter().map(|step| step.at).chain(resent.map(|resent| resent.at)).max()
}

/// An entry of `events:{order}_updated` by any publisher: earlier versions of order_service published
/// the whole order, and the original publishes four members.
#[derive(Deserialize)]
struct AnyOrderUpdated {
    id: OrderId,
    product_ids: Vec<ProductId>,
    customer_id: CustomerId,
    status: OrderStatus,
    #[serde(default = "crate::contract::events::first_attempt")]
    attempt: u32,
    order_total: Option<u64>,
    reason: Option<String>,
    created_at: Option<Millis>,
    updated_at: Option<Millis>,
    #[serde(default)]
    history: Vec<Step>,
    resent: Option<Resent>,
}

impl From<AnyOrderUpdated> for OrderUpdated {
    fn from(any: AnyOrderUpdated) -> Self {
        Self {
            id: any.id,
            product_ids: any.product_ids,
            customer_id: any.customer_id,
            status: any.status,
            attempt: any.attempt,
            order_total: any.order_total,
            reason: any.reason,
            created_at: any.created_at.or(any.history.first().map(|step| step.at)),
            updated_at: any.updated_at.or(last_change(&any.history, any.resent)),
        }
    }
}

/// The line of orders that wait for a product, kept in pages.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// How many orders wait.
    #[schema(example = 2)]
    pub waiting: u64,
    /// Before this page there is nobody.
    pub first: u64,
    /// The page that the next one joins.
    pub last: u64,
    /// The ticket given last; they rise.
    pub ticket: u64,
    /// Stock came in and the line is being served: how far. Whoever comes now joins its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
}

/// How far a line has been served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Served {
    /// Up to this ticket everybody had their turn.
    pub ticket: u64,
    /// The page of those who are next.
    pub page: u64,
}

impl Line {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A page of the line of a product. inventory_service keeps it and lets the gateway read it, for whom
/// it is where an order waits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinePage {
    /// The page and the line that it belongs to.
    pub id: PageId,
    /// The orders that wait there, by rising tickets.
    pub spots: Vec<Spot>,
}

/// Names a page of a line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct PageId {
    /// The product that is waited for.
    pub product: ProductId,
    /// Pages are numbered from 0.
    pub number: u64,
}

/// An order in a line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spot {
    /// Higher than that of every order before it.
    pub ticket: u64,
    /// The order.
    pub order: OrderId,
    /// The quantity of the product that it needs.
    pub pieces: u64,
    /// The other products that it needs, so that inventory_service can pass the order by without
    /// reading its reservation. Empty if there are too many of them to be repeated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<ProductId, u64>,
    /// The number of other products that it needs if they are not listed: its reservation has them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl LinePage {
    /// A page without orders.
    pub fn empty(id: PageId) -> Self {
        Self { id, spots: Vec::new() }
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.product)
    }
}

impl Entity for LinePage {
    type Id = PageId;
    fn kind() -> &'static Kind {
        &keys::LINE_PAGE
    }
    fn id(&self) -> &PageId {
        &self.id
    }
}

/// A product and its stock. At every quiet moment `received = amount + reserved`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Product {
    /// The product's id.
    pub id: ProductId,
    /// For people.
    #[schema(example = "Denon Speakers")]
    pub name: String,
    /// Of one piece, in whole units of money.
    #[schema(example = 800)]
    pub price: u64,
    /// Pieces on hand.
    #[schema(example = 4)]
    pub amount: u64,
    /// Pieces that orders hold, until they are given back.
    #[serde(default)]
    #[schema(example = 0)]
    pub reserved: u64,
    /// How many of those left the house with their orders.
    #[serde(default)]
    #[schema(example = 0)]
    pub sold: u64,
    /// All pieces that ever came in.
    #[serde(default)]
    #[schema(example = 4)]
    pub received: u64,
    /// The last `created` event that was applied; an older one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600000-0")]
    pub created_by: Option<EntryId>,
    /// The orders that wait for it, if there are any.
    #[serde(default, skip_serializing_if = "Line::is_empty")]
    #[schema(value_type = Option<Line>)]
    pub line: Line,
}

impl Entity for Product {
    type Id = ProductId;
    fn kind() -> &'static Kind {
        &keys::PRODUCT
    }
    fn id(&self) -> &ProductId {
        &self.id
    }
    fn announcement(&self) -> Option<String> {
        Some(json(&ProductUpdated::from(self)))
    }
}

/// A product as `events:{inventory}_updated` carries it: of its line, only how many orders wait.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(from = "AnyProductUpdated")]
pub struct ProductUpdated {
    /// The product's id.
    pub id: ProductId,
    /// For people.
    #[schema(example = "Denon Speakers")]
    pub name: String,
    /// Of one piece, in whole units of money.
    #[schema(example = 800)]
    pub price: u64,
    /// Pieces on hand.
    #[schema(example = 3)]
    pub amount: u64,
    /// Pieces that orders hold.
    #[schema(example = 1)]
    pub reserved: u64,
    /// How many of those left the house with their orders.
    #[schema(example = 0)]
    pub sold: u64,
    /// All pieces that ever came in.
    #[schema(example = 4)]
    pub received: u64,
    /// How many orders wait for it.
    #[schema(example = 0)]
    pub waiting: u64,
    /// The last `created` event that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600000-0")]
    pub created_by: Option<EntryId>,
}

impl From<&Product> for ProductUpdated {
    fn from(product: &Product) -> Self {
        Self {
            id: product.id.clone(),
            name: product.name.clone(),
            price: product.price,
            amount: product.amount,
            reserved: product.reserved,
            sold: product.sold,
            received: product.received,
            waiting: product.line.waiting,
            created_by: product.created_by,
        }
    }
}

/// An entry of `events:{inventory}_updated` by any publisher: earlier versions of inventory_service
/// published the whole product, with its line as an object.
#[derive(Deserialize)]
struct AnyProductUpdated {
    #[serde(flatten)]
    product: Product,
    waiting: Option<u64>,
}

impl From<AnyProductUpdated> for ProductUpdated {
    fn from(AnyProductUpdated { product, waiting }: AnyProductUpdated) -> Self {
        let updated = Self::from(&product);
        Self { waiting: waiting.unwrap_or(updated.waiting), ..updated }
    }
}

/// A customer's account. At every quiet moment `deposited = balance + paid`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// The customer's id.
    pub id: CustomerId,
    /// For people.
    #[schema(example = "Anthony")]
    pub name: String,
    /// For messages.
    #[schema(example = "anthony@server.com")]
    pub email: String,
    /// In whole units of money.
    #[schema(example = 1_000)]
    pub balance: u64,
    /// What orders cost so far, refunds taken off.
    #[serde(default)]
    #[schema(example = 0)]
    pub paid: u64,
    /// All money that ever came in.
    #[serde(default)]
    #[schema(example = 1_000)]
    pub deposited: u64,
    /// The last `created` event that was applied; an older one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600000-0")]
    pub created_by: Option<EntryId>,
}

impl Entity for Account {
    type Id = CustomerId;
    fn kind() -> &'static Kind {
        &keys::ACCOUNT
    }
    fn id(&self) -> &CustomerId {
        &self.id
    }
}

/// `anthony@server.com` as `a…@server.com`.
pub fn masked(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((name, host)) => {
            let first = name.chars().next().map(String::from).unwrap_or_default();
            format!("{first}…@{host}")
        }
        None => "…".to_owned(),
    }
}

/// A delivery of stock, named by whoever brought it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The delivery's id.
    pub id: Uuid,
    /// The product.
    pub product_id: ProductId,
    /// How many pieces came in.
    #[schema(example = 5)]
    pub amount: u64,
    /// How many were available then, before waiting orders were filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 9)]
    pub on_hand: Option<u64>,
    /// Why it was turned away, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The event that brought it.
    #[schema(value_type = String, example = "1767225600000-0")]
    pub entry: EntryId,
}

impl Entity for Delivery {
    type Id = Uuid;
    fn kind() -> &'static Kind {
        &keys::DELIVERY
    }
    fn id(&self) -> &Uuid {
        &self.id
    }
}

/// A customer's deposit, named by whoever paid it in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Deposit {
    /// The deposit's id.
    pub id: Uuid,
    /// The customer.
    pub customer_id: CustomerId,
    /// How much came in, in whole units of money.
    #[schema(example = 500)]
    pub amount: u64,
    /// The balance with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_500)]
    pub balance: Option<u64>,
    /// Why it was turned away, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The event that brought it.
    #[schema(value_type = String, example = "1767225600000-0")]
    pub entry: EntryId,
}

impl Entity for Deposit {
    type Id = Uuid;
    fn kind() -> &'static Kind {
        &keys::DEPOSIT
    }
    fn id(&self) -> &Uuid {
        &self.id
    }
}

/// Why stock or money did not come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// There is no such product or account.
    Unknown,
    /// The sum could not be counted.
    TooMuch,
}

impl Entity for crate::contract::events::MessageSent {
    type Id = Uuid;
    fn kind() -> &'static Kind {
        &keys::MESSAGE
    }
    fn id(&self) -> &Uuid {
        &self.id
    }
    fn lists(&self) -> Vec<String> {
        vec![keys::messages_to(&self.customer)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_announced_reason_looks_like_a_key_of_the_original() {
        assert_eq!(no_key_of_the_original("201: 2 wanted"), "201: 2 wanted");
        assert_eq!(no_key_of_the_original("a_b: 2 wanted"), "a_b - 2 wanted");
    }

    #[test]
    fn a_masked_address_keeps_its_first_letter_and_its_host() {
        for (address, shown) in [
            ("anthony@server.com", "a…@server.com"),
            ("ü@server.com", "ü…@server.com"),
            ("a@b@server.com", "a…@server.com"),
            ("@server.com", "…@server.com"),
            ("nothing", "…"),
            ("", "…"),
        ] {
            assert_eq!(masked(address), shown, "{address}");
        }
    }
}
