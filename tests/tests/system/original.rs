//! Interoperability with services of the original: their entries in their exact form, and our entries under
//! their rules of reading.

use common::{
    clock::now_millis,
    contract::{
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::Stream,
};
use http::StatusCode;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Entry, SOON, System, eventually, publish};
use uuid::Uuid;

/// A system without these services, whose roles the test plays.
async fn without(services: &[Service]) -> (System, Original) {
    let instances = services.iter().map(|service| (*service, 0)).collect();
    let system = System::start_with(StackOptions { instances, ..StackOptions::default() }).await;
    let mut original = Original { redis: system.redis().await, last: (0, 0) };
    for (id, balance) in [("101", 1_000), ("102", 100)] {
        let email = format!("{id}@server.com");
        let account = json!({ "id": id, "name": "Anthony", "email": email, "balance": balance });
        original.publish(streams::ACCOUNT_CREATED, &account).await;
    }
    for (id, price, amount) in [("201", 800, 4), ("204", 100, 3)] {
        let product = json!({ "id": id, "name": "Denon", "price": price, "amount": amount });
        original.publish(streams::INVENTORY_CREATED, &product).await;
    }
    (system, original)
}

/// Writes in the form of the original: ids of seconds and microseconds, two fields, no members of ours.
struct Original {
    redis: MultiplexedConnection,
    last: (u64, u64),
}

impl Original {
    async fn publish(&mut self, stream: Stream, entity: &Value) {
        let millis = now_millis();
        let now = (millis / 1_000, millis % 1_000 * 1_000);
        self.last = now.max((self.last.0, self.last.1 + 1));
        // The original writes six digits of microseconds; Redis drops the zeros before them.
        let id = format!("{}-{:06}", self.last.0, self.last.1);
        publish(&mut self.redis, stream, &id, entity).await;
    }

    async fn orders(&mut self, product_ids: &[&str], customer_id: &str) -> Uuid {
        let id = common::random::new_id();
        let order = json!({
            "id": id, "product_ids": product_ids, "customer_id": customer_id, "status": "pending",
        });
        self.publish(streams::ORDER_CREATED, &order).await;
        id
    }

    async fn checks(&mut self, order: Uuid, outcome: &str, total: Option<u64>) {
        let mut check = json!({
            "inventory": outcome, "order_id": order, "customer_id": "101",
            "product_ids": ["201"],
        });
        if let Some(total) = total {
            check["order_total"] = total.into();
        }
        self.publish(streams::INVENTORY_CHECK, &check).await;
    }

    async fn pays(&mut self, order: Uuid, outcome: &str) {
        let wallet = json!({ "order_id": order, "customer_id": "101", "account": outcome });
        self.publish(streams::ACCOUNT_WALLET, &wallet).await;
    }
}

/// The entries about this order, when there are this many.
async fn about(system: &System, stream: Stream, order: Uuid, count: usize) -> Vec<Value> {
    eventually(&format!("{count} entries of {stream} about {order}"), SOON, async || {
        let id = if stream.topic() == topics::ORDER { "id" } else { "order_id" };
        let mut entries: Vec<Value> =
            system.entries(stream).await.iter().map(Entry::entity).collect();
        entries.retain(|entity| entity[id] == order.to_string());
        if entries.len() == count { Ok(entries) } else { Err(format!("{entries:?}")) }
    })
    .await
}

/// Checks an entry under the rules of the original's cache: each member becomes a string, or a list of
/// strings, which must not be empty; a string with `_` and `:` would be a reference to another key.
fn assert_cacheable(stream: Stream, entry: &Entry) {
    let entity = entry.entity();
    let members = entity.as_object().unwrap_or_else(|| panic!("{stream}: {entity} is no object"));
    assert!(members.get("id").is_some_and(Value::is_string), "{stream}: {entity} has no id");
    for (name, value) in members {
        let fits = match value {
            Value::Number(_) => true,
            Value::String(text) => !(text.contains('_') && text.contains(':')),
            Value::Array(items) => !items.is_empty() && items.iter().all(Value::is_string),
            _ => false,
        };
        assert!(fits, "{stream} {}: {name} is {value}", entry.id);
    }
}

