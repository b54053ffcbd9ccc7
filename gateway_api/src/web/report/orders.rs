//! The orders in the report, and their filters.

use common::contract::{ids::CustomerId, order_routes::OrderAction, order_status::OrderStatus};
use maud::{Markup, html};

use super::{facts::ReportFacts, order_rows::Row, query::ReportQuery};
use crate::{
    access::visitor::Visitor,
    web::format::{self, Grouped},
};

/// The orders.
pub(super) fn section(report: &ReportFacts, visitor: &Visitor) -> Markup {
    let ReportQuery { customer_id, status, cursor, .. } = &report.query;
    let total: u64 = report.counts.iter().map(|(_, count)| count).sum();
    html! {
        section.card.orders aria-labelledby="orders-heading" {
            header.card-head {
                h2 #orders-heading tabindex="-1" {
                    "Orders"
                    @if let Some(customer) = customer_id { " of " (report.names.customer(customer)) }
                }
                @if cursor.is_some() {
                    a href=(ReportQuery::filtered(customer_id.as_ref(), *status)) { "Newest orders" }
                }
            }
            (chips(report, visitor, total))
            (filter(report))
            div.orders-region {
                table.orders-table #orders-table data-live=(cursor.is_none() && visitor.follows_orders())
                    data-status=(status.map_or("", OrderStatus::name))
                    data-customer=(customer_id.as_ref().map_or("", CustomerId::as_str)) {
                    caption.visually-hidden { "Orders, the newest first" }
                    thead {
                        tr {
                            th scope="col" { "Status" }
                            th scope="col" { "Order" }
                            th scope="col" { "Customer" }
                            th scope="col" { "Products" }
                            th.num scope="col" { "Total" }
                            th.num scope="col" { "Age" }
                            th.needs-script scope="col" { span.visually-hidden { "Next steps" } }
                        }
                    }
                    tbody #orders {
                        @for order in &report.orders {
                            (Row::new(order, &report.names, report.now).show())
                        }
                    }
                }
            }
            p.empty #no-orders hidden[!report.orders.is_empty()] {
                @if total == 0 { "There are no orders yet." } @else { "No orders here match." }
            }
            p.more #older-line {
                @if let Some(next) = &report.older {
                    a #older-orders rel="next" href=(report.query.and("cursor", next)) { "Older orders" }
                }
            }
        }
    }
}

/// The number of orders of all customers with each status, with links to them.
fn chips(report: &ReportFacts, visitor: &Visitor, total: u64) -> Markup {
    let ReportQuery { customer_id, status, .. } = &report.query;
    let chip = |filter: Option<OrderStatus>, name: &str, label: &str, actions: &str, count| {
        html! {
            a.chip href=(ReportQuery::filtered(customer_id.as_ref(), filter))
                aria-current=[(*status == filter).then_some("true")]
                data-filter=(name) data-label=(label) data-actions=(actions) {
                @if filter.is_some() { span.dot data-status=(name) aria-hidden="true" {} }
                (label)
                @if customer_id.is_none() { " " b data-count=(name) { (Grouped(count)) } }
            }
        }
    };
    html! {
        nav aria-label="Orders by status" {
            ul.chips #counts {
                li { (chip(None, "", "All", "", total)) }
                // Customers see no numbers, because these count all customers; the script needs the rest.
                @for status in OrderStatus::ALL {
                    @let count = report.counts.iter().find(|(it, _)| *it == status).map_or(0, |it| it.1);
                    @let actions = visitor.actions(status).map(OrderAction::name);
                    @let actions = actions.collect::<Vec<_>>().join(" ");
                    li { (chip(Some(status), status.name(), format::label(status), &actions, count)) }
                }
            }
        }
    }
}

/// A plain form: it needs no script.
fn filter(report: &ReportFacts) -> Markup {
    let ReportQuery { customer_id, status, .. } = &report.query;
    let listed = |id: &CustomerId| report.choices.iter().any(|account| account.id == *id);
    html! {
        form.filter #filter method="get" action="/report" {
            div {
                label for="filter-customer" { "Customer" }
                select #filter-customer name="customer_id" {
                    option value="" { "All customers" }
                    @if let Some(customer) = customer_id.as_ref().filter(|id| !listed(id)) {
                        option value=(customer) selected { (report.names.customer(customer)) }
                    }
                    @for account in &report.choices {
                        option value=(account.id) selected[customer_id.as_ref() == Some(&account.id)] {
                            (format::short(&account.name, 40))
                        }
                    }
                }
            }
            div {
                label for="filter-status" { "Status" }
                select #filter-status name="status" {
                    option value="" { "Any status" }
                    @for choice in OrderStatus::ALL {
                        option value=(choice.name()) selected[*status == Some(choice)] {
                            (format::label(choice))
                        }
                    }
                }
            }
            button type="submit" { "Filter" }
        }
    }
}
