//! The buttons that are of use to a visitor.

use common::contract::entities::OrderStatus;

use super::format;
use crate::access::{tokens::scope::Scope, visitor::Visitor};

impl Visitor {
    /// Whether the event stream tells them of orders.
    pub(crate) fn is_told_of_orders(&self) -> bool {
        self.may(Scope::OrdersRead)
    }

    /// Whether they can do something, by its name in [`Visitor::all_offers`].
    pub(crate) fn offers(&self, what: &str) -> bool {
        self.all_offers().split(' ').any(|offered| offered == what)
    }

    /// The steps of an order with this status that they can ask for.
    pub(crate) fn actions(&self, status: OrderStatus) -> Vec<&'static str> {
        let needed =
            |action: &str| if matches!(action, "ship" | "complete") { "ship" } else { "order" };
        let actions = format::actions(status).iter().copied();
        actions.filter(|action| self.offers(needed(action))).collect()
    }

    /// What can be offered to them, as the script is told.
    pub(crate) fn all_offers(&self) -> String {
        let offers = [
            ("order", self.may(Scope::OrdersWrite)),
            ("ship", self.may_for_all(Scope::OrdersWrite)),
            ("top-up", self.may(Scope::CustomersWrite)),
            ("restock", self.may_for_all(Scope::InventoryWrite)),
            ("counts", self.may_for_all(Scope::OrdersRead)),
            ("demo", self.may_for_all(Scope::Admin)),
        ];
        let names = offers.into_iter().filter(|(_, offered)| *offered).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(" ")
    }
}
