//! The data of an order's page.

use common::{
    clock::Millis,
    contract::{
        entities::{Account, Product},
        ids::ProductId,
        messages::MessageSent,
        order::Order,
    },
};

use crate::{
    upstream::queue_position::Ahead,
    web::format::{self, quantities},
};

/// The number of characters of a name that the page shows.
pub(super) const NAME_LIMIT: usize = 100;

/// The data of the page. All but the order itself may be in a Redis that cannot be read; the page is then
/// shown without it.
pub(crate) struct OrderFacts {
    pub(crate) order: Order,
    /// The ordered products that exist, by their ids.
    pub(crate) products: Option<Vec<Product>>,
    pub(crate) account: Payer,
    /// The orders before this one in the backorder queues.
    pub(crate) ahead: Vec<(ProductId, Ahead)>,
    /// The messages about the order, and whether the list is complete.
    pub(crate) messages: Option<(Vec<MessageSent>, bool)>,
    pub(crate) now: Millis,
}

/// The account of the order's customer.
pub(crate) enum Payer {
    Known(Account),
    Unknown,
    /// The visitor may not see accounts.
    Hidden,
    Unread,
}

impl Payer {
    pub(crate) fn account(&self) -> Option<&Account> {
        match self {
            Self::Known(account) => Some(account),
            Self::Unknown | Self::Hidden | Self::Unread => None,
        }
    }

    /// Whether there is no such customer.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

impl OrderFacts {
    pub(crate) fn product(&self, id: &ProductId) -> Option<&Product> {
        self.products.iter().flatten().find(|product| product.id == *id)
    }

    /// The known number of ordered products that do not exist.
    pub(crate) fn missing_products(&self) -> usize {
        let ordered = quantities(&self.order).into_keys();
        ordered.filter(|id| self.products.is_some() && self.product(id).is_none()).count()
    }

    /// The name of a product, or its id if it has no name.
    pub(crate) fn name_of(&self, id: &ProductId) -> String {
        let name = self.product(id).map_or(id.as_str(), |product| &product.name);
        format::short(name, NAME_LIMIT)
    }
}
