//! A small shop, and requests to it.

use std::collections::BTreeMap;

use common::contract::{ids::OrderId, messages::MessageSent};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{Answer, Ask, SOON, System};

/// A shop with a product without stock and a customer who can pay for everything.
pub(super) async fn shop() -> System {
    let system = System::start().await;
    define(&system).await;
    system
}

pub(super) async fn define(system: &System) {
    put(system, "/inventory/p", &json!({ "name": "P", "price": 10 })).await;
    put(system, "/inventory/q", &json!({ "name": "Q", "price": 1, "amount": 5 })).await;
    let rich = json!({ "name": "Rich", "email": "rich@example.com", "balance": 1_000_000 });
    put(system, "/accounts/rich", &rich).await;
    put(system, "/accounts/poor", &json!({ "name": "Poor", "email": "poor@example.com" })).await;
}

pub(super) async fn put(system: &System, path: &str, body: &Value) -> Value {
    let answer = system.ask(Method::PUT, path, Some(body)).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    answer.json()
}

pub(super) async fn available_and_reserved(system: &System, product: &str) -> (u64, u64) {
    let product = system.get(&format!("/inventory/{product}")).await.json();
    (product["amount"].as_u64().unwrap(), product["reserved"].as_u64().unwrap())
}

pub(super) async fn balance(system: &System, customer: &str) -> u64 {
    system.get(&format!("/accounts/{customer}")).await.json()["balance"].as_u64().unwrap()
}

pub(super) fn assert_conflict(answer: &Answer, state: &str, allowed: &[&str]) {
    let problem = answer.json();
    assert_eq!(answer.status, StatusCode::CONFLICT, "{problem}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(problem["type"], "urn:problem-type:orders:wrong-state");
    assert_eq!((&problem["state"], &problem["allowed"]), (&json!(state), &json!(allowed)));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(state) && allowed.iter().all(|it| detail.contains(it)), "{detail}");
}

/// The messages to a customer, the oldest first.
pub(super) async fn messages_to(system: &System, customer: &str) -> Vec<MessageSent> {
    system.quiet(SOON).await;
    let path = format!("/customers/{customer}/messages?limit=1000");
    let mut page = system.get(&path).await.json();
    let mut messages: Vec<MessageSent> = serde_json::from_value(page["messages"].take()).unwrap();
    messages.reverse();
    messages
}

pub(super) async fn messages_about(
    system: &System,
    customer: &str,
    order: OrderId,
) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for message in messages_to(system, customer).await {
        if message.order == Some(order) {
            *kinds.entry(message.kind.name()).or_default() += 1;
        }
    }
    kinds
}

/// A request with this key.
pub(super) async fn keyed(
    system: &System,
    key: &str,
    (method, path): (Method, &str),
    body: Option<&Value>,
) -> Answer {
    let ask = Ask { method, path, key, body };
    ask.once(&system.client, &system.url()).await.expect("an answer")
}