/// Checks all entries that the original caches, except those that a test has spoilt, and returns them.
pub(crate) async fn assert_all_cacheable(system: &System) -> Vec<Value> {
    let mut cached = Vec::new();
    for stream in [
        streams::ORDER_CREATED,
        streams::ORDER_UPDATED,
        streams::INVENTORY_CREATED,
        streams::INVENTORY_UPDATED,
        streams::ACCOUNT_CREATED,
        streams::ACCOUNT_UPDATED,
    ] {
        let mut entries = system.entries(stream).await;
        entries.retain(|entry| entry.entity() != json!({}));
        entries.iter().for_each(|entry| assert_cacheable(stream, entry));
        cached.extend(entries.iter().map(Entry::entity));
    }
    cached
}

#[tokio::test]
async fn inventory_account_and_msg_service_work_with_orders_of_the_original() {
    let (system, mut original) = without(&[Service::Order, Service::Gateway]).await;
    let good = original.orders(&["201", "204"], "101").await;
    let check = about(&system, streams::INVENTORY_CHECK, good, 1).await.remove(0);
    assert_eq!(
        (&check["inventory"], &check["order_total"], &check["customer_id"]),
        (&json!("payment-required"), &json!(900), &json!("101"))
    );
    assert_eq!(check["product_ids"], json!(["201", "204"]));
    let wallet = about(&system, streams::ACCOUNT_WALLET, good, 1).await.remove(0);
    assert_eq!(
        (&wallet["account"], &wallet["customer_id"]),
        (&json!("to-be-shipped"), &json!("101"))
    );
    let dear = original.orders(&["201"], "102").await;
    let wallet = about(&system, streams::ACCOUNT_WALLET, dear, 1).await.remove(0);
    assert_eq!(wallet["account"], "insufficient-fund");
    let many = original.orders(&["201"; 6], "101").await;
    let check = about(&system, streams::INVENTORY_CHECK, many, 1).await.remove(0);
    assert_eq!(check["inventory"], "out-of-stock");
    let messages = |order: Uuid, count: usize| {
        let system = &system;
        async move {
            eventually(&format!("{count} messages about {order}"), SOON, async || {
                let sent = system.entries(streams::MESSAGE_SENT).await;
                let kinds: Vec<Value> = (sent.iter().map(Entry::entity))
                    .filter(|message| message["order"] == order.to_string())
                    .map(|message| message["kind"].clone())
                    .collect();
                if kinds.len() == count { Ok(kinds) } else { Err(format!("{kinds:?}")) }
            })
            .await
        }
    };
    for (order, count) in [(good, 3), (dear, 3), (many, 2)] {
        messages(order, count).await;
    }
    assert_all_cacheable(&system).await;
}

