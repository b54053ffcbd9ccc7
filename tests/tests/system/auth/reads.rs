//! The cost of reads: pages are limited, counts come from indexes, reads of one client do not delay others,
//! and unreceived answers are limited.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    contract::{
        entities::{Account, Product},
        ids::OrderId,
        keys,
        messages::{MessageKind, MessageSent},
        order::{Order, Step},
        order_status::OrderStatus,
        streams,
    },
    schema::{entity::Entity, stored_form},
};
use http::Method;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stack::Service;
use system_tests::{Answer, SOON, calls, eventually, run, unread};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use uuid::Uuid;

use super::{Site, assert_problem, bearer};

/// The maximum size of a page: its entities and some more for the rest.
const PAGE_BYTES: usize = 1024 * 1024 + 4 * 1024;
const STATUS: OrderStatus = OrderStatus::Completed;

/// A product without stock, whose name may be long.
fn product(id: &str, name: &str) -> Product {
    let product = json!({ "id": id, "name": name, "price": 1, "amount": 0 });
    serde_json::from_value(product).expect("a product")
}

/// An account without money, whose name may be long.
fn account(id: &str, name: &str) -> Account {
    let account = json!({ "id": id, "name": name, "email": "", "balance": 0 });
    serde_json::from_value(account).expect("an account")
}

/// Stores an entity as its owner does.
async fn store<E: Entity>(redis: &mut MultiplexedConnection, entity: &E) {
    let id = entity.id().to_string();
    let text = stored_form::write(7, serde_json::to_string(entity).expect("JSON"));
    run::<()>(redis, &["SET", &format!("{}{id}", E::KIND.prefix), &text]).await;
    for list in E::KIND.index.map(str::to_owned).into_iter().chain(entity.lists()) {
        run::<()>(redis, &["RPUSH", &list, &id]).await;
    }
    for entry in entity.sorted_sets() {
        run::<()>(redis, &["ZADD", &entry.set, "0", &entry.member]).await;
    }
}

/// Stores this number of orders of the largest size and returns their ids.
async fn store_orders(site: &Site, customer: &str, count: u64) -> Vec<String> {
    let mut redis = site.system.redis().await;
    let mut ids = Vec::new();
    for number in 1..=count {
        let order = Order {
            id: OrderId(Uuid::from_u128(number.into())),
            product_ids: (0..100).map(|it| format!("{it:064}").parse().unwrap()).collect(),
            customer_id: customer.parse().unwrap(),
            status: STATUS,
            attempt: 1,
            order_total: None,
            reason: None,
            history: vec![Step::new(OrderStatus::Pending, number, 1), Step::new(STATUS, 1_000, 1)],
            omitted: None,
            resent: None,
            unconfirmed: Vec::new(),
        };
        store(&mut redis, &order).await;
        ids.push(order.id.to_string());
    }
    ids
}

async fn get(site: &Site, token: &str, path: &str) -> Answer {
    site.ask(token, Method::GET, path, &Value::Null).await
}

/// Requests a large page of customer 102's orders on this number of connections, and counts the answers that
/// have begun.
async fn ask_at_once(
    site: &mut Site,
    count: usize,
    answered: &Arc<AtomicUsize>,
) -> JoinSet<Vec<u8>> {
    let gateway = site.system.first(Service::Gateway).http.unwrap();
    let head = format!(
        "GET /orders?limit=1000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: {}\r\n\r\n",
        bearer(&site.token_of("102", "orders:read"))
    );
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let answered = Arc::clone(answered);
        asking.spawn(async move {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answered.fetch_add(1, Ordering::Relaxed);
            answer
        });
    }
    asking
}

