//! The limits of the gateway: rates, requests in flight, sizes, hosts, TLS.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{contract::streams, pem};
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{SOON, System, eventually, publish, signal, unread};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

async fn system(env: &[(&str, &str)]) -> System {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let service_env = BTreeMap::from([(Service::Gateway, env)]);
    System::start_with(StackOptions { service_env, ..StackOptions::default() }).await
}

/// The complete answer until the server closes the connection.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    let mut answer = Vec::new();
    let talk = async {
        // The request may be refused before all of it is received.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(SOON, talk).await.expect("an end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn raw(gateway: SocketAddr, text: &str) -> String {
    talk(TcpStream::connect(gateway).await.expect("a connection"), text).await
}

/// The status and the body's type and field; an empty body has neither.
fn outline(answer: &str) -> (u16, String, String) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().unwrap_or("").to_owned();
    (status, text("type").replace("urn:problem-type:orders:", ""), text("field"))
}

const HOST: &str = "Host: localhost\r\nConnection: close\r\n";

#[tokio::test]
async fn every_refusal_has_its_status_and_problem() {
    let mut system = system(&[]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\n{HOST}{more}\r\n");
    let to = |target: &str, more: &str| {
        format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{more}\r\n")
    };
    let post = |more: &str| {
        format!("POST /init-data HTTP/1.1\r\nConnection: close\r\n{more}Content-Length: 0\r\n\r\n")
    };
    // A body without a type, which pages can send without a preflight request.
    let untyped = |more: &str| {
        let body = r#"{"product_ids": ["201"], "customer_id": "101"}"#;
        let length = body.len();
        format!("POST /order HTTP/1.1\r\n{HOST}{more}Content-Length: {length}\r\n\r\n{body}")
    };
    let filler = |bytes: usize| format!("X-Filler: {}\r\n", "x".repeat(bytes));
    let many: String = (0..120).map(|number| format!("X-{number}: x\r\n")).collect();
    let twice = "Content-Length: 1\r\nContent-Length: 2\r\n";
    let host = "Host: localhost\r\n";
    let rows = [
        ("HTTP/1.0", "GET /report HTTP/1.0\r\n\r\n".to_owned(), (200, "", "")),
        ("a large head", get("/report", &filler(30_000)), (200, "", "")),
        ("too large a head", get("/report", &filler(33_000)), (431, "", "")),
        ("too many headers", get("/report", &many), (431, "", "")),
        ("a long path", get(&format!("/{}", "x".repeat(9_000)), ""), (414, "uri-too-long", "")),
        (
            "a long query",
            get(&format!("/report?{}", "x".repeat(9_000)), ""),
            (414, "uri-too-long", ""),
        ),
        ("two hosts", get("/report", "Host: localhost\r\n"), (400, "bad-request", "Host")),
        ("no host", to("/report", ""), (400, "bad-request", "Host")),
        ("an empty host", to("/report", "Host: \r\n"), (400, "bad-request", "Host")),
        (
            "a host with a path",
            to("/report", "Host: localhost/x\r\n"),
            (400, "bad-request", "Host"),
        ),
        (
            "a host with a user",
            to("/report", "Host: a@localhost\r\n"),
            (400, "bad-request", "Host"),
        ),
        (
            "a host with no port",
            to("/report", "Host: localhost:x\r\n"),
            (400, "bad-request", "Host"),
        ),
        ("a target on this host", get("http://localhost:1/report", ""), (200, "", "")),
        (
            "a target on another host",
            get("http://evil.example/report", ""),
            (421, "wrong-host", "Host"),
        ),
        (
            "a target without a host header",
            to("http://localhost/report", ""),
            (400, "bad-request", "Host"),
        ),
        (
            "a target with a user",
            get("http://a@localhost/report", ""),
            (400, "bad-request", "(the request target)"),
        ),
        (
            "an encoded body",
            post(&format!("{host}Transfer-Encoding: gzip, chunked\r\n")),
            (501, "unknown-transfer-coding", "Transfer-Encoding"),
        ),
        ("not HTTP", "hello\r\n\r\n".to_owned(), (400, "", "")),
        ("two lengths", get("/report", twice), (400, "", "")),
        ("an unknown framing", get("/report", "Transfer-Encoding: x\r\n"), (400, "", "")),
        (
            "chunks in HTTP/1.0",
            "POST /order HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            (400, "", ""),
        ),
        (
            "another host",
            "GET /report HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(),
            (421, "wrong-host", "Host"),
        ),
        (
            "another site",
            post(&format!("{host}Sec-Fetch-Site: cross-site\r\n")),
            (403, "cross-site", "Sec-Fetch-Site"),
        ),
        (
            "a sibling site",
            post(&format!("{host}Sec-Fetch-Site: same-site\r\n")),
            (403, "cross-site", "Sec-Fetch-Site"),
        ),
        (
            "another origin",
            post(&format!("{host}Origin: http://evil.example\r\n")),
            (403, "cross-site", "Origin"),
        ),
        ("no origin", post(&format!("{host}Origin: null\r\n")), (403, "cross-site", "Origin")),
        (
            "a body without a type of another origin",
            untyped("Origin: http://evil.example\r\n"),
            (403, "cross-site", "Origin"),
        ),
        (
            "a body without a type of another site",
            untyped("Sec-Fetch-Site: cross-site\r\n"),
            (403, "cross-site", "Sec-Fetch-Site"),
        ),
        (
            "a body without a type of a sandbox",
            untyped("Origin: null\r\n"),
            (403, "cross-site", "Origin"),
        ),
        ("a body without a type", untyped(""), (200, "", "")),
        ("the own pages", post(&format!("{host}Sec-Fetch-Site: same-origin\r\n")), (200, "", "")),
        ("no browser", post(host), (200, "", "")),
    ];
    for (name, text, (status, kind, field)) in rows {
        let answer = raw(gateway, &text).await;
        let wanted = (status, kind.to_owned(), field.to_owned());
        assert_eq!(outline(&answer), wanted, "{name}: {answer}");
        if kind.is_empty() && status >= 400 {
            assert!(answer.ends_with("\r\n\r\n"), "{name} has a body: {answer}");
        }
    }
}

#[tokio::test]
async fn a_request_cannot_be_smuggled_behind_an_ambiguous_body() {
    let mut system = system(&[]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let lengths = "Content-Length: 5\r\n";
    let chunks = "Transfer-Encoding: chunked\r\n";
    for framing in [[lengths, chunks], [chunks, lengths]] {
        let text = format!(
            "POST /init-data HTTP/1.1\r\nHost: localhost\r\n{}{}\r\n0\r\n\r\n\
             GET /report HTTP/1.1\r\nHost: localhost\r\n\r\n",
            framing[0], framing[1]
        );
        let answer = raw(gateway, &text).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn too_frequent_requests_get_a_429_with_retry_after() {
    let mut system =
        system(&[("RATE_PER_ADDRESS", "1/s:3"), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let get = |path: &str, from: &str| {
        format!("GET {path} HTTP/1.1\r\n{HOST}X-Forwarded-For: {from}\r\n\r\n")
    };
    let mut refused = None;
    for _ in 0..20 {
        let answer = raw(gateway, &get("/flow", "2001:db8::1")).await;
        if answer.starts_with("HTTP/1.1 429") {
            refused = Some(answer);
            break;
        }
    }
    let answer = refused.expect("a 429 among 20 calls at 1/s with a burst of 3");
    assert_eq!(outline(&answer), (429, "too-many-requests".to_owned(), String::new()));
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    // Another address of the same network is the same client, one of another network is not.
    let statuses = [("2001:db8::2", 429), ("2001:db8:0:1::1", 200), ("203.0.113.7", 200)];
    for (from, status) in statuses {
        assert_eq!(outline(&raw(gateway, &get("/flow", from)).await).0, status, "{from}");
    }
    // Assets of pages are not counted. A proxy cannot claim to forward for this machine.
    for _ in 0..5 {
        assert_eq!(outline(&raw(gateway, &get("/assets/0/none.css", "::1")).await).0, 404);
    }
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(outline(&raw(gateway, &get("/flow", "127.0.0.1")).await).0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn writes_of_an_address_have_a_rate_and_unknown_lengths_cost_most() {
    let mut system =
        system(&[("WRITE_RATE_PER_ADDRESS", "1/s:300"), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let body = r#"{"product_ids": ["201"], "customer_id": "101"}"#;
    let post = |from: &str, framing: &str, body: &str| {
        format!(
            "POST /order HTTP/1.1\r\n{HOST}X-Forwarded-For: {from}\r\nContent-Type: application/json\r\n\
             {framing}\r\n\r\n{body}"
        )
    };
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let chunked = |from: &str| post(from, "Transfer-Encoding: chunked", &chunked);
    let plain = |from: &str| post(from, &format!("Content-Length: {}", body.len()), body);
    assert_eq!(outline(&raw(gateway, &chunked("203.0.113.7")).await).0, 200);
    let refused = raw(gateway, &chunked("203.0.113.7")).await;
    assert_eq!(outline(&refused), (429, "too-many-requests".to_owned(), String::new()));
    assert!(refused.contains("WRITE_RATE_PER_ADDRESS"), "{refused}");
    for from in ["203.0.113.7", "203.0.113.8"] {
        assert_eq!(outline(&raw(gateway, &plain(from)).await).0, 200, "{from}");
    }
    let get = format!("GET /flow HTTP/1.1\r\n{HOST}X-Forwarded-For: 203.0.113.7\r\n\r\n");
    assert_eq!(outline(&raw(gateway, &get).await).0, 200);
}

#[tokio::test]
async fn a_script_behind_the_port_of_compose_may_place_600_orders_in_sequence() {
    // All clients there have the address of Docker's bridge. The rates are those of docker-compose.yml, but
    // buckets do not refill during the test, so the speed of the script does not matter.
    let compose = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker-compose.yml");
    let compose = std::fs::read_to_string(compose).expect("docker-compose.yml");
    let names = ["RATE_PER_ADDRESS", "WRITE_RATE_PER_ADDRESS"];
    let rates = names.map(|name| {
        let default = compose.split(&format!("  {name}: ${{{name}:-")).nth(1);
        let rate = default.and_then(|rest| rest.split('}').next()).expect("a rate");
        format!("1/s:{}", rate.split_once("/s:").expect("a burst").1)
    });
    let mut system =
        system(&[(names[0], &rates[0]), (names[1], &rates[1]), ("TRUSTED_PROXIES", "127.0.0.1")])
            .await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let body = r#"{"product_ids": ["201"], "customer_id": "101"}"#;
    let text = format!(
        "POST /order HTTP/1.1\r\n{HOST}X-Forwarded-For: 172.18.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for n in 1..=600 {
        let answer = raw(gateway, &text).await;
        assert_eq!(outline(&answer).0, 200, "call {n}: {answer}");
    }
}

#[tokio::test]
async fn this_machine_is_exempt_and_only_trusted_proxies_are_believed() {
    let mut system = system(&[("RATE_PER_ADDRESS", "1/s:1")]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    for _ in 0..5 {
        let text = format!("GET /flow HTTP/1.1\r\n{HOST}X-Forwarded-For: 203.0.113.7\r\n\r\n");
        assert_eq!(outline(&raw(gateway, &text).await).0, 200);
    }
}

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
    let mut system = system(&[("MAX_IN_FLIGHT", "1")]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
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
async fn a_request_without_its_whole_body_holds_no_permit() {
    let mut system = system(&[
        ("MAX_IN_FLIGHT", "1"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("RATE_PER_ADDRESS", "off"),
    ])
    .await;
    let gateway = system.first(Service::Gateway).http.unwrap();
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
    let mut system = system(&[
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("RATE_PER_ADDRESS", "off"),
        ("WRITE_RATE_PER_ADDRESS", "off"),
    ])
    .await;
    let gateway = system.first(Service::Gateway).http.unwrap();
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
    let mut system = system(&[("MAX_IN_FLIGHT", "1")]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
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
        gives_way(system(env).await).await;
    }
}

async fn gives_way(mut system: System) {
    let gateway = system.first(Service::Gateway).http.unwrap();
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
    let mut system = system(&[("MAX_IN_FLIGHT", "8"), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
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

#[tokio::test]
async fn private_ports_answer_no_other_host_and_no_page_of_another_site() {
    let mut system = system(&[]).await;
    let order_service = system.first(Service::Order).http.unwrap();
    let mut addresses = vec![(order_service, "/order/x")];
    addresses.extend(system.stack.instances().iter().map(|it| (it.ops, "/metrics")));
    for (address, path) in addresses {
        let ask = async |method: &str, host: &str, more: &str| {
            let text = format!(
                "{method} {path} HTTP/1.1\r\n{host}{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            outline(&raw(address, &text).await).0
        };
        let here = "Host: localhost\r\n";
        for method in ["GET", "POST"] {
            for host in ["evil.example", "192.168.1.7:1", "localhost.evil.example"] {
                assert_eq!(ask(method, &format!("Host: {host}\r\n"), "").await, 421, "{address}");
            }
            assert_eq!(ask(method, "", "").await, 400, "{address}");
            for foreign in [
                "Sec-Fetch-Site: cross-site\r\n",
                "Sec-Fetch-Site: same-site\r\n",
                "Origin: https://evil.example\r\n",
                "Origin: null\r\n",
                "Origin: http://localhost:1\r\n",
            ] {
                let status = ask(method, here, foreign).await;
                assert_eq!(status, 403, "{address} {method} {foreign}");
            }
        }
        let status = ask("GET", here, "Sec-Fetch-Site: none\r\n").await;
        assert_eq!(status, if path == "/metrics" { 200 } else { 401 }, "{address}");
    }
}

#[tokio::test]
async fn every_answer_has_its_security_headers() {
    let system = system(&[]).await;
    for (path, cache) in
        [("/flow", "no-store"), ("/nowhere", "no-store"), ("/docs/events", "no-cache")]
    {
        let answer = system.get(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", cache),
            ("strict-transport-security", ""),
        ] {
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
        assert!(!answer.header("referrer-policy").is_empty(), "{path}");
        assert!(answer.header("permissions-policy").contains("camera=()"), "{path}");
    }
}

/// Writes a new certificate for localhost, and returns it.
fn certificate(directory: &Path, expired: bool) -> CertificateDer<'static> {
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned(), "shop.example".to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("cert.pem"), made.pem()).unwrap();
    made.der().clone()
}

/// A TLS connection to the server with this certificate.
async fn encrypted(
    gateway: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(pem::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(gateway).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    stream.map_err(|error| error.to_string())
}

async fn https(
    gateway: SocketAddr,
    trusted: &CertificateDer<'static>,
    host: &str,
) -> Result<String, String> {
    let stream = encrypted(gateway, trusted).await?;
    let text = format!("GET /flow HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    Ok(talk(stream, &text).await)
}

/// A system whose gateway serves with the certificate of [`certificate`].
async fn with_certificate(directory: &Path) -> System {
    let path = |name: &str| directory.join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let hosts = "localhost,shop.example";
    system(&[("TLS_CERT", &cert), ("TLS_KEY", &key), ("ALLOWED_HOSTS", hosts)]).await
}

#[tokio::test]
async fn a_certificate_is_replaced_under_traffic_and_a_bad_one_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let first = certificate(directory.path(), false);
    let mut system = with_certificate(directory.path()).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let answer = https(gateway, &first, "localhost").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("strict-transport-security"), "not for this machine: {answer}");
    let answer = https(gateway, &first, "shop.example").await.unwrap();
    assert!(answer.contains("strict-transport-security: max-age="), "{answer}");
    // Plain HTTP gets an explanation.
    let answer = raw(gateway, "GET /flow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(outline(&answer), (400, "https-required".to_owned(), String::new()), "{answer}");

    let second = certificate(directory.path(), false);
    eventually("the second certificate", SOON, async || {
        // No request fails, with either certificate.
        let (old, new) =
            (https(gateway, &first, "localhost").await, https(gateway, &second, "localhost").await);
        assert!(old.is_ok() || new.is_ok() || https(gateway, &second, "localhost").await.is_ok());
        new.map(drop)
    })
    .await;
    std::fs::write(directory.path().join("cert.pem"), "nonsense").unwrap();
    eventually("a warning", SOON, async || {
        let logs = system.logs(Service::Gateway);
        if logs.contains("the certificate was not replaced: TLS_CERT") { Ok(()) } else { Err(logs) }
    })
    .await;
    assert!(https(gateway, &second, "localhost").await.is_ok());
    let logs = system.logs(Service::Gateway);
    assert!(logs.contains("listening on https://"), "{logs}");
    assert!(!logs.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn requests_go_on_while_the_certificate_changes() {
    let directory = tempfile::tempdir().unwrap();
    let first = certificate(directory.path(), false);
    let mut system = with_certificate(directory.path()).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    // A connection that stays open during the change.
    let mut stream = encrypted(gateway, &first).await.unwrap();
    let changed = AtomicBool::new(false);
    let second = certificate(directory.path(), false);
    let traffic = async {
        let mut buffer = vec![0; 64 * 1024];
        while !changed.load(Ordering::Relaxed) {
            stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..count].starts_with(b"HTTP/1.1 404"), "{count}");
        }
    };
    let change = async {
        eventually("the second certificate", SOON, async || {
            https(gateway, &second, "localhost").await.map(drop)
        })
        .await;
        changed.store(true, Ordering::Relaxed);
    };
    tokio::join!(traffic, change);
}

#[tokio::test]
async fn an_expired_certificate_is_used_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let made = certificate(directory.path(), true);
    let mut system = with_certificate(directory.path()).await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let refused = https(gateway, &made, "localhost").await.unwrap_err();
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
    let logs = system.logs(Service::Gateway);
    assert!(logs.contains("has expired; clients will refuse it"), "{logs}");
}

#[test]
fn an_unusable_certificate_exits_64_and_names_its_variable() {
    let binaries = stack::binaries::build(stack::Profile::Debug).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    certificate(directory.path(), false);
    std::fs::rename(path("key.pem"), path("other-key.pem")).unwrap();
    certificate(directory.path(), false);
    std::fs::write(path("nonsense.pem"), "nonsense").unwrap();
    let (cert, key, other) = (path("cert.pem"), path("key.pem"), path("other-key.pem"));
    let (nonsense, none) = (path("nonsense.pem"), path("none.pem"));
    type Env<'a> = Vec<(&'a str, &'a str)>;
    let rows: [(&str, Env<'_>, &str); 13] = [
        ("no key", vec![("TLS_CERT", &cert)], "TLS_KEY: "),
        ("no certificate", vec![("TLS_KEY", &key)], "TLS_CERT: "),
        ("no such certificate", vec![("TLS_CERT", &none), ("TLS_KEY", &key)], "TLS_CERT: "),
        ("no such key", vec![("TLS_CERT", &cert), ("TLS_KEY", &none)], "TLS_KEY: "),
        ("no PEM", vec![("TLS_CERT", &nonsense), ("TLS_KEY", &key)], "TLS_CERT: "),
        ("another's key", vec![("TLS_CERT", &cert), ("TLS_KEY", &other)], "TLS_KEY: "),
        ("a bad rate", vec![("RATE_PER_ADDRESS", "many")], "RATE_PER_ADDRESS: "),
        ("a bad subject's rate", vec![("RATE_PER_SUBJECT", "0/s")], "RATE_PER_SUBJECT: "),
        ("a bad write rate", vec![("WRITE_RATE_PER_SUBJECT", "1")], "WRITE_RATE_PER_SUBJECT: "),
        ("a bad percentage", vec![("MAX_MEMORY_PERCENT", "100")], "MAX_MEMORY_PERCENT: "),
        ("a bad network", vec![("TRUSTED_PROXIES", "10.0.0.0/33")], "TRUSTED_PROXIES: "),
        ("no places", vec![("MAX_IN_FLIGHT", "0")], "MAX_IN_FLIGHT: "),
        ("little memory", vec![("MAX_UNSENT_BYTES", "8388607")], "MAX_UNSENT_BYTES: "),
    ];
    for (name, env, complaint) in rows {
        let mut command = Command::new(binaries.join(Service::Gateway.name()));
        let output = command.env_clear().envs(env).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{name}: {said}");
        assert!(said.starts_with(&format!("bad configuration: {complaint}")), "{name}: {said}");
        assert!(!said.contains("many\n"), "{name}: {said}");
    }
}
