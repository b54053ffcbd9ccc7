//! The queue of orders that wait for a product.

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
    pub(super) fn is_empty(&self) -> bool {
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
    const KIND: &'static Kind = &keys::LINE_PAGE;
    fn id(&self) -> &PageId {
        &self.id
    }
}
