//! Checks the lines: whether those who wait for stock stand where they should, in order, and nobody
//! waits for nothing.

use std::{collections::BTreeMap, fmt};

use common::contract::{
    entities::{LinePage, Spot},
    ids::{OrderId, ProductId},
};
use inventory_service::reservation::{Reservation, ReservationState};

use super::snapshot::{Books, count};

/// A place in a line.
#[derive(PartialEq, Eq)]
struct Place {
    page: u64,
    ticket: u64,
    pieces: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page, ticket, pieces } = self;
        write!(f, "on page {page} with ticket {ticket} for {pieces}")
    }
}

impl Books {
    pub(super) fn check_lines(&self, findings: &mut Vec<String>) {
        self.check_places(findings);
        self.check_order_of_lines(findings);
        for reservation in self.reservations.values() {
            let Reservation { order_id: id, state, position, .. } = reservation;
            let waits = *state == ReservationState::Waiting;
            if waits != position.is_some() {
                let (waits, spot) = (does(waits), does(position.is_some()));
                findings.push(format!("order {id}: it {waits} wait, but {spot} have a ticket"));
            }
            let is_here = |(product, wanted): (&ProductId, &u64)| {
                self.products.get(product).is_some_and(|product| product.amount >= *wanted)
            };
            if waits && reservation.quantities.iter().all(is_here) {
                let on_hand = reservation.quantities.iter().map(|(product, wanted)| {
                    let amount = self.products.get(product).map_or(0, |product| product.amount);
                    format!("{wanted} of {amount} {product}")
                });
                let on_hand: Vec<String> = on_hand.collect();
                findings.push(format!(
                    "order {id}: it waits, but could have all that it needs: {}",
                    on_hand.join(", ")
                ));
            }
        }
    }

    /// Whoever waits stands where their reservation says, and nobody else stands anywhere.
    fn check_places(&self, findings: &mut Vec<String>) {
        let mut due: BTreeMap<(OrderId, &ProductId), Place> = BTreeMap::new();
        for reservation in self.reservations.values() {
            let waiting = reservation
                .position
                .iter()
                .filter(|_| reservation.state == ReservationState::Waiting);
            for (product, page) in waiting.clone().flat_map(|spot| &spot.pages) {
                let pieces = reservation.quantities.get(product).copied().unwrap_or(0);
                let ticket = reservation.position.as_ref().map_or(0, |position| position.sequence);
                due.insert((reservation.order_id, product), Place { page: *page, ticket, pieces });
            }
            let lacks = |product: &&ProductId| {
                reservation.position.as_ref().is_some_and(|spot| !spot.pages.contains_key(*product))
            };
            for product in reservation.quantities.keys().filter(lacks) {
                findings.push(format!(
                    "order {}: it waits, but in no line of product {product}",
                    reservation.order_id
                ));
            }
        }
        for LinePage { id, spots } in self.line_pages.values() {
            for spot in spots {
                let Spot { ticket, order, pieces, .. } = spot;
                let stands = Place { page: id.number, ticket: *ticket, pieces: *pieces };
                match due.remove(&(*order, &id.product)) {
                    Some(due) if due == stands => {
                        let held = self.reservations.get(order);
                        if !held.is_some_and(|held| held.agrees_with(spot, &id.product)) {
                            findings.push(format!(
                                "order {order}: the line of product {} says that it needs {}, but \
                                 its reservation {:?}",
                                id.product,
                                needs(spot),
                                held.map(|held| &held.quantities)
                            ));
                        }
                    }
                    Some(due) => findings.push(format!(
                        "order {order}: it stands in the line of product {} {stands}, but its \
                         reservation says {due}",
                        id.product
                    )),
                    None => findings.push(format!(
                        "order {order}: it stands in the line of product {} {stands}, but should \
                         not",
                        id.product
                    )),
                }
            }
        }
        for ((order, product), due) in due {
            findings.push(format!(
                "order {order}: it should stand in the line of product {product} {due}, but does \
                 not"
            ));
        }
    }

    /// Tickets rise from the front to the end of each line, and its product knows how long it is.
    fn check_order_of_lines(&self, findings: &mut Vec<String>) {
        let mut lines: BTreeMap<&ProductId, Vec<(u64, &Spot)>> = BTreeMap::new();
        // Pages sort by their products and then by their numbers.
        for LinePage { id, spots } in self.line_pages.values() {
            let line = lines.entry(&id.product).or_default();
            line.extend(spots.iter().map(|spot| (id.number, spot)));
        }
        for (id, product) in &self.products {
            let (stand, line) = (lines.remove(id).unwrap_or_default(), &product.line);
            if usize::try_from(line.waiting) != Ok(stand.len()) {
                findings.push(format!(
                    "product {id}: {} wait for it, but {} stand in its line",
                    line.waiting,
                    stand.len()
                ));
            }
            if let Some(served) = line.served {
                findings.push(format!(
                    "product {id}: its line is still being served, after ticket {}",
                    served.ticket
                ));
            }
            for pair in stand.windows(2) {
                let [(_, one), (_, next)] = pair else { continue };
                if one.ticket >= next.ticket {
                    findings.push(format!(
                        "product {id}: order {} with ticket {} stands behind order {} with {}",
                        next.order, next.ticket, one.order, one.ticket
                    ));
                }
            }
            if let Some((_, last)) = stand.last().filter(|(_, last)| last.ticket > line.ticket) {
                findings.push(format!(
                    "product {id}: order {} has ticket {}, but {} was given last",
                    last.order, last.ticket, line.ticket
                ));
            }
            let pages = count(stand.iter().map(|(page, _)| *page));
            let beside = |(page, _): &(&u64, &usize)| !(line.first..=line.last).contains(page);
            for (page, stand) in pages.iter().filter(beside) {
                findings.push(format!(
                    "product {id}: {stand} stand on page {page} of its line, which goes from page \
                     {} to {}",
                    line.first, line.last
                ));
            }
        }
        for (id, stand) in lines.into_iter().filter(|(_, stand)| !stand.is_empty()) {
            findings.push(format!("product {id}: does not exist, but {} wait for it", stand.len()));
        }
    }
}

/// What an order needs besides the product that it stands in line for.
fn needs(spot: &Spot) -> String {
    match spot.unlisted {
        0 => format!("{} and of others {:?}", spot.pieces, spot.others),
        count => format!("{} and some of {count} others", spot.pieces),
    }
}

fn does(it_does: bool) -> &'static str {
    if it_does { "does" } else { "does not" }
}
