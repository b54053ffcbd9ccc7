//! A system without any data: after FLUSHALL, as the original's guide begins.

use common::contract::{order_status::OrderStatus, streams::topics};
use stack::StackOptions;

use crate::{
    axe::assert_accessible,
    orders::statuses,
    visit::{visit, visit_with},
};

#[tokio::test]
async fn an_empty_report_offers_the_demo_data_in_its_empty_lists() {
    visit(async |visit| {
        let (tab, system) = (&visit.tab, &visit.system);
        let () = redis::cmd("FLUSHALL").query_async(&mut system.redis().await).await.expect("OK");
        let rejected = system.order(&["201", "204"], "101").await;
        assert_eq!(rejected.status, OrderStatus::Rejected);
        assert_eq!(rejected.reason.as_deref(), Some("there are no products 201 and 204"));
        tab.open_live(&format!("/order/{}", rejected.id)).await;
        tab.sees_text("#next", "there are no products 201 and 204. Define the products with PUT")
            .await;
        tab.click("#next a[href='/report']").await;
        tab.is_live().await;
        tab.sees_text("#no-products", "no order can be filled. Load the demo data to begin.").await;
        assert_accessible(tab, "the empty report").await;
        tab.click("#no-products button").await;
        let rows = "return document.querySelectorAll('#products tr').length === 5 \
            && document.querySelectorAll('#accounts tr').length === 3";
        tab.sees("the demo data", rows).await;
        assert_eq!(tab.run("return document.querySelector('#no-products') === null").await, true);
        assert!(tab.has_focus("#main").await, "{:?}", tab.focus().await);
        tab.click("[data-guide='201 204']").await;
        tab.sees("an order", &statuses(&["to-be-shipped", "rejected"])).await;
    })
    .await;
}

#[tokio::test]
async fn a_list_without_customers_offers_the_demo_data() {
    let options = StackOptions { isolated: true, ..StackOptions::default() };
    visit_with(options, true, async |visit| {
        let (tab, system) = (&visit.tab, &visit.system);
        let mut accounts = system.redis_of(topics::ACCOUNT).await;
        let () = redis::cmd("FLUSHALL").query_async(&mut accounts).await.expect("OK");
        let rejected = system.order(&["201", "none"], "101").await;
        tab.open(&format!("/order/{}", rejected.id)).await;
        tab.sees_text("#next", "there is no product none. Define the product with PUT").await;
        let rejected = system.order(&["201"], "101").await;
        tab.open(&format!("/order/{}", rejected.id)).await;
        tab.sees_text("#next", "there is no customer 101. Define the customer with PUT").await;
        tab.open_live("/report").await;
        tab.sees_text("#no-accounts", "no order can be paid. Load the demo data to begin.").await;
        assert_accessible(tab, "a report without customers").await;
        tab.click("#no-accounts button").await;
        let rows = "return document.querySelectorAll('#accounts tr').length === 3";
        tab.sees("the demo customers", rows).await;
        assert_eq!(tab.run("return document.querySelector('#no-accounts') === null").await, true);
        tab.click("[data-guide='201 204']").await;
        tab.sees("an order", &statuses(&["to-be-shipped", "rejected", "rejected"])).await;
    })
    .await;
}
