//! Lost steps of orders are resent until they are confirmed. While a service is stopped, nothing is resent,
//! and orders are accepted only up to the limit of its backlog.

use common::{
    contract::{order::Order, order_status::OrderStatus, streams},
    schema::stream::Stream,
};
use http::{Method, StatusCode};
use serde_json::json;
use stack::Service;
use system_tests::{Answer, Ask, Entry, SOON, System, calls, eventually, order_body, run};

async fn start(env: &[(&str, &str)]) -> System {
    let system = System::start_with_env(env).await;
    for (path, body) in [
        ("/inventory/q", json!({ "name": "Q", "price": 1, "amount": 1_000 })),
        ("/accounts/rich", json!({ "name": "Rich", "email": "r@example.com", "balance": 1_000 })),
        ("/accounts/poor", json!({ "name": "Poor", "email": "p@example.com", "balance": 0 })),
    ] {
        system.define(path, &body).await;
    }
    system
}

/// Amount, reserved and sold quantity of the product, and the balance of the customer `rich`.
async fn books(system: &System) -> [u64; 4] {
    let product = system.product("q").await;
    [product.amount, product.reserved, product.sold, system.balance("rich").await]
}

async fn books_become(system: &System, expected: [u64; 4]) {
    eventually("the books", SOON, async || {
        let found = books(system).await;
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Waits for the order's entry on the stream and deletes all entries, as an operator may.
async fn lose(system: &System, stream: Stream, order: &Order) {
    let id = order.id.to_string();
    let entries = eventually("it is published", SOON, async || {
        let entries = system.entries(stream).await;
        let is_there = entries.iter().any(|it| it.fields["entity"].contains(&id));
        if is_there { Ok(entries) } else { Err(format!("{entries:?}")) }
    })
    .await;
    let mut redis = system.redis().await;
    for Entry { id, .. } in entries {
        assert_eq!(run::<u64>(&mut redis, &["XDEL", stream.key(), &id]).await, 1);
    }
}

async fn is_confirmed(system: &System, order: &Order) -> Order {
    let order = eventually("the step is confirmed", SOON, async || {
        let order = system.order_now(order).await;
        if order.unconfirmed.is_empty() { Ok(order) } else { Err(format!("{order:?}")) }
    })
    .await;
    assert_eq!(order.resent, None);
    order
}

#[tokio::test]
async fn a_lost_cancellation_still_releases_stock_and_refunds_money() {
    let mut system = start(&[("RESEND_AFTER_MS", "300")]).await;
    for (service, missing) in [(Service::Inventory, 0), (Service::Account, 0)] {
        let order = system.order(&["q", "q"], "rich").await;
        assert_eq!(order.status, OrderStatus::ToBeShipped);
        system.quiet(SOON).await;
        system.first(service).process.kill().expect("killed");
        assert_eq!(system.cancel(&order).await.status, StatusCode::OK);
        lose(&system, streams::ORDER_CANCELLED, &order).await;
        system.restart(service, 1).await;
        books_become(&system, [1_000, missing, 0, 1_000]).await;
        is_confirmed(&system, &order).await;
        system.quiet(SOON).await;
        let kinds = system.messages_about("rich", order.id).await;
        assert_eq!(kinds.get("refunded"), Some(&1), "{kinds:?}");
        assert!(kinds.values().all(|count| *count == 1), "{kinds:?}");
        system.assert_balanced(SOON).await;
    }
    // Without another loss nothing is resent, and these orders are not read again.
    let mut redis = system.redis().await;
    assert_eq!(run::<u64>(&mut redis, &["ZCARD", "{order}:unconfirmed"]).await, 0);
}

#[tokio::test]
async fn a_lost_shipment_is_counted_even_after_the_order_is_completed() {
    let mut system = start(&[("RESEND_AFTER_MS", "300")]).await;
    for (sold, completes) in [(2, false), (4, true)] {
        let order = system.order(&["q", "q"], "rich").await;
        system.quiet(SOON).await;
        system.first(Service::Inventory).process.kill().expect("killed");
        assert_eq!(system.step(&order, "ship").await.status, StatusCode::OK);
        if completes {
            assert_eq!(system.step(&order, "complete").await.status, StatusCode::OK);
        }
        lose(&system, streams::ORDER_SHIPPED, &order).await;
        system.restart(Service::Inventory, 1).await;
        books_become(&system, [1_000 - sold, sold, sold, 1_000 - sold]).await;
        is_confirmed(&system, &order).await;
        system.quiet(SOON).await;
        let kinds = system.messages_about("rich", order.id).await;
        assert!(kinds.values().all(|count| *count == 1), "{kinds:?}");
        system.assert_balanced(SOON).await;
    }
}

#[tokio::test]
async fn a_lost_failed_payment_releases_the_stock_and_the_order_can_be_paid() {
    let mut system = start(&[("RESEND_AFTER_MS", "300")]).await;
    for pays_before in [false, true] {
        system.first(Service::Account).process.kill().expect("killed");
        let order = system.place(&["q", "q"], "poor").await;
        system.reaches(&order, OrderStatus::PaymentRequired).await;
        system.first(Service::Inventory).process.kill().expect("killed");
        system.stack.instance(Service::Account, 1).unwrap().process.restart().expect("restarted");
        system.reaches(&order, OrderStatus::InsufficientFund).await;
        eventually("msg_service has read it", SOON, async || {
            // Other events are still in flight.
            let sent = system.entries(streams::MESSAGE_SENT).await;
            let mut sent =
                sent.iter().map(Entry::entity).filter(|it| it["order"] == json!(order.id));
            let found = sent.any(|message| message["kind"] == "insufficient-fund");
            if found { Ok(()) } else { Err("there is no message yet".to_owned()) }
        })
        .await;
        lose(&system, streams::ACCOUNT_WALLET, &order).await;
        let held = books(&system).await;
        assert_eq!(held[1], 2, "{held:?}");
        if pays_before {
            system.top_up("poor", 2).await;
            assert_eq!(system.step(&order, "pay").await.status, StatusCode::OK);
            system.restart(Service::Inventory, 1).await;
            let paid = system.reaches(&order, OrderStatus::ToBeShipped).await;
            assert_eq!(paid.attempt, 2);
            books_become(&system, [998, 2, 0, 1_000]).await;
        } else {
            system.restart(Service::Inventory, 1).await;
            books_become(&system, [1_000, 0, 0, 1_000]).await;
        }
        let order = is_confirmed(&system, &order).await;
        system.quiet(SOON).await;
        let kinds = system.messages_about("poor", order.id).await;
        assert_eq!(kinds.get("insufficient-fund"), Some(&1), "{kinds:?}");
        system.assert_balanced(SOON).await;
    }
}

/// Waits until the resending task has scanned the orders this number of times.
async fn walks(system: &System, times: u64) {
    let calls = async || calls(&mut system.redis().await, "zrangebylex").await;
    // A scan reads at least three sets.
    let until = calls().await + 3 * times;
    eventually("the resending task walks through the orders", SOON * 2, async || {
        let now = calls().await;
        if now >= until { Ok(()) } else { Err(format!("{now} of {until}")) }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_resent_while_the_answering_service_is_stopped() {
    let mut system = start(&[("RESEND_AFTER_MS", "200")]).await;
    for service in [Service::Inventory, Service::Account] {
        let before = system.entries(streams::ORDER_CREATED).await.len();
        let checks = system.entries(streams::INVENTORY_CHECK).await.len();
        let mut cancelled = Vec::new();
        for _ in 0..5 {
            cancelled.push(system.order(&["q"], "rich").await);
        }
        system.quiet(SOON).await;
        system.first(service).process.kill().expect("killed");
        let mut orders = Vec::new();
        for _ in 0..20 {
            orders.push(system.place(&["q"], "rich").await);
        }
        for order in &cancelled {
            assert_eq!(system.cancel(order).await.status, StatusCode::OK);
        }
        // About 50 ms each: enough time for five resends.
        walks(&system, 80).await;
        assert_eq!(system.entries(streams::ORDER_CREATED).await.len(), before + 25, "{service:?}");
        system.restart(service, 1).await;
        for order in &orders {
            system.reaches(order, OrderStatus::ToBeShipped).await;
        }
        for order in &cancelled {
            is_confirmed(&system, order).await;
        }
        system.quiet(SOON).await;
        assert_eq!(system.entries(streams::ORDER_CREATED).await.len(), before + 25, "{service:?}");
        assert_eq!(
            system.entries(streams::INVENTORY_CHECK).await.len(),
            checks + 25,
            "{service:?}"
        );
    }
    assert_eq!(system.entries(streams::ORDER_CANCELLED).await.len(), 10);
    system.assert_balanced(SOON).await;
}

/// Places orders until one is temporarily refused; returns the accepted ones with their keys, and the
/// refusal.
async fn place_until_refused(system: &System) -> (Vec<(String, Order)>, Answer) {
    let mut accepted = Vec::new();
    let body = order_body(&["q"], "rich");
    let refusal = eventually("an order is refused", SOON, async || {
        let key = common::random::new_id().to_string();
        let ask = Ask { method: Method::POST, path: "/order", key: &key, body: Some(&body) };
        let answer = ask.once(&system.client, &system.url()).await?;
        if answer.status != StatusCode::OK {
            return Ok(answer);
        }
        accepted.push((key, answer.parse()));
        Err(format!("{} are accepted", accepted.len()))
    })
    .await;
    (accepted, refusal)
}

#[tokio::test]
async fn orders_are_refused_while_a_service_is_too_far_behind() {
    let mut system = start(&[("RESEND_AFTER_MS", "400"), ("MAX_BACKLOG", "10")]).await;
    let poor = system.order(&["q"], "poor").await;
    assert_eq!(poor.status, OrderStatus::InsufficientFund);
    for (service, name, stream) in [
        (Service::Inventory, "inventory_service", streams::ORDER_CREATED),
        (Service::Account, "account_service", streams::INVENTORY_CHECK),
        (Service::Message, "msg_service", streams::ORDER_CREATED),
    ] {
        let paid = system.order(&["q"], "rich").await;
        let other = system.order(&["q"], "rich").await;
        system.quiet(SOON).await;
        system.first(service).process.kill().expect("killed");
        let (accepted, refusal) = place_until_refused(&system).await;
        // msg_service reads several streams of which one may be behind first.
        let stream = if service == Service::Message { "" } else { stream.key() };
        refusal.assert_unavailable(&[name, stream]);
        assert!(accepted.len() > 10, "{}", accepted.len());
        // Other requests are still answered.
        let body = order_body(&["q"], "rich");
        let (key, first) = &accepted[0];
        let again = Ask { method: Method::POST, path: "/order", key, body: Some(&body) };
        let again = again.once(&system.client, &system.url()).await.unwrap();
        assert_eq!((again.status, again.parse::<Order>().id), (StatusCode::OK, first.id));
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(system.cancel(&other).await.status, StatusCode::OK);
        assert_eq!(system.step(&paid, "ship").await.status, StatusCode::OK);
        assert_eq!(system.step(&paid, "complete").await.status, StatusCode::OK);
        assert_eq!(system.step(&paid, "pay").await.status, StatusCode::CONFLICT);
        system.step(&poor, "pay").await.assert_unavailable(&[]);
        let ops = system.first(Service::Order).ops;
        let metrics = system.client.get(&format!("http://{ops}/metrics")).await.unwrap().text();
        let gauge = metrics.lines().find_map(|it| it.strip_prefix("order_backlog_entries "));
        assert!(gauge.unwrap().parse::<u64>().unwrap() > 10, "{metrics}");

        system.restart(service, 1).await;
        for (_, order) in &accepted {
            system.reaches(order, OrderStatus::ToBeShipped).await;
        }
        let next = system.accepts_orders_again(&["q"], "rich").await;
        system.reaches(&next, OrderStatus::ToBeShipped).await;
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn a_backlog_of_deleted_entries_refuses_nothing() {
    let mut system = start(&[("RESEND_AFTER_MS", "300"), ("MAX_BACKLOG", "10")]).await;
    system.first(Service::Inventory).process.kill().expect("killed");
    let (accepted, _) = place_until_refused(&system).await;
    // Entries that were deleted unread are no backlog, although Redis cannot count the lag of the group.
    for (_, order) in &accepted[accepted.len() - 1..] {
        lose(&system, streams::ORDER_CREATED, order).await;
    }
    let next = system.accepts_orders_again(&["q"], "rich").await;
    system.restart(Service::Inventory, 1).await;
    system.reaches(&next, OrderStatus::ToBeShipped).await;
    // Lost steps are resent.
    for (_, order) in &accepted {
        system.reaches(order, OrderStatus::ToBeShipped).await;
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn the_limit_can_be_switched_off() {
    let mut system = start(&[("RESEND_AFTER_MS", "100"), ("MAX_BACKLOG", "off")]).await;
    system.first(Service::Inventory).process.kill().expect("killed");
    let mut orders = Vec::new();
    for _ in 0..20 {
        orders.push(system.place(&["q"], "rich").await);
    }
    walks(&system, 20).await;
    orders.push(system.place(&["q"], "rich").await);
    system.restart(Service::Inventory, 1).await;
    for order in &orders {
        system.reaches(order, OrderStatus::ToBeShipped).await;
    }
}
