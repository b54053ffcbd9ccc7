//! An order's whole life on the real stack: waiting, paying later, cancelling, shipping.

use std::{collections::BTreeMap, time::Duration};

use common::contract::{
    entities::{Order, OrderStatus},
    events::{MessageKind, MessageSent, Stream, Topic},
    ids::OrderId,
};
use http::{Method, StatusCode};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Answer, Ask, Client, Entry, SOON, System, eventually, order_body};
use tokio::task::JoinSet;

/// A product of which there is nothing and a customer who can pay for everything.
async fn shop() -> System {
    let system = System::start().await;
    define(&system).await;
    system
}

async fn define(system: &System) {
    put(system, "/inventory/p", &json!({ "name": "P", "price": 10 })).await;
    put(system, "/inventory/q", &json!({ "name": "Q", "price": 1, "amount": 5 })).await;
    let rich = json!({ "name": "Rich", "email": "rich@example.com", "balance": 1_000_000 });
    put(system, "/accounts/rich", &rich).await;
    put(system, "/accounts/poor", &json!({ "name": "Poor", "email": "poor@example.com" })).await;
}

async fn put(system: &System, path: &str, body: &Value) -> Value {
    let answer = system.ask(Method::PUT, path, Some(body)).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    answer.json()
}

async fn on_hand(system: &System, product: &str) -> (u64, u64) {
    let product = system.get(&format!("/inventory/{product}")).await.json();
    (product["amount"].as_u64().unwrap(), product["reserved"].as_u64().unwrap())
}

async fn balance(system: &System, customer: &str) -> u64 {
    system.get(&format!("/accounts/{customer}")).await.json()["balance"].as_u64().unwrap()
}

fn assert_conflict(answer: &Answer, state: &str, allowed: &[&str]) {
    let problem = answer.json();
    assert_eq!(answer.status, StatusCode::CONFLICT, "{problem}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(problem["type"], "urn:problem-type:orders:wrong-state");
    assert_eq!((&problem["state"], &problem["allowed"]), (&json!(state), &json!(allowed)));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(state) && allowed.iter().all(|it| detail.contains(it)), "{detail}");
}

/// What a customer was told, the oldest first.
async fn told(system: &System, customer: &str) -> Vec<MessageSent> {
    system.quiet(SOON).await;
    let path = format!("/customers/{customer}/messages?limit=1000");
    let mut page = system.get(&path).await.json();
    let mut messages: Vec<MessageSent> = serde_json::from_value(page["messages"].take()).unwrap();
    messages.reverse();
    messages
}

async fn told_of(system: &System, customer: &str, order: OrderId) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for message in told(system, customer).await {
        if message.order == Some(order) {
            *kinds.entry(message.kind.name()).or_default() += 1;
        }
    }
    kinds
}

