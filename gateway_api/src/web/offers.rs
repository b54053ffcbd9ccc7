//! The buttons that are useful to a visitor.

use common::contract::order_status::OrderStatus;

use super::format;
use crate::access::{tokens::scope::Scope, visitor::Visitor};

impl Visitor {
    /// Whether the event stream of the visitor has orders.
    pub(crate) fn follows_orders(&self) -> bool {
        self.may(Scope::OrdersRead)
    }

    /// Whether the visitor may take an action, by its name in [`Visitor::all_offers`].
    pub(crate) fn offers(&self, what: &str) -> bool {
        self.all_offers().split(' ').any(|offered| offered == what)
    }

    /// The steps of an order with this status that the visitor may request.
    pub(crate) fn actions(&self, status: OrderStatus) -> Vec<&'static str> {
        let needed =
            |action: &str| if matches!(action, "ship" | "complete") { "ship" } else { "order" };
        let actions = format::actions(status).iter().copied();
        actions.filter(|action| self.offers(needed(action))).collect()
    }

    /// The names of all actions that the visitor may take, for the script.
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
