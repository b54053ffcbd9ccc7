//! Limits on stored data: the number of open orders, the length of reasons and messages, and the memory of
//! Redis.

use std::{net::SocketAddr, path::Path};

use common::contract::{order::Order, order_status::OrderStatus, streams::topics};
use http::{Method, StatusCode};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Answer, Ask, Client, SOON, System, database, eventually, info, order_body};
use tokio::task::JoinSet;

async fn start(env: &[(&str, &str)], instances: &[(Service, usize)]) -> System {
    let instances = instances.iter().copied().collect();
    let options =
        StackOptions { env: system_tests::env(env), instances, ..StackOptions::default() };
    let system = System::start_with(options).await;
    system.init_data().await;
    system
}

/// Places an order with this key.
async fn place(client: &Client, url: &str, customer: &str, key: &str) -> Answer {
    let body = order_body(&["205"], customer);
    let ask = Ask { method: Method::POST, path: "/order", key, body: Some(&body) };
    ask.once(client, url).await.expect("the gateway answers")
}

/// Places orders of a customer with these keys concurrently.
async fn place_all(system: &System, customer: &'static str, keys: &[String]) -> Vec<Answer> {
    let mut placed = JoinSet::new();
    for key in keys {
        let (client, url, key) = (system.client.clone(), system.url(), key.clone());
        placed.spawn(async move { place(&client, &url, customer, &key).await });
    }
    placed.join_all().await
}

