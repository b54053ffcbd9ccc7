//! The entities that the report shows: stored by their owners, read by the gateway, published on the
//! `…_updated` streams. The rules by which they change are in their owners' pure files.
//!
//! What those streams carry ([`OrderUpdated`](crate::contract::order::OrderUpdated), [`ProductUpdated`], and [`Account`] as it is) is flat:
//! strings, numbers and lists of strings. Caches store each member on its own.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    contract::{
        backorders::Line,
        ids::{CustomerId, ProductId},
        keys,
    },
    schema::{
        entity::{Entity, Kind},
        entry_id::EntryId,
        json::to_json,
    },
};

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
    const KIND: &'static Kind = &keys::PRODUCT;
    fn id(&self) -> &ProductId {
        &self.id
    }
    fn announcement(&self) -> Option<String> {
        Some(to_json(&ProductUpdated::from(self)))
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
    const KIND: &'static Kind = &keys::ACCOUNT;
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
    const KIND: &'static Kind = &keys::DELIVERY;
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
    const KIND: &'static Kind = &keys::DEPOSIT;
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

#[cfg(test)]
mod tests {
    use super::*;

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