#[tokio::test]
async fn order_and_msg_service_work_with_stock_and_accounts_of_the_original() {
    let (system, mut original) = without(&[Service::Inventory, Service::Account]).await;
    let order = system.place(&["201"], "101").await;
    about(&system, streams::ORDER_CREATED, order.id.0, 1).await;
    original.checks(order.id.0, "payment-required", Some(800)).await;
    system.reaches(&order, OrderStatus::PaymentRequired).await;
    original.pays(order.id.0, "insufficient-fund").await;
    system.reaches(&order, OrderStatus::InsufficientFund).await;
    assert_eq!(system.step(&order, "pay").await.status, StatusCode::OK);
    about(&system, streams::ORDER_CREATED, order.id.0, 2).await;
    original.checks(order.id.0, "payment-required", Some(800)).await;
    system.reaches(&order, OrderStatus::PaymentRequired).await;
    original.pays(order.id.0, "to-be-shipped").await;
    let paid = system.reaches(&order, OrderStatus::ToBeShipped).await;
    assert_eq!(paid.attempt, 2);
    let waits = system.place(&["201"], "101").await;
    original.checks(waits.id.0, "out-of-stock", None).await;
    system.reaches(&waits, OrderStatus::OutOfStock).await;
    // All entries again, as after a crash before their acknowledgement.
    let mut redis = system.redis().await;
    for stream in [streams::INVENTORY_CHECK, streams::ACCOUNT_WALLET] {
        for group in ["order_service", "msg_service"] {
            let mut back = redis::cmd("XGROUP");
            back.arg("SETID").arg(stream.key()).arg(group).arg("0");
            let () = back.query_async(&mut redis).await.expect("it goes back");
        }
    }
    let last = system.place(&["204"], "101").await;
    original.checks(last.id.0, "out-of-stock", None).await;
    system.reaches(&last, OrderStatus::OutOfStock).await;
    assert_eq!(system.order_now(&order).await, paid);
    // One order is a backorder and another is paid; each has its messages exactly once.
    eventually("all messages", SOON, async || {
        let sent = system.entries(streams::MESSAGE_SENT).await.len();
        // Received, reserved, balance too low, new attempt, reserved, paid; twice received and waiting.
        if sent == 10 { Ok(()) } else { Err(sent.to_string()) }
    })
    .await;
    assert_all_cacheable(&system).await;
}

#[tokio::test]
async fn each_attempt_is_charged_once_with_an_inventory_service_of_the_original() {
    let (system, mut original) = without(&[Service::Inventory]).await;
    let order = system.place(&["201"], "101").await;
    original.checks(order.id.0, "payment-required", Some(1_800)).await;
    system.reaches(&order, OrderStatus::InsufficientFund).await;
    system.top_up("101", 1_000).await;
    assert_eq!(system.step(&order, "pay").await.status, StatusCode::OK);
    original.checks(order.id.0, "payment-required", Some(1_800)).await;
    system.reaches(&order, OrderStatus::ToBeShipped).await;
    let mut redis = system.redis().await;
    let mut back = redis::cmd("XGROUP");
    back.arg("SETID").arg(streams::INVENTORY_CHECK.key()).arg("account_service").arg("0");
    let () = back.query_async(&mut redis).await.expect("it goes back");
    let next = system.place(&["201"], "101").await;
    original.checks(next.id.0, "payment-required", Some(100)).await;
    system.reaches(&next, OrderStatus::ToBeShipped).await;
    let account = system.get("/accounts/101").await.json();
    assert_eq!((&account["balance"], &account["paid"]), (&json!(100), &json!(1_900)));
    assert_all_cacheable(&system).await;
}

#[tokio::test]
async fn stock_follows_the_payments_of_an_account_service_of_the_original() {
    let (system, mut original) = without(&[Service::Account]).await;
    let reserved = async |count: u64| {
        eventually(&format!("{count} reserved"), SOON, async || {
            let product = system.get("/inventory/201").await.json();
            if product["reserved"] == count { Ok(()) } else { Err(product.to_string()) }
        })
        .await;
    };
    let order = system.place(&["201"], "101").await;
    about(&system, streams::INVENTORY_CHECK, order.id.0, 1).await;
    original.pays(order.id.0, "insufficient-fund").await;
    system.reaches(&order, OrderStatus::InsufficientFund).await;
    reserved(0).await;
    assert_eq!(system.step(&order, "pay").await.status, StatusCode::OK);
    about(&system, streams::INVENTORY_CHECK, order.id.0, 2).await;
    reserved(1).await;
    original.pays(order.id.0, "to-be-shipped").await;
    system.reaches(&order, OrderStatus::ToBeShipped).await;
    // The original charges for each event, and the second time the balance is too low.
    original.pays(order.id.0, "insufficient-fund").await;
    let next = system.place(&["201"], "101").await;
    about(&system, streams::INVENTORY_CHECK, next.id.0, 1).await;
    original.pays(next.id.0, "insufficient-fund").await;
    system.reaches(&next, OrderStatus::InsufficientFund).await;
    reserved(1).await;
    assert_eq!(system.order_now(&order).await.status, OrderStatus::ToBeShipped);
    assert_all_cacheable(&system).await;
}