#[tokio::test]
async fn concurrent_orders_of_a_customer_never_exceed_the_limit_of_open_orders() {
    let mut system = start(&[("MAX_OPEN_ORDERS", "3")], &[(Service::Order, 2)]).await;
    let keys: Vec<String> = (0..12).map(|n| format!("open-{n}")).collect();
    let (taken, refused): (Vec<Answer>, Vec<Answer>) = place_all(&system, "101", &keys)
        .await
        .into_iter()
        .partition(|answer| answer.status == StatusCode::OK);
    assert_eq!((taken.len(), refused.len()), (3, 9));
    for answer in &refused {
        let problem: Value = answer.json();
        assert_eq!(answer.status, StatusCode::CONFLICT, "{problem}");
        assert_eq!(problem["type"], "urn:problem-type:orders:too-many-open-orders");
        assert_eq!(problem["field"], "customer_id");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("3 open orders") && detail.contains("MAX_OPEN_ORDERS"), "{detail}");
    }
    // A repetition of an accepted order succeeds, and one of a refused order does not.
    let again = place_all(&system, "101", &keys).await;
    let replayed = |it: &&Answer| it.status == StatusCode::OK;
    assert_eq!(again.iter().filter(replayed).count(), 3);
    let other = system.place(&["205"], "103").await;

    // Every ended order permits another one, with any final status.
    let orders: Vec<Order> = taken.iter().map(Answer::parse).collect();
    for order in &orders {
        system.reaches(order, OrderStatus::ToBeShipped).await;
    }
    let is_full = async |system: &System, key: &str| {
        let answer = place(&system.client, &system.url(), "101", key).await;
        answer.status == StatusCode::CONFLICT
    };
    assert_eq!(system.cancel(&orders[0]).await.status, StatusCode::OK);
    assert_eq!(system.step(&orders[1], "ship").await.status, StatusCode::OK);
    assert!(!is_full(&system, "after the cancellation").await);
    assert!(is_full(&system, "while one is on its way").await);
    assert_eq!(system.step(&orders[1], "complete").await.status, StatusCode::OK);
    let rejected = system.order(&["999"], "101").await;
    assert_eq!(rejected.status, OrderStatus::Rejected);
    assert!(!is_full(&system, "after a rejection").await);
    assert!(is_full(&system, "and no more than that").await);

    // The count survives a restart of the service.
    for number in [1, 2] {
        system.restart(Service::Order, number).await;
    }
    assert!(is_full(&system, "after a restart").await);
    system.reaches(&other, OrderStatus::ToBeShipped).await;
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn an_order_of_unknown_products_is_not_stored_repeatedly() {
    const ORDERS: u64 = 40;
    let system = start(&[], &[]).await;
    let ids: Vec<String> = (0..100).map(|n| format!("xyz-{n:060}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let order = system.order(&ids, "101").await;
    let reason = order.reason.expect("a reason");
    assert!(reason.ends_with("… and 94 more") && reason.len() < 300, "{reason}");
    system.quiet(SOON).await;
    let mut redis = system.redis().await;
    let before = info(&mut redis, "memory", "used_memory_dataset").await;
    for _ in 0..ORDERS {
        system.place(&ids, "101").await;
    }
    system.quiet(SOON).await;
    let each = (info(&mut redis, "memory", "used_memory_dataset").await - before) / ORDERS;
    // Its 6.8 KB are in the order and in its events.
    assert!(each < 45_000, "{each} bytes for an order");
    let messages = system.get("/customers/101/messages?limit=100").await;
    let whole = ids[0];
    assert!(!messages.text().contains(whole), "messages repeat unknown products");
    for service in [Service::Order, Service::Inventory, Service::Message] {
        assert!(!system.logs(service).contains(whole), "{service:?} logs it");
    }
    system.assert_balanced(SOON).await;
}

#[test]
fn every_redis_of_the_tests_has_a_memory_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in ["docker-compose.yml", "deploy/isolated.yml", "deploy/redis-acl-tls.yml"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let limited = text.matches("--maxmemory-policy").count();
        let sized = text.matches("${REDIS_MAXMEMORY:-2gb}").count();
        assert!(limited > 0 && sized == limited, "{file}");
    }
}

/// The answer of an instance's operations port.
async fn operations(client: &Client, port: SocketAddr, path: &str) -> Answer {
    client.get(&format!("http://{port}{path}")).await.expect("it answers")
}

/// Stores enough data in a Redis that a few connections hardly change its memory use.
async fn add_ballast(redis: &mut MultiplexedConnection) {
    let mut ballast = redis::cmd("SETRANGE");
    ballast.arg("ballast").arg(64 * 1024 * 1024).arg("x");
    let _: u64 = ballast.query_async(redis).await.unwrap();
}

/// Sets the maxmemory of a Redis so that this percentage of it is used.
async fn use_percent(redis: &mut MultiplexedConnection, percent: u64) {
    let used = info(redis, "memory", "used_memory").await;
    let most = (used * 100 / percent).to_string();
    let set = ["SET", "maxmemory", &most];
    let () = redis::cmd("CONFIG").arg(&set).query_async(redis).await.unwrap();
}

fn assert_full(answer: &Answer) {
    answer.assert_unavailable(&["% of the memory of Redis is used"]);
}

/// Waits until `/readyz` of a service reports this about the memory of Redis.
async fn wait_for_notice(system: &mut System, service: Service, notice: &str) {
    let port = system.first(service).ops;
    eventually("the notice", SOON, async || {
        let ready = operations(&system.client, port, "/readyz").await;
        let text = ready.text();
        let says = text.starts_with("ready\n") && text.contains(notice);
        if ready.status == StatusCode::OK && says { Ok(()) } else { Err(text) }
    })
    .await;
}

const NOTHING_IS_ADDED: &str = "requests that add something are refused";
const NOTHING_IS_CHANGED: &str = "requests that change something are refused";

#[tokio::test]
async fn writes_are_refused_while_redis_is_nearly_full_and_open_orders_end() {
    let mut system = start(&[], &[]).await;
    system.top_up("101", 10_000).await;
    let early = place(&system.client, &system.url(), "101", "early").await;
    let early: Order = early.parse();
    let [shipped, cancelled] =
        [system.place(&["205"], "101").await, system.place(&["204"], "101").await];
    for order in [&early, &shipped, &cancelled] {
        system.reaches(order, OrderStatus::ToBeShipped).await;
    }
    let poor = json!({ "name": "N", "email": "n@example.com", "balance": 0 });
    system.define("/accounts/poor", &poor).await;
    let unpaid = system.place(&["205"], "poor").await;
    system.reaches(&unpaid, OrderStatus::InsufficientFund).await;
    let mut redis = system.redis().await;
    add_ballast(&mut redis).await;
    system.first(Service::Inventory).process.kill().expect("killed");
    let under_way = system.place(&["204"], "101").await;

    use_percent(&mut redis, 92).await;
    for service in [Service::Order, Service::Gateway] {
        wait_for_notice(&mut system, service, NOTHING_IS_ADDED).await;
        let port = system.first(service).ops;
        let metrics = operations(&system.client, port, "/metrics").await.text();
        let gauge = metrics.lines().find_map(|it| it.strip_prefix("redis_memory_used_percent "));
        let percent: u64 = gauge.expect("a gauge").parse().unwrap();
        assert!((90..95).contains(&percent), "{percent}");
        // The log is written with a delay of some milliseconds.
        eventually("one line in the log", SOON, async || {
            let logs = system.logs(service);
            let said = logs.lines().filter(|line| line.contains("% of its memory")).count();
            if said == 1 { Ok(()) } else { Err(logs) }
        })
        .await;
    }
    let product = json!({ "name": "N", "price": 1, "amount": 1 });
    let account = json!({ "name": "N", "email": "n@example.com", "balance": 1 });
    let amount = json!({ "amount": 1 });
    let additions = [
        (Method::POST, "/order", Some(order_body(&["205"], "101"))),
        (Method::PUT, "/inventory/new", Some(product)),
        (Method::PUT, "/accounts/new", Some(account)),
        (Method::POST, "/inventory/201/restock", Some(amount.clone())),
        (Method::POST, "/accounts/101/top-up", Some(amount)),
        (Method::POST, "/init-data", None),
    ];
    for (method, path, body) in &additions {
        assert_full(&system.ask(method.clone(), path, body.as_ref()).await);
    }
    // Steps that end or advance an order are still accepted.
    for answer in [
        system.step(&shipped, "ship").await,
        system.step(&shipped, "complete").await,
        system.cancel(&cancelled).await,
        system.step(&unpaid, "pay").await,
    ] {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    use_percent(&mut redis, 97).await;
    for service in [Service::Order, Service::Gateway] {
        wait_for_notice(&mut system, service, NOTHING_IS_CHANGED).await;
    }
    for (method, path, body) in &additions {
        assert_full(&system.ask(method.clone(), path, body.as_ref()).await);
    }
    assert_full(&system.step(&early, "ship").await);
    assert_full(&system.cancel(&early).await);
    for path in ["/orders", "/inventory/201", "/report", &format!("/order/{}", early.id)] {
        assert_eq!(system.get(path).await.status, StatusCode::OK, "{path}");
    }
    // Repetitions and requests that the state forbids are answered.
    let again = place(&system.client, &system.url(), "101", "early").await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (StatusCode::OK, "true"));
    assert_eq!(system.step(&early, "complete").await.status, StatusCode::CONFLICT);
    // Orders that were accepted before end.
    system.restart(Service::Inventory, 1).await;
    system.reaches(&under_way, OrderStatus::ToBeShipped).await;
    assert_full(&system.post("/order", &order_body(&["205"], "101")).await);

    let () = redis::cmd("DEL").arg("ballast").query_async(&mut redis).await.unwrap();
    eventually("changes are accepted again", SOON, async || {
        let order = system.post("/order", &order_body(&["205"], "101")).await;
        let restock = json!({ "amount": 1 });
        let restock = system.ask(Method::POST, "/inventory/201/restock", Some(&restock)).await;
        let accepted = order.status == StatusCode::OK && restock.status == StatusCode::OK;
        if accepted { Ok(()) } else { Err(format!("{} {}", order.text(), restock.text())) }
    })
    .await;
    for service in [Service::Order, Service::Gateway] {
        let port = system.first(service).ops;
        assert_eq!(operations(&system.client, port, "/readyz").await.text(), "ready\n");
        // The log is written with a delay of some milliseconds.
        eventually("a line in the log", SOON, async || {
            let logs = system.logs(service);
            let says = logs.contains("that change something are accepted again");
            if says { Ok(()) } else { Err(logs) }
        })
        .await;
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn orders_are_refused_only_while_the_redis_of_messages_is_nearly_full() {
    let options = StackOptions { isolated: true, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    system.init_data().await;
    let mut redis = system.redis_of(topics::MESSAGE).await;
    add_ballast(&mut redis).await;
    use_percent(&mut redis, 92).await;
    for service in [Service::Order, Service::Gateway] {
        wait_for_notice(&mut system, service, NOTHING_IS_ADDED).await;
    }
    assert_full(&system.post("/order", &order_body(&["205"], "101")).await);
    // msg_service stores data about customers, but none about products.
    let account = json!({ "name": "N", "email": "n@example.com", "balance": 1 });
    assert_full(&system.ask(Method::PUT, "/accounts/new", Some(&account)).await);
    let product = json!({ "name": "N", "price": 1, "amount": 1 });
    let defined = system.ask(Method::PUT, "/inventory/new", Some(&product)).await;
    assert_eq!(defined.status, StatusCode::CREATED, "{}", defined.text());

    let () = redis::cmd("DEL").arg("ballast").query_async(&mut redis).await.unwrap();
    system.accepts_orders_again(&["205"], "101").await;
    let redis = system.stack.redis_of(database(topics::MESSAGE)).expect("a private one");
    redis.kill().expect("killed");
    let instance = system.stack.instance(Service::Order, 1).expect("it was started");
    instance.process.restart().expect("restarted");
    instance.wait_ready(SOON).expect("it is ready without messages");
    let order = system.place(&["205"], "101").await;
    system.reaches(&order, OrderStatus::ToBeShipped).await;
}
