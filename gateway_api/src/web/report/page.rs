//! `GET /report` as a page: products and customers, a form to order, and the orders.

use maud::{Markup, html};

use super::{
    facts::ReportFacts,
    order_rows::Row,
    orders, stock,
    stock_rows::{account_row, product_row},
};
use crate::{
    access::visitor::Visitor,
    web::{
        format,
        layout::{self, Frame, Page},
    },
};

/// The page; its script follows changes from this position.
pub(crate) fn page(report: &ReportFacts, visitor: &Visitor, position: Option<String>) -> Page {
    let frame = Frame {
        title: "Report".to_owned(),
        kind: "report",
        nav: "/report",
        skip_to: "orders-heading",
        position,
    };
    Page { frame, content: content(report, visitor) }
}

fn content(report: &ReportFacts, visitor: &Visitor) -> Markup {
    html! {
        div.page-head {
            h1 { "Report" }
            (layout::live_line(&format::utc(report.now)))
        }
        div.columns {
            div.side {
                (stock::products(report, visitor))
                (stock::customers(report, visitor))
                @if is_for_guide(visitor) { (demo(visitor)) }
            }
            (orders::section(report, visitor))
        }
        template #order-row { (Row::default().show()) }
        template #product-row { (product_row(None)) }
        template #account-row { (account_row(None)) }
        (stepper_template(visitor))
        (amount_dialog())
    }
}

/// The orders of the guide: the products, the label, and the result on fresh data.
const GUIDE: [(&str, &str, &str); 3] = [
    ("201 204", "201 + 204", "900 of 1,000: to be shipped"),
    ("201 204 205", "201 + 204 + 205", "1,200: insufficient funds"),
    ("201 201 201 201 201 201", "6 × 201", "more than available: out of stock"),
];

/// Whether the visitor may place the guide's orders.
fn is_for_guide(visitor: &Visitor) -> bool {
    visitor.offers("order") && visitor.limited_to().is_none_or(|own| own.as_str() == "101")
}

fn demo(visitor: &Visitor) -> Markup {
    html! {
        section.card.needs-script aria-labelledby="demo-heading" {
            header.card-head { h2 #demo-heading { "The guide’s orders" } }
            p.hint { "For customer 101, one after the other, on fresh demo data." }
            ol.guide {
                @for (products, name, outcome) in GUIDE {
                    li {
                        button type="button" data-guide=(products) { (name) }
                        span.sub { (outcome) }
                    }
                }
            }
            p.error #demo-error role="alert" hidden {}
            @if visitor.offers("demo") {
                p { button #reset-demo data-init="demo-error" type="button" { "Reset demo data" } }
            }
        }
    }
}

fn stepper_template(visitor: &Visitor) -> Markup {
    html! {
        template #stepper {
            div.stepper role="group" {
                button.fewer type="button" { "−" }
                input.quantity type="number" min="0" max="100" value="0" inputmode="numeric";
                button.more type="button" { "+" }
            }
            @if visitor.offers("restock") {
                button.quiet.restock type="button" { "Restock" }
            }
        }
    }
}

/// The dialog for the amount of a restock or a top-up.
fn amount_dialog() -> Markup {
    html! {
        dialog #amount-dialog aria-labelledby="amount-title" {
            form #amount-form method="dialog" novalidate {
                h2 #amount-title {}
                label #amount-label for="amount" {}
                input #amount type="number" min="1" required inputmode="numeric" autocomplete="off"
                    aria-describedby="amount-error";
                p.error #amount-error role="alert" hidden {}
                div.buttons {
                    button #amount-cancel type="button" { "Cancel" }
                    button.primary #amount-send type="submit" {}
                }
            }
        }
    }
}
