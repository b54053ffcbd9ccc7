//! A Redis for each topic, one of which is flushed, killed, lost or restored from a backup while orders are
//! under way: the others keep their data, and service resumes without help.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use common::{
    contract::{
        order::Order,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::Topic,
};
use http::{Method, StatusCode};
use orderctl::audit::{Report, audit};
use serde_json::{Value, json};
use stack::StackOptions;
use system_tests::{Load, SOON, System, database, env, eventually, order_body, run};

/// The timeout of a whole test, which usually takes a tenth of this.
const TIMEOUT: Duration = Duration::from_secs(120);

fn options() -> StackOptions {
    let env = env(&[("RESEND_AFTER_MS", "1000"), ("CLAIM_IDLE_MS", "1000")]);
    StackOptions { isolated: true, env, ..StackOptions::default() }
}

async fn shop() -> System {
    let system = System::start_with(options()).await;
    define(&system).await;
    system
}

/// Plenty of stock and money, except for the poor customer and the rare product.
async fn define(system: &System) {
    for (id, amount) in [("much", 1_000_000), ("many", 1_000_000), ("rare", 1)] {
        let product = json!({ "name": id, "price": 1, "amount": amount });
        put(system, &format!("/inventory/{id}"), &product).await;
    }
    for (id, balance) in [("rich", 1_000_000), ("poor", 2)] {
        let account = json!({ "name": id, "email": "x@example.com", "balance": balance });
        put(system, &format!("/accounts/{id}"), &account).await;
    }
}