#[tokio::test]
async fn stock_that_comes_in_serves_those_who_wait_in_the_order_of_their_arrival() {
    let system = shop().await;
    let mut waiting = Vec::new();
    for pieces in [2, 5, 1, 2] {
        let order = system.order(&vec!["p"; pieces], "rich").await;
        assert_eq!(order.status, OrderStatus::OutOfStock);
        assert!(order.reason.as_ref().unwrap().contains("p:"), "{order:?}");
        waiting.push(order);
    }
    // Two for the first; the second needs more than the one that is left, the third does not.
    system.restock("p", 3).await;
    for served in [0, 2] {
        system.reaches(&waiting[served], OrderStatus::ToBeShipped).await;
    }
    assert_eq!(system.ended(&waiting[1]).await.status, OrderStatus::OutOfStock);
    assert_eq!(system.ended(&waiting[3]).await.status, OrderStatus::OutOfStock);
    let product = system.get("/inventory/p").await.json();
    assert_eq!((&product["amount"], &product["line"]["waiting"]), (&json!(0), &json!(2)));
    system.restock("p", 7).await;
    for served in [1, 3] {
        let order = system.reaches(&waiting[served], OrderStatus::ToBeShipped).await;
        let statuses: Vec<&str> = order.history.iter().map(|step| step.status.name()).collect();
        assert_eq!(statuses, ["pending", "out-of-stock", "payment-required", "to-be-shipped"]);
        assert_eq!(order.reason, None);
    }
    assert!(system.get("/inventory/p").await.json().get("line").is_none());
    let kinds = told_of(&system, "rich", waiting[3].id).await;
    let expected = ["on-its-way", "order-received", "out-of-stock", "stock-reserved"];
    assert_eq!(kinds, expected.into_iter().map(|kind| (kind, 1)).collect());
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn stock_on_hand_goes_to_whoever_orders_next_and_a_cancelled_order_or_failed_payment_serves_the_line()
 {
    let system = shop().await;
    let holder = system.order(&["q", "q", "q"], "rich").await;
    let patient = system.order(&["q", "q", "q", "q"], "rich").await;
    assert_eq!(patient.status, OrderStatus::OutOfStock);
    // Two are on hand, and the one in line needs four.
    let lucky = system.order(&["q"], "rich").await;
    assert_eq!(lucky.status, OrderStatus::ToBeShipped);
    assert_eq!(system.cancel(&holder).await.status, StatusCode::OK);
    system.reaches(&patient, OrderStatus::ToBeShipped).await;
    assert_eq!(on_hand(&system, "q").await, (0, 5));

    system.restock("p", 2).await;
    let next = system.order(&["p", "p", "q"], "rich").await;
    assert_eq!(next.status, OrderStatus::OutOfStock);
    assert_eq!(system.cancel(&lucky).await.status, StatusCode::OK);
    system.reaches(&next, OrderStatus::ToBeShipped).await;

    // Whoever cannot pay gives back what somebody waits for.
    put(&system, "/inventory/r", &json!({ "name": "R", "price": 1, "amount": 1 })).await;
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
async fn orders_of_many_products_in_one_line_are_filled_and_hold_up_no_cancellation() {
    const ORDERS: usize = 21;
    let system = shop().await;
    put(&system, "/inventory/wanted", &json!({ "name": "Wanted", "price": 1, "amount": 1 })).await;
    let id = |order: usize, other: usize| format!("{order}-{other}");
    for (order, other) in (0..ORDERS).flat_map(|order| (0..99).map(move |other| (order, other))) {
        let product = json!({ "id": id(order, other), "name": "Other", "price": 1, "amount": 100 });
        system.publish(Stream::InventoryCreated, &product).await;
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
    // What cannot be read holds up only the order that it belongs to.
    let mut redis = system.redis_of(Topic::Inventory).await;
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
    assert_eq!(on_hand(&system, "wanted").await, (0, ORDERS as u64));
    assert!(system.entries(Stream::Dead(Topic::Inventory)).await.is_empty());
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn an_unpaid_order_is_tried_again_after_a_top_up_and_two_pays_at_once_charge_once() {
    let system = shop().await;
    let order = system.order(&["q", "q"], "poor").await;
    assert_eq!(order.status, OrderStatus::InsufficientFund);
    assert!(order.reason.as_ref().unwrap().contains('2'), "{order:?}");
    assert_eq!(on_hand(&system, "q").await, (5, 0));
    system.top_up("poor", 3).await;
    // Not by itself.
    system.quiet(SOON).await;
    assert_eq!(system.order_now(&order).await.status, OrderStatus::InsufficientFund);

    let (one, two) = tokio::join!(system.step(&order, "pay"), system.step(&order, "pay"));
    let (granted, refused) = if one.status.is_success() { (one, two) } else { (two, one) };
    assert_eq!((granted.status, refused.status), (StatusCode::OK, StatusCode::CONFLICT));
    let answer: Order = granted.parse();
    assert_eq!((answer.status, answer.attempt), (OrderStatus::Pending, 2));
    let paid = system.reaches(&order, OrderStatus::ToBeShipped).await;
    assert_eq!((paid.attempt, paid.order_total), (2, Some(2)));
    assert_eq!((balance(&system, "poor").await, on_hand(&system, "q").await), (1, (3, 2)));

    // Where the stock is gone by then, it joins the line.
    let late = system.order(&["q", "q", "q"], "poor").await;
    assert_eq!(late.status, OrderStatus::InsufficientFund);
    let quick = system.order(&["q", "q"], "rich").await;
    assert_eq!(quick.status, OrderStatus::ToBeShipped);
    system.top_up("poor", 10).await;
    assert_eq!(system.step(&late, "pay").await.status, StatusCode::OK);
    system.reaches(&late, OrderStatus::OutOfStock).await;
    system.restock("q", 2).await;
    system.reaches(&late, OrderStatus::ToBeShipped).await;
    assert_eq!(balance(&system, "poor").await, 8);
    let kinds = told_of(&system, "poor", late.id).await;
    let expected = [
        ("insufficient-fund", 1),
        ("on-its-way", 1),
        ("order-received", 1),
        ("out-of-stock", 1),
        ("stock-reserved", 2),
        ("tried-again", 1),
    ];
    assert_eq!(kinds, expected.into());
    let deposits = told(&system, "poor").await;
    let deposits = deposits.iter().filter(|it| it.kind == MessageKind::ToppedUp);
    let bodies: Vec<&str> = deposits.map(|message| message.body.as_str()).collect();
    assert!(bodies.len() == 2 && bodies[1].contains("10"), "{bodies:?}");
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn cancelling_gives_everything_back_in_every_state_until_the_order_is_shipped() {
    let system = shop().await;
    let before = (balance(&system, "rich").await, on_hand(&system, "q").await);
    // Paid; unpaid; in line; and under way, wherever that is when the cancel comes.
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
        let answer = system.cancel(order).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.parse::<Order>().status, OrderStatus::Cancelled);
    }
    system.quiet(SOON).await;
    assert_eq!((balance(&system, "rich").await, on_hand(&system, "q").await), before);
    assert!(system.get("/inventory/p").await.json().get("line").is_none());
    for order in &orders {
        assert_eq!(system.order_now(order).await.status, OrderStatus::Cancelled);
        assert_conflict(&system.cancel(order).await, "cancelled", &[]);
        assert_conflict(&system.step(order, "pay").await, "cancelled", &[]);
    }
    let kinds = told_of(&system, "rich", orders[0].id).await;
    assert_eq!((kinds.get("cancelled"), kinds.get("refunded")), (Some(&1), Some(&1)));
    let kinds = told_of(&system, "poor", orders[1].id).await;
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
    let kinds = told_of(&system, "rich", order.id).await;
    assert_eq!((kinds["shipped"], kinds["completed"]), (1, 1));
    let waiting = system.order(&["p"], "rich").await;
    assert_conflict(&system.step(&waiting, "ship").await, "out-of-stock", &["cancel"]);
    let unpaid = system.order(&["q"], "poor").await;
    assert_conflict(&system.step(&unpaid, "ship").await, "insufficient-fund", &["pay", "cancel"]);
    let rejected = system.order(&["no-such-product"], "rich").await;
    assert_conflict(&system.cancel(&rejected).await, "rejected", &[]);

    let nobody = format!("/order/{}", uuid::Uuid::nil());
    for path in [format!("{nobody}/pay"), format!("{nobody}/ship"), format!("{nobody}/complete")] {
        let answer = system.ask(Method::POST, &path, None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    }
    assert_eq!(system.ask(Method::DELETE, &nobody, None).await.status, StatusCode::NOT_FOUND);
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn products_and_accounts_are_defined_changed_and_listed() {
    let system = shop().await;
    let body = json!({ "name": "New", "price": 7, "amount": 4 });
    let answer = system.ask(Method::PUT, "/inventory/new", Some(&body)).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::CREATED, "/inventory/new"));
    let order = system.order(&["new"], "rich").await;
    assert_eq!(order.order_total, Some(7));
    // Another name and price, and no other amount; what is reserved keeps its price.
    let body = json!({ "name": "Newer", "price": 9, "amount": 100 });
    let answer = system.ask(Method::PUT, "/inventory/new", Some(&body)).await;
    let product = answer.json();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(product["name"], "Newer");
    assert_eq!((&product["amount"], &product["reserved"]), (&json!(3), &json!(1)));
    assert_eq!(system.order_now(&order).await.order_total, Some(7));
    assert_eq!(system.order(&["new"], "rich").await.order_total, Some(9));
    assert_eq!(system.get("/inventory/new").await.json()["price"], 9);

    let before = balance(&system, "rich").await;
    let body = json!({ "name": "Richer", "email": "richer@example.com", "balance": 5 });
    let account = put(&system, "/accounts/rich", &body).await;
    assert_eq!(
        (account["email"].as_str(), &account["balance"]),
        (Some("richer@example.com"), &json!(before))
    );
    system.order(&["new"], "rich").await;
    let last = told(&system, "rich").await.pop().unwrap();
    assert!(last.body.starts_with("Dear Richer,"), "{}", last.body);

    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    for (path, name, all) in [
        ("/inventory", "products", vec!["p", "q", "new"]),
        ("/accounts", "accounts", vec!["rich", "poor"]),
    ] {
        assert_eq!(ids(&system.get(path).await.json()[name]), all);
        let first = system.get(&format!("{path}?limit=1")).await;
        assert_eq!(ids(&first.json()[name]), [all[0]]);
        let link = first.header("link");
        let next = link.strip_prefix('<').and_then(|it| it.split_once('>')).expect("a link").0;
        assert!(link.ends_with("rel=\"next\""), "{link}");
        assert_eq!(ids(&system.get(next).await.json()[name]), [all[1]]);
    }
    for path in ["/inventory/none", "/accounts/none"] {
        assert_eq!(system.get(path).await.status, StatusCode::NOT_FOUND);
    }
    for path in ["/inventory/none/restock", "/accounts/none/top-up"] {
        let answer = system.ask(Method::POST, path, Some(&json!({ "amount": 1 }))).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn wrong_definitions_and_amounts_name_their_field_and_change_nothing() {
    let system = shop().await;
    let long = "x".repeat(201);
    let most = 1_000_000_000_001_u64;
    for (method, path, body, field) in [
        (Method::PUT, "/inventory/q", json!({ "price": 1 }), "name"),
        (Method::PUT, "/inventory/q", json!({ "name": "", "price": 1 }), "name"),
        (Method::PUT, "/inventory/q", json!({ "name": long, "price": 1 }), "name"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": -1 }), "price"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": most }), "price"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": "1" }), "price"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": 1, "amount": 0.5 }), "amount"),
        (Method::PUT, "/accounts/rich", json!({ "name": "R" }), "email"),
        (Method::PUT, "/accounts/rich", json!({ "name": "R", "email": "" }), "email"),
        (Method::POST, "/inventory/q/restock", json!({}), "amount"),
        (Method::POST, "/inventory/q/restock", json!({ "amount": 0 }), "amount"),
        (Method::POST, "/inventory/q/restock", json!({ "amount": most }), "amount"),
        (Method::POST, "/accounts/rich/top-up", json!({ "amount": 0 }), "amount"),
        (Method::POST, "/accounts/rich/top-up", json!({ "amount": -5 }), "amount"),
    ] {
        let answer = system.ask(method, path, Some(&body)).await;
        let problem = answer.json();
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}: {problem}");
        assert_eq!(problem["field"], field, "{path} {body}: {problem}");
    }
    for path in [
        "/inventory/no%20such%20id",
        "/accounts/a%7Bb",
        "/customers/a%20b/messages",
        // Clients may take these for another path.
        "/inventory/.",
        "/inventory/..",
        "/inventory/%2e%2E",
        "/accounts/%2e",
        "/customers/%2E%2e/messages",
    ] {
        let answer = system.get(path).await;
        let problem = answer.json();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        assert_eq!(problem["field"], "id", "{path}: {problem}");
    }
    let body = json!({ "name": "Dots", "price": 1, "email": "dots@example.com" });
    for path in ["/inventory/..", "/inventory/%2e", "/accounts/%2E%2e"] {
        let answer = system.ask(Method::PUT, path, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text());
    }
    for (body, field) in [
        (order_body(&["q", "."], "rich"), "product_ids[1]"),
        (order_body(&["q"], ".."), "customer_id"),
    ] {
        let answer = system.post("/order", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.text());
        assert_eq!(answer.json()["field"], field, "{body}");
    }
    // Whoever may write to Redis gets no further: the entries become dead letters.
    for (stream, event) in [
        (Stream::InventoryCreated, json!({ "id": "..", "name": "Dots", "price": 1, "amount": 1 })),
        (
            Stream::AccountCreated,
            json!({ "id": ".", "name": "Dot", "email": "dot@example.com", "balance": 1 }),
        ),
    ] {
        system.publish(stream, &event).await;
        eventually("a dead letter", SOON, async || {
            let letters = system.entries(Stream::Dead(stream.topic())).await.len();
            if letters == 1 { Ok(()) } else { Err(letters.to_string()) }
        })
        .await;
    }
    for (path, field) in [
        ("/orders?status=lost", "status"),
        ("/orders?customer_id=a%20b", "customer_id"),
        ("/orders?customer_id=..", "customer_id"),
        ("/orders?limit=0", "limit"),
        ("/orders?limit=1001", "limit"),
        ("/orders?cursor=x", "cursor"),
        ("/orders?status=pending&cursor=o5", "cursor"),
        ("/orders?customer_id=rich&cursor=o5", "cursor"),
        ("/customers/rich/messages?cursor=o5", "cursor"),
        ("/inventory?cursor=-", "cursor"),
    ] {
        let answer = system.get(path).await;
        let problem = answer.json();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    assert_eq!((on_hand(&system, "q").await, balance(&system, "rich").await), ((5, 0), 1_000_000));
}

/// All pages of a list, by their links.
async fn pages(system: &System, path: &str, name: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let answer = system.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let body = answer.json();
        let ids = body[name].as_array().unwrap().iter();
        pages.push(ids.map(|it| it["id"].as_str().unwrap().to_owned()).collect());
        next = answer
            .header("link")
            .strip_prefix('<')
            .and_then(|link| link.split_once('>'))
            .map(|(path, _)| path.to_owned());
        assert_eq!(next.is_some(), body["next"].is_string(), "{body}");
    }
    pages
}

