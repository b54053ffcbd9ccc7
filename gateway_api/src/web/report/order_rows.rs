//! Orders as rows of a table.

use std::collections::HashMap;

use common::{
    clock::Millis,
    contract::{
        entities::{Account, Product},
        ids::{CustomerId, ProductId},
        order::Order,
        order_status::OrderStatus,
    },
};
use maud::{Markup, html};

use crate::web::format::{self, Grouped, badge, quantities};

/// The number of an order's products that a row names.
const NAMED_PRODUCTS: usize = 4;
/// The number of characters of a name that a row shows.
const NAME_LIMIT: usize = 60;

/// The names of customers and products.
#[derive(Default)]
pub(crate) struct Names {
    customers: HashMap<CustomerId, String>,
    products: HashMap<ProductId, String>,
}

impl Names {
    /// The ids of the customers and products that the rows of these orders name.
    pub(crate) fn needed(orders: &[Order]) -> (Vec<CustomerId>, Vec<ProductId>) {
        let mut customers: Vec<_> = orders.iter().map(|order| order.customer_id.clone()).collect();
        customers.sort_unstable();
        customers.dedup();
        let named = |order| quantities(order).into_keys().take(NAMED_PRODUCTS);
        let mut products: Vec<ProductId> = orders.iter().flat_map(named).cloned().collect();
        products.sort_unstable();
        products.dedup();
        (customers, products)
    }

    /// The names of these customers and products.
    pub(crate) fn new(customers: Vec<Account>, products: Vec<Product>) -> Self {
        Self {
            customers: customers.into_iter().map(|it| (it.id, it.name)).collect(),
            products: products.into_iter().map(|it| (it.id, it.name)).collect(),
        }
    }

    /// The customer's name, or id where there is none.
    pub(crate) fn customer(&self, id: &CustomerId) -> String {
        format::short(self.customers.get(id).map_or(id.as_str(), String::as_str), NAME_LIMIT)
    }

    fn product(&self, id: &ProductId) -> String {
        format::short(self.products.get(id).map_or(id.as_str(), String::as_str), NAME_LIMIT)
    }
}

/// `2 × Denon Speakers, 1 × Google Home Mini`, not broken before or after the sign.
fn products(order: &Order, names: &Names) -> String {
    let quantities = quantities(order);
    let mut text: Vec<String> = quantities
        .iter()
        .take(NAMED_PRODUCTS)
        .map(|(id, count)| format!("{count}\u{a0}×\u{a0}{}", names.product(id)))
        .collect();
    if quantities.len() > NAMED_PRODUCTS {
        text.push(format!("{} more", quantities.len() - NAMED_PRODUCTS));
    }
    text.join(", ")
}

/// The content of a row; the default is the template from which the script makes rows.
#[derive(Default)]
pub(crate) struct Row {
    id: String,
    status: Option<OrderStatus>,
    customer_id: String,
    customer: String,
    products: String,
    total: Option<u64>,
    at: Millis,
    age: String,
}

impl Row {
    /// The row of an order at this time.
    pub(crate) fn new(order: &Order, names: &Names, now: Millis) -> Self {
        Self {
            id: order.id.to_string(),
            status: Some(order.status),
            customer_id: order.customer_id.to_string(),
            customer: names.customer(&order.customer_id),
            products: products(order, names),
            total: order.order_total,
            at: order.created(),
            age: format::age(now.saturating_sub(order.created())),
        }
    }

    /// The row.
    pub(crate) fn show(&self) -> Markup {
        let short = self.id.get(..8).unwrap_or_default();
        html! {
            tr data-order=(self.id) data-at=(self.at) {
                td.o-status { (badge(self.status)) }
                th.o-id scope="row" { a href={ "/order/" (self.id) } { (short) } }
                td.o-customer {
                    a href={ "/report?customer_id=" (self.customer_id) } { (self.customer) }
                }
                td.o-products { (self.products) }
                td.o-total.num { @if let Some(total) = self.total { (Grouped(total)) } @else { "–" } }
                td.o-age.num { time datetime=(format::rfc3339(self.at)) { (self.age) } }
                td.o-actions.needs-script {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::contract::{ids::OrderId, order::Step};

    use super::*;

    fn order(product_ids: &[&str]) -> Order {
        let pending = OrderStatus::Pending;
        Order {
            id: OrderId::random(),
            product_ids: product_ids.iter().map(|id| id.parse().unwrap()).collect(),
            customer_id: "101".parse().unwrap(),
            status: pending,
            attempt: 1,
            order_total: Some(1_200),
            reason: None,
            history: vec![Step::new(pending, 1_000, 1)],
            omitted: None,
            resent: None,
            unconfirmed: Vec::new(),
        }
    }

    #[test]
    fn a_row_counts_units_and_names_only_some_products() {
        let order = order(&["6", "1", "2", "1", "3", "4", "5"]);
        let names = Names {
            products: [("1".parse().unwrap(), "One".to_owned())].into(),
            ..Names::default()
        };
        let text = products(&order, &names).replace('\u{a0}', " ");
        assert_eq!(text, "2 × One, 1 × 2, 1 × 3, 1 × 4, 2 more");
    }

    #[test]
    fn a_row_escapes_the_names_that_others_chose() {
        let order = order(&["1"]);
        let hostile = r#""><script>alert(1)</script>"#.to_owned();
        let names = Names {
            customers: [("101".parse().unwrap(), hostile.clone())].into(),
            products: [("1".parse().unwrap(), hostile)].into(),
        };
        let text = Row::new(&order, &names, 61_000).show().into_string();
        assert!(!text.contains("<script"), "{text}");
        assert_eq!(text.matches("&lt;script&gt;").count(), 2, "{text}");
        assert!(text.contains("1,200") && text.contains(">1 min<"), "{text}");
    }
}
