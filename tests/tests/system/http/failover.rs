//! Services and Redis that are unavailable or hang.

use common::contract::order_status::OrderStatus;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{SOON, System, calls, eventually, order_body, signal};

use super::support::assert_problem;

#[tokio::test]
async fn an_unavailable_order_service_is_a_503_until_it_is_back() {
    let mut system = System::start().await;
    system.init_data().await;
    let order = system.order(&["204"], "101").await;
    system.first(Service::Order).process.kill().unwrap();
    let answer = system.post("/order", &order_body(&["204"], "101")).await;
    assert_problem("POST /order", &answer, 503, "unavailable", None);
    let answer = system.get(&format!("/order/{}", order.id)).await;
    assert_problem("GET /order/{id}", &answer, 503, "unavailable", None);
    // Requests that do not need it are answered.
    assert_eq!(system.report().await["orders"].as_array().unwrap().len(), 1);

    system.restart(Service::Order, 1).await;
    assert_eq!(system.ended(&order).await, order);
    assert_eq!(system.order(&["204"], "101").await.status, OrderStatus::ToBeShipped);
    assert_eq!(system.assert_balanced(SOON).await.orders, 2);
}

#[tokio::test]
async fn an_unavailable_redis_is_a_503_until_it_is_back_without_partial_effects() {
    let mut system = System::start().await;
    system.init_data().await;
    let order = system.order(&["204"], "101").await;
    system.stack.redis().unwrap().kill().unwrap();
    let url = format!("{}/order", system.url());
    let body = order_body(&["204"], "101");
    for round in 0..3 {
        let key = format!("round {round}");
        let answer = system.client.post(&url, &body, &[("idempotency-key", &key)]).await.unwrap();
        assert_problem("POST /order", &answer, 503, "unavailable", None);
        let answer = system.get(&format!("/order/{}", order.id)).await;
        assert_problem("GET /order/{id}", &answer, 503, "unavailable", None);
        let answer = system.get("/report").await;
        assert_problem("GET /report", &answer, 503, "unavailable", None);
        let answer = system.post("/init-data", &Value::Null).await;
        assert_problem("POST /init-data", &answer, 503, "unavailable", None);
    }
    // It is healthy but not ready.
    let ops = system.first(Service::Order).ops;
    let probe = |path| stack::probe::http_status(ops, path).unwrap();
    assert_eq!((probe("/healthz"), probe("/readyz")), (200, 503));

    system.stack.redis().unwrap().restart().unwrap();
    let answer = eventually("an order after Redis' return", SOON, async || {
        let answer = system.client.post(&url, &body, &[("idempotency-key", "round 0")]).await?;
        if answer.status == StatusCode::OK { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    let retried = system.ended(&answer.parse()).await;
    assert_eq!(retried.status, OrderStatus::ToBeShipped);
    eventually("it is ready again", SOON, async || match probe("/readyz") {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    // Refused requests had no effect.
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.orders, 2, "{report}");
}

#[tokio::test]
async fn the_gateway_fails_over_from_a_hanging_order_service() {
    let mut options = StackOptions::default();
    options.instances.insert(Service::Order, 2);
    let mut system = System::start_with(options).await;
    system.init_data().await;
    signal(system.first(Service::Order).process.pid(), Signal::SIGSTOP);
    // Whichever instance is called first: the order is placed once.
    for _ in 0..4 {
        let answer = system.post("/order", &order_body(&["202"], "101")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    signal(system.first(Service::Order).process.pid(), Signal::SIGCONT);
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.orders, 4, "{report}");
}

#[tokio::test]
async fn a_hanging_service_is_a_504() {
    let mut system = System::start().await;
    system.init_data().await;
    signal(system.first(Service::Order).process.pid(), Signal::SIGSTOP);
    let url = format!("{}/order", system.url());
    let (body, key) = (order_body(&["204"], "101"), [("idempotency-key", "slow")]);
    let answer = system.client.post(&url, &body, &key).await.unwrap();
    assert_problem("POST /order", &answer, 504, "timeout", None);
    assert_eq!(answer.header("idempotency-key"), "slow", "to repeat the request with");
    let answer = system.client.post(&url, &body, &[]).await.unwrap();
    let made_up = answer.header("idempotency-key").to_owned();
    assert!(!made_up.is_empty(), "the gateway's own, for a client that had none");
    signal(system.first(Service::Order).process.pid(), Signal::SIGCONT);
    let answer = system.client.post(&url, &body, &key).await.unwrap().with_status(StatusCode::OK);
    assert_eq!(system.ended(&answer.parse()).await.status, OrderStatus::ToBeShipped);
    let key = [("idempotency-key", made_up.as_str())];
    system.client.post(&url, &body, &key).await.unwrap().with_status(StatusCode::OK);

    signal(system.first(Service::Inventory).process.pid(), Signal::SIGSTOP);
    let mut redis = system.redis().await;
    for (name, method, path, body, command) in [
        ("POST /init-data", Method::POST, "/init-data", &Value::Null, "mget"),
        ("PUT", Method::PUT, "/inventory/209", &json!({ "name": "P", "price": 1 }), "get"),
    ] {
        let before = calls(&mut redis, command).await;
        let answer = system.ask(method, path, Some(body)).await;
        assert_problem(name, &answer, 504, "timeout", None);
        // It looks again and again whether that has happened, but not all the time.
        let looks = calls(&mut redis, command).await - before;
        assert!(looks < 120, "{name}: {looks} times");
    }
    signal(system.first(Service::Inventory).process.pid(), Signal::SIGCONT);
    system.init_data().await;
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.orders, 2, "{report}");
}
