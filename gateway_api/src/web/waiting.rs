//! What an order waits for, in words, and the buttons that move it on.

use std::collections::BTreeMap;

use common::{
    decision::Entity,
    entities::{Order, OrderStatus, Product},
    ids::{OrderId, ProductId},
    keys::{self, Kind},
    redis_link::{LinkError, SharedLink},
};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::{
    order_page::Facts,
    order_rows::pieces,
    visitor::Visitor,
    words::{self, Grouped},
};

/// How many pages of a line are counted, at most.
const PAGES: u64 = 20;

/// Who stands before an order in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ahead {
    /// So many orders, for so many pieces.
    Few { orders: u64, pieces: u64 },
    /// More than it is worth counting.
    Many,
}

/// Where an order stands in the lines of its products, as far as it matters here.
#[derive(Serialize, Deserialize)]
struct Reservation {
    order_id: OrderId,
    #[serde(default)]
    spot: Option<Spot>,
}

#[derive(Serialize, Deserialize)]
struct Spot {
    ticket: u64,
    pages: BTreeMap<ProductId, u64>,
}

impl Entity for Reservation {
    type Id = OrderId;
    fn kind() -> &'static Kind {
        &keys::RESERVATION
    }
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

/// A page of a line, as far as it matters here.
#[derive(Serialize, Deserialize)]
struct LinePage {
    #[serde(skip)]
    id: String,
    spots: Vec<Ticket>,
}

#[derive(Serialize, Deserialize)]
struct Ticket {
    ticket: u64,
    pieces: u64,
}

impl Entity for LinePage {
    type Id = String;
    fn kind() -> &'static Kind {
        &keys::LINE_PAGE
    }
    fn id(&self) -> &String {
        &self.id
    }
}

/// How many orders stand before this one in the line of each product.
pub(super) async fn ahead(
    store: &SharedLink,
    order: &Order,
    products: &[Product],
) -> Result<Vec<(ProductId, Ahead)>, LinkError> {
    if order.status != OrderStatus::OutOfStock {
        return Ok(Vec::new());
    }
    let reservation = store.get_all::<Reservation>([order.id]).await?;
    let Some(spot) = reservation.into_iter().find_map(|reservation| reservation.spot) else {
        return Ok(Vec::new());
    };
    let mut ahead = Vec::new();
    for product in products {
        let Some(last) = spot.pages.get(&product.id) else { continue };
        if last.saturating_sub(product.line.first) >= PAGES {
            ahead.push((product.id.clone(), Ahead::Many));
            continue;
        }
        let numbers = product.line.first..=*last;
        let line = numbers.map(|number| format!("{number}:{}", product.id));
        let line = store.get_all::<LinePage>(line).await?;
        let before = line.iter().flat_map(|page| &page.spots).filter(|it| it.ticket < spot.ticket);
        let (orders, pieces) = before
            .fold((0, 0u64), |(orders, pieces), it| (orders + 1, pieces.saturating_add(it.pieces)));
        ahead.push((product.id.clone(), Ahead::Few { orders, pieces }));
    }
    Ok(ahead)
}

/// What the order waits for, and the buttons.
pub(super) fn next(facts: &Facts) -> Markup {
    let (order, visitor) = (&facts.order, Visitor::current());
    html! {
        (words_for(facts))
        div.buttons.needs-script {
            @if order.status == OrderStatus::OutOfStock && visitor.offers("restock") {
                @for Lack { product, to_bring, .. } in lacking(facts) {
                    button.primary type="button" data-restock=(product) data-amount=(to_bring) {
                        "Restock " (Grouped(to_bring)) " × " (facts.name_of(product))
                    }
                }
            }
            @if let Some(missing) = missing(facts).filter(|_| visitor.offers("top-up")) {
                button.primary type="button" data-top-up=(order.customer_id) data-amount=(missing) {
                    "Top up " (Grouped(missing))
                }
            }
            @for action in visitor.actions(order.status).into_iter().filter(|it| takes(order, it)) {
                button type="button" data-action=(action)
                    class=[match action { "cancel" => Some("danger"), "pay" if missing(facts).is_some() => None, _ => Some("primary") }] {
                    (action_label(action))
                }
            }
        }
    }
}

/// Whether an order with a status that fits takes the action: it is tried only so often.
fn takes(order: &Order, action: &str) -> bool {
    action != "pay" || order.attempt < order.attempt_limit()
}

