//! The part of all changes that one client follows.

use common::contract::ids::{CustomerId, OrderId};

use super::change::Whose;

/// The changes that a client asked for, as far as it may see them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct View {
    /// Only what is about this order.
    pub(crate) order: Option<OrderId>,
    /// Only what concerns this customer, or everybody.
    pub(crate) customer: Option<CustomerId>,
    /// Whether it includes orders and messages.
    pub(crate) orders: bool,
    /// Whether e-mail addresses are whole.
    pub(crate) addresses: bool,
}

impl View {
    /// Whether it is all that there is, as it is.
    pub(super) fn is_all(&self) -> bool {
        self.order.is_none() && self.customer.is_none() && self.orders && self.addresses
    }

    /// Whether a message with these properties is in it.
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
