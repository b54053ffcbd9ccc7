//! Event streams with tokens: their content and their duration.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{
    SOON,
    events::{Browser, Event, Events},
    eventually, order_body,
};

use super::{Site, assert_problem, bearer, now, with};

async fn stream(site: &Site, token: &str) -> Events {
    let url = format!("{}/events", site.system.url());
    let headers = [("Authorization", &*bearer(token))];
    Browser::default().open_with(&url, &headers).await.expect("a stream")
}

async fn place(site: &Site, admin: &str, customer: &str) -> String {
    let body = order_body(&["204"], customer);
    let answer = site.ask(admin, Method::POST, "/order", &body).await.with_status(StatusCode::OK);
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Whether the event says that this order is to be shipped.
fn is_paid(event: &Event, order: &str) -> bool {
    event.kind == "order" && event.data["id"] == order && event.data["status"] == "to-be-shipped"
}

#[tokio::test]
async fn customers_get_changes_of_their_own_and_of_products_and_operators_all() {
    let site = Site::start().await;
    let admin = site.token("admin");
    let mut operators = stream(&site, &admin).await;
    let mut readers = stream(&site, &site.token("report:read")).await;
    let mut own = stream(&site, &site.token_of("101", "report:read orders:read")).await;

    // The other customer's order ends before the own one begins.
    let others = place(&site, &admin, "103").await;
    let all = operators.until(|event| is_paid(event, &others)).await;
    assert!(!all.is_empty());
    let order = place(&site, &admin, "101").await;
    let events = own.until(|event| is_paid(event, &order)).await;
    for event in &events {
        let text = event.data.to_string();
        assert!(!text.contains(&others) && !text.contains("\"103\""), "{event:?}");
    }
    let kinds = |events: &[Event], kind: &str| events.iter().filter(|it| it.kind == kind).count();
    assert!(kinds(&events, "order") >= 2 && kinds(&events, "product") >= 1, "{events:?}");

    // Only admins see complete addresses.
    let top_up = json!({ "amount": 1 });
    let answer = site.ask(&admin, Method::POST, "/accounts/103/top-up", &top_up).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    for (stream, address) in [(&mut operators, "Carol@server.com"), (&mut readers, "C…@server.com")]
    {
        let events =
            stream.until(|event| event.kind == "account" && event.data["id"] == "103").await;
        assert_eq!(events.last().expect("there is one").data["email"], address);
        // Orders and their messages require their scope.
        if address == "C…@server.com" {
            let others = ["order", "message"].map(|kind| kinds(&events, kind));
            assert_eq!((others, kinds(&events, "product") >= 1), ([0, 0], true), "{events:?}");
        }
    }
}

#[tokio::test]
async fn data_that_a_route_refuses_for_its_scope_is_in_no_other_route() {
    let site = Site::start().await;
    let order = place(&site, &site.token("admin"), "103").await;
    let report = site.token("report:read");
    let path = format!("/events?order={order}");
    for path in ["/customers/103/messages", &format!("/order/{order}"), &path] {
        let answer = site.ask(&report, Method::GET, path, &Value::Null).await;
        let problem = assert_problem(path, &answer, 403, "forbidden");
        assert_eq!(problem["scope"], "orders:read", "{path}: {problem}");
    }
    let orders = site.token("orders:read");
    let answer = site.ask(&orders, Method::GET, "/accounts/103", &Value::Null).await;
    assert_problem("the account", &answer, 403, "forbidden");
    for (token, is_shown) in [(orders, false), (site.token("orders:read report:read"), true)] {
        let headers = [("Authorization", &*bearer(&token)), ("Accept", "text/html")];
        let path = format!("/order/{order}");
        let answer = site.send(Method::GET, &path, &headers, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        for secret in [">Carol</a>", "C…@server.com", "balance "] {
            assert_eq!(answer.text().contains(secret), is_shown, "{secret}: {}", answer.text());
        }
        assert!(!answer.text().contains("There is no such customer"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let site = Site::start().await;
    // The token is valid for the last seconds of the leeway.
    let claims = with(&site.claims("operator", "report:read"), "exp", json!(now() - 57));
    let token = site.signer.token(&claims);
    let mut events = stream(&site, &token).await;
    let end = async { while events.block().await.is_some() {} };
    tokio::time::timeout(SOON, end).await.expect("an end in time");
    let answer = site.ask(&token, Method::GET, "/report", &Value::Null).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    // The stream of another token stays open.
    let mut events = stream(&site, &site.token("admin")).await;
    let order = place(&site, &site.token("admin"), "103").await;
    events.until(|event| is_paid(event, &order)).await;
}

#[tokio::test]
async fn open_streams_of_a_subject_are_limited() {
    let site = Site::start().await;
    let (first, second) =
        (site.token_of("101", "report:read"), site.token_of("102", "report:read"));
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(stream(&site, &first).await);
    }
    let refused = site.ask(&first, Method::GET, "/events", &Value::Null).await;
    assert_problem("one too many", &refused, 429, "too-many-requests");
    assert_eq!(refused.header("retry-after"), "5");
    stream(&site, &second).await;
    drop(open);
    eventually("a free permit", SOON, async || {
        let url = format!("{}/events", site.system.url());
        let headers = [("Authorization", &*bearer(&first))];
        let answer = Browser::default().ask(&url, &headers).await?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;
}
