//! The promises of the user guide, call by call.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    connection::topology::Sources,
    contract::{
        order::Order,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::Stream,
};
use http::StatusCode;
use serde_json::{Value, json};
use stack::{RedisOptions, RedisServer, Service, StackOptions};
use system_tests::{SOON, System, eventually, order_body};

/// These members of each entity of a list, by its id.
fn pick(list: &Value, members: &[&str]) -> BTreeMap<String, Value> {
    let list = list.as_array().expect("a list");
    let pick = |entity: &Value| members.iter().map(|member| entity[member].clone()).collect();
    list.iter().map(|it| (it["id"].as_str().expect("an id").to_owned(), pick(it))).collect()
}

fn expected<const N: usize>(entities: [(&str, Value); N]) -> BTreeMap<String, Value> {
    entities.into_iter().map(|(id, entity)| (id.to_owned(), entity)).collect()
}

#[tokio::test]
async fn the_three_orders_of_the_user_guide_end_as_described() {
    let system = System::start().await;
    let orders = system.guide_orders().await;
    assert_eq!(orders.each_ref().map(|order| order.order_total), [Some(900), Some(1200), None]);

    // Numbers are JSON numbers, and the stock of the unpaid order is released.
    let report = system.report().await;
    assert_eq!(
        pick(&report["accounts"], &["name", "email", "balance"]),
        expected([
            ("101", json!(["Anthony", "anthony@server.com", 100])),
            ("102", json!(["Becky", "Becky@server.com", 100])),
            ("103", json!(["Carol", "Carol@server.com", 1000])),
        ])
    );
    assert_eq!(
        pick(&report["inventory"], &["name", "price", "amount"]),
        expected([
            ("201", json!(["Denon Speakers", 800, 3])),
            ("202", json!(["Sonos Speakers", 600, 7])),
            ("203", json!(["AudioPro Speakers", 400, 4])),
            ("204", json!(["Google Home Mini", 100, 2])),
            ("205", json!(["Xiaomi Soundbar", 300, 8])),
        ])
    );
    let shown: Vec<Order> = serde_json::from_value(report["orders"].clone()).unwrap();
    let newest_first: Vec<_> = orders.iter().rev().cloned().collect();
    assert_eq!(shown, newest_first);
    assert_eq!(report.get("next"), None);
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.dead_letters, BTreeMap::new());
}

#[tokio::test]
async fn each_step_is_a_message_on_stdout_and_on_the_stream() {
    let system = System::start().await;
    let orders = system.guide_orders().await;
    let sent: Vec<Value> =
        system.entries(streams::MESSAGE_SENT).await.iter().map(|entry| entry.entity()).collect();
    let kinds_of = |order: &Order| -> BTreeSet<&str> {
        let of = sent.iter().filter(|it| it["order"] == order.id.to_string());
        of.map(|it| it["kind"].as_str().unwrap()).collect()
    };
    assert_eq!(
        orders.each_ref().map(kinds_of),
        [
            BTreeSet::from(["order-received", "stock-reserved", "on-its-way"]),
            BTreeSet::from(["order-received", "stock-reserved", "insufficient-fund"]),
            BTreeSet::from(["order-received", "out-of-stock"]),
        ]
    );
    assert_eq!(sent.len(), 8, "each of them once");
    for message in &sent {
        let members: Vec<&String> = message.as_object().unwrap().keys().collect();
        assert_eq!(members, ["id", "customer", "order", "kind", "subject", "body"]);
        assert_eq!(message["customer"], "101");
        let text = |member: &str| message[member].as_str().unwrap().to_owned();
        assert!(text("body").starts_with("Dear Anthony, "), "{message}");
        eventually("the message on stdout", SOON, async || {
            let log = system.logs(Service::Message);
            let parts = [text("order"), text("subject"), text("body")];
            let is_logged = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            if is_logged { Ok(()) } else { Err(format!("{message} is not in\n{log}")) }
        })
        .await;
    }
    let received = |count: &str, list: &str| {
        let body = format!("{count}: {list}.");
        sent.iter().any(|it| it["body"].as_str().unwrap().ends_with(&body))
    };
    assert!(received("2 products", "201 and 204"));
    assert!(received("6 products", "201, 201, 201, 201, 201 and 201"));
}

