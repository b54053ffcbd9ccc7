//! The buttons that are useful to a visitor.

use common::contract::{
    order_status::OrderStatus,
    route::{
        RouteAccess::{All, Own},
        Scope::{Admin, CustomersWrite, InventoryWrite, OrdersRead, OrdersWrite},
    },
};

use super::format;
use crate::access::visitor::Visitor;

impl Visitor {
    /// Whether the event stream of the visitor has orders.
    pub(crate) fn follows_orders(&self) -> bool {
        self.may_call(Own(OrdersRead))
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
            ("order", Own(OrdersWrite)),
            ("ship", All(OrdersWrite)),
            ("top-up", Own(CustomersWrite)),
            ("restock", All(InventoryWrite)),
            ("counts", All(OrdersRead)),
            ("demo", All(Admin)),
        ];
        let names =
            offers.into_iter().filter(|(_, access)| self.may_call(*access)).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(" ")
    }
}
