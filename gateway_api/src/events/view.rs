//! The part of all changes that one client follows.

use common::contract::ids::{CustomerId, OrderId};

use super::change::Whose;

/// The changes that a client requested and may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct View {
    /// Only changes of this order.
    pub(crate) order: Option<OrderId>,
    /// Only changes of this customer, and changes for all.
    pub(crate) customer: Option<CustomerId>,
    /// Whether the view includes orders and messages.
    pub(crate) orders: bool,
    /// Whether e-mail addresses are complete.
    pub(crate) addresses: bool,
}

impl View {
    /// Whether the view includes all changes, unmasked.
    pub(super) fn is_all(&self) -> bool {
        self.order.is_none() && self.customer.is_none() && self.orders && self.addresses
    }

    /// Whether the view includes a message with these properties.
    pub(super) fn has(
        &self,
        of: Option<&Whose>,
        order: Option<OrderId>,
        is_of_orders: bool,
    ) -> bool {
        let may = match (&self.customer, of) {
            (None, _) | (_, Some(Whose::Everybodys)) => true,
            (Some(own), Some(Whose::Customer(customer))) => own == customer,
            (Some(_), _) => false,
        };
        let may = may && (self.orders || !is_of_orders);
        may && (self.order.is_none() || self.order == order)
    }
}