#[tokio::test]
async fn an_unknown_order_is_cancelled_and_its_stock_and_payment_returned() {
    let system = System::start().await;
    system.init_data().await;
    let mut original = Original { redis: system.redis().await, last: (0, 0) };
    let order = original.orders(&["201"], "101").await;
    about(&system, streams::INVENTORY_CHECK, order, 1).await;
    eventually("the order is cancelled", SOON, async || {
        let product = system.get("/inventory/201").await.json();
        let account = system.get("/accounts/101").await.json();
        let off = system.entries(streams::ORDER_CANCELLED).await.len();
        if off > 0
            && product["reserved"] == 0
            && account["paid"] == 0
            && account["balance"] == 1_000
        {
            Ok(())
        } else {
            Err(format!("{off} cancellations: {product} {account}"))
        }
    })
    .await;
}

/// The services that read events, with a stream of each.
const READERS: [(Service, Stream); 4] = [
    (Service::Order, streams::INVENTORY_CHECK),
    (Service::Inventory, streams::ORDER_CREATED),
    (Service::Account, streams::INVENTORY_CHECK),
    (Service::Message, streams::ACCOUNT_WALLET),
];

#[tokio::test]
async fn no_service_starts_on_a_redis_that_the_original_has_filled() {
    let mut system = System::start().await;
    for (service, _) in READERS {
        let process = &mut system.first(service).process;
        process.terminate().expect("it is asked to end");
        assert!(process.wait(SOON).expect("it ends").success());
    }
    let mut redis = system.redis().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("it is empty");
    let mut original = Original { redis: redis.clone(), last: (0, 0) };
    let account =
        json!({ "id": "101", "name": "Anthony", "email": "a@server.com", "balance": 1_000 });
    original.publish(streams::ACCOUNT_CREATED, &account).await;
    let order = original.orders(&["201"], "101").await;
    original.checks(order, "payment-required", Some(800)).await;
    original.pays(order, "to-be-shipped").await;
    for (service, stream) in READERS {
        let process = &mut system.first(service).process;
        process.restart().expect("it is started");
        let status = process.wait(SOON).expect("it ends");
        assert_eq!(status.code(), Some(1), "{service:?}");
        let log = process.logs();
        for words in [
            "a system of the original has filled events:",
            "empty Redis",
            "docs/interoperability.md",
        ] {
            assert!(log.contains(words), "{service:?} does not report {words:?}: {log}");
        }
        let groups = redis::cmd("XINFO").arg("GROUPS").arg(stream.key()).to_owned();
        let groups: Vec<redis::Value> = groups.query_async(&mut redis).await.expect("a stream");
        assert!(groups.is_empty(), "{service:?} has read {stream}");
    }
    assert_eq!(system.entries(streams::MESSAGE_SENT).await.len(), 0);
    // Products and accounts alone are accepted.
    for stream in [streams::ORDER_CREATED, streams::INVENTORY_CHECK, streams::ACCOUNT_WALLET] {
        let () = redis::cmd("DEL").arg(stream.key()).query_async(&mut redis).await.expect("gone");
    }
    for (service, _) in READERS {
        system.first(service).process.restart().expect("it is started");
    }
    system.wait_ready().await;
    eventually("the account", SOON, async || {
        let answer = system.get("/accounts/101").await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    // The service has read this Redis before, so later entries of the original are new.
    original.orders(&["201"], "101").await;
    system.restart(Service::Inventory, 1).await;
}
