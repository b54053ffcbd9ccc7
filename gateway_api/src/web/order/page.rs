//! `GET /order/{id}` as a page: the next step of an order, its history, the messages to its customer.

use common::contract::ids::OrderId;
use maud::{Markup, html};

use super::{
    facts::{NAME_LIMIT, OrderFacts, Payer},
    timeline, waiting,
};
use crate::{
    access::visitor::Visitor,
    web::{
        format::{self, Grouped, badge, clock, quantities},
        layout::{self, Frame, Page},
    },
};

/// The page; its script follows changes from this position.
pub(crate) fn page(facts: &OrderFacts, visitor: &Visitor, position: Option<String>) -> Page {
    let frame = Frame {
        title: format!("Order {}", short(facts.order.id)),
        kind: "order",
        nav: "",
        skip_to: "main",
        position,
    };
    Page { frame, content: content(facts, visitor) }
}

fn short(id: OrderId) -> String {
    id.to_string()[..8].to_owned()
}

fn content(facts: &OrderFacts, visitor: &Visitor) -> Markup {
    let OrderFacts { order, .. } = facts;
    html! {
        div.page-head {
            div {
                h1 #order-heading data-order=(order.id) {
                    span { "Order " span.mono { (short(order.id)) } } " "
                    span #order-status data-swap { (badge(Some(order.status))) }
                }
                p.sub.mono { (order.id) }
            }
            (layout::live_line(&format::utc(facts.now)))
        }
        div.columns.story-columns {
            div.wide {
                section.card.next aria-labelledby="next-heading" {
                    h2 #next-heading { "Next step" }
                    div #next data-swap { (waiting::next(facts, visitor)) }
                    p.error #next-error role="alert" hidden {}
                }
                section.card aria-labelledby="story-heading" {
                    h2 #story-heading { "History" }
                    div #story data-swap { (timeline::timeline(order)) }
                }
            }
            div.side {
                section.card aria-labelledby="facts-heading" {
                    h2 #facts-heading { "Details" }
                    div #facts data-swap { (ordered(facts)) }
                }
                section.card aria-labelledby="messages-heading" {
                    h2 #messages-heading { "Messages to the customer" }
                    div #messages data-swap { (messages(facts)) }
                }
            }
        }
    }
}

fn ordered(facts: &OrderFacts) -> Markup {
    let OrderFacts { order, account, products, .. } = facts;
    let name = account.account().map_or(order.customer_id.as_str(), |account| &account.name);
    html! {
        dl.facts {
            dt { "Customer" }
            dd {
                a href={ "/report?customer_id=" (order.customer_id) } { (format::short(name, NAME_LIMIT)) }
                span.sub {
                    @match account {
                        Payer::Known(account) => {
                            (order.customer_id) " · " (format::short(&account.email, NAME_LIMIT))
                            " · balance " b { (Grouped(account.balance)) }
                        }
                        Payer::Unknown => "There is no such customer.",
                        Payer::Hidden => (order.customer_id),
                        Payer::Unread => {
                            (order.customer_id) " · the account cannot be read at the moment"
                        }
                    }
                }
            }
            dt { "Placed" }
            dd { (clock(order.created(), "both")) }
            dt { "Attempt" }
            dd { (order.attempt) }
        }
        table.list {
            caption.visually-hidden { "Products of this order" }
            thead {
                tr {
                    th scope="col" { "Product" }
                    th.num scope="col" { "Quantity" }
                    th.num scope="col" { "Price now" }
                }
            }
            tbody {
                @for (id, count) in quantities(order) {
                    tr {
                        th scope="row" {
                            span.name { (facts.name_of(id)) }
                            span.sub {
                                (id)
                                @match facts.product(id) {
                                    Some(product) => { " · " (Grouped(product.amount)) " available" }
                                    None if products.is_some() => " · does not exist",
                                    None => " · cannot be read at the moment",
                                }
                            }
                        }
                        td.num { (Grouped(count)) }
                        td.num {
                            @match facts.product(id) {
                                Some(product) => (Grouped(product.price)),
                                None => "–",
                            }
                        }
                    }
                }
            }
            @if let Some(total) = order.order_total {
                tfoot {
                    tr {
                        th scope="row" { "Total" }
                        td {}
                        td.num { b { (Grouped(total)) } }
                    }
                }
            }
        }
    }
}

fn messages(facts: &OrderFacts) -> Markup {
    html! {
        @match &facts.messages {
            None => p.empty { "The messages cannot be read at the moment." },
            Some((messages, complete)) => {
                @if messages.is_empty() {
                    p.empty { "No messages yet." }
                }
                @if !complete {
                    p.hint { "Messages about earlier attempts are not shown." }
                }
                ol.messages {
                    @for message in messages {
                        li data-message=(message.kind.name()) {
                            h3 { (message.subject) }
                            p { (message.body) }
                        }
                    }
                }
            }
        }
    }
}
