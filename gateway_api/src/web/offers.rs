//! The buttons that are useful to a visitor.

use common::contract::{
    order_routes::{self, OrderAction},
    order_status::OrderStatus,
    route::{
        RouteAccess::{All, Own},
        Scope::{Admin, CustomersWrite, InventoryWrite, OrdersRead},
    },
};

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

    /// The actions that the visitor may request for an order with this status; order_service decides whether
    /// the order permits them.
    pub(crate) fn actions(&self, status: OrderStatus) -> impl Iterator<Item = OrderAction> {
        let fitting = OrderAction::ALL.into_iter().filter(move |action| action.fits(status));
        fitting.filter(|action| self.may_call(action.route().access))
    }

    /// The names of all actions that the visitor may take, for the script.
    pub(crate) fn all_offers(&self) -> String {
        let offers = [
            ("order", order_routes::PLACE.access),
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
