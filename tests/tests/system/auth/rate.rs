//! Rates of subjects, over all addresses and tokens.

use std::time::Instant;

use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use stack::Service;
use system_tests::{SOON, eventually, signal};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Site, assert_problem, bearer};

#[tokio::test]
async fn each_subject_has_its_own_rate_over_all_its_tokens_also_on_this_machine() {
    let site = Site::start_with(&[("RATE_PER_SUBJECT", "1/s:3")]).await;
    let ask = async |token: &str| site.ask(token, Method::GET, "/orders", &Value::Null).await;
    let both = [site.token_of("101", "orders:read"), site.token_of("101", "admin")];
    let (begin, mut served, mut refused) = (Instant::now(), 0, [0, 0]);
    for _ in 0..20 {
        for (token, refused) in both.iter().zip(&mut refused) {
            let answer = ask(token).await;
            if answer.status == 200 {
                served += 1;
            } else {
                assert_problem("too often", &answer, 429, "too-many-requests");
                assert_eq!(answer.header("retry-after"), "1");
                *refused += 1;
            }
        }
    }
    assert!(served >= 3 && served <= 4 + begin.elapsed().as_secs(), "{served} of 40");
    assert!(refused.iter().all(|count| *count > 0), "{refused:?}");
    // Other subjects are not affected, and unauthenticated requests get a 401.
    for _ in 0..3 {
        assert_eq!(ask(&site.token_of("102", "orders:read")).await.status, 200);
    }
    for _ in 0..5 {
        assert_problem("no token", &ask("none").await, 401, "unauthenticated");
    }
}

#[tokio::test]
async fn writes_have_a_rate_of_their_own_and_cost_by_their_length() {
    let site = Site::start_with(&[("WRITE_RATE_PER_SUBJECT", "1/s:40")]).await;
    let token = site.token_of("101", "orders:read orders:write");
    let order = async |count: usize| {
        let ids: Vec<String> = (0..count).map(|n| format!("xyz-{n:060}")).collect();
        let body = json!({ "product_ids": ids, "customer_id": "101" });
        site.ask(&token, Method::POST, "/order", &body).await
    };
    let begin = Instant::now();
    // 6.8 KB cost 27, so already the second request has to wait.
    assert_eq!(order(100).await.status, 200);
    let refused = order(100).await;
    assert!(begin.elapsed().as_secs() < 10, "too slow for a meaningful result");
    assert_problem("too much", &refused, 429, "too-many-requests");
    let problem: Value = refused.json();
    assert!(problem["detail"].as_str().unwrap().contains("WRITE_RATE_PER_SUBJECT"), "{problem}");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 4);
    // Small requests use up the rest; reads and other subjects have rates of their own.
    let mut taken = 0;
    while order(1).await.status == 200 {
        taken += 1;
    }
    assert!(taken >= 10 && taken <= 14 + begin.elapsed().as_secs(), "{taken}");
    for _ in 0..20 {
        assert_eq!(site.ask(&token, Method::GET, "/orders", &Value::Null).await.status, 200);
    }
    let body = json!({ "product_ids": ["201"], "customer_id": "102" });
    let other = site.token_of("102", "orders:write");
    assert_eq!(site.ask(&other, Method::POST, "/order", &body).await.status, 200);
}

#[tokio::test]
async fn requests_without_the_required_scope_are_counted_as_well() {
    let site = Site::start_with(&[("RATE_PER_SUBJECT", "1/s:2")]).await;
    let token = site.token_of("101", "report:read");
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(site.ask(&token, Method::GET, "/orders", &Value::Null).await.status);
    }
    assert_eq!(statuses[0], 403);
    assert!(statuses.iter().any(|status| *status == 429), "{statuses:?}");
}

#[tokio::test]
async fn a_subject_may_use_a_quarter_of_all_permits() {
    let mut site = Site::start_with(&[("MAX_IN_FLIGHT", "8")]).await;
    let gateway = site.system.first(Service::Gateway).http.unwrap();
    let order_service = site.system.first(Service::Order).process.pid();
    let token = site.token_of("101", "orders:read orders:write");
    let ask = async |token: &str| site.ask(token, Method::GET, "/orders", &Value::Null).await;
    // Each has a permit until order_service answers.
    signal(order_service, Signal::SIGSTOP);
    let body = r#"{"product_ids": ["201"], "customer_id": "101"}"#;
    let text = format!(
        "POST /order HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        bearer(&token),
        body.len()
    );
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let refused = eventually("a refusal", SOON, async || {
        let answer = ask(&token).await;
        if answer.status == 200 { Err(answer.text()) } else { Ok(answer) }
    })
    .await;
    assert_problem("one too many", &refused, 429, "too-many-requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(ask(&site.token_of("102", "orders:read")).await.status, 200);
    signal(order_service, Signal::SIGCONT);
    eventually("a free permit", SOON, async || {
        let answer = ask(&token).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    drop(slow);
}
