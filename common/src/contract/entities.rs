//! The entities of the report: stored by their owners, read by the gateway, published on the
//! `…_updated` streams. Their owners' pure files contain the rules for their changes.
//!
//! The entries of those streams ([`OrderUpdated`](crate::contract::order::OrderUpdated),
//! [`ProductUpdated`], and the unchanged [`Account`]) are flat: strings, numbers and lists of
//! strings. Caches store each member separately.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    contract::{
        backorders::BackorderQueue,
        ids::{CustomerId, ProductId},
        keys,
    },
    schema::{
        entity::{Entity, Kind},
        entry_id::EntryId,
        json::to_json,
    },
};

/// A product and its stock. Between events `received = amount + reserved`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Product {
    /// The product's id.
    pub id: ProductId,
    /// The display name.
    #[schema(example = "Denon Speakers")]
    pub name: String,
    /// The price of one unit, in whole units of money.
    #[schema(example = 800)]
    pub price: u64,
    /// The available quantity.
    #[schema(example = 4)]
    pub amount: u64,
    /// The quantity reserved for orders until it is released.
    #[serde(default)]
    #[schema(example = 0)]
    pub reserved: u64,
    /// The part of the reserved quantity that was shipped.
    #[serde(default)]
    #[schema(example = 0)]
    pub sold: u64,
    /// The total quantity ever received.
    #[serde(default)]
    #[schema(example = 4)]
    pub received: u64,
    /// The last `created` event that was applied; an older one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600000-0")]
    pub created_by: Option<EntryId>,
    /// The backorder queue of the product, if orders wait for it.
    #[serde(default, rename = "line", skip_serializing_if = "BackorderQueue::is_empty")]
    #[schema(value_type = Option<BackorderQueue>)]
    pub backorders: BackorderQueue,
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

/// A product on `events:{inventory}_updated`: of its backorder queue, only the number of waiting
/// orders.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(from = "AnyProductUpdated")]
pub struct ProductUpdated {
    /// The product's id.
    pub id: ProductId,
    /// The display name.
    #[schema(example = "Denon Speakers")]
    pub name: String,
    /// The price of one unit, in whole units of money.
    #[schema(example = 800)]
    pub price: u64,
    /// The available quantity.
    #[schema(example = 3)]
    pub amount: u64,
    /// The quantity reserved for orders.
    #[schema(example = 1)]
    pub reserved: u64,
    /// The part of the reserved quantity that was shipped.
    #[schema(example = 0)]
    pub sold: u64,
    /// The total quantity ever received.
    #[schema(example = 4)]
    pub received: u64,
    /// The number of orders that wait for the product.
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
            waiting: product.backorders.waiting,
            created_by: product.created_by,
        }
    }
}

/// An entry of `events:{inventory}_updated` by any publisher: earlier versions of inventory_service
/// published the whole product, with its backorder queue as an object.
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

/// A customer's account. Between events `deposited = balance + paid`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// The customer's id.
    pub id: CustomerId,
    /// The display name.
    #[schema(example = "Anthony")]
    pub name: String,
    /// The e-mail address for messages.
    #[schema(example = "anthony@server.com")]
    pub email: String,
    /// The balance, in whole units of money.
    #[schema(example = 1_000)]
    pub balance: u64,
    /// The total cost of orders so far, less refunds.
    #[serde(default)]
    #[schema(example = 0)]
    pub paid: u64,
    /// The total of all deposits.
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

/// A delivery of stock, with the id that its client chose.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The delivery's id.
    pub id: Uuid,
    /// The product.
    pub product_id: ProductId,
    /// The quantity received.
    #[schema(example = 5)]
    pub amount: u64,
    /// The available quantity including the delivery, before backorders were filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 9)]
    pub on_hand: Option<u64>,
    /// The reason for a rejection, if the delivery was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The stream entry with the delivery.
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

/// A customer's deposit, with the id that its client chose.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Deposit {
    /// The deposit's id.
    pub id: Uuid,
    /// The customer.
    pub customer_id: CustomerId,
    /// The amount, in whole units of money.
    #[schema(example = 500)]
    pub amount: u64,
    /// The balance after the deposit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_500)]
    pub balance: Option<u64>,
    /// The reason for a rejection, if the deposit was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The stream entry with the deposit.
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

/// The reason why a delivery or a deposit was rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// The product or account does not exist.
    Unknown,
    /// The sum would exceed the range of numbers.
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
