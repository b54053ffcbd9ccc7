//! Limits of the rate of requests.

use std::path::Path;

use super::{HOST, outline, raw, start};

#[tokio::test]
async fn too_frequent_requests_get_a_429_with_retry_after() {
    let (_system, gateway) =
        start(&[("RATE_PER_ADDRESS", "1/s:3"), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
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
    let (_system, gateway) =
        start(&[("WRITE_RATE_PER_ADDRESS", "1/s:300"), ("TRUSTED_PROXIES", "127.0.0.1")]).await;
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
    let (_system, gateway) =
        start(&[(names[0], &rates[0]), (names[1], &rates[1]), ("TRUSTED_PROXIES", "127.0.0.1")])
            .await;
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
    let (_system, gateway) = start(&[("RATE_PER_ADDRESS", "1/s:1")]).await;
    for _ in 0..5 {
        let text = format!("GET /flow HTTP/1.1\r\n{HOST}X-Forwarded-For: 203.0.113.7\r\n\r\n");
        assert_eq!(outline(&raw(gateway, &text).await).0, 200);
    }
}
