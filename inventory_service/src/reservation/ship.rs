//! Shipping an order: the stock that it holds is counted as sold.

use common::{
    contract::events::{ConfirmedStep, OrderShipped},
    decision::DecideError,
    planted,
};

use super::entity::Reservation;
use crate::unit_of_work::UnitOfWork;

/// Counts the stock of a shipped order as sold.
pub(crate) fn ship(work: &mut UnitOfWork<'_>, order: &OrderShipped) -> Result<(), DecideError> {
    let holds = |it: &&Reservation| it.holds() && it.attempt == order.attempt;
    let reservation = work.reservation(&order.id)?.filter(holds).cloned();
    if (reservation.is_some() || order.resend > 0) && !planted!("a shipment is not confirmed") {
        work.confirm(order.id, order.attempt, ConfirmedStep::Shipped);
    }
    let Some(reservation) = reservation else { return Ok(()) };
    work.request_products(reservation.quantities.keys())?;
    for (id, held) in &reservation.quantities {
        if let Some(product) = work.product_mut(id)? {
            product.sold = (product.sold + held).min(product.reserved);
        }
    }
    if !planted!("a shipment has no record") {
        work.put_reservation(Reservation { shipped: true, ..reservation });
    }
    Ok(())
}
