//! The form to order, with errors next to their fields.

use http::Method;
use serde_json::json;

use crate::{orders::statuses, visit::visit};

#[tokio::test]
async fn the_form_places_orders_and_shows_errors_at_their_fields() {
    visit(async |visit| {
        let tab = &mut visit.tab;
        // The test causes refusals, and the browser reports each in the console.
        tab.forgive("status of 422");
        tab.open_live("/report").await;
        tab.click("#place-order").await;
        tab.sees_text("#order-products-error", "Choose at least one product.").await;
        let marked = tab.element(".quantity").await.attr("aria-invalid").await.expect("an answer");
        assert_eq!(marked.as_deref(), Some("true"));
        assert!(tab.has_focus(".quantity").await, "{:?}", tab.focus().await);

        tab.click("[data-product='203'] .more").await;
        tab.click("[data-product='203'] .more").await;
        tab.click("[data-product='203'] .more").await;
        tab.click("[data-product='203'] .fewer").await;
        let quantity = tab.element("[data-product='204'] .quantity").await;
        quantity.clear().await.expect("cleared");
        quantity.send_keys("2").await.expect("keys");
        tab.click("#order-customer [value='102']").await;
        tab.sees_text("#order-total", "1,000").await;
        tab.sees_text("#order-cover", "Becky has 100: 900 short.").await;
        tab.click("#order-customer [value='103']").await;
        tab.sees_text("#order-cover", "Carol has 1,000: that covers it.").await;
        tab.click("#place-order").await;
        tab.sees("it is paid", &statuses(&["to-be-shipped"])).await;
        let products = "2 × AudioPro Speakers, 2 × Google Home Mini";
        tab.sees_text("#orders tr", products).await;
        tab.sees_text("#orders tr", "Carol").await;
        tab.sees_text("#orders tr .o-total", "1,000").await;
        // The form is empty again, and the error has disappeared.
        tab.sees_text("#order-total", "0").await;
        tab.sees("no error", "return document.querySelector('#order-products-error').hidden").await;

        // The form takes the names of products from the page: a changed name arrives.
        let renamed = json!({ "name": "Speaker <b>&", "price": 401, "amount": 0 });
        let answer = visit.system.ask(Method::PUT, "/inventory/203", Some(&renamed)).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        tab.sees_text("[data-product='203'] .name", "Speaker <b>&").await;
        tab.click("[data-product='203'] .more").await;
        tab.sees_text("#order-total", "401").await;
        tab.is_same_page().await;
    })
    .await;
}
