//! Idempotency keys.

use std::collections::{BTreeMap, BTreeSet};

use common::contract::{ids::OrderId, order::Order};
use http::StatusCode;
use serde_json::Value;
use stack::{Service, StackOptions};
use system_tests::{SOON, System, order_body};
use tokio::task::JoinSet;

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
    let replayed = post(&body, "\"my key\"").await;
    assert_eq!(replayed.status, StatusCode::OK, "{}", replayed.text());
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

#[tokio::test]
async fn a_hundred_concurrent_calls_with_one_key_place_one_order() {
    let instances = BTreeMap::from([(Service::Gateway, 2), (Service::Order, 2)]);
    let system = System::start_with(StackOptions { instances, ..StackOptions::default() }).await;
    let urls = system.stack.gateway_urls();
    let mut calls = JoinSet::new();
    for call in 0..100 {
        let (client, url) = (system.client.clone(), format!("{}/order", urls[call % 2]));
        calls.spawn(async move {
            let key = [("idempotency-key", "the one")];
            let answer = client.post(&url, &order_body(&["none"], "unknown"), &key).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            (answer.parse::<Order>().id, answer.header("idempotent-replayed") == "true")
        });
    }
    let answers = calls.join_all().await;
    let ids: BTreeSet<OrderId> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(system.assert_balanced(SOON).await.orders, 1);
}