#[tokio::test]
async fn orders_are_listed_by_customer_and_status_and_pages_are_stable_while_orders_arrive() {
    let system = shop().await;
    system.top_up("poor", 1).await;
    let mut placed: Vec<(Order, &str)> = Vec::new();
    for number in 0..20 {
        let customer = if number % 3 == 0 { "poor" } else { "rich" };
        let product = if number % 4 == 0 { "p" } else { "q" };
        placed.push((system.place(&[product], customer).await, customer));
    }
    system.quiet(SOON).await;
    let mut newest = Vec::new();
    for (order, customer) in placed.iter().rev() {
        let now = system.order_now(order).await;
        newest.push((now.history[0].at, now.id.to_string(), *customer, now.status));
    }
    let wanted = |customer: Option<&str>, status: Option<OrderStatus>| -> Vec<String> {
        let fits = newest.iter().filter(|(_, _, whose, is)| {
            customer.is_none_or(|customer| customer == *whose)
                && status.is_none_or(|status| status == *is)
        });
        let mut fits: Vec<_> = fits.collect();
        if status.is_some() {
            // The sets of the statuses have orders of the same millisecond by their ids.
            fits.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
        }
        fits.into_iter().map(|(_, id, _, _)| id.clone()).collect()
    };
    let statuses = [None].into_iter().chain(OrderStatus::ALL.map(Some));
    for status in statuses {
        for customer in [None, Some("rich"), Some("poor"), Some("nobody")] {
            let mut path = "/orders?limit=3".to_owned();
            if let Some(customer) = customer {
                path += &format!("&customer_id={customer}");
            }
            if let Some(status) = status {
                path += &format!("&status={}", status.name());
            }
            let found = pages(&system, &path, "orders").await;
            assert!(found.iter().all(|page| page.len() <= 3), "{path}: {found:?}");
            assert_eq!(found.concat(), wanted(customer, status), "{path}");
        }
    }

    // New ones come before the pages that are read on.
    for filter in ["", "&customer_id=rich", "&status=out-of-stock"] {
        let first = system.get(&format!("/orders?limit=2{filter}")).await;
        let next = first.json()["next"].as_str().unwrap().to_owned();
        let path = format!("/orders?limit=2{filter}&cursor={next}");
        let second = system.get(&path).await.text();
        let order = system.order(&["p"], "rich").await;
        assert_eq!(order.status, OrderStatus::OutOfStock);
        assert_eq!(system.get(&path).await.text(), second, "{filter}");
    }
    let told = pages(&system, "/customers/rich/messages?limit=7", "messages").await.concat();
    let unique: std::collections::BTreeSet<&String> = told.iter().collect();
    assert_eq!(unique.len(), told.len());
    assert!(told.len() > 20, "{told:?}");
    system.assert_balanced(SOON).await;
}

