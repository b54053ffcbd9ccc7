//! Products and accounts as rows of a table.

use common::contract::entities::{Account, Product};
use maud::{Markup, html};

use crate::web::format::{self, Grouped};

/// The length of a bar, in its own units.
const BAR_LENGTH: u64 = 1_000;
/// The number of characters of a name that a row shows.
const NAME_LIMIT: usize = 80;

/// A product; without one, the template from which the script makes rows.
pub(crate) fn product_row(product: Option<&Product>) -> Markup {
    let text = |show: fn(&Product) -> &str| product.map_or("", show);
    let number = |count: fn(&Product) -> u64| product.map_or(0, count);
    let held = number(|it| it.reserved.saturating_sub(it.sold));
    let waiting = number(|it| it.backorders.waiting);
    html! {
        tr data-product=(text(|it| it.id.as_str())) data-price=(number(|it| it.price))
            data-amount=(number(|it| it.amount)) {
            th.p-product scope="row" {
                span.name { (format::short(text(|it| &it.name), NAME_LIMIT)) }
                " "
                span.sub {
                    span.p-id { (text(|it| it.id.as_str())) } " · "
                    span.p-price { (Grouped(number(|it| it.price))) }
                }
            }
            td.p-stock {
                (bar([number(|it| it.amount), held, number(|it| it.sold)]))
                span.sub {
                    span { b.p-amount { (Grouped(number(|it| it.amount))) } " available, " }
                    span { b.p-held { (Grouped(held)) } " reserved, " }
                    span { b.p-sold { (Grouped(number(|it| it.sold))) } " sold" }
                    span.p-line hidden[waiting == 0] {
                        b.p-waiting { (format::counted(waiting, "order")) } " waiting"
                    }
                }
            }
            td.p-order.needs-script {}
        }
    }
}

/// Available, reserved and sold stock as parts of a bar. The numbers are beside the bar.
fn bar(parts: [u64; 3]) -> Markup {
    let [available, held, sold] = spans(parts);
    html! {
        svg.bar viewBox={ "0 0 " (BAR_LENGTH) " 8" } preserveAspectRatio="none" aria-hidden="true" {
            rect.on-hand x=(available.0) width=(available.1) height="8" {}
            rect.held x=(held.0) width=(held.1) height="8" {}
            rect.sold x=(sold.0) width=(sold.1) height="8" {}
        }
    }
}

/// The start and the length of each part.
fn spans(parts: [u64; 3]) -> [(u64, u64); 3] {
    let all: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    let mut before: u128 = 0;
    let position = |sum: u128| {
        let position = (sum * u128::from(BAR_LENGTH)).checked_div(all).unwrap_or(0);
        u64::try_from(position).unwrap_or(BAR_LENGTH)
    };
    parts.map(|part| {
        let start = position(before);
        before += u128::from(part);
        (start, position(before) - start)
    })
}

/// An account; without one, the template from which the script makes rows.
pub(crate) fn account_row(account: Option<&Account>) -> Markup {
    let text = |show: fn(&Account) -> &str| account.map_or("", show);
    let number = |count: fn(&Account) -> u64| account.map_or(0, count);
    html! {
        tr data-account=(text(|it| it.id.as_str())) data-balance=(number(|it| it.balance)) {
            th.a-customer scope="row" {
                a.name href={ "/report?customer_id=" (text(|it| it.id.as_str())) } {
                    (format::short(text(|it| &it.name), NAME_LIMIT))
                }
                span.sub {
                    span.a-id { (text(|it| it.id.as_str())) } " · "
                    span.a-email { (format::short(text(|it| &it.email), NAME_LIMIT)) }
                }
            }
            td.a-balance.num { (Grouped(number(|it| it.balance))) }
            td.a-paid.num { (Grouped(number(|it| it.paid))) }
            td.a-actions.needs-script {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_bar_fill_it_without_gaps() {
        assert_eq!(spans([4, 0, 0]), [(0, 1_000), (1_000, 0), (1_000, 0)]);
        assert_eq!(spans([1, 1, 1]), [(0, 333), (333, 333), (666, 334)]);
        assert_eq!(spans([0, 0, 0]), [(0, 0), (0, 0), (0, 0)]);
        for parts in [[u64::MAX, u64::MAX, u64::MAX], [1, u64::MAX, 0], [7, 3, 11]] {
            let [a, b, c] = spans(parts);
            assert_eq!(
                (a.0, a.0 + a.1, b.0 + b.1, c.0 + c.1),
                (0, b.0, c.0, BAR_LENGTH),
                "{parts:?}"
            );
        }
    }

    #[test]
    fn rows_escape_the_texts_that_others_chose() {
        let hostile = "<script>alert(1)</script>";
        let json = serde_json::json!({
            "id": "9", "name": hostile, "email": hostile, "balance": 5, "price": 1_000, "amount": 3
        });
        let product: Product = serde_json::from_value(json.clone()).unwrap();
        let account: Account = serde_json::from_value(json).unwrap();
        for text in [product_row(Some(&product)), account_row(Some(&account))] {
            let text = text.into_string();
            assert!(!text.contains("<script") && text.contains("&lt;script&gt;"), "{text}");
        }
    }
}
