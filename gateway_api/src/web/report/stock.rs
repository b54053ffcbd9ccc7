//! Products and customers in the report, and the form to order.

use maud::{Markup, html};

use super::{
    facts::ReportFacts,
    stock_rows::{account_row, product_row},
};
use crate::access::visitor::Visitor;

/// Products with their stock, and the form to order.
pub(super) fn products(report: &ReportFacts, visitor: &Visitor) -> Markup {
    html! {
        section.card aria-labelledby="products-heading" {
            header.card-head {
                h2 #products-heading { "Products" }
                p.legend aria-hidden="true" {
                    span.key.on-hand { "available" } span.key.held { "reserved" } span.key.sold { "sold" }
                }
            }
            form #order-form novalidate {
                table.list {
                    caption.visually-hidden { "Products and their stock" }
                    thead.visually-hidden {
                        tr {
                            th scope="col" { "Product, id and price" }
                            th scope="col" { "Stock" }
                            th.needs-script scope="col" { "Order and restock" }
                        }
                    }
                    tbody #products {
                        @for product in report.products.iter().flatten() { (product_row(Some(product))) }
                    }
                }
                @match &report.products {
                    None => p.empty #no-products { "The products cannot be read at the moment." },
                    Some(none) if none.is_empty() => (no_products(visitor)),
                    Some(_) => {}
                }
                @if let Some(next) = &report.more_products {
                    p.more { a #more-products href=(report.query.and("products", next)) { "More products" } }
                }
                (order_fields(visitor))
            }
        }
    }
}

/// Without products all orders end `rejected`, so the demo data is offered here.
fn no_products(visitor: &Visitor) -> Markup {
    nothing_yet(visitor, "products", "There are no products yet, so no order can be filled.", true)
}

/// The text for an empty list without which orders end `rejected`; `offers`: the demo data is offered here.
fn nothing_yet(visitor: &Visitor, list: &str, text: &str, offers: bool) -> Markup {
    let error = format!("load-{list}-error");
    html! {
        div.empty id={ "no-" (list) } {
            @if offers && visitor.offers("demo") {
                p { (text) " Load the demo data to begin." }
                p.needs-script { button.primary data-init=(error) type="button" { "Load the demo data" } }
                p.error id=(error) role="alert" hidden {}
            } @else {
                p { (text) }
            }
        }
    }
}

/// The rest of the form to order, which needs the script.
fn order_fields(visitor: &Visitor) -> Markup {
    html! {
        div.order-fields.needs-script hidden[!visitor.offers("order")] {
            p.error #order-products-error role="alert" hidden {}
            div.order-who {
                label for="order-customer" { "Customer" }
                select #order-customer name="customer_id" {}
                p.error #order-customer-error role="alert" hidden {}
            }
            p.order-sum {
                span { "Total" }
                output #order-total for="order-customer" { "0" }
            }
            p.hint #order-cover {}
            p.error #order-error role="alert" hidden {}
            button.primary #place-order type="submit" { "Place order" }
        }
    }
}

/// Customers and their accounts.
pub(super) fn customers(report: &ReportFacts, visitor: &Visitor) -> Markup {
    html! {
        section.card aria-labelledby="customers-heading" {
            header.card-head { h2 #customers-heading { "Customers" } }
            table.list {
                caption.visually-hidden { "Customers and their accounts" }
                thead {
                    tr {
                        th scope="col" { "Name" }
                        th.num scope="col" { "Balance" }
                        th.num scope="col" { "Paid" }
                        th.needs-script scope="col" { span.visually-hidden { "Top up" } }
                    }
                }
                tbody #accounts {
                    @for account in report.accounts.iter().flatten() { (account_row(Some(account))) }
                }
            }
            @match &report.accounts {
                None => p.empty #no-accounts { "The accounts cannot be read at the moment." },
                Some(none) if none.is_empty() => (no_customers(report, visitor)),
                Some(_) => {}
            }
            @if let Some(next) = &report.more_accounts {
                p.more { a #more-accounts href=(report.query.and("accounts", next)) { "More customers" } }
            }
        }
    }
}

/// Without products, their list offers the demo data already.
fn no_customers(report: &ReportFacts, visitor: &Visitor) -> Markup {
    let has_products = report.products.as_ref().is_some_and(|it| !it.is_empty());
    nothing_yet(
        visitor,
        "accounts",
        "There are no customers yet, so no order can be paid.",
        has_products,
    )
}
