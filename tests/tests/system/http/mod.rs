//! How the gateway behaves towards clients, polite ones and others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::contract::{
    entities::{Order, OrderStatus},
    ids::OrderId,
};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Answer, SOON, System, calls, eventually, order_body, request, signal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The answer is a problem of this type, at this field, and tells nothing of the inside.
fn assert_problem(name: &str, answer: &Answer, status: u16, slug: &str, field: Option<&str>) {
    let text = answer.text();
    assert_eq!(answer.status.as_u16(), status, "{name}: {text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{name}: {text}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:problem-type:orders:{slug}"), "{name}: {text}");
    assert_eq!(problem["status"], status, "{name}: {text}");
    assert_eq!(problem["field"].as_str(), field, "{name}: {text}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{name}: {text}");
    for inside in ["redis", "sock", "serde", "src/", ".rs", "hyper", "127.0.0.1", "panicked"] {
        assert!(!text.to_lowercase().contains(inside), "{name} tells of {inside}: {text}");
    }
    let retry = answer.header("retry-after");
    assert_eq!(status == 503, retry.parse::<u32>().is_ok(), "{name}: Retry-After: {retry:?}");
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn every_wrong_request_is_answered_with_its_problem_and_changes_nothing() {
    let system = System::start().await;
    system.init_data().await;
    let large = |bytes: usize| {
        let order = order_body(&["201"], "101").to_string();
        format!("{order}{}", " ".repeat(bytes - order.len()))
    };
    let many = |count: usize| order_body(&vec!["201"; count], "101").to_string();
    let long_id = "x".repeat(65);

    type Row = (&'static str, String, u16, &'static str, Option<&'static str>);
    let bodies: Vec<Row> = vec![
        ("not JSON", "{".to_owned(), 400, "malformed-json", None),
        ("no body", String::new(), 400, "malformed-json", None),
        ("more than JSON", format!("{} x", many(1)), 400, "malformed-json", None),
        ("nested too deep", "[".repeat(60_000), 400, "malformed-json", None),
        (
            "no products",
            r#"{"customer_id": "101"}"#.to_owned(),
            422,
            "invalid-field",
            Some("product_ids"),
        ),
        (
            "no customer",
            r#"{"product_ids": ["201"]}"#.to_owned(),
            422,
            "invalid-field",
            Some("customer_id"),
        ),
        (
            "a text for a list",
            r#"{"product_ids": "204", "customer_id": "101"}"#.to_owned(),
            422,
            "invalid-field",
            Some("product_ids"),
        ),
        (
            "a number for a product id",
            r#"{"product_ids": ["201", 204], "customer_id": "101"}"#.to_owned(),
            422,
            "invalid-field",
            Some("product_ids[1]"),
        ),
        (
            "a number for a customer id",
            r#"{"product_ids": ["201"], "customer_id": 101}"#.to_owned(),
            422,
            "invalid-field",
            Some("customer_id"),
        ),
        (
            "null for a customer id",
            r#"{"product_ids": ["201"], "customer_id": null}"#.to_owned(),
            422,
            "invalid-field",
            Some("customer_id"),
        ),
        (
            "an empty customer id",
            order_body(&["201"], "").to_string(),
            422,
            "invalid-field",
            Some("customer_id"),
        ),
        (
            "a customer id with a line break",
            order_body(&["201"], "1\n2").to_string(),
            422,
            "invalid-field",
            Some("customer_id"),
        ),
        (
            "a product id with a brace",
            order_body(&["{201}"], "101").to_string(),
            422,
            "invalid-field",
            Some("product_ids[0]"),
        ),
        (
            "a long product id",
            order_body(&[&long_id], "101").to_string(),
            422,
            "invalid-field",
            Some("product_ids[0]"),
        ),
        (
            "an empty list",
            order_body(&[], "101").to_string(),
            422,
            "invalid-field",
            Some("product_ids"),
        ),
        ("101 product ids", many(101), 422, "invalid-field", Some("product_ids")),
        (
            "a list for an object",
            r#"[["201"], "101"]"#.to_owned(),
            422,
            "invalid-field",
            Some("(the whole body)"),
        ),
        ("a number for an object", "7".to_owned(), 422, "invalid-field", Some("(the whole body)")),
        ("more than 64 KiB", large(64 * 1024 + 1), 413, "too-large", None),
    ];
    let order_url = format!("{}/order", system.url());
    for (name, body, status, slug, field) in bodies {
        let answer = system.client.send(request(Method::POST, &order_url, &[JSON], body)).await;
        assert_problem(name, &answer.unwrap(), status, slug, field);
    }
    let invalid: [&[u8]; 2] =
        [b"\"\xff\"", b"{\"product_ids\": [\"201\"], \"customer_id\": \"101\", \"x\": \"\xff\"}"];
    for invalid in invalid {
        let answer = system.client.send(request(Method::POST, &order_url, &[JSON], invalid)).await;
        assert_problem("not UTF-8", &answer.unwrap(), 400, "malformed-json", None);
    }

    for media_type in ["text/plain", "application/x-www-form-urlencoded", "", "json"] {
        let headers = [("content-type", media_type)];
        let answer = system.client.send(request(Method::POST, &order_url, &headers, many(1))).await;
        let answer = answer.unwrap();
        assert_problem(media_type, &answer, 415, "wrong-media-type", Some("Content-Type"));
    }
    // Neither the gateway nor order_service takes a compressed body.
    let instances = system.stack.instances_of(Service::Order);
    let order_service: Vec<_> = instances.map(|it| it.http.expect("it listens")).collect();
    let urls = [order_url.clone(), format!("http://{}/order", order_service[0])];
    for (client, url) in [(&system.client, &urls[0]), (&system.as_gateway(), &urls[1])] {
        for coding in ["gzip", "identity, br"] {
            let headers = [JSON, ("content-encoding", coding)];
            let answer = client.send(request(Method::POST, url, &headers, many(1))).await.unwrap();
            let field = Some("Content-Encoding");
            assert_problem(coding, &answer, 415, "wrong-content-coding", field);
            assert_eq!(answer.header("accept-encoding"), "identity");
        }
        let plain = [("content-type", "text/plain")];
        let answer = client.send(request(Method::POST, url, &plain, many(1))).await.unwrap();
        assert_problem("text", &answer, 415, "wrong-media-type", Some("Content-Type"));
    }

    let long_key = "k".repeat(256);
    for key in ["", "\"\"", "  ", &long_key] {
        let headers = [JSON, ("idempotency-key", key)];
        let answer = system.client.send(request(Method::POST, &order_url, &headers, many(1))).await;
        assert_problem("a bad key", &answer.unwrap(), 400, "bad-request", Some("Idempotency-Key"));
    }
    let headers = [JSON, ("idempotency-key", "one"), ("idempotency-key", "two")];
    let answer = system.client.send(request(Method::POST, &order_url, &headers, many(1))).await;
    assert_problem("two keys", &answer.unwrap(), 400, "bad-request", Some("Idempotency-Key"));

    let somewhere = format!("/order/{}", OrderId::random());
    let rows: [(Method, &str, u16, &str, Option<&str>); 18] = [
        (Method::GET, "/", 404, "not-found", None),
        (Method::GET, "/nowhere", 404, "not-found", None),
        (Method::POST, "/order/", 404, "not-found", None),
        (Method::POST, "/orders", 405, "method-not-allowed", None),
        (Method::GET, "/order/", 404, "not-found", None),
        (Method::GET, "/Report", 404, "not-found", None),
        (Method::GET, "/order", 405, "method-not-allowed", None),
        (Method::PUT, "/order", 405, "method-not-allowed", None),
        (Method::PUT, &somewhere, 405, "method-not-allowed", None),
        (Method::POST, "/report", 405, "method-not-allowed", None),
        (Method::GET, "/init-data", 405, "method-not-allowed", None),
        (Method::GET, &somewhere, 404, "not-found", None),
        (Method::GET, "/order/7", 400, "bad-request", Some("id")),
        (Method::GET, "/report?limit=0", 400, "bad-request", Some("limit")),
        (Method::GET, "/report?limit=1001", 400, "bad-request", Some("limit")),
        (Method::GET, "/report?limit=many", 400, "bad-request", Some("limit")),
        (Method::GET, "/report?cursor=7", 400, "bad-request", Some("cursor")),
        (Method::GET, "/report?cursor=o123456789012345678", 400, "bad-request", Some("cursor")),
    ];
    for (method, path, status, slug, field) in rows {
        let url = format!("{}{path}", system.url());
        let answer = system.client.send(request(method.clone(), &url, &[JSON], "")).await.unwrap();
        let name = format!("{method} {path}");
        assert_problem(&name, &answer, status, slug, field);
        let allow = answer.header("allow");
        assert_eq!(status == 405, !allow.is_empty(), "{name}: Allow: {allow:?}");
    }

    // Nothing of all this was stored; what is just within the limits is.
    assert_eq!(system.report().await["orders"], json!([]));
    let as_gateway = system.as_gateway();
    let declared = [("content-type", "application/json; charset=utf-8")];
    // Clients of the original declare no type.
    for (client, url, headers, body) in [
        (&system.client, &urls[0], &declared[..], large(64 * 1024)),
        (&system.client, &urls[0], &declared, many(100)),
        (&system.client, &urls[0], &[], many(1)),
        (&system.client, &urls[0], &[("content-encoding", "identity")], many(1)),
        (&as_gateway, &urls[1], &[], many(1)),
    ] {
        let answer = client.send(request(Method::POST, url, headers, body)).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{headers:?}: {}", answer.text());
        system.ended(&answer.parse()).await;
    }
    assert_eq!(system.assert_balanced(SOON).await.orders, 5);
}

#[tokio::test]
async fn an_order_service_that_is_away_is_a_503_until_it_is_back() {
    let mut system = System::start().await;
    system.init_data().await;
    let order = system.order(&["204"], "101").await;
    system.first(Service::Order).process.kill().unwrap();
    let answer = system.post("/order", &order_body(&["204"], "101")).await;
    assert_problem("POST /order", &answer, 503, "unavailable", None);
    let answer = system.get(&format!("/order/{}", order.id)).await;
    assert_problem("GET /order/{id}", &answer, 503, "unavailable", None);
    // What does not need it goes on.
    assert_eq!(system.report().await["orders"].as_array().unwrap().len(), 1);

    system.restart(Service::Order, 1).await;
    assert_eq!(system.ended(&order).await, order);
    assert_eq!(system.order(&["204"], "101").await.status, OrderStatus::ToBeShipped);
    assert_eq!(system.assert_balanced(SOON).await.orders, 2);
}

#[tokio::test]
async fn a_redis_that_is_away_is_a_503_until_it_is_back_and_nothing_is_half_done() {
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
    // It answers, and says that it cannot work.
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
    // What was refused did not happen.
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.orders, 2, "{report}");
}

