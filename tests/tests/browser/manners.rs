//! Properties of every page: it is readable without a script, fits on a phone, and axe-core finds no
//! violation.

use serde_json::json;
use stack::StackOptions;

use crate::{
    axe::assert_accessible,
    visit::{Visit, visit, visit_with},
};

/// Widths of a phone and of a laptop.
const WIDTHS: [u32; 2] = [360, 1280];

/// Places some orders of all kinds, and returns the path of one order's page.
async fn some_orders(visit: &Visit) -> String {
    let system = &visit.system;
    let dear = system.order(&["201", "205"], "101").await;
    system.order(&["201", "204"], "101").await;
    system.order(&["201"; 6], "101").await;
    let shipped = system.order(&["205"], "103").await;
    system.step(&shipped, "ship").await;
    system.order(&["999"], "101").await;
    let cancelled = system.order(&["202"], "103").await;
    system.cancel(&cancelled).await;
    system.quiet(system_tests::SOON).await;
    format!("/order/{}", dear.id)
}

/// The pages with and without a script that follows changes.
fn pages(order: &str) -> [(&str, bool); 5] {
    [
        ("/report", true),
        (order, true),
        ("/flow", true),
        ("/docs/events", false),
        ("/nowhere", false),
    ]
}

#[tokio::test]
async fn axe_core_finds_no_violation_on_any_page_size_or_colour_scheme() {
    visit(async |visit| {
        visit.tab.forgive("status of 404");
        visit.tab.forgive("status of 422");
        let order = some_orders(visit).await;
        let tab = &visit.tab;
        for (path, is_live) in pages(&order) {
            for width in WIDTHS {
                for dark in [false, true] {
                    tab.look(width, 900, dark).await;
                    tab.open(path).await;
                    if is_live {
                        tab.is_live().await;
                    }
                    assert_accessible(tab, &format!("{path}, {width} px, dark: {dark}")).await;
                }
            }
        }
        // With elements that appear only for a while.
        tab.open_live("/report").await;
        tab.click("#place-order").await;
        tab.sees_text("#order-products-error", "Choose").await;
        assert_accessible(tab, "the report with an error").await;
        tab.click("[data-product='204'] .restock").await;
        assert_accessible(tab, "the report with a dialog").await;
    })
    .await;
}

#[tokio::test]
async fn no_page_scrolls_sideways_on_a_phone() {
    visit(async |visit| {
        visit.tab.forgive("status of 404");
        let order = some_orders(visit).await;
        let tab = &visit.tab;
        for (path, _) in pages(&order) {
            tab.look(360, 800, false).await;
            tab.open(path).await;
            let wide = "const most = document.documentElement.clientWidth; \
                const sideways = (it) => it.closest('.scroll, .visually-hidden, pre, [hidden]'); \
                const wide = [...document.body.querySelectorAll('*')].filter((it) => !sideways(it) \
                    && it.getBoundingClientRect().right > most + 1).map((it) => it.outerHTML.slice(0, 80)); \
                return document.documentElement.scrollWidth > most ? wide : []";
            assert_eq!(tab.run(wide).await, json!([]), "{path}");
            let widths = tab.run("return [innerWidth, document.documentElement.scrollWidth]").await;
            assert_eq!(widths, json!([360, 360]), "{path}");
        }
        // The diagram of the flow is wider than the screen. A hint says so, and no name is broken.
        tab.open("/flow").await;
        tab.sees_text(".scroll-hint", "scroll sideways").await;
        let lines = "return [...document.querySelectorAll('.flow-summary .mono')] \
            .every((it) => it.getClientRects().length === 1 \
                && it.scrollWidth <= it.parentElement.clientWidth)";
        assert_eq!(tab.run(lines).await, true);
        tab.look(1280, 800, false).await;
        let bottom = "return document.querySelector('#flow-picture').getBoundingClientRect().bottom";
        let bottom = tab.run(bottom).await;
        assert!(bottom.as_f64() <= Some(800.0), "the picture ends at {bottom}");
    })
    .await;
}

#[tokio::test]
async fn pages_can_be_read_and_filtered_without_a_script() {
    visit_with(StackOptions::default(), false, async |visit| {
        visit.system.order(&["201", "204"], "101").await;
        visit.system.order(&["201"; 6], "101").await;
        let order = visit.system.order(&["205"], "103").await;
        let tab = &visit.tab;
        tab.open("/report").await;
        tab.sees_text("#live", "As of 20").await;
        let badges = ["To be shipped", "Out of stock", "To be shipped"];
        assert_eq!(tab.texts("#orders .badge").await, badges);
        tab.sees_text("[data-product='201']", "1 order waiting").await;
        // Elements that need the script are hidden.
        for css in ["#place-order", "#reset-demo", ".needs-script"] {
            assert_eq!(tab.text(css).await, "", "{css}");
        }
        tab.click("#filter-customer [value='101']").await;
        tab.click("#filter-status [value='out-of-stock']").await;
        tab.click("#filter button").await;
        tab.sees_text("#orders", "6 × Denon Speakers").await;
        assert_eq!(tab.texts("#orders .badge").await, ["Out of stock"]);
        tab.sees_text("#orders-heading", "Orders of Anthony").await;

        tab.open(&format!("/order/{}", order.id)).await;
        tab.sees_text("#story", "The payment is accepted.").await;
        tab.sees_text("#messages", "Carol").await;
        tab.open("/flow").await;
        tab.sees_text("#flow-table", "inventory_service").await;
        tab.click("nav a[href='/report']").await;
        assert_eq!(tab.path().await, "/report");
    })
    .await;
}
