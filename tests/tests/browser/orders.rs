//! Orders are placed with clicks, and their changes arrive without reloading.

use serde_json::json;

use crate::visit::visit;

/// The statuses of all orders on the report, the newest first.
const STATUSES: &str =
    "[...document.querySelectorAll('#orders tr .badge')].map((it) => it.dataset.status)";

/// A script that is true once the orders on the report have these statuses, the newest first.
pub(crate) fn statuses(expected: &[&str]) -> String {
    let expected = expected.join(",");
    format!("const all = {STATUSES}; return all.join() === '{expected}' || all")
}

#[tokio::test]
async fn orders_of_the_guide_are_placed_with_clicks_and_updated_live() {
    visit(async |visit| {
        let tab = &visit.tab;
        tab.open_live("/report").await;
        for (products, expected) in [
            ("201 204", &["to-be-shipped"][..]),
            ("201 204 205", &["insufficient-fund", "to-be-shipped"]),
            ("201 201 201 201 201 201", &["out-of-stock", "insufficient-fund", "to-be-shipped"]),
        ] {
            tab.click(&format!("[data-guide='{products}']")).await;
            tab.sees(products, &statuses(expected)).await;
        }
        // The rest of the page follows as well.
        tab.sees_text("[data-account='101'] .a-balance", "100").await;
        tab.sees_text("[data-account='101'] .a-paid", "900").await;
        tab.sees_text("[data-product='201'] .p-stock", "3 available, 1 reserved, 0 sold").await;
        tab.sees_text("[data-product='201'] .p-stock", "1 order waiting").await;
        tab.sees_text("#counts [data-filter='out-of-stock']", "Out of stock 1").await;
        tab.sees_text("#counts [data-filter='']", "All 3").await;
        tab.sees_text("#orders tr:first-child", "6 × Denon Speakers").await;
        tab.is_same_page().await;
        // The page equals the one that the server renders now.
        let live = tab.texts("#orders td, #orders th, #products .sub, #counts").await;
        tab.open_live("/report").await;
        let fresh = tab.texts("#orders td, #orders th, #products .sub, #counts").await;
        let ages = |texts: Vec<String>| {
            texts.into_iter().filter(|it| !it.ends_with(" s")).collect::<Vec<_>>()
        };
        assert_eq!(ages(live), ages(fresh));
    })
    .await;
}

#[tokio::test]
async fn a_restock_fills_a_backorder_and_the_page_shows_it() {
    visit(async |visit| {
        let tab = &visit.tab;
        let order = visit.system.order(&["204"; 5], "103").await;
        tab.open_live("/report").await;
        tab.sees("it waits", &statuses(&["out-of-stock"])).await;
        tab.sees_text("[data-product='204'] .p-stock", "1 order waiting").await;

        tab.click("[data-product='204'] .restock").await;
        tab.sees_text("#amount-title", "Restock Google Home Mini").await;
        tab.element("#amount").await.send_keys("0").await.expect("keys");
        tab.click("#amount-send").await;
        tab.sees_text("#amount-error", "greater than or equal to 1").await;
        tab.element("#amount").await.clear().await.expect("cleared");
        tab.element("#amount").await.send_keys("2").await.expect("keys");
        tab.click("#amount-send").await;

        tab.sees("it is served", &statuses(&["to-be-shipped"])).await;
        tab.sees_text("[data-product='204'] .p-stock", "0 available, 5 reserved, 0 sold").await;
        tab.sees(
            "the line is gone",
            "return document.querySelector('[data-product=\"204\"] .p-line').hidden",
        )
        .await;
        // The row offers the next steps of the order.
        let row = format!("[data-order='{}']", order.id);
        tab.click(&format!("{row} [data-action='ship']")).await;
        tab.sees("it is shipped", &statuses(&["shipped"])).await;
        tab.click(&format!("{row} [data-action='complete']")).await;
        tab.sees("it arrived", &statuses(&["completed"])).await;
        tab.sees_text("[data-product='204'] .p-stock", "0 available, 0 reserved, 5 sold").await;
        tab.is_same_page().await;
    })
    .await;
}

#[tokio::test]
async fn the_page_of_an_order_shows_its_history_and_its_buttons() {
    visit(async |visit| {
        let tab = &visit.tab;
        let order = visit.system.order(&["201", "205"], "101").await;
        tab.open_live(&format!("/order/{}", order.id)).await;
        tab.sees_text("#order-status", "Insufficient funds").await;
        tab.sees_text("#next", "The order costs 1,100, the balance is 1,000: 100 are missing")
            .await;
        tab.sees_text("#messages", "Anthony").await;

        tab.click("#next [data-top-up]").await;
        tab.sees_text("#next", "The balance covers the order now").await;
        tab.click("#next [data-action='pay']").await;
        tab.sees_text("#order-status", "To be shipped").await;
        tab.click("#next [data-action='ship']").await;
        tab.sees_text("#order-status", "Shipped").await;
        tab.click("#next [data-action='complete']").await;
        tab.sees_text("#order-status", "Completed").await;
        let steps = "return [...document.querySelectorAll('#story [data-step]')] \
            .map((it) => it.dataset.step)";
        let expected = json!([
            "pending",
            "payment-required",
            "insufficient-fund",
            "pending",
            "payment-required",
            "to-be-shipped",
            "shipped",
            "completed",
        ]);
        assert_eq!(tab.run(steps).await, expected);
        assert_eq!(tab.texts("#next button").await, Vec::<String>::new());
        tab.sees_text("#messages", "Your order arrived").await;
        tab.is_same_page().await;

        let other = visit.system.order(&["205"], "103").await;
        tab.open_live(&format!("/order/{}", other.id)).await;
        tab.click("#next [data-action='cancel']").await;
        tab.sees_text("#order-status", "Cancelled").await;
        tab.sees_text("#story", "Its stock is released and its payment refunded").await;
        tab.is_same_page().await;
        visit.system.assert_balanced(system_tests::SOON).await;
    })
    .await;
}