#[tokio::test]
async fn an_order_service_that_hangs_is_passed_over_while_another_answers() {
    let mut options = StackOptions::default();
    options.instances.insert(Service::Order, 2);
    let mut system = System::start_with(options).await;
    system.init_data().await;
    signal(system.first(Service::Order).process.pid(), Signal::SIGSTOP);
    // Whichever is asked first, and however the other one fails: the order is placed once.
    for _ in 0..4 {
        let answer = system.post("/order", &order_body(&["202"], "101")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    signal(system.first(Service::Order).process.pid(), Signal::SIGCONT);
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.orders, 4, "{report}");
}

#[tokio::test]
async fn a_service_that_hangs_is_a_504() {
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
    let answer = system.client.post(&url, &body, &key).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(system.ended(&answer.parse()).await.status, OrderStatus::ToBeShipped);
    let key = [("idempotency-key", made_up.as_str())];
    let answer = system.client.post(&url, &body, &key).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());

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

#[tokio::test]
async fn pages_of_the_report_are_stable_while_orders_arrive() {
    let system = System::start().await;
    let mut placed = Vec::new();
    for _ in 0..25 {
        placed.push(system.place(&["none"], "nobody").await.id);
    }
    let ids = |page: &Value| -> Vec<OrderId> {
        let orders: Vec<Order> = serde_json::from_value(page["orders"].clone()).unwrap();
        orders.iter().map(|order| order.id).collect()
    };
    let (mut seen, mut sizes, mut path) = (Vec::new(), Vec::new(), "/report?limit=10".to_owned());
    loop {
        let answer = system.get(&path).await;
        let page = answer.json();
        seen.extend(ids(&page));
        sizes.push(ids(&page).len());
        // More arrive between any two pages.
        for _ in 0..3 {
            system.place(&["none"], "nobody").await;
        }
        let link = answer.header("link");
        let Some(next) = page.get("next") else {
            assert_eq!(link, "");
            break;
        };
        path = format!("/report?limit=10&cursor={}", next.as_str().unwrap());
        assert_eq!(link, format!("<{path}>; rel=\"next\""));
    }
    placed.reverse();
    assert_eq!(seen, placed, "each once, the newest first");
    assert_eq!(sizes, [10, 10, 5]);
}

#[tokio::test]
async fn the_report_shows_the_newest_thousand_orders() {
    let system = System::start().await;
    let mut posts = JoinSet::new();
    for _ in 0..16 {
        let (client, url) = (system.client.clone(), format!("{}/order", system.url()));
        posts.spawn(async move {
            for _ in 0..65 {
                let answer =
                    client.post(&url, &order_body(&["none"], "nobody"), &[]).await.unwrap();
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            }
        });
    }
    posts.join_all().await;
    let first = system.report().await;
    let next = first["next"].as_str().expect("a cursor");
    let second = system.get(&format!("/report?cursor={next}")).await.json();
    let lengths = [&first, &second].map(|page| page["orders"].as_array().unwrap().len());
    assert_eq!((lengths, second.get("next")), ([1000, 40], None));
    let pages = [&first, &second].into_iter().flat_map(|page| page["orders"].as_array().unwrap());
    let ids: BTreeSet<&str> = pages.map(|order| order["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1040);
}

#[tokio::test]
async fn a_key_stands_for_one_order_whatever_is_killed_in_between() {
    let mut system = System::start().await;
    system.init_data().await;
    let body = order_body(&["204"], "101");
    let post = async |system: &System, body: &Value, key: &str| {
        let url = format!("{}/order", system.url());
        system.client.post(&url, body, &[("idempotency-key", key)]).await.unwrap()
    };
    let first = post(&system, &body, "my key").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(first.header("idempotent-replayed"), "");
    let order: Order = first.parse();
    let assert_replayed = |answer: Answer| {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.header("idempotent-replayed"), "true");
        assert_eq!(answer.header("location"), format!("/order/{}", order.id));
        assert_eq!(answer.parse::<Order>().id, order.id);
    };
    assert_replayed(post(&system, &body, "my key").await);
    // As in the draft, a key may be quoted.
    assert_replayed(post(&system, &body, "\"my key\"").await);

    for victim in [Service::Order, Service::Gateway] {
        system.restart(victim, 1).await;
        assert_replayed(post(&system, &body, "my key").await);
    }
    for other in [order_body(&["204", "204"], "101"), order_body(&["204"], "102")] {
        let answer = post(&system, &other, "my key").await;
        let key = Some("Idempotency-Key");
        assert_problem("another body", &answer, 422, "idempotency-key-reused", key);
    }
    let another: Order = post(&system, &body, "another key").await.parse();
    assert_ne!(another.id, order.id);
    // Without a key every request is an order of its own.
    assert_ne!(system.place(&["204"], "101").await.id, system.place(&["204"], "101").await.id);
    assert_eq!(system.assert_balanced(SOON).await.orders, 4);
}

#[tokio::test]
async fn a_hundred_calls_at_once_with_one_key_are_one_order() {
    let instances = BTreeMap::from([(Service::Gateway, 2), (Service::Order, 2)]);
    let system = System::start_with(StackOptions { instances, ..StackOptions::default() }).await;
    let urls = system.stack.gateway_urls();
    let mut calls = JoinSet::new();
    for call in 0..100 {
        let (client, url) = (system.client.clone(), format!("{}/order", urls[call % 2]));
        calls.spawn(async move {
            let key = [("idempotency-key", "the one")];
            let answer = client.post(&url, &order_body(&["none"], "nobody"), &key).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            (answer.parse::<Order>().id, answer.header("idempotent-replayed") == "true")
        });
    }
    let answers = calls.join_all().await;
    let ids: BTreeSet<OrderId> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(system.assert_balanced(SOON).await.orders, 1);
}

/// Stands in for order_service: notes what it is asked, breaks off the first POST, answers 404 else.
async fn stand_in(
    listener: TcpListener,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(answer_as_stand_in(stream, Arc::clone(&asked)));
    }
}

async fn answer_as_stand_in(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>) {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while let Ok(read) = stream.read(&mut chunk).await
        && read > 0
    {
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.map_or(0, |length| length.parse().unwrap_or(0)) {
            continue;
        }
        let first = {
            let mut asked = asked.lock().unwrap();
            asked.push(head.to_owned());
            asked.iter().filter(|head| head.starts_with("POST")).count() == 1
        };
        if first && head.starts_with("POST") {
            return;
        }
        text.clear();
        let problem = r#"{"type":"urn:problem-type:orders:not-found","title":"","status":404}"#;
        let answer = format!(
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\n\
             idempotent-replayed: true\r\nx-inside: yes\r\ncontent-length: {}\r\n\r\n{problem}",
            problem.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_gateway_forwards_by_typed_routes_and_repeats_a_call_with_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn(stand_in(listener, Arc::clone(&asked), Arc::clone(&connections)));
    let env = BTreeMap::from([("ORDER_SERVICE_URL".to_owned(), url)]);
    let system = System::start_with(StackOptions {
        service_env: BTreeMap::from([(Service::Gateway, env)]),
        ..StackOptions::default()
    })
    .await;

    let id = OrderId::random();
    for path in [
        "/order/../report",
        "/order/..",
        "/order/%2e%2e",
        "/order/%2e%2e%2freport",
        "/order/%2e%2e/metrics",
        "/order/..%5c",
        "/order//",
        "/order/%00",
        "/order/%ff",
        "/order/?id=7",
        "/order/7%3fadmin=true",
        "/order/7%0d%0aX-Caller:%20root",
        "//order",
    ] {
        let answer = system.get(path).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    let lookalike = format!("/order/{id}?admin=true");
    assert_eq!(system.get(&lookalike).await.status, StatusCode::NOT_FOUND);
    // Neither a query nor a header of a client's gets through, but for those that are meant to.
    let url = format!("{}/order?admin=true", system.url());
    let headers =
        [JSON, ("x-caller", "root"), ("cookie", "marker"), ("authorization", "Bearer marker")];
    let body = order_body(&["204"], "101").to_string();
    let answer = system.client.send(request(Method::POST, &url, &headers, body)).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.header("x-inside"), "", "headers of the inside stay inside");
    assert_eq!(answer.header("idempotent-replayed"), "", "this client has not repeated anything");

    let before = connections.load(Ordering::Relaxed);
    for _ in 0..50 {
        assert_eq!(system.get(&lookalike).await.status, StatusCode::NOT_FOUND);
    }
    let made = connections.load(Ordering::Relaxed) - before;
    assert!(made <= 2, "connections are kept alive, but 50 calls made {made}");

    let nobody = format!("/order/{}", uuid::Uuid::nil());
    let asked = asked.lock().unwrap().clone();
    let lines: BTreeSet<&str> = asked.iter().map(|head| head.lines().next().unwrap()).collect();
    let expected = [
        format!("GET {nobody} HTTP/1.1"),
        format!("GET /order/{id} HTTP/1.1"),
        "POST /order HTTP/1.1".to_owned(),
    ];
    assert_eq!(lines, expected.iter().map(String::as_str).collect());
    let key = |head: &String| {
        let line = head.lines().find(|line| line.starts_with("idempotency-key: "));
        line.expect("a key").to_owned()
    };
    let keys: Vec<_> = asked.iter().filter(|head| head.starts_with("POST")).map(key).collect();
    assert_eq!(keys.len(), 2, "broken off and repeated");
    assert_eq!(keys[0], keys[1]);
    for head in asked.iter().filter(|head| head.starts_with("POST")) {
        assert!(head.contains("x-caller: anonymous"), "{head}");
        assert!(!head.contains("marker") && !head.contains("root"), "{head}");
    }
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up() {
    let mut system = System::start().await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let send = async |text: &'static str| {
        let mut client = TcpStream::connect(gateway).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer, or an end");
        answer
    };
    let body = "POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    let both = async { tokio::join!(send(body), send("POST /order HT")) };
    let (body, head) = tokio::time::timeout(SOON, both).await.expect("given up in time");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(body.contains("urn:problem-type:orders:request-timeout"), "{body}");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
}

#[tokio::test]
async fn the_api_document_is_served() {
    let system = System::start().await;
    let document = system.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    for path in ["/init-data", "/order", "/order/{id}", "/order/{id}/pay", "/orders", "/report"] {
        assert!(paths.contains_key(path), "{path} is missing in {:?}", paths.keys());
    }
}