#[tokio::test]
async fn events_have_the_names_and_fields_of_the_contract() {
    let system = System::start().await;
    let [good, dear, many] = system.guide_orders().await.map(|order| order.id.to_string());
    let mut redis = system.redis().await;
    let keys: BTreeSet<String> =
        redis::cmd("KEYS").arg("events:*").query_async(&mut redis).await.unwrap();
    let expected = streams::ALL.iter().filter(|stream| !stream.is_dead_letters());
    assert_eq!(keys, expected.map(|stream| stream.key().to_owned()).collect());

    let mut events = BTreeMap::new();
    for stream in streams::ALL {
        for entry in system.entries(stream).await {
            let id = entry.fields["event_id"].parse::<uuid::Uuid>();
            assert!(id.is_ok(), "{stream}: {entry:?}");
            let entity = entry.entity();
            assert!(entity.is_object(), "{stream}: {entry:?}");
            events.entry(stream.key()).or_insert_with(Vec::new).push(entity);
        }
    }
    // Entries may have more members, but must have these with these values.
    let has = |stream: Stream, members: Value| {
        let found = events.get(stream.key()).is_some_and(|events| {
            let fits = |event: &Value| {
                members.as_object().unwrap().iter().all(|(name, value)| event[name] == *value)
            };
            events.iter().any(fits)
        });
        assert!(found, "{stream} has no {members} among {:#?}", events.get(stream.key()));
    };
    has(
        streams::ACCOUNT_CREATED,
        json!({"id": "102", "name": "Becky", "email": "Becky@server.com", "balance": 100}),
    );
    has(
        streams::INVENTORY_CREATED,
        json!({"id": "205", "name": "Xiaomi Soundbar", "price": 300, "amount": 8}),
    );
    has(
        streams::ORDER_CREATED,
        json!({"id": good, "product_ids": ["201", "204"], "customer_id": "101", "status": "pending"}),
    );
    has(
        streams::INVENTORY_CHECK,
        json!({"inventory": "payment-required", "order_id": good, "customer_id": "101",
            "product_ids": ["201", "204"], "order_total": 900}),
    );
    has(
        streams::INVENTORY_CHECK,
        json!({"inventory": "out-of-stock", "order_id": many, "customer_id": "101",
            "product_ids": vec!["201"; 6]}),
    );
    let checks = &events[streams::INVENTORY_CHECK.key()];
    let with_total = checks.iter().filter(|check| check.get("order_total").is_some());
    assert!(with_total.into_iter().all(|check| check["inventory"] == "payment-required"));
    has(
        streams::INVENTORY_UPDATED,
        json!({"id": "201", "name": "Denon Speakers", "price": 800, "amount": 3}),
    );
    for (order, account) in [(&good, "to-be-shipped"), (&dear, "insufficient-fund")] {
        let members = json!({"order_id": order, "customer_id": "101", "account": account});
        has(streams::ACCOUNT_WALLET, members);
    }
    has(
        streams::ACCOUNT_UPDATED,
        json!({"id": "101", "name": "Anthony", "email": "anthony@server.com", "balance": 100}),
    );
    for (order, status) in
        [(&good, "to-be-shipped"), (&dear, "insufficient-fund"), (&many, "out-of-stock")]
    {
        let members = json!({"id": order, "customer_id": "101", "status": status});
        has(streams::ORDER_UPDATED, members);
    }
    // A product is announced when it is new, and then only if an order changed it.
    let mut times = BTreeMap::<&str, usize>::new();
    for product in &events[streams::INVENTORY_UPDATED.key()] {
        *times.entry(product["id"].as_str().unwrap()).or_default() += 1;
    }
    let untouched: Vec<&str> =
        times.iter().filter(|(_, times)| **times == 1).map(|(id, _)| *id).collect();
    assert_eq!((times.len(), untouched), (5, vec!["202", "203"]));
}

#[tokio::test]
async fn an_unknown_product_or_customer_is_rejected_with_a_reason_and_nothing_is_taken() {
    let system = System::start().await;
    system.init_data().await;
    let before = system.report().await;
    for (products, customer, reason) in [
        (&["999"][..], "101", "there is no product 999"),
        (&["201", "998", "204", "999"], "101", "there are no products 998 and 999"),
        (&["201", "204"], "999", "there is no customer 999"),
    ] {
        let order = system.order(products, customer).await;
        assert_eq!((order.status, order.reason.as_deref()), (OrderStatus::Rejected, Some(reason)));
    }
    system.quiet(SOON).await;
    let after = system.report().await;
    assert_eq!(after["accounts"], before["accounts"]);
    assert_eq!(after["inventory"], before["inventory"]);
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.by_status, BTreeMap::from([("rejected", 3)]));
}