#[tokio::test]
async fn pages_of_every_list_have_at_most_a_mebibyte_and_are_complete() {
    let site = Site::start_with(&[("RATE_PER_SUBJECT", "off")]).await;
    let mut redis = site.system.redis().await;
    let mut orders = store_orders(&site, "102", 250).await;
    orders.reverse();
    let (mut products, mut accounts, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..350 {
        let name = "n".repeat(4_000);
        let (id, customer) = (format!("p{number}"), format!("c{number}"));
        store(&mut redis, &product(&id, &name)).await;
        products.push(id);
        store(&mut redis, &account(&customer, &name)).await;
        accounts.push(customer);
        let message = MessageSent {
            id: Uuid::from_u128(number),
            customer: "102".parse().unwrap(),
            order: None,
            kind: MessageKind::OrderReceived,
            subject: String::new(),
            body: name,
        };
        store(&mut redis, &message).await;
        messages.insert(0, message.id.to_string());
    }
    // The demo entities come first.
    let first = |ids: &[&str], rest: Vec<String>| -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).chain(rest).collect()
    };
    let products = first(&["201", "202", "203", "204", "205"], products);
    let accounts = first(&["101", "102", "103"], accounts);
    let token = site.token("admin");
    let rows = [
        ("/orders?limit=1000", "orders", &orders),
        ("/orders?limit=1000&customer_id=102", "orders", &orders),
        ("/orders?limit=1000&status=completed", "orders", &orders),
        ("/orders?limit=1000&customer_id=102&status=completed", "orders", &orders),
        ("/report?limit=1000", "orders", &orders),
        ("/inventory?limit=1000", "products", &products),
        ("/accounts?limit=1000", "accounts", &accounts),
        ("/customers/102/messages?limit=1000", "messages", &messages),
    ];
    for (path, name, all) in rows {
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let answer = get(&site, &token, &format!("{path}{cursor}")).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let (length, page) = (answer.text().len(), answer.json());
            assert!(length <= PAGE_BYTES, "{path}: a page of {length} bytes");
            pages += 1;
            let ids = page[name].as_array().unwrap().iter();
            let before = found.len();
            found.extend(ids.map(|it| it["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            assert!(found.len() > before, "{path}: an empty page");
            cursor = format!("&cursor={next}");
        }
        assert!(found == *all, "{path}: {} of {}", found.len(), all.len());
        assert!(pages > 1, "{path}");
    }
}

#[tokio::test]
async fn counting_a_customers_orders_reads_none_of_them() {
    let site = Site::start().await;
    store_orders(&site, "102", 50).await;
    let mut redis = site.system.redis().await;
    let mut costs = Vec::new();
    for (customer, count) in [("102", 50), ("103", 0)] {
        let token = site.token_of(customer, "orders:read");
        let before = [calls(&mut redis, "mget").await, calls(&mut redis, "zlexcount").await];
        let counted = get(&site, &token, "/orders/counts").await.json();
        assert_eq!(counted["total"], count);
        assert_eq!(counted["counts"]["completed"], count);
        let after = [calls(&mut redis, "mget").await, calls(&mut redis, "zlexcount").await];
        costs.push([after[0] - before[0], after[1] - before[1]]);
    }
    assert_eq!(costs, [[0, 9], [0, 9]]);
}

#[tokio::test]
async fn other_clients_read_before_a_customer_with_waiting_reads() {
    const MANY: usize = 60;
    let mut site = Site::start_with(&[("RATE_PER_SUBJECT", "off")]).await;
    store_orders(&site, "102", 150).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let asking = ask_at_once(&mut site, MANY, &answered).await;
    let answer = get(&site, &site.token("report:read"), "/inventory/201").await;
    assert_eq!(answer.status, 200);
    // Four reads ran at its arrival, and it waited for one of them.
    let before = answered.load(Ordering::Relaxed);
    assert!(before < MANY / 2, "{before} of {MANY} came first");
    for answer in asking.join_all().await {
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn bytes_that_are_read_count_as_further_requests() {
    let site = Site::start_with(&[("RATE_PER_SUBJECT", "1/s:10")]).await;
    store_orders(&site, "102", 150).await;
    let token = site.token_of("102", "orders:read");
    for _ in 0..3 {
        assert_eq!(get(&site, &token, "/orders?limit=1").await.status, 200);
    }
    assert_eq!(get(&site, &token, "/orders?limit=1000").await.status, 200);
    let refused = get(&site, &token, "/orders?limit=1").await;
    // The page is too long for the message.
    assert_eq!(refused.status, 429);
    assert_problem("after a large page", &refused, 429, "too-many-requests");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((2..=16).contains(&seconds), "{seconds} s for 1 MiB");
    let other = site.token_of("103", "orders:read");
    assert_eq!(get(&site, &other, "/orders?limit=1000").await.status, 200);
}

#[tokio::test]
async fn concurrent_reads_are_refused_when_earlier_ones_cost_too_much() {
    const MANY: usize = 60;
    let mut site = Site::start_with(&[("RATE_PER_SUBJECT", "1/s:100")]).await;
    store_orders(&site, "102", 150).await;
    let answers = ask_at_once(&mut site, MANY, &Arc::default()).await.join_all().await;
    let with = |status: &str| answers.iter().filter(|it| it.starts_with(status.as_bytes())).count();
    let (read, refused) = (with("HTTP/1.1 200"), with("HTTP/1.1 429"));
    // 40 of the 100 are left, each costs 16 more, and four are read at once.
    assert!((1..=8).contains(&read), "{read} of {MANY} were read");
    assert_eq!(refused, MANY - read);
}

#[tokio::test]
async fn a_single_entity_costs_by_its_bytes_also_when_read_for_a_write() {
    let site = Site::start_with(&[("RATE_PER_SUBJECT", "1/s:14")]).await;
    let mut redis = site.system.redis().await;
    let large = "n".repeat(330 * 1024);
    store(&mut redis, &product("large", &large)).await;
    for customer in ["a", "b0", "b1", "b2", "b3"] {
        store(&mut redis, &account(customer, &large)).await;
    }
    let order = Order {
        id: OrderId(Uuid::from_u128(1)),
        product_ids: vec!["205".parse().unwrap()],
        customer_id: "101".parse().unwrap(),
        status: STATUS,
        attempt: 1,
        order_total: None,
        reason: Some(large),
        history: Vec::new(),
        omitted: None,
        resent: None,
        unconfirmed: Vec::new(),
    };
    store(&mut redis, &order).await;
    let order = format!("/order/{}", order.id);
    let amount = serde_json::json!({ "amount": 1 });
    let account = serde_json::json!({ "name": "N", "email": "n@example.com" });
    for (kind, method, path, body) in [
        ("a product", Method::GET, "/inventory/large", &Value::Null),
        ("an account", Method::GET, "/accounts/a", &Value::Null),
        ("an order", Method::GET, &order, &Value::Null),
        ("a restock", Method::POST, "/inventory/large/restock", &amount),
        ("a top-up", Method::POST, "/accounts/a/top-up", &amount),
        ("a definition", Method::PUT, "/accounts/b#", &account),
    ] {
        // Each with another subject. Two requests with five more each are fewer than 14, four are not.
        let token = site.signer.token(&site.claims(kind, "admin"));
        let mut statuses = Vec::new();
        for number in 0..4 {
            let path = path.replace('#', &number.to_string());
            let answer = site.ask(&token, method.clone(), &path, body).await;
            statuses.push(answer.status.as_u16());
        }
        assert!(statuses[0] < 300 && statuses[3] == 429, "{kind}: {statuses:?}");
    }
}

/// A client that reads only the beginning of the answer.
async fn silent(gateway: SocketAddr, token: &str, path: &str) -> TcpStream {
    let token = bearer(token);
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n");
    unread(gateway, &head).await
}

#[tokio::test]
async fn a_subject_without_free_permits_regains_those_of_unreceived_answers() {
    // One permit for each subject.
    let mut site = Site::start_with(&[("RATE_PER_SUBJECT", "off"), ("MAX_IN_FLIGHT", "4")]).await;
    store_orders(&site, "102", 150).await;
    let gateway = site.system.first(Service::Gateway).http.unwrap();
    let (own, other) = (site.token_of("102", "orders:read"), site.token("orders:read"));
    let mut own_silent = silent(gateway, &own, "/orders?limit=1000").await;
    let mut others_silent = silent(gateway, &other, "/orders?limit=1000").await;
    // Long before the timeout.
    eventually("a permit", SOON / 3, async || {
        match get(&site, &own, "/orders?limit=1").await.status.as_u16() {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    let mut lengths = Vec::new();
    for stream in [&mut own_silent, &mut others_silent] {
        let (mut buffer, mut length) = (vec![0; 64 * 1024], 0);
        while length < 900_000 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => length += count,
            }
        }
        lengths.push(length);
    }
    assert!(lengths[0] < 900_000 && lengths[1] >= 900_000, "its own was cut off: {lengths:?}");
}

#[tokio::test]
async fn unreceived_answers_of_a_subject_are_limited_and_others_are_answered() {
    let mut site =
        Site::start_with(&[("RATE_PER_SUBJECT", "off"), ("MAX_UNSENT_BYTES", "8388608")]).await;
    store_orders(&site, "102", 150).await;
    let gateway = site.system.first(Service::Gateway).http.unwrap();
    let (own, other) = (site.token_of("102", "orders:read"), site.token("orders:read"));
    let path = "/orders?limit=1000";
    // Each answer is larger than all buffers on the way, and a subject may have two.
    let silent = [silent(gateway, &own, path).await, silent(gateway, &own, path).await];
    let refused = get(&site, &own, path).await;
    assert_eq!(refused.status, 429);
    assert_problem("a third", &refused, 429, "too-many-requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(get(&site, &own, "/orders?limit=1").await.status, 200, "a small one has room");
    assert_eq!(get(&site, &other, path).await.status, 200, "others are not concerned");
    drop(silent);
    eventually("room", SOON, async || match get(&site, &own, path).await.status.as_u16() {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
}

#[tokio::test]
async fn orders_of_an_earlier_version_are_counted_after_an_upgrade_and_not_announced() {
    let mut site = Site::start().await;
    let customer = site.token_of("102", "orders:read orders:write");
    store_orders(&site, "102", 450).await;
    let body = serde_json::json!({ "product_ids": ["205"], "customer_id": "102" });
    assert_eq!(site.ask(&customer, Method::POST, "/order", &body).await.status, 200);
    site.system.quiet(SOON).await;
    // The data of an earlier version: without the sets that are sorted by customer, and without the marker
    // of their completeness.
    let mut redis = site.system.redis().await;
    for status in OrderStatus::ALL {
        let set = keys::customers_orders_with(status);
        run::<()>(&mut redis, &["DEL", &set]).await;
    }
    run::<()>(&mut redis, &["DEL", keys::ORDER_INDEX_VERSION]).await;
    assert_eq!(get(&site, &customer, "/orders/counts").await.json()["total"], 0);
    let announced = site.system.entries(streams::ORDER_UPDATED).await.len();
    site.system.restart(Service::Order, 1).await;
    eventually("all orders are counted", SOON, async || {
        let counted = get(&site, &customer, "/orders/counts").await.json();
        if counted["total"] == 451 { Ok(()) } else { Err(counted.to_string()) }
    })
    .await;
    eventually("that is noted", SOON, async || {
        let version: Option<String> = run(&mut redis, &["GET", keys::ORDER_INDEX_VERSION]).await;
        if version.as_deref() == Some("1") { Ok(()) } else { Err(format!("{version:?}")) }
    })
    .await;
    assert_eq!(site.system.entries(streams::ORDER_UPDATED).await.len(), announced);
    let page = get(&site, &customer, "/orders?status=completed&limit=5").await.json();
    assert_eq!(page["orders"].as_array().unwrap().len(), 5);
}
