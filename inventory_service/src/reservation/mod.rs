//! What an order holds of the stock, or waits for.

use std::collections::BTreeMap;

use common::contract::{
    entities::Spot,
    entity::Entity,
    events::{StockChecked, StockOutcome},
    ids::{CustomerId, EntryId, OrderId, ProductId},
    keys::{self, Kind},
};
use serde::{Deserialize, Serialize};

/// What an order holds. It is also the trace of its order's event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// As ordered; empty if it was rejected, for the ids may be anything.
    pub product_ids: Vec<ProductId>,
    /// The attempt that this is the outcome of.
    pub attempt: u32,
    /// Whether the pieces are held.
    pub state: Holding,
    /// The pieces of each product.
    pub pieces: BTreeMap<ProductId, u64>,
    /// What the pieces cost when they were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Why it holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether what it holds left the house.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shipped: bool,
    /// While it waits: its ticket, and its page in the line of each product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<Waiting>,
    /// Whether an account_service that does not name attempts took the money for it: a refusal that
    /// follows frees nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paid: bool,
    /// The last failed payment that order_service took for an earlier attempt; see `OrderCreated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<EntryId>,
}

/// Where an order waits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// The same in all lines.
    pub ticket: u64,
    /// The number of its page in the line of each product.
    pub pages: BTreeMap<ProductId, u64>,
}

/// Whether an order's pieces are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// They are taken from the stock.
    Held,
    /// There were not enough: it stands in the line of each of its products.
    Waiting,
    /// Some product does not exist, or the total cannot be paid.
    Rejected,
    /// They were held and given back, because they were not paid.
    Released,
    /// The order was called off: it holds nothing and never will.
    Cancelled,
}

impl Entity for Reservation {
    type Id = OrderId;
    fn kind() -> &'static Kind {
        &keys::RESERVATION
    }
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

impl Reservation {
    /// Whether its pieces are held in the house.
    pub fn holds(&self) -> bool {
        self.state == Holding::Held && !self.shipped
    }

    /// The outcome as it is published; none of an order that was called off.
    pub fn outcome(&self, resend: bool) -> Option<StockChecked> {
        let inventory = match self.state {
            Holding::Held | Holding::Released => StockOutcome::PaymentRequired,
            Holding::Waiting => StockOutcome::OutOfStock,
            Holding::Rejected => StockOutcome::Rejected,
            Holding::Cancelled => return None,
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
            released: self.state == Holding::Released,
        })
    }
}

impl Reservation {
    /// The place of the order in the line of one of its products; it lists the other ones if there are
    /// no more than `most`.
    pub fn spot_in_line(&self, product: &ProductId, ticket: u64, most: usize) -> Spot {
        let pieces = self.pieces.get(product).copied().unwrap_or_default();
        let others = self.pieces.iter().filter(|(id, _)| *id != product);
        let count = self.pieces.len().saturating_sub(1);
        let (others, unlisted) = match count <= most {
            true => (others.map(|(id, pieces)| (id.clone(), *pieces)).collect(), 0),
            false => (BTreeMap::new(), count),
        };
        Spot { ticket, order: self.order_id, pieces, others, unlisted }
    }

    /// Whether a place in the line of a product says of the order what the reservation says.
    pub fn agrees_with(&self, spot: &Spot, product: &ProductId) -> bool {
        let mut others = self.pieces.clone();
        let pieces = others.remove(product);
        let lists = match spot.unlisted {
            0 => spot.others == others,
            count => spot.others.is_empty() && count == others.len(),
        };
        pieces == Some(spot.pieces) && lists
    }
}

/// How many pieces of each product.
pub fn pieces(product_ids: &[ProductId]) -> BTreeMap<ProductId, u64> {
    let mut pieces = BTreeMap::new();
    for product in product_ids {
        *pieces.entry(product.clone()).or_insert(0) += 1;
    }
    pieces
}
