//! Repeated requests.

use common::contract::{order::Order, order_status::OrderStatus};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Answer, Ask, Client, SOON, System, order_body};
use tokio::task::JoinSet;

use super::support::{define, shop};

/// Requests that change something.
fn requests(order: &Order, unpaid: &Order, spare: &Order) -> Vec<(Method, String, Option<Value>)> {
    let amount = |amount: u64| Some(json!({ "amount": amount }));
    vec![
        (Method::POST, "/inventory/q/restock".to_owned(), amount(3)),
        (Method::POST, "/accounts/poor/top-up".to_owned(), amount(50)),
        (Method::POST, format!("/order/{}/pay", unpaid.id), None),
        (Method::POST, format!("/order/{}/ship", order.id), None),
        (Method::POST, format!("/order/{}/complete", order.id), None),
        (Method::DELETE, format!("/order/{}", spare.id), None),
        (Method::POST, "/order".to_owned(), Some(order_body(&["q"], "rich"))),
    ]
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_has_its_effect_once() {
    let mut system = shop().await;
    let order = system.order(&["q"], "rich").await;
    let unpaid = system.order(&["q"], "poor").await;
    let spare = system.order(&["q"], "rich").await;
    let requests = requests(&order, &unpaid, &spare);
    let mut first_answers = Vec::new();
    for (number, (method, path, body)) in requests.iter().enumerate() {
        let key = format!("key-{number}");
        let ask = Ask { method: method.clone(), path, key: &key, body: body.as_ref() };
        let first = ask.once(&system.client, &system.url()).await.expect("an answer");
        assert_eq!(first.status, StatusCode::OK, "{path}: {}", first.text());
        assert_eq!(first.header("idempotent-replayed"), "", "{path}");
        system.quiet(SOON).await;
        first_answers.push(first.json());
    }
    let state = async |system: &System| {
        let report = system.report().await;
        (report["accounts"].clone(), report["inventory"].clone(), report["orders"].clone())
    };
    let before = state(&system).await;
    // Also after all services were killed.
    for service in Service::ALL {
        system.restart(service, 1).await;
    }
    for ((number, (method, path, body)), first) in requests.iter().enumerate().zip(&first_answers) {
        let key = format!("key-{number}");
        let ask = Ask { method: method.clone(), path, key: &key, body: body.as_ref() };
        let again = ask.once(&system.client, &system.url()).await.expect("an answer");
        assert_eq!((again.status, &again.json()), (StatusCode::OK, first), "{path}");
        assert_eq!(again.header("idempotent-replayed"), "true", "{path}");
        // The same key for another body, or for another action on the same order.
        let other = match (path.as_str(), body) {
            ("/order", _) => (path.clone(), Some(order_body(&["q", "q"], "rich"))),
            (_, Some(_)) => (path.clone(), Some(json!({ "amount": 7 }))),
            (path, None) if path.ends_with("/pay") => (path.replace("/pay", "/ship"), None),
            (path, None) if path.ends_with("/ship") => (path.replace("/ship", "/complete"), None),
            (path, None) if path.ends_with("/complete") => {
                (path.replace("/complete", "/pay"), None)
            }
            (path, None) => (format!("{path}/pay"), None),
        };
        let method = if other.1.is_none() { Method::POST } else { method.clone() };
        let ask = Ask { method, path: &other.0, key: &key, body: other.1.as_ref() };
        let refused = ask.once(&system.client, &system.url()).await.expect("an answer");
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text());
        let problem = refused.json();
        assert_eq!(problem["type"], "urn:problem-type:orders:idempotency-key-reused");
        assert_eq!(problem["field"], "Idempotency-Key");
    }
    system.quiet(SOON).await;
    assert_eq!(state(&system).await, before);
    system.assert_balanced(SOON).await;
}

/// Sends a request a hundred times with one key, half of them to each of two gateways.
fn hundred_calls(
    system: &System,
    key: &str,
    (method, path, body): (Method, String, Option<Value>),
) -> JoinSet<Answer> {
    let mut calls = JoinSet::new();
    for call in 0..100 {
        let mut gateways = system.stack.gateway_urls();
        gateways.rotate_left(call % 2);
        let (method, path, body) = (method.clone(), path.clone(), body.clone());
        let key = key.to_owned();
        calls.spawn(async move {
            let ask = Ask { method, path: &path, key: &key, body: body.as_ref() };
            ask.until_answered(&Client::default(), &gateways, SOON * 2).await
        });
    }
    calls
}

/// Asserts that all calls got the same answer, and returns how many are not marked as repetitions.
async fn first_answers(calls: JoinSet<Answer>) -> usize {
    let answers = calls.join_all().await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.text(), answers[0].text());
    }
    answers.iter().filter(|it| it.header("idempotent-replayed").is_empty()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_with_one_key_have_one_effect_despite_kills() {
    let instances = [Service::Gateway, Service::Order].map(|service| (service, 2));
    let options = StackOptions { instances: instances.into(), ..StackOptions::default() };
    let mut system = System::start_alone(options).await;
    define(&system).await;
    let order = system.order(&["q"], "rich").await;
    let unpaid = system.order(&["q"], "poor").await;
    let spare = system.order(&["q"], "rich").await;
    let before = system.balance("rich").await;
    for (number, request) in requests(&order, &unpaid, &spare).into_iter().enumerate() {
        let path = request.1.clone();
        let calls = hundred_calls(&system, &format!("hundred-{number}"), request);
        // Half of the processes are killed during the calls.
        let victims = system.stack.instances().len();
        tokio::task::block_in_place(|| {
            for victim in (0..victims).filter(|victim| (victim + number) % 2 == 0) {
                let process = &mut system.stack.instances_mut()[victim].process;
                process.kill().and_then(|()| process.restart()).expect("restarted");
            }
        });
        assert!(first_answers(calls).await <= 1, "{path}: one is the first");
        system.client = Client::default();
        system.wait_ready().await;
        system.quiet(SOON).await;
    }
    // Without kills exactly one call is answered as the first.
    let orders = system.audit(SOON).await.orders;
    let request = (Method::POST, "/order".to_owned(), Some(order_body(&["none"], "unknown")));
    assert_eq!(first_answers(hundred_calls(&system, "the one", request)).await, 1);
    assert_eq!(system.audit(SOON).await.orders, orders + 1);
    // 5 at first and 3 restocked; reserved by the paid, the shipped and the new order.
    assert_eq!(system.available_and_reserved("q").await, (5, 3));
    assert_eq!(system.balance("poor").await, 49);
    assert_eq!(system.balance("rich").await, before);
    let paid = system.order_now(&unpaid).await;
    assert_eq!((paid.status, paid.attempt), (OrderStatus::ToBeShipped, 2));
    system.assert_balanced(SOON).await;
}