/// Defines an entity, with retries, because the owner's Redis may be starting.
async fn put(system: &System, path: &str, body: &Value) {
    eventually("it is defined", TIMEOUT, async || {
        let answer = system.ask(Method::PUT, path, Some(body)).await;
        if answer.status.is_success() { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

/// Reads a list or an entity, with retries, because a restarted Redis needs a new connection.
async fn read(system: &System, path: &str) -> Value {
    eventually("it can be read", SOON, async || {
        let answer = system.get(path).await;
        if answer.status == StatusCode::OK { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await
}

async fn product(system: &System, id: &str) -> Value {
    read(system, &format!("/inventory/{id}")).await
}

async fn account(system: &System, id: &str) -> Value {
    read(system, &format!("/accounts/{id}")).await
}

async fn messages(system: &System, customer: &str) -> Value {
    read(system, &format!("/customers/{customer}/messages?limit=1000")).await
}

/// The keys of a topic's owner.
async fn keys(system: &System, topic: Topic) -> BTreeSet<String> {
    let mut redis = system.redis_of(topic).await;
    let keys: BTreeSet<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut redis).await.expect("KEYS");
    // Streams, entities and indexes are permanent; the sets of a status and of unconfirmed orders disappear
    // with their last order, and a lease expires after some milliseconds.
    let passing = [":status:", ":unconfirmed", ":turn:"];
    let lasting = |key: &String| !passing.iter().any(|part| key.contains(part));
    keys.into_iter().filter(lasting).collect()
}

async fn flush(system: &System, topic: Topic) {
    let mut redis = system.redis_of(topic).await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("flushed");
}

/// Kills a topic's Redis with SIGKILL, changes its directory, and starts it again.
async fn revive(system: &mut System, topic: Topic, meanwhile: impl FnOnce(&Path)) {
    tokio::task::block_in_place(|| {
        let redis = system.stack.redis_of(database(topic)).expect("a private one");
        redis.kill().expect("killed");
        meanwhile(&redis.data_dir().join("appendonlydir"));
        redis.restart().expect("restarted");
    });
}

/// Orders that are continuously placed, at a steady rate rather than the maximum.
fn traffic(system: &System) -> Load {
    Load::start(system, 4, Duration::from_millis(5), TIMEOUT, |client, number| {
        let products = [&["much"][..], &["much", "many"], &["many"; 3]][number % 3];
        order_body(products, if number % 10 == client { "poor" } else { "rich" })
    })
}

/// The report of the auditor when no order is stuck, no event is in flight, the books agree, and this holds.
async fn balanced(system: &System, also: impl Fn(&Report) -> bool) -> Report {
    eventually("the books balance", TIMEOUT, async || {
        let report = audit(&system.sources).await.map_err(|error| format!("{error:#}"))?;
        let agrees = report.findings.is_empty() && report.is_quiet() && report.unfinished == 0;
        if agrees && also(&report) { Ok(report) } else { Err(report.to_string()) }
    })
    .await
}

/// One Redis after the other suffers `fault` under traffic. Only that Redis is restarted, and lost
/// definitions are repeated.
async fn survives(fault: impl AsyncFn(&mut System, Topic), loses_data: bool) {
    let mut system = System::start_alone(options()).await;
    define(&system).await;
    for topic in topics::ALL {
        let traffic = traffic(&system);
        traffic.more(50).await;
        let mut kept = Vec::new();
        for other in topics::ALL.into_iter().filter(|it| !loses_data || *it != topic) {
            kept.push((other, keys(&system, other).await));
        }
        fault(&mut system, topic).await;
        if loses_data {
            define(&system).await;
        }
        traffic.more(50).await;
        traffic.stop().await;
        system.wait_ready().await;
        for (other, before) in kept {
            let now = keys(&system, other).await;
            let gone: Vec<&String> = before.difference(&now).collect();
            assert!(gone.is_empty(), "{topic:?} suffered, and {other:?} lost {gone:?}");
            assert!(before.len() > 10, "{other:?}: {before:?}");
        }
        // Every order ends, and the remaining data of the owners agrees as soon as the loss is detected.
        let report = balanced(&system, |report| (report.forgotten > 0) == loses_data).await;
        assert_eq!(report.dead_letters.len(), 0, "{topic:?}: {report}");
        // New orders work as before.
        let order = system.order(&["much", "many"], "rich").await;
        assert_eq!(order.status, OrderStatus::ToBeShipped, "{topic:?}: {order:?}");
        let order = system.order(&["no-such-product"], "rich").await;
        assert_eq!(order.status, OrderStatus::Rejected, "{topic:?}: {order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_resumes_after_each_of_four_redis_is_flushed_under_traffic() {
    survives(async |system, topic| flush(system, topic).await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_resumes_after_each_of_four_redis_is_replaced_by_an_empty_one() {
    let empty = |data: &Path| fs::remove_dir_all(data).expect("removed");
    survives(async |system, topic| revive(system, topic, empty).await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_each_of_four_redis_is_killed_and_restarted() {
    survives(async |system, topic| revive(system, topic, |_| {}).await, false).await;
}

#[tokio::test]
async fn each_server_keeps_the_keys_of_its_topic_and_no_others() {
    let system = shop().await;
    assert_eq!(system.order(&["much"], "rich").await.status, OrderStatus::ToBeShipped);
    assert_eq!(system.order(&["much"; 3], "poor").await.status, OrderStatus::InsufficientFund);
    system.assert_balanced(SOON).await;
    for topic in topics::ALL {
        let tag = format!("{{{}}}", topic.name());
        let keys = keys(&system, topic).await;
        assert!(keys.len() > 2 && keys.iter().all(|key| key.contains(&tag)), "{tag}: {keys:?}");
        // The other topics are in other servers; only ids may contain their tags.
        let strange = topics::ALL.into_iter().filter(|other| *other != topic);
        for other in strange.map(|other| format!("{{{}}}:", other.name())) {
            assert!(!keys.iter().any(|key| key.starts_with(&other)), "{other} at {tag}: {keys:?}");
        }
    }
}

#[tokio::test]
async fn a_msg_service_without_its_data_stores_messages_and_repeats_none() {
    let system = shop().await;
    for status in ["out-of-stock", "to-be-shipped", "cancelled"] {
        let products = if status == "out-of-stock" { &["rare", "rare"][..] } else { &["much"] };
        let order = system.order(products, "rich").await;
        if status == "cancelled" {
            assert_eq!(system.cancel(&order).await.status, StatusCode::OK);
        }
    }
    system.top_up("rich", 5).await;
    system.quiet(SOON).await;
    // A message that is stored before the customer's name has another address.
    let sorted = |page: Value| {
        let all = page["messages"].as_array().unwrap().iter();
        let mut all: Vec<String> =
            all.map(|it| format!("{}: {}", it["id"], it["subject"])).collect();
        all.sort_unstable();
        all
    };
    let before = sorted(messages(&system, "rich").await);
    assert!(before.len() > 8, "{before:?}");
    flush(&system, topics::MESSAGE).await;
    eventually("all messages are stored again", SOON, async || {
        let now = sorted(messages(&system, "rich").await);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(system.entries(streams::MESSAGE_SENT).await.is_empty(), "none is sent twice");
    let order = system.order(&["much"], "rich").await;
    system.quiet(SOON).await;
    let sent = system.entries(streams::MESSAGE_SENT).await;
    let about: Vec<Value> = sent.iter().map(system_tests::Entry::entity).collect();
    assert!(about.len() == 3 && about.iter().all(|it| it["order"] == json!(order.id)), "{about:?}");
    assert!(about[0]["body"].as_str().unwrap().starts_with("Dear rich,"), "{about:?}");
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn an_account_service_without_its_data_repeats_no_charge_or_refund() {
    let system = shop().await;
    let paid = system.order(&["many"; 4], "rich").await;
    let unpaid = system.order(&["many"; 3], "poor").await;
    let sent = system.step(&system.order(&["many"], "rich").await, "ship").await.parse::<Order>();
    system.quiet(SOON).await;
    let (stock, before) = (product(&system, "many").await, messages(&system, "rich").await);
    flush(&system, topics::ACCOUNT).await;
    // Orders in flight meanwhile find no customer.
    let homeless = system.order(&["much"], "rich").await;
    assert_eq!(homeless.status, OrderStatus::Rejected, "{homeless:?}");
    define(&system).await;
    let later = system.order(&["much"; 5], "rich").await;
    assert_eq!(later.status, OrderStatus::ToBeShipped, "{later:?}");
    eventually("the stock checks are read again", SOON, async || {
        let mut redis = system.redis_of(topics::ACCOUNT).await;
        let words = ["HGET", "{account}:bookmarks", streams::INVENTORY_CHECK.key()];
        let known: Option<String> = run(&mut redis, &words).await;
        let known = known.filter(|text| !text.ends_with(" 0-0") && !text.contains(" - "));
        known.map(|_| ()).ok_or("there is no checkpoint".to_owned())
    })
    .await;
    let report = system.assert_balanced(SOON).await;
    assert!(report.forgotten >= 3, "{report}");
    for (order, status) in [
        (&paid, OrderStatus::ToBeShipped),
        (&unpaid, OrderStatus::InsufficientFund),
        (&sent, OrderStatus::Shipped),
        (&later, OrderStatus::ToBeShipped),
    ] {
        assert_eq!(system.order_now(order).await.status, status);
    }
    let now = product(&system, "many").await;
    assert_eq!((&now["amount"], &now["reserved"]), (&stock["amount"], &stock["reserved"]));
    let rich = account(&system, "rich").await;
    assert_eq!((&rich["paid"], &rich["balance"]), (&json!(5), &json!(999_995)));
    let old = |page: &Value| -> Vec<Value> {
        let all = page["messages"].as_array().unwrap().iter();
        all.filter(|it| it["order"] == json!(paid.id)).cloned().collect()
    };
    assert_eq!(old(&messages(&system, "rich").await), old(&before));
    // A customer whose payment was lost can still cancel the order, and pay unpaid orders.
    assert_eq!(system.cancel(&paid).await.status, StatusCode::OK);
    system.top_up("poor", 1).await;
    assert_eq!(system.step(&unpaid, "pay").await.status, StatusCode::OK);
    system.reaches(&unpaid, OrderStatus::ToBeShipped).await;
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn backorders_are_resent_to_an_inventory_service_that_lost_its_store() {
    let system = shop().await;
    let paid = system.order(&["much"], "rich").await;
    let waiting = system.order(&["rare", "rare"], "rich").await;
    assert_eq!(waiting.status, OrderStatus::OutOfStock);
    // The store id of the queues is recorded once.
    eventually("the store is known", SOON, async || {
        let mut redis = system.redis().await;
        let known: Option<String> = run(&mut redis, &["GET", "{order}:lines-of"]).await;
        known.map(|_| ()).ok_or(String::new())
    })
    .await;
    flush(&system, topics::INVENTORY).await;
    define(&system).await;
    system.quiet(SOON).await;
    system.restock("rare", 1).await;
    let filled = system.reaches(&waiting, OrderStatus::ToBeShipped).await;
    assert_eq!(filled.attempt, 1);
    assert_eq!(system.order_now(&paid).await.status, OrderStatus::ToBeShipped);
    assert_eq!(system.step(&paid, "ship").await.status, StatusCode::OK);
    system.assert_balanced(SOON).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for file in fs::read_dir(from).expect("readable") {
        let file = file.expect("readable").path();
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_restored_from_a_backup_catches_up_with_missed_events() {
    let mut system = shop().await;
    for topic in [topics::ACCOUNT, topics::INVENTORY, topics::MESSAGE] {
        let early = system.order(&["many"], "rich").await;
        system.quiet(SOON).await;
        revive(&mut system, topic, |data| copy(data, &data.with_extension("backup"))).await;
        system.wait_ready().await;
        let mut late = Vec::new();
        for products in [&["much"][..], &["many", "much"], &["much"; 3]] {
            late.push(system.order(products, "rich").await);
        }
        assert_eq!(system.cancel(&early).await.status, StatusCode::OK);
        system.assert_balanced(SOON).await;
        revive(&mut system, topic, |data| {
            fs::remove_dir_all(data).expect("removed");
            copy(&data.with_extension("backup"), data);
        })
        .await;
        // At first no event seems to be in flight: the group upstream is at the end of the stream.
        let report = balanced(&system, |_| true).await;
        assert_eq!(report.forgotten, 0, "{topic:?}: {report}");
        for order in &late {
            assert_eq!(system.order_now(order).await.status, OrderStatus::ToBeShipped);
        }
        assert_eq!(system.order_now(&early).await.status, OrderStatus::Cancelled);
    }
}
