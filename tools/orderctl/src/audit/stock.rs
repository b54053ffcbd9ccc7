//! Checks the stock: all of it is available or reserved.

use std::collections::BTreeMap;

use common::contract::{entities::Product, ids::ProductId};
use inventory_service::reservation::{Reservation, ReservationState};

use super::facts::Snapshot;

impl Snapshot {
    pub(super) fn check_stock(&self, findings: &mut Vec<String>) {
        let mut held = self.held_quantities(|_| true);
        let mut shipped = self.held_quantities(|reservation| reservation.shipped);
        for (id, product) in &self.products {
            let Product { amount, reserved, sold, received, .. } = product;
            if amount.checked_add(*reserved) != Some(*received) {
                findings.push(format!(
                    "product {id}: received {received}, but {amount} available and {reserved} \
                     reserved make {}",
                    u128::from(*amount) + u128::from(*reserved)
                ));
            }
            let held = held.remove(id).unwrap_or(0);
            if held != u128::from(*reserved) {
                findings.push(format!("product {id}: {reserved} reserved, but orders hold {held}"));
            }
            let shipped = shipped.remove(id).unwrap_or(0);
            if shipped != u128::from(*sold) {
                findings.push(format!(
                    "product {id}: {sold} sold, but {shipped} were shipped with orders"
                ));
            }
        }
        for (id, held) in held {
            findings.push(format!("product {id}: does not exist, but orders hold {held}"));
        }
    }

    /// The quantity of each product that these reservations hold.
    fn held_quantities(&self, counts: fn(&Reservation) -> bool) -> BTreeMap<&ProductId, u128> {
        let mut sums: BTreeMap<&ProductId, u128> = BTreeMap::new();
        let holding = |reservation: &&Reservation| {
            reservation.state == ReservationState::Held && counts(reservation)
        };
        for reservation in self.reservations.values().filter(holding) {
            for (product, quantity) in &reservation.quantities {
                *sums.entry(product).or_default() += u128::from(*quantity);
            }
        }
        sums
    }
}