fn action_label(action: &str) -> &'static str {
    match action {
        "pay" => "Pay again",
        "ship" => "Mark as shipped",
        "complete" => "Mark as arrived",
        _ => "Cancel the order",
    }
}

/// A product of which there are too few on hand.
struct Lack<'a> {
    product: &'a ProductId,
    /// So many pieces are missing for this order alone.
    pieces: u64,
    /// So many have to come in until it is this order's turn.
    to_bring: u64,
    ahead: Option<Ahead>,
}

fn lacking(facts: &Facts) -> Vec<Lack<'_>> {
    let mut lacks = Vec::new();
    for (id, wanted) in pieces(&facts.order) {
        let Some(on_hand) = facts.product(id).map(|product| product.amount) else { continue };
        let ahead = facts.ahead.iter().find(|(product, _)| product == id).map(|(_, ahead)| *ahead);
        let before = match ahead {
            Some(Ahead::Few { pieces, .. }) => pieces,
            _ => 0,
        };
        let to_bring = wanted.saturating_add(before).saturating_sub(on_hand);
        if to_bring > 0 {
            let pieces = wanted.saturating_sub(on_hand);
            lacks.push(Lack { product: id, pieces, to_bring, ahead });
        }
    }
    lacks
}

/// How much the customer's balance lacks for an order that was not paid.
fn missing(facts: &Facts) -> Option<u64> {
    if facts.order.status != OrderStatus::InsufficientFund {
        return None;
    }
    let (total, account) = (facts.order.order_total?, facts.account.as_ref()?);
    total.checked_sub(account.balance).filter(|missing| *missing > 0)
}

fn words_for(facts: &Facts) -> Markup {
    let order = &facts.order;
    match order.status {
        OrderStatus::Pending => sentence("inventory_service looks for its pieces."),
        OrderStatus::PaymentRequired => {
            sentence("Its pieces are reserved. account_service takes the money.")
        }
        OrderStatus::OutOfStock => out_of_stock(facts),
        OrderStatus::InsufficientFund => insufficient_fund(facts),
        OrderStatus::ToBeShipped => {
            sentence("It is paid, its pieces are reserved. The warehouse sends it off.")
        }
        OrderStatus::Shipped => sentence("It is on its way to the customer."),
        OrderStatus::Completed => sentence("Nothing: it arrived."),
        OrderStatus::Cancelled => sentence("Nothing: it is called off."),
        OrderStatus::Rejected => html! {
            p { "Nothing: it cannot be filled" @if let Some(reason) = &order.reason { ", for " (reason) } "." }
        },
    }
}

fn sentence(text: &str) -> Markup {
    html! { p { (text) } }
}

fn out_of_stock(facts: &Facts) -> Markup {
    html! {
        p { "It waits for stock, and goes on by itself as soon as it is its turn and all is on hand." }
        ul.waits {
            @for lack in lacking(facts) {
                li {
                    @if lack.pieces > 0 {
                        b { (Grouped(lack.pieces)) " more of " (facts.name_of(lack.product)) }
                    } @else {
                        b { "Its turn for " (facts.name_of(lack.product)) }
                    }
                    " (" (lack.product) ")"
                    @match lack.ahead {
                        Some(Ahead::Few { orders: 0, .. }) => "; it is the first in line",
                        Some(Ahead::Few { orders, pieces }) => {
                            "; " (words::counted(orders, "order")) " for " (words::counted(pieces, "piece"))
                            @if orders == 1 { " waits" } @else { " wait" } " before it"
                        }
                        Some(Ahead::Many) => "; many orders wait before it",
                        None => "",
                    }
                }
            }
        }
    }
}

fn insufficient_fund(facts: &Facts) -> Markup {
    let order = &facts.order;
    html! {
        p {
            @match (missing(facts), order.order_total, &facts.account) {
                (Some(missing), Some(total), Some(account)) => {
                    "It costs " b { (Grouped(total)) } ", the balance is " b { (Grouped(account.balance)) }
                    ": " b { (Grouped(missing)) } " are missing. Top up, then pay again."
                }
                (None, Some(_), Some(_)) => "The balance covers it now. Pay again to try it once more.",
                _ => {
                    @if let Some(reason) = &order.reason { "It was not paid: " (reason) ". " }
                    "Top up and pay again."
                }
            }
        }
    }
}
