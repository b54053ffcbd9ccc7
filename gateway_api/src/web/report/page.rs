//! `GET /report` as a page: products and customers, a form to order, and the orders.

use axum::{
    extract::{Query, rejection::QueryRejection},
    response::Response,
};
use common::{
    clock::{Millis, now_millis},
    contract::{
        entities::{Account, Order, OrderStatus, Product},
        entity::Entity,
        ids::CustomerId,
    },
    http::problem::Problem,
};
use maud::{Markup, html};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    order_rows::{Names, Row},
    stock_rows::{account_row, product_row},
};
use crate::{
    Gateway,
    access::{limits::Reader, tokens::Caller},
    routes::{accounts, orders},
    upstream::pagination::{self, Cursor, Page},
    web::{
        format::{self, Grouped},
        layout::{self, Frame},
        visitor::Visitor,
    },
};

/// How many orders a page shows.
const ORDERS: u64 = 50;
/// How many products and how many accounts.
const ROWS: u64 = 25;
/// How many customers can be chosen from.
const CHOICES: u64 = 100;

/// Which part of the report is wanted. Forms send what was left open as empty text.
#[derive(Deserialize, Debug, Default)]
pub struct Wanted {
    /// Only orders of this customer.
    #[serde(default, deserialize_with = "open")]
    customer_id: Option<CustomerId>,
    /// Only orders that have this status.
    #[serde(default, deserialize_with = "open")]
    status: Option<OrderStatus>,
    /// Orders from here on.
    #[serde(default, deserialize_with = "open")]
    cursor: Option<String>,
    /// Products from here on.
    #[serde(default, deserialize_with = "open")]
    products: Option<String>,
    /// Accounts from here on.
    #[serde(default, deserialize_with = "open")]
    accounts: Option<String>,
}

/// Empty text is nothing.
fn open<'de, D: Deserializer<'de>, T: DeserializeOwned>(text: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(text)?;
    if text.is_empty() {
        return Ok(None);
    }
    let value = serde_json::Value::String(text);
    serde_json::from_value(value).map(Some).map_err(serde::de::Error::custom)
}

impl Wanted {
    fn names() -> &'static [&'static str] {
        &["customer_id", "status", "cursor", "products", "accounts"]
    }

    /// The report with these orders only.
    fn filtered(customer: Option<&CustomerId>, status: Option<OrderStatus>) -> String {
        let mut query = Vec::new();
        query.extend(customer.map(|customer| format!("customer_id={customer}")));
        query.extend(status.map(|status| format!("status={}", status.name())));
        if query.is_empty() { "/report".to_owned() } else { format!("/report?{}", query.join("&")) }
    }

    /// The same report with one more parameter.
    fn and(&self, name: &str, value: &str) -> String {
        let path = Self::filtered(self.customer_id.as_ref(), self.status);
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}{name}={value}")
    }
}

/// What the page shows.
struct Report {
    wanted: Wanted,
    orders: Vec<Order>,
    older: Option<String>,
    names: Names,
    counts: Vec<(OrderStatus, u64)>,
    /// `None` where they cannot be read: the page is shown without them.
    products: Option<Vec<Product>>,
    more_products: Option<String>,
    /// As the products.
    accounts: Option<Vec<Account>>,
    more_accounts: Option<String>,
    choices: Vec<Account>,
    now: Millis,
}

/// The page.
pub(crate) async fn show(
    gateway: &Gateway,
    caller: &Caller,
    reader: &Reader,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let wanted = pagination::query(wanted, Wanted::names())?;
    // Before anything is read: what changes after that is told from there on.
    let position = gateway.live.position().await;
    let report = read(gateway, caller, reader, wanted).await?;
    let frame = Frame {
        title: "Report",
        kind: "report",
        place: "/report",
        skip_to: "orders-heading",
        position,
    };
    Ok(layout::page(&frame, &content(&report)))
}

