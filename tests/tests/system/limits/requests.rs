//! Limits of single requests: framing, sizes, hosts, other sites, and the headers of answers.

use stack::Service;

use super::{HOST, outline, raw, start};

#[tokio::test]
async fn every_refusal_has_its_status_and_problem() {
    let (_system, gateway) = start(&[]).await;
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
    let (_system, gateway) = start(&[]).await;
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
async fn private_ports_answer_no_other_host_and_no_page_of_another_site() {
    let (mut system, _) = start(&[]).await;
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
    let (system, _) = start(&[]).await;
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
