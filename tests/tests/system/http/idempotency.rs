//! Idempotency keys.

use std::collections::{BTreeMap, BTreeSet};

use common::contract::{ids::OrderId, order::Order};
use http::StatusCode;
use serde_json::Value;
use stack::{Service, StackOptions};
use system_tests::{Answer, SOON, System, order_body};
use tokio::task::JoinSet;

use super::support::assert_problem;

#[tokio::test]
async fn one_key_places_one_order_despite_kills() {
    let mut system = System::start().await;
    system.init_data().await;
    let body = order_body(&["204"], "101");
    let post = async |system: &System, body: &Value, key: &str| {
        let url = format!("{}/order", system.url());
        system.client.post(&url, body, &[("idempotency-key", key)]).await.unwrap()
    };
    let first = post(&system, &body, "my key").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(first.header("idempotent-replayed"), "");
    let order: Order = first.parse();
    let assert_replayed = |answer: Answer| {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.header("idempotent-replayed"), "true");
        assert_eq!(answer.header("location"), format!("/order/{}", order.id));
        assert_eq!(answer.parse::<Order>().id, order.id);
    };
    assert_replayed(post(&system, &body, "my key").await);
    // As in the draft, a key may be quoted.
    assert_replayed(post(&system, &body, "\"my key\"").await);

    for victim in [Service::Order, Service::Gateway] {
        system.restart(victim, 1).await;
        assert_replayed(post(&system, &body, "my key").await);
    }
    for other in [order_body(&["204", "204"], "101"), order_body(&["204"], "102")] {
        let answer = post(&system, &other, "my key").await;
        let key = Some("Idempotency-Key");
        assert_problem("another body", &answer, 422, "idempotency-key-reused", key);
    }
    let another: Order = post(&system, &body, "another key").await.parse();
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
