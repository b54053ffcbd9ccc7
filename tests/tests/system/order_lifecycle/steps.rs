//! Steps of an order: payment, cancellation, shipment, completion.

use common::contract::{messages::MessageKind, order::Order, order_status::OrderStatus};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{Answer, SOON, System, info, run};

use super::support::{assert_conflict, shop};

#[tokio::test]
async fn an_unpaid_order_is_paid_once_after_a_top_up_and_two_concurrent_pays() {
    let system = shop().await;
    let order = system.order(&["q", "q"], "poor").await;
    assert_eq!(order.status, OrderStatus::InsufficientFund);
    assert!(order.reason.as_ref().unwrap().contains('2'), "{order:?}");
    assert_eq!(system.available_and_reserved("q").await, (5, 0));
    system.top_up("poor", 3).await;
    // The top-up alone does not start a new attempt.
    system.quiet(SOON).await;
    assert_eq!(system.order_now(&order).await.status, OrderStatus::InsufficientFund);

    let (one, two) = tokio::join!(system.step(&order, "pay"), system.step(&order, "pay"));
    let (granted, refused) = if one.status.is_success() { (one, two) } else { (two, one) };
    assert_eq!((granted.status, refused.status), (StatusCode::OK, StatusCode::CONFLICT));
    let answer: Order = granted.parse();
    assert_eq!((answer.status, answer.attempt), (OrderStatus::Pending, 2));
    let paid = system.reaches(&order, OrderStatus::ToBeShipped).await;
    assert_eq!((paid.attempt, paid.order_total), (2, Some(2)));
    assert_eq!(
        (system.balance("poor").await, system.available_and_reserved("q").await),
        (1, (3, 2))
    );

    // If the stock is gone by then, the order joins the backorder queue.
    let late = system.order(&["q", "q", "q"], "poor").await;
    assert_eq!(late.status, OrderStatus::InsufficientFund);
    let quick = system.order(&["q", "q"], "rich").await;
    assert_eq!(quick.status, OrderStatus::ToBeShipped);
    system.top_up("poor", 10).await;
    assert_eq!(system.step(&late, "pay").await.status, StatusCode::OK);
    system.reaches(&late, OrderStatus::OutOfStock).await;
    system.restock("q", 2).await;
    system.reaches(&late, OrderStatus::ToBeShipped).await;
    assert_eq!(system.balance("poor").await, 8);
    let kinds = system.messages_about("poor", late.id).await;
    let expected = [
        ("insufficient-fund", 1),
        ("on-its-way", 1),
        ("order-received", 1),
        ("out-of-stock", 1),
        ("stock-reserved", 2),
        ("tried-again", 1),
    ];
    assert_eq!(kinds, expected.into());
    let deposits = system.messages_to("poor").await;
    let deposits = deposits.iter().filter(|it| it.kind == MessageKind::ToppedUp);
    let bodies: Vec<&str> = deposits.map(|message| message.body.as_str()).collect();
    assert!(bodies.len() == 2 && bodies[1].contains("10"), "{bodies:?}");
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn a_cancellation_releases_and_refunds_everything_until_shipment() {
    let system = shop().await;
    let before = (system.balance("rich").await, system.available_and_reserved("q").await);
    // Paid, unpaid, a backorder, and orders that are still under way when they are cancelled.
    let paid = system.order(&["q"], "rich").await;
    let unpaid = system.order(&["q"], "poor").await;
    let waiting = system.order(&["q", "p"], "rich").await;
    let mut orders = vec![paid, unpaid, waiting];
    for _ in 0..40 {
        let order = system.place(&["q"], "rich").await;
        assert_eq!(system.cancel(&order).await.status, StatusCode::OK);
        orders.push(order);
    }
    for order in &orders[..3] {
        let answer = system.cancel(order).await.with_status(StatusCode::OK);
        assert_eq!(answer.parse::<Order>().status, OrderStatus::Cancelled);
    }
    system.quiet(SOON).await;
    assert_eq!((system.balance("rich").await, system.available_and_reserved("q").await), before);
    assert!(system.get("/inventory/p").await.json().get("line").is_none());
    for order in &orders {
        assert_eq!(system.order_now(order).await.status, OrderStatus::Cancelled);
        assert_conflict(&system.cancel(order).await, "cancelled", &[]);
        assert_conflict(&system.step(order, "pay").await, "cancelled", &[]);
    }
    let kinds = system.messages_about("rich", orders[0].id).await;
    assert_eq!((kinds.get("cancelled"), kinds.get("refunded")), (Some(&1), Some(&1)));
    let kinds = system.messages_about("poor", orders[1].id).await;
    assert_eq!((kinds.get("cancelled"), kinds.get("refunded")), (Some(&1), None));
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn orders_are_shipped_and_completed_step_by_step() {
    let system = shop().await;
    let order = system.order(&["q"], "rich").await;
    assert_conflict(&system.step(&order, "complete").await, "to-be-shipped", &["ship", "cancel"]);
    assert_conflict(&system.step(&order, "pay").await, "to-be-shipped", &["ship", "cancel"]);
    assert_eq!(system.step(&order, "ship").await.parse::<Order>().status, OrderStatus::Shipped);
    assert_conflict(&system.cancel(&order).await, "shipped", &["complete"]);
    assert_conflict(&system.step(&order, "ship").await, "shipped", &["complete"]);
    let done: Order = system.step(&order, "complete").await.parse();
    assert_eq!(done.status, OrderStatus::Completed);
    assert_conflict(&system.step(&order, "complete").await, "completed", &[]);
    assert_conflict(&system.cancel(&order).await, "completed", &[]);
    let kinds = system.messages_about("rich", order.id).await;
    assert_eq!((kinds["shipped"], kinds["completed"]), (1, 1));
    let waiting = system.order(&["p"], "rich").await;
    assert_conflict(&system.step(&waiting, "ship").await, "out-of-stock", &["cancel"]);
    let unpaid = system.order(&["q"], "poor").await;
    assert_conflict(&system.step(&unpaid, "ship").await, "insufficient-fund", &["pay", "cancel"]);
    let rejected = system.order(&["no-such-product"], "rich").await;
    assert_conflict(&system.cancel(&rejected).await, "rejected", &[]);

    let unknown = format!("/order/{}", uuid::Uuid::nil());
    for path in [format!("{unknown}/pay"), format!("{unknown}/ship"), format!("{unknown}/complete")]
    {
        system.ask(Method::POST, &path, None).await.with_status(StatusCode::NOT_FOUND);
    }
    assert_eq!(system.ask(Method::DELETE, &unknown, None).await.status, StatusCode::NOT_FOUND);
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn the_hundredth_attempt_to_pay_costs_as_much_as_the_twentieth() {
    let system = shop().await;
    let mut redis = system.redis().await;
    let unpaid = system.order(&["q"], "poor").await;
    assert_eq!(unpaid.status, OrderStatus::InsufficientFund);
    let mut costs = Vec::new();
    let mut first = None;
    for _ in 0..6 {
        let before = info(&mut redis, "stats", "total_net_input_bytes").await;
        for _ in 0..20 {
            let key = common::random::new_id().to_string();
            let answer = pay_with(&system, &unpaid, &key).await.with_status(StatusCode::OK);
            system.reaches(&unpaid, OrderStatus::InsufficientFund).await;
            first.get_or_insert_with(|| (key, answer.json()));
        }
        system.quiet(SOON).await;
        costs.push(info(&mut redis, "stats", "total_net_input_bytes").await - before);
    }
    // The costs differ somewhat, because the batches differ.
    assert!(costs.iter().all(|cost| *cost < 2 * costs[0]), "{costs:?}");
    let order = system.order_now(&unpaid).await;
    assert_eq!(order.attempt, 121);
    assert!(order.history.len() <= 41 && order.omitted > Some(100), "{order:?}");
    let (key, answered) = first.expect("it was tried");
    let again = pay_with(&system, &unpaid, &key).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (StatusCode::OK, "true"));
    assert_eq!(again.json(), answered, "the first answer, although its steps are not stored");
    system.assert_balanced(SOON).await;
}

async fn pay_with(system: &System, order: &Order, key: &str) -> Answer {
    let url = format!("{}/order/{}/pay", system.url(), order.id);
    let key = [("idempotency-key", key)];
    system.client.post(&url, &Value::Null, &key).await.expect("the gateway answers")
}

#[tokio::test]
async fn an_order_at_its_attempt_limit_answers_409_to_pay() {
    let system = shop().await;
    let unpaid = system.order(&["q"], "poor").await;
    system.quiet(SOON).await;
    let key = format!("{{order}}:entity:{}", unpaid.id);
    let mut redis = system.redis().await;
    let stored: String = run(&mut redis, &["GET", &key]).await;
    let (version, json) = stored.split_once(' ').expect("a version");
    let mut version: u64 = version.parse().expect("a number");
    let mut order: Value = serde_json::from_str(json).expect("JSON");
    // As an earlier version stored it: all steps of 10,000 attempts.
    let pending = |attempt| json!({"status": "pending", "at": 1, "attempt": attempt});
    order["history"] = (1..=10_000).map(pending).collect();
    order["attempt"] = json!(10_000);
    for (omitted, limit) in [(json!(7), "10000"), (Value::Null, "50")] {
        order["omitted"] = omitted;
        // Under the same version, order_service might not read it.
        version += 1;
        run::<()>(&mut redis, &["SET", &key, &format!("{version} {order}")]).await;
        assert_eq!(system.order_now(&unpaid).await.history.len(), 10_000);
        for step in ["pay", "ship"] {
            let answer = system.step(&unpaid, step).await;
            assert_conflict(&answer, "insufficient-fund", &["cancel"]);
            assert!(answer.text().contains(limit), "{}", answer.text());
        }
        let page = [("accept", "text/html")];
        let url = format!("{}/order/{}", system.url(), unpaid.id);
        let request = system_tests::request(Method::GET, &url, &page, bytes::Bytes::new());
        let page = system.client.send(request).await.expect("a page").text();
        assert!(page.contains("data-action=\"cancel\""), "it can be cancelled");
        assert!(!page.contains("data-action=\"pay\""), "it cannot be paid");
    }
    assert_eq!(system.cancel(&unpaid).await.status, StatusCode::OK);
}