/// How many commands of each kind Redis has done, those of the services' own rounds left out.
async fn commands(system: &System) -> BTreeMap<String, u64> {
    let mut redis = system.redis().await;
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.expect("INFO");
    let reads = ["lrange", "llen", "mget", "zrevrangebylex", "get"];
    let counts = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let calls = rest.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
        reads.contains(&name).then(|| (name.to_owned(), calls))
    });
    counts.collect()
}

#[tokio::test]
async fn what_a_page_costs_does_not_grow_with_the_orders_stored() {
    let system = shop().await;
    let paths = [
        "/orders?limit=5",
        "/orders?limit=5&customer_id=rich",
        "/orders?limit=5&status=out-of-stock",
        "/orders?limit=5&customer_id=rich&status=out-of-stock",
        "/customers/rich/messages?limit=5",
    ];
    let mut costs = Vec::new();
    for _ in 0..2 {
        let (client, url) = (Client::default(), system.url());
        let mut clients = JoinSet::new();
        for _ in 0..6 {
            let (client, url) = (client.clone(), url.clone());
            clients.spawn(async move {
                for _ in 0..50 {
                    let body = order_body(&["p"], "rich");
                    let answer = client.post(&format!("{url}/order"), &body, &[]).await;
                    assert_eq!(answer.expect("an answer").status, StatusCode::OK);
                }
            });
        }
        clients.join_all().await;
        system.quiet(SOON).await;
        let mut cost = Vec::new();
        for path in paths {
            let before = commands(&system).await;
            let answer = system.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            let after = commands(&system).await;
            let grown = after.into_iter().map(|(name, count)| {
                let grown = count - before.get(&name).copied().unwrap_or(0);
                (name, grown)
            });
            let grown = grown.filter(|(_, count)| *count > 0);
            cost.push((path, grown.collect::<BTreeMap<_, _>>()));
        }
        costs.push(cost);
    }
    // 300 and 600 orders: the same commands, and each of them reads a page.
    assert_eq!(costs[0], costs[1]);
}