async fn read(
    gateway: &Gateway,
    caller: &Caller,
    reader: &Reader,
    mut wanted: Wanted,
) -> Result<Report, Problem> {
    wanted.customer_id = orders::own(caller, wanted.customer_id)?;
    let page = Page { limit: None, cursor: wanted.cursor.clone() };
    let (customer, status) = (wanted.customer_id.as_ref(), wanted.status);
    let found = orders::find(gateway, reader, customer, status, &page, ORDERS).await?;
    let orders: Vec<Order> = entities(&found.entities);
    let from = |cursor: &Option<String>, name| {
        let page = Page { limit: None, cursor: cursor.clone() };
        page.position(Cursor::Entities).map_err(|problem| problem.at(name))
    };
    let products_from = from(&wanted.products, "products")?.unwrap_or(0);
    let accounts_from = from(&wanted.accounts, "accounts")?.unwrap_or(0);
    let stores = &gateway.stores;
    let product_list = Product::kind().index.unwrap_or_default();
    let products =
        pagination::oldest::<Product>(&stores.inventory, product_list, products_from, ROWS);
    let accounts = accounts::find(&stores.account, caller, accounts_from, ROWS);
    let choices = accounts::find(&stores.account, caller, 0, CHOICES);
    let read = pagination::read(reader, "the report", async {
        let (products, accounts, choices, names, counts) = tokio::join!(
            pagination::part("the products", products),
            pagination::part("the accounts", accounts),
            pagination::part("the customers to choose from", choices),
            Names::of(stores, &orders),
            orders::count(gateway, caller),
        );
        Ok((products, accounts, choices.unwrap_or_default(), names, counts?))
    });
    let (products, accounts, choices, names, counts) = read.await?;
    let (products, more_products) = products.map(|it| (entities(&it.entities), it.next)).unzip();
    let (accounts, more_accounts) = accounts.map(|it| (entities(&it.entities), it.next)).unzip();
    Ok(Report {
        wanted,
        orders,
        older: found.next,
        names,
        counts,
        products,
        more_products: more_products.flatten(),
        accounts,
        more_accounts: more_accounts.flatten(),
        choices: entities(&choices.entities),
        now: now_millis(),
    })
}

/// Those that can be read: the services complain of the others.
fn entities<E: DeserializeOwned>(documents: &[Box<RawValue>]) -> Vec<E> {
    documents.iter().filter_map(|document| serde_json::from_str(document.get()).ok()).collect()
}

fn content(report: &Report) -> Markup {
    html! {
        div.page-head {
            h1 { "Report" }
            (layout::live_line(&format::utc(report.now)))
        }
        div.columns {
            div.side {
                (products(report))
                (customers(report))
                @if is_for_guide(&Visitor::current()) { (demo()) }
            }
            (orders_section(report))
        }
        template #order-row { (Row::default().show()) }
        template #product-row { (product_row(None)) }
        template #account-row { (account_row(None)) }
        (stepper_template())
        (amount_dialog())
    }
}

