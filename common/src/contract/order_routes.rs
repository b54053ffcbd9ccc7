//! The routes of orders, at the gateway and at order_service: method, path, access, and what a status
//! allows.

use crate::contract::{
    order_status::OrderStatus::{
        self, Cancelled, Completed, InsufficientFund, OutOfStock, PaymentRequired, Pending,
        Shipped, ToBeShipped,
    },
    route::{
        DELETE, GET, POST, Route,
        RouteAccess::{All, Own},
        Scope::{OrdersRead, OrdersWrite},
    },
};

/// Places an order.
pub const PLACE: Route = Route::new(POST, "/order", Own(OrdersWrite));
/// Shows an order.
pub const SHOW: Route = Route::new(GET, "/order/{id}", Own(OrdersRead));

/// The actions that clients can request for an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OrderAction {
    /// Try an unpaid order again.
    Pay,
    /// Mark the order as shipped.
    Ship,
    /// Mark the order as completed.
    Complete,
    /// Cancel the order.
    Cancel,
}

/// The description of an action.
struct Row {
    name: &'static str,
    route: Route,
    from: &'static [OrderStatus],
    to: OrderStatus,
}

impl OrderAction {
    /// All actions, in the order of display.
    pub const ALL: [Self; 4] = [Self::Pay, Self::Ship, Self::Complete, Self::Cancel];

    const fn row(self) -> Row {
        match self {
            Self::Pay => Row {
                name: "pay",
                route: Route::new(POST, "/order/{id}/pay", Own(OrdersWrite)),
                from: &[InsufficientFund],
                to: Pending,
            },
            Self::Ship => Row {
                name: "ship",
                route: Route::new(POST, "/order/{id}/ship", All(OrdersWrite)),
                from: &[ToBeShipped],
                to: Shipped,
            },
            Self::Complete => Row {
                name: "complete",
                route: Route::new(POST, "/order/{id}/complete", All(OrdersWrite)),
                from: &[Shipped],
                to: Completed,
            },
            Self::Cancel => Row {
                name: "cancel",
                route: Route::new(DELETE, "/order/{id}", Own(OrdersWrite)),
                from: &[Pending, OutOfStock, PaymentRequired, InsufficientFund, ToBeShipped],
                to: Cancelled,
            },
        }
    }

    /// The name in answers and pages.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The route by which clients request the action.
    pub const fn route(self) -> Route {
        self.row().route
    }

    /// The status to which the action leads.
    pub const fn status(self) -> OrderStatus {
        self.row().to
    }

    /// Whether an order of this status allows the action.
    pub fn fits(self, status: OrderStatus) -> bool {
        self.row().from.contains(&status)
    }
}
