//! A small shop, and requests to it.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{Answer, Ask, System};

/// A shop with a product without stock and a customer who can pay for everything.
pub(super) async fn shop() -> System {
    let system = System::start().await;
    define(&system).await;
    system
}

pub(super) async fn define(system: &System) {
    system.define("/inventory/p", &json!({ "name": "P", "price": 10 })).await;
    system.define("/inventory/q", &json!({ "name": "Q", "price": 1, "amount": 5 })).await;
    let rich = json!({ "name": "Rich", "email": "rich@example.com", "balance": 1_000_000 });
    system.define("/accounts/rich", &rich).await;
    system.define("/accounts/poor", &json!({ "name": "Poor", "email": "poor@example.com" })).await;
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