/// A system that sends again what was not answered for a short while.
async fn impatient(after: Duration) -> System {
    let mut options = StackOptions::default();
    options.env.insert("RESEND_AFTER_MS".to_owned(), after.as_millis().to_string());
    let system = System::start_with(options).await;
    define(&system).await;
    system
}

async fn delete_all(system: &System, stream: Stream) -> usize {
    let mut redis = system.redis().await;
    let entries = system.entries(stream).await;
    for Entry { id, .. } in &entries {
        let deleted: usize = redis::cmd("XDEL")
            .arg(stream.key())
            .arg(id)
            .query_async(&mut redis)
            .await
            .expect("deleted");
        assert_eq!(deleted, 1);
    }
    entries.len()
}

#[tokio::test]
async fn an_order_whose_event_was_lost_is_sent_again_and_ends() {
    let mut system = impatient(Duration::from_millis(300)).await;
    let before = balance(&system, "rich").await;
    for (service, stream) in
        [(Service::Inventory, Stream::OrderCreated), (Service::Account, Stream::InventoryCheck)]
    {
        system.first(service).process.kill().expect("killed");
        let order = system.place(&["q"], "rich").await;
        eventually("it is published", SOON, async || {
            let entries = system.entries(stream).await;
            let found =
                entries.iter().any(|it| it.fields["entity"].contains(&order.id.to_string()));
            if found { Ok(()) } else { Err(format!("{entries:?}")) }
        })
        .await;
        delete_all(&system, stream).await;
        system.restart(service, 1).await;
        let order = system.reaches(&order, OrderStatus::ToBeShipped).await;
        assert_eq!((order.attempt, order.resent), (1, None));
    }
    system.quiet(SOON).await;
    assert_eq!((balance(&system, "rich").await, on_hand(&system, "q").await), (before - 2, (3, 2)));
    let books = system.audit(SOON).await;
    assert_eq!(books.unfinished, 0, "{books}");
}

