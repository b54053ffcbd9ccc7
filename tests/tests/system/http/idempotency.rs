//! Idempotency keys.

use common::contract::order::Order;
use http::StatusCode;
use serde_json::Value;
use system_tests::{SOON, System, order_body};

use super::support::assert_problem;

#[tokio::test]
async fn a_key_may_be_quoted_and_another_or_no_key_places_another_order() {
    let system = System::start().await;
    system.init_data().await;
    let body = order_body(&["204"], "101");
    let url = format!("{}/order", system.url());
    let post = async |body: &Value, key: &str| {
        system.client.post(&url, body, &[("idempotency-key", key)]).await.unwrap()
    };
    let order: Order = post(&body, "my key").await.parse();
    // As in the draft, a key may be quoted.
    let replayed = post(&body, "\"my key\"").await.with_status(StatusCode::OK);
    assert_eq!(replayed.header("idempotent-replayed"), "true");
    assert_eq!(replayed.header("location"), format!("/order/{}", order.id));
    assert_eq!(replayed.parse::<Order>().id, order.id);
    let answer = post(&order_body(&["204"], "102"), "my key").await;
    let key = Some("Idempotency-Key");
    assert_problem("another customer", &answer, 422, "idempotency-key-reused", key);
    let another: Order = post(&body, "another key").await.parse();
    assert_ne!(another.id, order.id);
    // Without a key every request places an order of its own.
    assert_ne!(system.place(&["204"], "101").await.id, system.place(&["204"], "101").await.id);
    assert_eq!(system.assert_balanced(SOON).await.orders, 4);
}
