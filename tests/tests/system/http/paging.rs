//! Pages of the report.

use std::collections::BTreeSet;

use common::contract::{ids::OrderId, order::Order};
use http::StatusCode;
use serde_json::Value;
use system_tests::{System, order_body};
use tokio::task::JoinSet;

#[tokio::test]
async fn pages_of_the_report_are_stable_while_orders_arrive() {
    let system = System::start().await;
    let mut placed = Vec::new();
    for _ in 0..25 {
        placed.push(system.place(&["none"], "unknown").await.id);
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
        // More orders arrive between any two pages.
        for _ in 0..3 {
            system.place(&["none"], "unknown").await;
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
                    client.post(&url, &order_body(&["none"], "unknown"), &[]).await.unwrap();
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