/// The bytes that Redis was sent so far.
async fn input_bytes(redis: &mut MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(redis).await.expect("stats");
    let line = stats.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:"));
    line.expect("it is counted").trim().parse().expect("a number")
}

#[tokio::test]
async fn the_hundredth_try_to_pay_costs_what_the_twentieth_does() {
    let system = shop().await;
    let mut redis = system.redis().await;
    let unpaid = system.order(&["q"], "poor").await;
    assert_eq!(unpaid.status, OrderStatus::InsufficientFund);
    let mut costs = Vec::new();
    let mut first = None;
    for _ in 0..6 {
        let before = input_bytes(&mut redis).await;
        for _ in 0..20 {
            let key = uuid::Uuid::new_v4().to_string();
            let answer = pay_with(&system, &unpaid, &key).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            system.reaches(&unpaid, OrderStatus::InsufficientFund).await;
            first.get_or_insert_with(|| (key, answer.json()));
        }
        system.quiet(SOON).await;
        costs.push(input_bytes(&mut redis).await - before);
    }
    // The same requests at the same time cost somewhat more or less, for batches differ.
    assert!(costs.iter().all(|cost| *cost < 2 * costs[0]), "{costs:?}");
    let order = system.order_now(&unpaid).await;
    assert_eq!(order.attempt, 121);
    assert!(order.history.len() <= 41 && order.omitted > Some(100), "{order:?}");
    let (key, answered) = first.expect("it was tried");
    let again = pay_with(&system, &unpaid, &key).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (StatusCode::OK, "true"));
    assert_eq!(again.json(), answered, "the first answer, though its steps are not kept");
    system.assert_balanced(SOON).await;
}

async fn pay_with(system: &System, order: &Order, key: &str) -> Answer {
    let url = format!("{}/order/{}/pay", system.url(), order.id);
    let key = [("idempotency-key", key)];
    system.client.post(&url, &Value::Null, &key).await.expect("the gateway answers")
}

