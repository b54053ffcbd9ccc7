//! The reservation of an order: the stock that it holds or waits for.

use std::collections::BTreeMap;

use common::{
    contract::{
        events::{StockChecked, StockOutcome},
        ids::{CustomerId, OrderId, ProductId},
        keys,
    },
    schema::{
        entity::{Entity, Kind},
        entry_id::EntryId,
    },
};
use serde::{Deserialize, Serialize};

/// The reservation of an order, which is also the idempotency record of the order's event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order_id: OrderId,
    /// The customer of the order.
    pub customer_id: CustomerId,
    /// The products as ordered; empty if the order was rejected, because the ids may be anything.
    pub product_ids: Vec<ProductId>,
    /// The attempt whose outcome this is.
    pub attempt: u32,
    /// Whether the order holds its products.
    pub state: ReservationState,
    /// The quantity of each product.
    #[serde(rename = "pieces")]
    pub quantities: BTreeMap<ProductId, u64>,
    /// The price of all products when they were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Why it holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the order was shipped with what it holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shipped: bool,
    /// The position in the backorder queues while the order waits.
    #[serde(default, rename = "spot", skip_serializing_if = "Option::is_none")]
    pub position: Option<QueuePosition>,
    /// Whether an account_service that names no attempts accepted the payment: a failed payment that
    /// follows releases nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paid: bool,
    /// The last failed payment that order_service took for an earlier attempt; see `OrderCreated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<EntryId>,
}

/// The position of an order in the backorder queues.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct QueuePosition {
    /// The sequence number, the same in all queues.
    #[serde(rename = "ticket")]
    pub sequence: u64,
    /// The number of its page in the queue of each product.
    pub pages: BTreeMap<ProductId, u64>,
}

/// Whether an order holds its products.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReservationState {
    /// All of them are taken from the available stock.
    Held,
    /// The stock did not suffice: the order waits in the queue of each of its products.
    Waiting,
    /// A product does not exist, or the total cannot be paid.
    Rejected,
    /// They were held and released, because the payment failed.
    Released,
    /// The order was cancelled: it holds nothing and never will.
    Cancelled,
}

impl Entity for Reservation {
    type Id = OrderId;
    const KIND: &'static Kind = &keys::RESERVATION;
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

impl Reservation {
    /// Whether its products are held and not shipped yet.
    pub fn holds(&self) -> bool {
        self.state == ReservationState::Held && !self.shipped
    }

    /// The outcome as it is published; none for a cancelled order.
    pub fn outcome(&self, resend: bool) -> Option<StockChecked> {
        let inventory = match self.state {
            ReservationState::Held | ReservationState::Released => StockOutcome::PaymentRequired,
            ReservationState::Waiting => StockOutcome::OutOfStock,
            ReservationState::Rejected => StockOutcome::Rejected,
            ReservationState::Cancelled => return None,
        };
        Some(StockChecked {
            inventory,
            order_id: self.order_id,
            customer_id: self.customer_id.clone(),
            product_ids: self.product_ids.clone(),
            order_total: self.total,
            attempt: Some(self.attempt),
            reason: self.reason.clone(),
            resend,
            released: self.state == ReservationState::Released,
        })
    }
}

/// The quantity of each product in a list that repeats ids.
pub fn quantities(product_ids: &[ProductId]) -> BTreeMap<ProductId, u64> {
    let mut quantities = BTreeMap::new();
    for product in product_ids {
        *quantities.entry(product.clone()).or_insert(0) += 1;
    }
    quantities
}