#[tokio::test]
async fn init_data_resets_the_demo_entities_at_each_call() {
    let system = System::start().await;
    for _ in 0..3 {
        system.guide_orders().await;
    }
    system.init_data().await;
    let report = system.report().await;
    assert_eq!(
        pick(&report["accounts"], &["balance", "paid"]),
        expected([
            ("101", json!([1000, 2700])),
            ("102", json!([100, 0])),
            ("103", json!([1000, 0]))
        ])
    );
    // The reservations of open orders stay.
    assert_eq!(
        pick(&report["inventory"], &["amount", "reserved"]),
        expected([
            ("201", json!([4, 3])),
            ("202", json!([7, 0])),
            ("203", json!([4, 0])),
            ("204", json!([3, 3])),
            ("205", json!([8, 0])),
        ])
    );
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn after_flushall_everything_works_again() {
    let system = System::start().await;
    for _ in 0..3 {
        let [good, ..] = system.guide_orders().await;
        let mut redis = system.redis().await;
        let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        let empty = json!({"accounts": [], "inventory": [], "orders": []});
        assert_eq!(system.report().await, empty);
        let gone = system.get(&format!("/order/{}", good.id)).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        // An order for a lost product is rejected rather than stuck.
        assert_eq!(system.order(&["201"], "101").await.status, OrderStatus::Rejected);
    }
    system.guide_orders().await;
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn demo_data_is_seeded_at_the_first_start_and_never_again() {
    let options = StackOptions { seed_demo_data: true, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    let amounts = async |system: &System| {
        let report = system.report().await;
        pick(&report["inventory"], &["amount"])
    };
    let report = system.report().await;
    let count = |list: &str| report[list].as_array().map(Vec::len);
    assert_eq!((count("accounts"), count("inventory")), (Some(3), Some(5)));
    assert_eq!(system.order(&["201", "204"], "101").await.status, OrderStatus::ToBeShipped);
    let before = amounts(&system).await;
    assert_eq!(before["201"], json!([3]));
    system.restart(Service::Gateway, 1).await;
    // The gateway becomes ready after its check of the existing data.
    assert_eq!(amounts(&system).await, before);
}

#[tokio::test]
async fn an_interrupted_seeding_is_completed_at_the_next_start() {
    let options = StackOptions { seed_demo_data: true, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    let count =
        async |system: &System, list: &str| system.report().await[list].as_array().map(Vec::len);
    let mut redis = system.redis().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*{inventory}*").query_async(&mut redis).await.unwrap();
    let _: i64 = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.unwrap();
    assert_eq!(count(&system, "inventory").await, Some(0));
    system.restart(Service::Gateway, 1).await;
    let counts = (count(&system, "inventory").await, count(&system, "accounts").await);
    assert_eq!(counts, (Some(5), Some(3)));
}

#[tokio::test]
async fn the_answer_to_an_order_matches_the_contract() {
    let system = System::start().await;
    system.init_data().await;
    let answer = system.post("/order", &order_body(&["201", "204"], "101")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    let order = answer.json();
    let id: uuid::Uuid = order["id"].as_str().unwrap().parse().expect("a UUID");
    assert_eq!(order["product_ids"], json!(["201", "204"]));
    assert_eq!((&order["customer_id"], &order["status"]), (&json!("101"), &json!("pending")));
    assert_eq!(answer.header("location"), format!("/order/{id}"));

    let order = system.ended(&answer.parse()).await;
    let steps: Vec<_> = order.history.iter().map(|step| step.status.name()).collect();
    assert_eq!(steps, ["pending", "payment-required", "to-be-shipped"]);
    assert!(order.history.is_sorted_by_key(|step| step.at), "{order:?}");
}

#[tokio::test]
async fn each_topic_can_live_in_a_redis_of_its_own() {
    let mut servers: BTreeMap<&str, RedisServer> = BTreeMap::new();
    // Entries that could not be acknowledged to an unavailable Redis are soon retried.
    let mut env = BTreeMap::from([("CLAIM_IDLE_MS".to_owned(), "1000".to_owned())]);
    for topic in topics::ALL {
        let server = RedisServer::start(RedisOptions::default()).expect("a Redis");
        env.insert(format!("{}_REDIS_URL", topic.name().to_uppercase()), server.url());
        servers.insert(topic.name(), server);
    }
    let mut system = System::start_with(StackOptions { env, ..StackOptions::default() }).await;
    system.sources =
        Sources::new(&topics::ALL, |topic| servers[topic.name()].url().parse().expect("a URL"));
    system.guide_orders().await;

    // With one Redis stopped, the other topics continue, and the rest is made up for.
    for topic in [topics::INVENTORY, topics::ACCOUNT, topics::MESSAGE] {
        let server = servers.get_mut(topic.name()).unwrap();
        server.kill().expect("killed");
        let order = system.place(&["202"], "103").await;
        server.restart().expect("restarted");
        let expected = [OrderStatus::ToBeShipped, OrderStatus::InsufficientFund];
        assert!(expected.contains(&system.ended(&order).await.status));
    }
    let report = system.assert_balanced(SOON).await;
    assert_eq!((report.orders, report.unfinished), (6, 0), "{report}");
    let mut redis = system.redis().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    assert_eq!(keys, Vec::<String>::new(), "the Redis of all others is not used");
}
