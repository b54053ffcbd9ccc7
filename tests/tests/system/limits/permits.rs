//! Limits of the requests and the memory that are in use at the same time.

use std::{net::SocketAddr, time::Duration};

use common::contract::streams;
use nix::sys::signal::Signal;
use serde_json::json;
use stack::Service;
use system_tests::{SOON, System, eventually, publish, signal, unread};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{HOST, outline, raw, start};

/// A client that has sent an order; `more` are additional lines of the head.
async fn ordering(gateway: SocketAddr, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let body = r#"{"product_ids": ["201"], "customer_id": "101"}"#;
    let length = body.len();
    let text = format!("POST /order HTTP/1.1\r\n{more}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn requests_in_flight_are_limited() {
    let (mut system, gateway) = start(&[("MAX_IN_FLIGHT", "1")]).await;
    let order_service = system.first(Service::Order).process.pid();
    // The request has the only permit until order_service answers.
    signal(order_service, Signal::SIGSTOP);
    let slow = ordering(gateway, "Host: localhost\r\n").await;
    let get = format!("GET /flow HTTP/1.1\r\n{HOST}\r\n");
    let answer = eventually("a refusal", SOON, async || {
        let answer = raw(gateway, &get).await;
        if answer.starts_with("HTTP/1.1 503") { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!(outline(&answer), (503, "unavailable".to_owned(), String::new()));
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    signal(order_service, Signal::SIGCONT);
    eventually("a free permit", SOON, async || {
        let answer = raw(gateway, &get).await;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
    drop(slow);
}

#[tokio::test]
async fn a_request_with_an_incomplete_body_holds_no_permit() {
    let (_system, gateway) = start(&[
        ("MAX_IN_FLIGHT", "1"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("RATE_PER_ADDRESS", "off"),
    ])
    .await;
    let body = r#"{"product_ids": ["201"], "customer_id": "101"}"#;
    let (first, rest) = body.split_at(1);
    let framings = [
        format!("Content-Length: {}\r\n\r\n{first}", body.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n1\r\n{first}\r\n"),
    ];
    let mut slow = Vec::new();
    for framing in &framings {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let head = "POST /order HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
        stream.write_all(format!("{head}{framing}").as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // A client of the same address and one of another.
    for more in ["", "X-Forwarded-For: 203.0.113.7\r\n"] {
        let get = format!("GET /flow HTTP/1.1\r\n{HOST}{more}\r\n");
        // The first requests may be done before the orders begin.
        for _ in 0..10 {
            let answer = tokio::time::timeout(Duration::from_secs(2), raw(gateway, &get)).await;
            let answer = answer.expect("an answer in time");
            assert_eq!(outline(&answer).0, 200, "{more}: {answer}");
        }
    }
    // A request is answered when it is complete.
    let rests = [rest.to_owned(), format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len())];
    for (mut stream, rest) in slow.into_iter().zip(rests) {
        let mut buffer = [0; 256];
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..count].starts_with(b"HTTP/1.1 100"), "somebody waits for the body");
        stream.write_all(rest.as_bytes()).await.unwrap();
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{:?}", &buffer[..count]);
    }
}

#[tokio::test]
async fn large_bodies_in_memory_are_limited_and_small_ones_are_not() {
    let (_system, gateway) = start(&[
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("RATE_PER_ADDRESS", "off"),
        ("WRITE_RATE_PER_ADDRESS", "off"),
    ])
    .await;
    // 8 MiB of incomplete bodies of one address.
    let length = 64 * 1024;
    let head =
        format!("POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    let mut slow = Vec::new();
    for _ in 0..128 {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let text = format!("{head}{}", " ".repeat(8 * 1024));
        stream.write_all(text.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let whole = |from: &str| {
        let (host, body) = (HOST, " ".repeat(length));
        format!("POST /order HTTP/1.1\r\n{host}{from}Content-Length: {length}\r\n\r\n{body}")
    };
    let refused = eventually("a refusal", SOON / 5, async || {
        let answer = raw(gateway, &whole("")).await;
        if outline(&answer).0 == 429 { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!(outline(&refused).1, "too-many-requests", "{refused}");
    let other = raw(gateway, &whole("X-Forwarded-For: 203.0.113.7\r\n")).await;
    assert_eq!(outline(&other).0, 400, "another address has its own: {other}");
    let mut small = ordering(gateway, HOST).await;
    let mut answer = String::new();
    small.read_to_string(&mut answer).await.unwrap();
    assert_eq!(outline(&answer).0, 200, "{answer}");
    // A body that is too large is refused before it arrives.
    let mut large = TcpStream::connect(gateway).await.unwrap();
    let head = "POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n{";
    large.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(2), large.read_exact(&mut status)).await;
    read.expect("an answer in time").unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    drop(slow);
}

#[tokio::test]
async fn files_of_the_program_and_small_answers_hold_no_permit() {
    let (_system, gateway) = start(&[("MAX_IN_FLIGHT", "1")]).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{HOST}\r\n");
    let large = raw(gateway, &get("/docs/swagger-ui-bundle.js")).await;
    assert!(large.starts_with("HTTP/1.1 200") && large.len() > 700_000, "{}", large.len());
    // Other clients are served while this answer is not read, and while small answers fill a connection.
    let mut clients = vec![unread(gateway, &get("/docs/swagger-ui-bundle.js")).await];
    let small = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3_000);
    clients.push(unread(gateway, &small).await);
    for path in ["/docs/events", "/openapi.json", "/asyncapi.json", "/docs"] {
        clients.push(unread(gateway, &get(path)).await);
    }
    for _ in 0..5 {
        let answer = raw(gateway, &get("/flow")).await;
        assert_eq!(outline(&answer).0, 200, "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_receive_a_large_answer_is_disconnected_for_others() {
    let all = [("MAX_IN_FLIGHT", "1")];
    // The second time the clients compete for the one permit of their address.
    let address =
        [("MAX_IN_FLIGHT", "4"), ("TRUSTED_PROXIES", "127.0.0.1"), ("RATE_PER_ADDRESS", "off")];
    for env in [&all[..], &address] {
        gives_way(start(env).await).await;
    }
}

async fn gives_way((system, gateway): (System, SocketAddr)) {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{HOST}\r\n");
    let name = "🎧".repeat(200);
    let mut redis = system.redis().await;
    for number in 0..1_000 {
        let product = json!({ "id": number.to_string(), "name": name, "price": 1, "amount": 1 });
        publish(&mut redis, streams::INVENTORY_CREATED, "*", &product).await;
    }
    // More than all buffers on the way to the client.
    let all = "/inventory?limit=1000";
    let whole = eventually("a large answer", SOON, async || {
        let answer = raw(gateway, &get(all)).await;
        if answer.len() > 700_000 { Ok(answer.len()) } else { Err(answer.len().to_string()) }
    })
    .await;
    let mut stalled = unread(gateway, &get(all)).await;
    // Long before the timeout.
    eventually("a free permit", SOON / 2, async || {
        let answer = raw(gateway, &get("/flow")).await;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(rest.len() + 12 < whole, "it was cut off: {} of {whole}", rest.len());
}

#[tokio::test]
async fn an_address_may_use_a_quarter_of_all_permits() {
    let (mut system, gateway) =
        start(&[("MAX_IN_FLIGHT", "8"), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let from = |address: &str| format!("{HOST}X-Forwarded-For: {address}\r\n");
    let get = |address: &str| format!("GET /flow HTTP/1.1\r\n{}\r\n", from(address));
    // Each request has a permit until order_service answers.
    let order_service = system.first(Service::Order).process.pid();
    signal(order_service, Signal::SIGSTOP);
    let more = "Host: localhost\r\nX-Forwarded-For: 2001:db8::1\r\n";
    let slow = [ordering(gateway, more).await, ordering(gateway, more).await];
    let refused = eventually("a refusal", SOON, async || {
        let answer = raw(gateway, &get("2001:db8::2")).await;
        if outline(&answer).0 == 200 { Err(answer) } else { Ok(answer) }
    })
    .await;
    assert_eq!(outline(&refused), (429, "too-many-requests".to_owned(), String::new()));
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert_eq!(outline(&raw(gateway, &get("2001:db8:0:1::1")).await).0, 200);
    signal(order_service, Signal::SIGCONT);
    eventually("a free permit", SOON, async || {
        let answer = raw(gateway, &get("2001:db8::1")).await;
        if outline(&answer).0 == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    drop(slow);
}
