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

/// How many characters of a name the page shows.
pub(super) const NAME_LIMIT: usize = 100;

/// The data of the page. What is not the order's own may be in a Redis that cannot be read: the page
/// is shown without it.
pub(crate) struct OrderFacts {
    pub(crate) order: Order,
    /// The ordered products that exist, by their ids.
    pub(crate) products: Option<Vec<Product>>,
    pub(crate) account: Payer,
    /// Orders that stand before this one in lines.
    pub(crate) ahead: Vec<(ProductId, Ahead)>,
    /// The messages about it, and whether these are all of them.
    pub(crate) messages: Option<(Vec<MessageSent>, bool)>,
    pub(crate) now: Millis,
}

/// The account of the customer who ordered.
pub(crate) enum Payer {
    Known(Account),
    Unknown,
    /// The visitor may not look at accounts.
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

    /// How many of the ordered products do not exist, as far as that is known.
    pub(crate) fn missing_products(&self) -> usize {
        let ordered = quantities(&self.order).into_keys();
        ordered.filter(|id| self.products.is_some() && self.product(id).is_none()).count()
    }

    /// What a product is called; its id where it has no name.
    pub(crate) fn name_of(&self, id: &ProductId) -> String {
        let name = self.product(id).map_or(id.as_str(), |product| &product.name);
        format::short(name, NAME_LIMIT)
    }
}