fn products(report: &Report) -> Markup {
    html! {
        section.card aria-labelledby="products-heading" {
            header.card-head {
                h2 #products-heading { "Products" }
                p.legend aria-hidden="true" {
                    span.key.on-hand { "on hand" } span.key.held { "reserved" } span.key.sold { "sold" }
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
                    tbody #products { @for product in report.products.iter().flatten() { (product_row(Some(product))) } }
                }
                @match &report.products {
                    None => p.empty #no-products { "The products cannot be read at the moment." },
                    Some(none) if none.is_empty() => (no_products()),
                    Some(_) => {}
                }
                @if let Some(next) = &report.more_products {
                    p.more { a #more-products href=(report.wanted.and("products", next)) { "More products" } }
                }
                (order_fields())
            }
        }
    }
}

/// Where there are no products an order ends `rejected`, so the first step is offered here.
fn no_products() -> Markup {
    nothing_yet("products", "There are no products yet, so no order can be filled.", true)
}

/// A list without which orders end `rejected` is empty; `offers` says whether the demo data is offered here.
fn nothing_yet(list: &str, text: &str, offers: bool) -> Markup {
    let error = format!("load-{list}-error");
    html! {
        div.empty id={ "no-" (list) } {
            @if offers && Visitor::current().offers("demo") {
                p { (text) " Load the demo data to begin." }
                p.needs-script { button.primary data-init=(error) type="button" { "Load the demo data" } }
                p.error id=(error) role="alert" hidden {}
            } @else {
                p { (text) }
            }
        }
    }
}

/// What completes an order besides the products: only with the script.
fn order_fields() -> Markup {
    html! {
        div.order-fields.needs-script hidden[!Visitor::current().offers("order")] {
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

fn customers(report: &Report) -> Markup {
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
                tbody #accounts { @for account in report.accounts.iter().flatten() { (account_row(Some(account))) } }
            }
            @match &report.accounts {
                None => p.empty #no-accounts { "The accounts cannot be read at the moment." },
                Some(none) if none.is_empty() => (no_customers(report)),
                Some(_) => {}
            }
            @if let Some(next) = &report.more_accounts {
                p.more { a #more-accounts href=(report.wanted.and("accounts", next)) { "More customers" } }
            }
        }
    }
}

/// Where there are no products either, they offer the demo data.
fn no_customers(report: &Report) -> Markup {
    let has_products = report.products.as_ref().is_some_and(|it| !it.is_empty());
    nothing_yet("accounts", "There are no customers yet, so no order can be paid.", has_products)
}

/// The orders of the guide: what to press, and what becomes of it on fresh data.
const GUIDE: [(&str, &str, &str); 3] = [
    ("201 204", "201 + 204", "900 of 1,000: to be shipped"),
    ("201 204 205", "201 + 204 + 205", "1,200: insufficient funds"),
    ("201 201 201 201 201 201", "6 × 201", "more than there are: out of stock"),
];

/// Whether somebody may place the guide's orders.
fn is_for_guide(visitor: &Visitor) -> bool {
    visitor.offers("order") && visitor.limited_to().is_none_or(|own| own.as_str() == "101")
}

fn demo() -> Markup {
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
            @if Visitor::current().offers("demo") {
                p { button #reset-demo data-init="demo-error" type="button" { "Reset demo data" } }
            }
        }
    }
}

fn orders_section(report: &Report) -> Markup {
    let Wanted { customer_id, status, cursor, .. } = &report.wanted;
    let total: u64 = report.counts.iter().map(|(_, count)| count).sum();
    html! {
        section.card.orders aria-labelledby="orders-heading" {
            header.card-head {
                h2 #orders-heading tabindex="-1" {
                    "Orders"
                    @if let Some(customer) = customer_id { " of " (report.names.customer(customer)) }
                }
                @if cursor.is_some() {
                    a href=(Wanted::filtered(customer_id.as_ref(), *status)) { "Newest orders" }
                }
            }
            (chips(report, total))
            (filter(report))
            div.orders-region {
                table.orders-table #orders-table data-live=(cursor.is_none() && Visitor::current().is_told_of_orders())
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
                    a #older-orders rel="next" href=(report.wanted.and("cursor", next)) { "Older orders" }
                }
            }
        }
    }
}

/// How many orders have each status; each leads to those. They count the orders of all customers.
fn chips(report: &Report, total: u64) -> Markup {
    let Wanted { customer_id, status, .. } = &report.wanted;
    let chip = |filter: Option<OrderStatus>, name: &str, label: &str, actions: &str, count| {
        html! {
            a.chip href=(Wanted::filtered(customer_id.as_ref(), filter))
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
                // A customer sees no numbers, which are those of all; the script needs the rest.
                @for status in OrderStatus::ALL {
                    @let count = report.counts.iter().find(|(it, _)| *it == status).map_or(0, |it| it.1);
                    @let actions = Visitor::current().actions(status).join(" ");
                    li { (chip(Some(status), status.name(), format::label(status), &actions, count)) }
                }
            }
        }
    }
}

/// A plain form: it needs no script.
fn filter(report: &Report) -> Markup {
    let Wanted { customer_id, status, .. } = &report.wanted;
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

fn stepper_template() -> Markup {
    html! {
        template #stepper {
            div.stepper role="group" {
                button.fewer type="button" { "−" }
                input.quantity type="number" min="0" max="100" value="0" inputmode="numeric";
                button.more type="button" { "+" }
            }
            @if Visitor::current().offers("restock") {
                button.quiet.restock type="button" { "Restock" }
            }
        }
    }
}

/// Asks how much comes in: pieces of a product, or money.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_sends_what_was_left_open_as_empty_text() {
        let wanted: Wanted = serde_json::from_str(
            r#"{"customer_id":"","status":"out-of-stock","cursor":"","products":"e19"}"#,
        )
        .unwrap();
        assert_eq!(wanted.customer_id, None);
        assert_eq!(wanted.status, Some(OrderStatus::OutOfStock));
        assert_eq!(wanted.and("cursor", "o1"), "/report?status=out-of-stock&cursor=o1");
        assert_eq!(Wanted::default().and("cursor", "o1"), "/report?cursor=o1");
    }
}
