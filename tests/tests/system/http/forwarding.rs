//! Calls from the gateway to order_service, and the API document.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::contract::ids::OrderId;
use http::{Method, StatusCode};
use system_tests::{System, order_body, request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::support::JSON;

/// A stand-in for order_service: records its requests, breaks off the first POST and answers 404 to all
/// others.
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
async fn the_gateway_forwards_typed_calls_and_repeats_them_with_the_same_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn(stand_in(listener, Arc::clone(&asked), Arc::clone(&connections)));
    let system = System::start_with_gateway_env(&[("ORDER_SERVICE_URL", &url)]).await;

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
    // No query and no header of a client is forwarded, except the intended ones.
    let url = format!("{}/order?admin=true", system.url());
    let headers =
        [JSON, ("x-caller", "root"), ("cookie", "marker"), ("authorization", "Bearer marker")];
    let body = order_body(&["204"], "101").to_string();
    let answer = system.client.send(request(Method::POST, &url, &headers, body)).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.header("x-inside"), "", "internal headers stay internal");
    assert_eq!(answer.header("idempotent-replayed"), "", "this client has not repeated anything");

    let before = connections.load(Ordering::Relaxed);
    for _ in 0..50 {
        assert_eq!(system.get(&lookalike).await.status, StatusCode::NOT_FOUND);
    }
    let made = connections.load(Ordering::Relaxed) - before;
    assert!(made <= 2, "connections are kept alive, but 50 calls made {made}");

    let unknown = format!("/order/{}", uuid::Uuid::nil());
    let asked = asked.lock().unwrap().clone();
    let lines: BTreeSet<&str> = asked.iter().map(|head| head.lines().next().unwrap()).collect();
    let expected = [
        format!("GET {unknown} HTTP/1.1"),
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
async fn the_api_document_is_served() {
    let system = System::start().await;
    let document = system.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    for path in ["/init-data", "/order", "/order/{id}", "/order/{id}/pay", "/orders", "/report"] {
        assert!(paths.contains_key(path), "{path} is missing in {:?}", paths.keys());
    }
}
