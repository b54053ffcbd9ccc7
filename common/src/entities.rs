//! The entities that the report shows: stored by their owners, read by the gateway, published whole
//! on the `…_updated` streams. The rules by which they change are in their owners' pure files.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    decision::{Entity, Millis},
    ids::{CustomerId, OrderId, ProductId},
    keys::{self, Kind},
};

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
    #[schema(example = 1_767_225_600_000_u64)]
    pub at: Millis,
    /// In which attempt, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
}

/// An order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// The order's id.
    #[schema(value_type = uuid::Uuid)]
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    #[schema(value_type = Vec<String>, example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who ordered, and pays.
    #[schema(value_type = String, example = "101")]
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
    /// The statuses that it went through, oldest first.
    pub history: Vec<Step>,
}

impl Entity for Order {
    type Id = OrderId;
    fn kind() -> &'static Kind {
        &keys::ORDER
    }
    fn id(&self) -> &OrderId {
        &self.id
    }
}

/// A product and its stock. At every quiet moment `received = amount + reserved`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Product {
    /// The product's id.
    #[schema(value_type = String, example = "201")]
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
    /// All pieces that ever came in.
    #[serde(default)]
    #[schema(example = 4)]
    pub received: u64,
    /// The last `created` event that was applied; an older one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600000-0")]
    pub created_by: Option<crate::ids::EntryId>,
}

impl Entity for Product {
    type Id = ProductId;
    fn kind() -> &'static Kind {
        &keys::PRODUCT
    }
    fn id(&self) -> &ProductId {
        &self.id
    }
}

/// A customer's account. At every quiet moment `deposited = balance + paid`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// The customer's id.
    #[schema(value_type = String, example = "101")]
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
    pub created_by: Option<crate::ids::EntryId>,
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

impl Entity for crate::events::MessageSent {
    type Id = uuid::Uuid;
    fn kind() -> &'static Kind {
        &keys::MESSAGE
    }
    fn id(&self) -> &uuid::Uuid {
        &self.id
    }
}
