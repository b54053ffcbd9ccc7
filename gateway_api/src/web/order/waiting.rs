//! What an order waits for, in words, and the buttons that move it on.

use common::contract::{ids::ProductId, order::Order, order_status::OrderStatus};
use maud::{Markup, html};

use super::facts::OrderFacts;
use crate::{
    access::visitor::Visitor,
    upstream::queue_position::Ahead,
    web::format::{self, Grouped, quantities},
};

/// What the order waits for, and the buttons.
pub(super) fn next(facts: &OrderFacts, visitor: &Visitor) -> Markup {
    let order = &facts.order;
    html! {
        (words_for(facts, visitor))
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
    /// The quantity that is missing for this order alone.
    pieces: u64,
    /// The quantity that has to come in before this order can be filled.
    to_bring: u64,
    ahead: Option<Ahead>,
}

fn lacking(facts: &OrderFacts) -> Vec<Lack<'_>> {
    let mut lacks = Vec::new();
    for (id, wanted) in quantities(&facts.order) {
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
fn missing(facts: &OrderFacts) -> Option<u64> {
    if facts.order.status != OrderStatus::InsufficientFund {
        return None;
    }
    let (total, account) = (facts.order.order_total?, facts.account.account()?);
    total.checked_sub(account.balance).filter(|missing| *missing > 0)
}

fn words_for(facts: &OrderFacts, visitor: &Visitor) -> Markup {
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
        OrderStatus::Rejected => rejected(facts, visitor),
    }
}

/// Why it was rejected, and what somebody who may define what it lacks can do.
fn rejected(facts: &OrderFacts, visitor: &Visitor) -> Markup {
    let products = facts.missing_products();
    let missing = if products > 0 && visitor.offers("restock") {
        Some((if products == 1 { "product" } else { "products" }, "PUT /inventory/{id}"))
    } else if facts.account.is_unknown() && visitor.offers("top-up") {
        Some(("customer", "PUT /accounts/{id}"))
    } else {
        None
    };
    html! {
        p {
            "Nothing: it cannot be filled" @if let Some(reason) = &facts.order.reason { ", for " (reason) } "."
        }
        @if let Some((what, call)) = missing {
            p {
                "Define the " (what) " with " code { (call) }
                @if visitor.offers("demo") { ", or load the demo data on the " a href="/report" { "report" } "," }
                " and order again."
            }
        }
    }
}

fn sentence(text: &str) -> Markup {
    html! { p { (text) } }
}

fn out_of_stock(facts: &OrderFacts) -> Markup {
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
                            "; " (format::counted(orders, "order")) " for " (format::counted(pieces, "piece"))
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

fn insufficient_fund(facts: &OrderFacts) -> Markup {
    let order = &facts.order;
    html! {
        p {
            @match (missing(facts), order.order_total, facts.account.account()) {
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
