//! The backorder queue of a product.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    contract::{
        ids::{OrderId, ProductId},
        keys,
    },
    schema::entity::{Entity, Kind},
};

/// The queue of orders that wait for a product, stored in pages.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Line)]
pub struct BackorderQueue {
    /// The number of waiting orders.
    #[schema(example = 2)]
    pub waiting: u64,
    /// The first page; there are no orders before it.
    pub first: u64,
    /// The page that the next order joins.
    pub last: u64,
    /// The last sequence number that was assigned; sequence numbers rise.
    #[serde(rename = "ticket")]
    pub sequence: u64,
    /// The progress of the fill, while incoming stock is being distributed. New orders join the end
    /// of the queue meanwhile.
    #[serde(default, rename = "served", skip_serializing_if = "Option::is_none")]
    pub fill: Option<FillProgress>,
}

/// The progress of a fill of a backorder queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Served)]
pub struct FillProgress {
    /// Every order up to this sequence number has been considered.
    #[serde(rename = "ticket")]
    pub sequence: u64,
    /// The page of the next orders.
    pub page: u64,
}

impl BackorderQueue {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A page of the backorder queue of a product. inventory_service writes it, and the gateway reads
/// it to show the position of an order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BackorderPage {
    /// The product and the number of the page.
    pub id: PageId,
    /// The orders that wait on this page, by rising sequence numbers.
    #[serde(rename = "spots")]
    pub entries: Vec<BackorderEntry>,
}

/// The id of a page of a queue.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct PageId {
    /// The product.
    pub product: ProductId,
    /// The number of the page, from 0.
    pub number: u64,
}

/// An order in a backorder queue.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BackorderEntry {
    /// The sequence number, higher than that of every order before it.
    #[serde(rename = "ticket")]
    pub sequence: u64,
    /// The order.
    pub order: OrderId,
    /// The quantity of the product that the order needs.
    #[serde(rename = "pieces")]
    pub quantity: u64,
    /// The other products that the order needs, so that inventory_service can skip the order
    /// without reading its reservation. Empty if there are too many to repeat them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<ProductId, u64>,
    /// The number of other products that the order needs if they are not listed: its reservation
    /// lists them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl BackorderPage {
    /// A page without orders.
    pub fn empty(id: PageId) -> Self {
        Self { id, entries: Vec::new() }
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.product)
    }
}

impl Entity for BackorderPage {
    type Id = PageId;
    const KIND: &'static Kind = &keys::BACKORDER_PAGE;
    fn id(&self) -> &PageId {
        &self.id
    }
}
