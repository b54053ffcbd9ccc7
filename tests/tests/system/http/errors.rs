//! Errors: each invalid request gets its problem.

use common::contract::ids::OrderId;
use http::{Method, StatusCode};
use serde_json::json;
use stack::Service;
use system_tests::{SOON, System, order_body, request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{JSON, assert_problem};

#[tokio::test]
async fn every_invalid_request_gets_its_problem_and_changes_nothing() {
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
    // Neither the gateway nor order_service accepts a compressed body.
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

    // None of this was stored; requests just within the limits are.
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
async fn an_incomplete_request_times_out() {
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