#[tokio::test]
async fn an_order_with_its_limit_of_attempts_answers_409_to_pay() {
    let system = shop().await;
    let unpaid = system.order(&["q"], "poor").await;
    system.quiet(SOON).await;
    let key = format!("{{order}}:entity:{}", unpaid.id);
    let mut redis = system.redis().await;
    let stored: String = redis::cmd("GET").arg(&key).query_async(&mut redis).await.expect("stored");
    let (version, json) = stored.split_once(' ').expect("a version");
    let mut order: Value = serde_json::from_str(json).expect("JSON");
    // As an earlier version stored it: all steps of 10,000 attempts.
    let pending = |attempt| json!({"status": "pending", "at": 1, "attempt": attempt});
    order["history"] = (1..=10_000).map(pending).collect();
    order["attempt"] = json!(10_000);
    for (omitted, limit) in [(json!(7), "10000"), (Value::Null, "50")] {
        order["omitted"] = omitted;
        let () = redis::cmd("SET")
            .arg(&key)
            .arg(format!("{version} {order}"))
            .query_async(&mut redis)
            .await
            .expect("stored");
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

#[tokio::test]
async fn orders_that_wait_for_stock_or_money_are_not_sent_again() {
    let system = impatient(Duration::from_millis(100)).await;
    let waits = system.order(&["p"], "rich").await;
    let unpaid = system.order(&["q"], "poor").await;
    assert_eq!(
        (waits.status, unpaid.status),
        (OrderStatus::OutOfStock, OrderStatus::InsufficientFund)
    );
    // Meanwhile a lost order is resent, so the resending task runs.
    let mut redis = system.redis().await;
    let stuck = json!({
        "id": uuid::Uuid::new_v4(), "product_ids": ["q"], "customer_id": "rich", "status": "pending",
        "attempt": 1, "history": [{ "status": "pending", "at": 1, "attempt": 1 }],
    });
    let id = stuck["id"].as_str().unwrap();
    let member = format!("{:012x}-{id}", 1);
    let () = redis::cmd("SET")
        .arg(format!("{{order}}:entity:{id}"))
        .arg(format!("1 {stuck}"))
        .query_async(&mut redis)
        .await
        .expect("stored");
    let () = redis::cmd("ZADD")
        .arg("{order}:status:pending")
        .arg(0)
        .arg(member)
        .query_async(&mut redis)
        .await
        .expect("listed");
    let order: Order = serde_json::from_value(stuck).unwrap();
    system.reaches(&order, OrderStatus::ToBeShipped).await;
    let resent = system.entries(Stream::OrderCreated).await;
    let resent: Vec<Value> =
        resent.iter().map(Entry::entity).filter(|event| event["resend"] == 1).collect();
    assert!(resent.iter().all(|event| event["id"] == json!(order.id)), "{resent:?}");
    assert!(!resent.is_empty());
}

/// The requests that change something, with their answers' status.
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
    // Also after everything was killed.
    for service in Service::ALL {
        system.restart(service, 1).await;
    }
    for ((number, (method, path, body)), first) in requests.iter().enumerate().zip(&first_answers) {
        let key = format!("key-{number}");
        let ask = Ask { method: method.clone(), path, key: &key, body: body.as_ref() };
        let again = ask.once(&system.client, &system.url()).await.expect("an answer");
        assert_eq!((again.status, &again.json()), (StatusCode::OK, first), "{path}");
        assert_eq!(again.header("idempotent-replayed"), "true", "{path}");
        // The same key for another body, or for another thing to do with the same order.
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

/// A request with this key.
async fn keyed(
    system: &System,
    key: &str,
    (method, path): (Method, &str),
    body: Option<&Value>,
) -> Answer {
    let ask = Ask { method, path, key, body };
    ask.once(&system.client, &system.url()).await.expect("an answer")
}

#[tokio::test]
async fn a_definition_has_its_effect_once_and_one_answer_also_after_a_newer_one() {
    let mut system = System::start().await;
    let product = |name: &str| json!({ "name": name, "price": 7, "amount": 4 });
    let account =
        |name: &str| json!({ "name": name, "email": "one@example.com", "balance": 1_000 });
    let all = [
        ("/inventory/one", "/inventory/two", product("First"), product("Second")),
        ("/accounts/one", "/accounts/two", account("First"), account("Second")),
    ];
    let mut answers = Vec::new();
    for (path, other, first, second) in &all {
        let put = async |key: &str, path: &str, body: &Value| {
            keyed(&system, key, (Method::PUT, path), Some(body)).await
        };
        let made = put("first", path, first).await;
        assert_eq!(made.status, StatusCode::CREATED, "{path}: {}", made.text());
        assert_eq!(made.header("location"), *path);
        assert_eq!(made.header("idempotent-replayed"), "");
        assert_eq!(put("second", path, second).await.status, StatusCode::OK);
        for (path, body) in [(path, second), (other, first)] {
            let refused = put("first", path, body).await;
            let problem = refused.json();
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {problem}");
            assert_eq!(problem["type"], "urn:problem-type:orders:idempotency-key-reused");
            assert_eq!(problem["field"], "Idempotency-Key");
        }
        assert_eq!(system.get(other).await.status, StatusCode::NOT_FOUND);
        answers.push(made);
    }
    // A gateway that had heard nothing of the first event publishes another one.
    for stream in [Stream::InventoryCreated, Stream::AccountCreated] {
        let first = system.entries(stream).await[0].entity();
        assert!(first["request"].is_string(), "{first}");
        system.publish(stream, &first).await;
    }
    system.quiet(SOON).await;
    for service in Service::ALL {
        system.restart(service, 1).await;
    }
    let published = async |system: &System| {
        let products = system.entries(Stream::InventoryCreated).await.len();
        (products, system.entries(Stream::AccountCreated).await.len())
    };
    let before = published(&system).await;
    for ((path, _, first, _), made) in all.iter().zip(&answers) {
        let again = keyed(&system, "first", (Method::PUT, path), Some(first)).await;
        assert_eq!((again.status, again.json()), (made.status, made.json()), "{path}");
        assert_eq!(again.header("idempotent-replayed"), "true", "{path}");
        assert_eq!(again.header("location"), *path);
        assert_eq!(system.get(path).await.json()["name"], "Second", "{path}");
    }
    assert_eq!(published(&system).await, before);
    // So it is for msg_service.
    system.order(&["one"], "one").await;
    let last = told(&system, "one").await.pop().unwrap();
    assert!(last.body.starts_with("Dear Second,"), "{}", last.body);
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn the_demo_data_is_loaded_once_for_each_key() {
    let system = System::start().await;
    let load = async |key: &str| {
        let answer = keyed(&system, key, (Method::POST, "/init-data"), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.json(), json!({ "result": "success" }));
        answer.header("idempotent-replayed").to_owned()
    };
    assert_eq!(load("one").await, "");
    let body = json!({ "name": "Renamed", "price": 7 });
    assert_eq!(put(&system, "/inventory/201", &body).await["name"], "Renamed");
    system.restock("204", 5).await;
    system.top_up("101", 500).await;
    assert_eq!(load("one").await, "true");
    system.quiet(SOON).await;
    assert_eq!(system.get("/inventory/201").await.json()["name"], "Renamed");
    assert_eq!(on_hand(&system, "204").await, (8, 0));
    assert_eq!(balance(&system, "101").await, 1_500);
    assert_eq!(load("another").await, "");
    assert_eq!(system.get("/inventory/201").await.json()["name"], "Denon Speakers");
    assert_eq!((on_hand(&system, "204").await, balance(&system, "101").await), ((3, 0), 1_000));
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn a_definition_that_has_no_effect_is_a_409() {
    let system = shop().await;
    let account = json!({ "name": "R", "email": "r@example.com" });
    for (stream, newest, path, body) in [
        (
            Stream::InventoryCreated,
            json!({ "id": "q", "name": "Newest", "price": 1, "amount": 5 }),
            "/inventory/q",
            json!({ "name": "Old", "price": 1 }),
        ),
        (
            Stream::AccountCreated,
            json!({ "id": "rich", "name": "Newest", "email": "r@example.com", "balance": 5 }),
            "/accounts/rich",
            account,
        ),
    ] {
        let mut redis = system.redis_of(stream.topic()).await;
        system_tests::publish(&mut redis, stream, "9999999999999-0", &newest).await;
        eventually("the newest definition", SOON, async || {
            let found = system.get(path).await.json();
            if found["name"] == "Newest" { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        // Redis gives smaller ids again after this.
        let () = redis.del(stream.key()).await.expect("deleted");
        for _ in 0..2 {
            let answer = keyed(&system, "old", (Method::PUT, path), Some(&body)).await;
            let problem = answer.json();
            assert_eq!(answer.status, StatusCode::CONFLICT, "{path}: {problem}");
            assert_eq!(problem["type"], "urn:problem-type:orders:superseded", "{problem}");
        }
        assert_eq!(system.get(path).await.json()["name"], "Newest");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_with_one_key_have_one_effect_whatever_is_killed_in_between() {
    let instances = [Service::Gateway, Service::Order].map(|service| (service, 2));
    let options = StackOptions { instances: instances.into(), ..StackOptions::default() };
    let mut system = System::start_alone(options).await;
    define(&system).await;
    let order = system.order(&["q"], "rich").await;
    let unpaid = system.order(&["q"], "poor").await;
    let spare = system.order(&["q"], "rich").await;
    let before = balance(&system, "rich").await;
    for (number, (method, path, body)) in requests(&order, &unpaid, &spare).into_iter().enumerate()
    {
        let mut calls = JoinSet::new();
        for call in 0..100 {
            let mut gateways = system.stack.gateway_urls();
            gateways.rotate_left(call % 2);
            let (method, path, body) = (method.clone(), path.clone(), body.clone());
            calls.spawn(async move {
                let key = format!("hundred-{number}");
                let ask = Ask { method, path: &path, key: &key, body: body.as_ref() };
                ask.until_answered(&Client::default(), &gateways, SOON * 2).await
            });
        }
        // Whoever has to do with it dies while they are under way.
        let victims = system.stack.instances().len();
        tokio::task::block_in_place(|| {
            for victim in (0..victims).filter(|victim| (victim + number) % 2 == 0) {
                let process = &mut system.stack.instances_mut()[victim].process;
                process.kill().and_then(|()| process.restart()).expect("restarted");
            }
        });
        let answers = calls.join_all().await;
        let firsts = answers.iter().filter(|it| it.header("idempotent-replayed").is_empty());
        assert!(firsts.count() <= 1, "{path}: one is the first");
        for answer in &answers {
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
            assert_eq!(answer.text(), answers[0].text(), "{path}");
        }
        system.client = Client::default();
        system.wait_ready().await;
        system.quiet(SOON).await;
    }
    // 5 at first and 3 brought; held by the paid, the shipped and the new one.
    assert_eq!(on_hand(&system, "q").await, (5, 3));
    assert_eq!(balance(&system, "poor").await, 49);
    assert_eq!(balance(&system, "rich").await, before);
    let paid = system.order_now(&unpaid).await;
    assert_eq!((paid.status, paid.attempt), (OrderStatus::ToBeShipped, 2));
    system.assert_balanced(SOON).await;
}
