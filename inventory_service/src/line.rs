//! Lines: which orders wait for a product, in the order of their arrival.
//!
//! A line is kept in pages, so that joining and leaving it cost one page however long it is. Who
//! joins gets a ticket that is higher than every other one in all lines that the order joins: by
//! their tickets the orders of several lines can be served in one order that fits each of them.

use std::{collections::BTreeMap, fmt};

use common::{
    decision::Entity,
    ids::{OrderId, ProductId},
    keys::{self, Kind},
};
use serde::{Deserialize, Serialize};

/// How many orders wait on one page.
pub const PAGE: usize = 50;

/// A page of a product's line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinePage {
    /// Which page of which line.
    pub id: PageId,
    /// Who waits there, by rising tickets.
    pub spots: Vec<Spot>,
}

/// Names a page.
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
    /// Higher than that of everybody before it.
    pub ticket: u64,
    /// The order.
    pub order: OrderId,
    /// How many pieces of the product it needs.
    pub pieces: u64,
    /// What else it needs, so that whoever serves the line sees whether it can be filled without
    /// reading what it holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<ProductId, u64>,
}

impl LinePage {
    /// A page without anybody.
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
