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

use crate::reservation::Reservation;

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
    /// The other products that it needs, so that the service can pass the order by without reading
    /// its reservation. Empty if there are more than
    /// [`Limits::others`](crate::Limits::others).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<ProductId, u64>,
    /// How many other products it needs if they are not listed: its reservation has them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
}

impl Spot {
    /// The place of an order in the line of one of its products; it lists the other ones if there
    /// are no more than `most`.
    pub fn of(reservation: &Reservation, product: &ProductId, ticket: u64, most: usize) -> Self {
        let pieces = reservation.pieces.get(product).copied().unwrap_or_default();
        let others = reservation.pieces.iter().filter(|(id, _)| *id != product);
        let count = reservation.pieces.len().saturating_sub(1);
        let (others, unlisted) = match count <= most {
            true => (others.map(|(id, pieces)| (id.clone(), *pieces)).collect(), 0),
            false => (BTreeMap::new(), count),
        };
        Self { ticket, order: reservation.order_id, pieces, others, unlisted }
    }

    /// Whether it says of its order what the reservation says.
    pub fn agrees_with(&self, reservation: &Reservation, product: &ProductId) -> bool {
        let mut others = reservation.pieces.clone();
        let pieces = others.remove(product);
        let lists = match self.unlisted {
            0 => self.others == others,
            count => self.others.is_empty() && count == others.len(),
        };
        pieces == Some(self.pieces) && lists
    }
}

impl LinePage {
    /// A page without anybody.
    pub fn empty(id: PageId) -> Self {
        Self { id, spots: Vec::new() }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
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
