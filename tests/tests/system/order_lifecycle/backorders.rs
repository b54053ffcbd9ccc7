//! Backorders: incoming and released stock.

use common::contract::{
    order_status::OrderStatus,
    streams::{self, topics},
};
use http::StatusCode;
use redis::AsyncCommands;
use serde_json::json;
use system_tests::{SOON, eventually};

use super::support::shop;

#[tokio::test]
async fn incoming_stock_fills_backorders_in_arrival_order() {
    let system = shop().await;
    let mut waiting = Vec::new();
    for quantity in [2, 5, 1, 2] {
        let order = system.order(&vec!["p"; quantity], "rich").await;
        assert_eq!(order.status, OrderStatus::OutOfStock);
        assert!(order.reason.as_ref().unwrap().contains("p:"), "{order:?}");
        waiting.push(order);
    }
    // Two for the first; the second needs more than the one unit that is left, the third does not.
    system.restock("p", 3).await;
    for filled in [0, 2] {
        system.reaches(&waiting[filled], OrderStatus::ToBeShipped).await;
    }
    assert_eq!(system.ended(&waiting[1]).await.status, OrderStatus::OutOfStock);
    assert_eq!(system.ended(&waiting[3]).await.status, OrderStatus::OutOfStock);
    let product = system.get("/inventory/p").await.json();
    assert_eq!((&product["amount"], &product["line"]["waiting"]), (&json!(0), &json!(2)));
    system.restock("p", 7).await;
    for filled in [1, 3] {
        let order = system.reaches(&waiting[filled], OrderStatus::ToBeShipped).await;
        let statuses: Vec<&str> = order.history.iter().map(|step| step.status.name()).collect();
        assert_eq!(statuses, ["pending", "out-of-stock", "payment-required", "to-be-shipped"]);
        assert_eq!(order.reason, None);
    }
    assert!(system.get("/inventory/p").await.json().get("line").is_none());
    let kinds = system.messages_about("rich", waiting[3].id).await;
    let expected = ["on-its-way", "order-received", "out-of-stock", "stock-reserved"];
    assert_eq!(kinds, expected.into_iter().map(|kind| (kind, 1)).collect());
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn available_stock_goes_to_the_next_order_and_released_stock_to_backorders() {
    let system = shop().await;
    let holder = system.order(&["q", "q", "q"], "rich").await;
    let patient = system.order(&["q", "q", "q", "q"], "rich").await;
    assert_eq!(patient.status, OrderStatus::OutOfStock);
    // Two are available, and the backorder needs four.
    let lucky = system.order(&["q"], "rich").await;
    assert_eq!(lucky.status, OrderStatus::ToBeShipped);
    assert_eq!(system.cancel(&holder).await.status, StatusCode::OK);
    system.reaches(&patient, OrderStatus::ToBeShipped).await;
    assert_eq!(system.available_and_reserved("q").await, (0, 5));

    system.restock("p", 2).await;
    let next = system.order(&["p", "p", "q"], "rich").await;
    assert_eq!(next.status, OrderStatus::OutOfStock);
    assert_eq!(system.cancel(&lucky).await.status, StatusCode::OK);
    system.reaches(&next, OrderStatus::ToBeShipped).await;

    // A failed payment releases the stock for the backorder.
    system.define("/inventory/r", &json!({ "name": "R", "price": 1, "amount": 1 })).await;
    let (unpaid, heir) = tokio::join!(system.place(&["r"], "poor"), async {
        eventually("the other is first", SOON, async || {
            let product = system.get("/inventory/r").await.json();
            (product["reserved"] == 1 || product["received"] == 1)
                .then_some(())
                .ok_or(String::new())
        })
        .await;
        system.place(&["r"], "rich").await
    });
    assert_eq!(system.ended(&unpaid).await.status, OrderStatus::InsufficientFund);
    system.reaches(&heir, OrderStatus::ToBeShipped).await;
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn backorders_of_many_products_are_filled_and_hold_up_no_cancellation() {
    const ORDERS: usize = 21;
    let system = shop().await;
    system.define("/inventory/wanted", &json!({ "name": "Wanted", "price": 1, "amount": 1 })).await;
    let id = |order: usize, other: usize| format!("{order}-{other}");
    for (order, other) in (0..ORDERS).flat_map(|order| (0..99).map(move |other| (order, other))) {
        let product = json!({ "id": id(order, other), "name": "Other", "price": 1, "amount": 100 });
        system.publish(streams::INVENTORY_CREATED, &product).await;
    }
    system.quiet(SOON).await;
    let holder = system.order(&["wanted"], "rich").await;
    assert_eq!(holder.status, OrderStatus::ToBeShipped);
    let mut waiting = Vec::new();
    for order in 0..ORDERS {
        let others: Vec<String> = (0..99).map(|other| id(order, other)).collect();
        let ids = others.iter().map(String::as_str).chain(["wanted"]);
        let order = system.order(&ids.collect::<Vec<_>>(), "rich").await;
        assert_eq!(order.status, OrderStatus::OutOfStock);
        waiting.push(order);
    }
    // A reservation that cannot be read holds up only its own order.
    let mut redis = system.redis_of(topics::INVENTORY).await;
    let key = format!("{{inventory}}:reservation:{}", waiting[0].id);
    let reservation: String = redis.get(&key).await.unwrap();
    let () = redis.set(&key, "7 {]").await.unwrap();

    assert_eq!(system.cancel(&holder).await.status, StatusCode::OK);
    system.reaches(&waiting[1], OrderStatus::ToBeShipped).await;
    let () = redis.set(&key, reservation).await.unwrap();
    system.restock("wanted", ORDERS as u64 - 1).await;
    for order in &waiting {
        system.reaches(order, OrderStatus::ToBeShipped).await;
    }
    assert_eq!(system.available_and_reserved("wanted").await, (0, ORDERS as u64));
    assert!(system.entries(topics::INVENTORY.dead_letters()).await.is_empty());
    system.assert_balanced(SOON).await;
}
