//! The next step of an order, in words, and the buttons for it.

use common::contract::{
    ids::ProductId, order::Order, order_routes::OrderAction, order_status::OrderStatus,
};
use maud::{Markup, html};

use super::facts::OrderFacts;
use crate::{
    access::visitor::Visitor,
    upstream::queue_position::Ahead,
    web::format::{self, Grouped, quantities},
};

/// The next step of the order, and the buttons.
pub(super) fn next(facts: &OrderFacts, visitor: &Visitor) -> Markup {
    let order = &facts.order;
    html! {
        (words_for(facts, visitor))
        div.buttons.needs-script {
            @if order.status == OrderStatus::OutOfStock && visitor.offers("restock") {
                @for Shortage { product, to_restock, .. } in shortages(facts) {
                    button.primary type="button" data-restock=(product) data-amount=(to_restock) {
                        "Restock " (Grouped(to_restock)) " × " (facts.name_of(product))
                    }
                }
            }
            @if let Some(missing) = missing(facts).filter(|_| visitor.offers("top-up")) {
                button.primary type="button" data-top-up=(order.customer_id) data-amount=(missing) {
                    "Top up " (Grouped(missing))
                }
            }
            @for action in visitor.actions(order.status).filter(|action| takes(order, *action)) {
                button type="button" data-action=(action.name()) class=[action_class(action, facts)] {
                    (action_label(action))
                }
            }
        }
    }
}

/// Whether an order with a suitable status permits the action: the number of attempts is limited.
fn takes(order: &Order, action: OrderAction) -> bool {
    action != OrderAction::Pay || order.attempt < order.attempt_limit()
}

fn action_class(action: OrderAction, facts: &OrderFacts) -> Option<&'static str> {
    match action {
        OrderAction::Cancel => Some("danger"),
        OrderAction::Pay if missing(facts).is_some() => None,
        _ => Some("primary"),
    }
}

const fn action_label(action: OrderAction) -> &'static str {
    match action {
        OrderAction::Pay => "Pay again",
        OrderAction::Ship => "Mark as shipped",
        OrderAction::Complete => "Mark as delivered",
        OrderAction::Cancel => "Cancel the order",
    }
}

/// A product of which too few are available.
struct Shortage<'a> {
    product: &'a ProductId,
    /// The quantity that is missing for this order alone.
    missing: u64,
    /// The quantity that must be restocked before this order can be filled.
    to_restock: u64,
    ahead: Option<Ahead>,
}

fn shortages(facts: &OrderFacts) -> Vec<Shortage<'_>> {
    let mut shortages = Vec::new();
    for (id, wanted) in quantities(&facts.order) {
        let Some(available) = facts.product(id).map(|product| product.amount) else { continue };
        let ahead = facts.ahead.iter().find(|(product, _)| product == id).map(|(_, ahead)| *ahead);
        let before = match ahead {
            Some(Ahead::Few { quantity, .. }) => quantity,
            _ => 0,
        };
        let to_restock = wanted.saturating_add(before).saturating_sub(available);
        if to_restock > 0 {
            let missing = wanted.saturating_sub(available);
            shortages.push(Shortage { product: id, missing, to_restock, ahead });
        }
    }
    shortages
}

/// The amount that the customer's balance lacks for an unpaid order.
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
        OrderStatus::Pending => sentence("inventory_service checks the stock."),
        OrderStatus::PaymentRequired => {
            sentence("The stock is reserved. account_service takes the payment.")
        }
        OrderStatus::OutOfStock => out_of_stock(facts),
        OrderStatus::InsufficientFund => insufficient_fund(facts),
        OrderStatus::ToBeShipped => {
            sentence("The order is paid and its stock is reserved. The warehouse ships it next.")
        }
        OrderStatus::Shipped => sentence("The order is on its way to the customer."),
        OrderStatus::Completed => sentence("None: the order is delivered."),
        OrderStatus::Cancelled => sentence("None: the order is cancelled."),
        OrderStatus::Rejected => rejected(facts, visitor),
    }
}

/// The reason of a rejection, and a hint for visitors who may define the missing product or customer.
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
            "None: the order cannot be filled"
            @if let Some(reason) = &facts.order.reason { ", for " (reason) }
            "."
        }
        @if let Some((what, call)) = missing {
            p {
                "Define the " (what) " with " code { (call) }
                @if visitor.offers("demo") {
                    ", or load the demo data on the " a href="/report" { "report" } ","
                }
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
        p {
            "The order waits for stock. It continues automatically when it is first in each queue and all "
            "stock is available."
        }
        ul.waits {
            @for shortage in shortages(facts) {
                li {
                    @if shortage.missing > 0 {
                        b { (Grouped(shortage.missing)) " more of " (facts.name_of(shortage.product)) }
                    } @else {
                        b { "First position in the queue for " (facts.name_of(shortage.product)) }
                    }
                    " (" (shortage.product) ")"
                    @match shortage.ahead {
                        Some(Ahead::Few { orders: 0, .. }) => "; it is first in the queue",
                        Some(Ahead::Few { orders, quantity }) => {
                            "; " (format::counted(orders, "order"))
                            " for " (format::counted(quantity, "unit"))
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
                    "The order costs " b { (Grouped(total)) }
                    ", the balance is " b { (Grouped(account.balance)) }
                    ": " b { (Grouped(missing)) } " are missing. Top up, then pay again."
                }
                (None, Some(_), Some(_)) => {
                    "The balance covers the order now. Pay again to retry the payment."
                }
                _ => {
                    @if let Some(reason) = &order.reason { "The order was not paid: " (reason) ". " }
                    "Top up and pay again."
                }
            }
        }
    }
}
