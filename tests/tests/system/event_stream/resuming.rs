//! Clients that reconnect, that are slow, or whose Redis loses its data.

use std::collections::BTreeMap;

use common::contract::{order_status::OrderStatus, streams::topics};
use http::StatusCode;
use serde_json::{Value, json};
use stack::{Appendfsync, RedisOptions, Service, StackOptions};
use system_tests::{
    SOON, System, database,
    events::{Browser, Event, Events},
    eventually, unread,
};
use tokio::io::AsyncReadExt as _;

use super::{account, announce, expect_readers, product};

#[tokio::test]
async fn a_client_that_reconnects_gets_each_missed_event_once_at_any_gateway() {
    let instances = BTreeMap::from([(Service::Gateway, 2)]);
    let mut system =
        System::start_with(StackOptions { instances, ..StackOptions::default() }).await;
    let gateways = system.stack.gateway_urls();
    let mut redis = system.redis().await;
    let browser = Browser::default();
    let url = |round: usize| format!("{}/events", gateways[round % 2]);
    let mut last = browser.open(&url(0), None).await.expect("a stream").last;
    let (mut published, mut received) = (0, [0, 0]);
    for round in 0..40 {
        // Changes are published with and without a connection; some are unsent at the next disconnection.
        let mut more = async |count: usize| {
            for _ in 0..count {
                announce(&mut redis, &[product(published, "P"), account(published)]).await;
                published += 1;
            }
        };
        more(round % 7).await;
        if round % 20 == 10 {
            system.restart(Service::Gateway, 1).await;
        }
        let mut events = browser.open(&url(round), Some(&last)).await.expect("a stream");
        more(round % 11).await;
        let waiting = 2 * published - received[0] - received[1];
        let take = if round == 39 { waiting } else { waiting.min(1 + round % 13) };
        for _ in 0..take {
            let event = events.soon().await;
            let kind = match event.kind.as_str() {
                "product" => 0,
                "account" => 1,
                _ => panic!("round {round} after {last}: {event:?}"),
            };
            let number: usize = event.data["id"].as_str().unwrap().parse().unwrap();
            assert_eq!(number, received[kind], "round {round} after {last}: {event:?}");
            received[kind] += 1;
            last = event.id;
        }
    }
    assert_eq!(received, [published, published]);
    assert!(published > 300, "{published}");
    // One for each gateway.
    expect_readers(&mut redis, 2).await;
}

#[tokio::test]
async fn a_client_that_resumes_at_an_unknown_position_gets_a_reset() {
    let system = System::start().await;
    let mut redis = system.redis().await;
    let mut events = Events::of(&system, "/events").await;
    // More than is kept for clients that resume, in memory or in the streams.
    let old = events.last.clone();
    for number in 0..60 {
        let long = "x".repeat(10_000);
        let changes: Vec<_> = (0..10).map(|it| product(10 * number + it, &long)).collect();
        announce(&mut redis, &changes).await;
        for (_, product) in changes {
            assert_eq!(events.soon().await.data["id"], product["id"]);
        }
    }
    let browser = Browser::default();
    let bad = ["x", "0", &"f".repeat(300), "1a20d263d43.0........", &old];
    for (number, last) in bad.into_iter().enumerate() {
        let url = format!("{}/events", system.url());
        let mut resumed = if number % 2 == 0 {
            browser.open(&url, Some(last)).await.expect("a stream")
        } else {
            browser.open(&format!("{url}?last_event_id={last}"), None).await.expect("a stream")
        };
        let reset = resumed.soon().await;
        assert_eq!((reset.kind.as_str(), reset.data), ("reset", json!({})), "{last}");
        assert_eq!(reset.id, events.last, "{last}");
        announce(&mut redis, &[account(number)]).await;
        assert_eq!(resumed.soon().await, events.soon().await, "{last}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_a_reset_and_delays_no_other() {
    let mut system = System::start().await;
    let gateway = system.first(Service::Gateway).http.unwrap();
    let mut redis = system.redis().await;
    let mut slow = unread(gateway, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut quick = Events::of(&system, "/events").await;

    // 20 MB: more than the ring and the buffers of the kernel.
    let name = "x".repeat(50_000);
    for batch in 0..40 {
        let changes: Vec<_> = (0..10).map(|it| product(10 * batch + it, &name)).collect();
        announce(&mut redis, &changes).await;
        for it in 0..10 {
            assert_eq!(quick.soon().await.data["id"], (10 * batch + it).to_string());
        }
    }
    let mut text = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut read_until = async |part: &str| {
        while !String::from_utf8_lossy(&text).contains(part) {
            let read = tokio::time::timeout(SOON, slow.read(&mut buffer)).await;
            let count = read.unwrap_or_else(|_| panic!("no {part}")).expect("no end");
            assert_ne!(count, 0, "no {part}");
            // The first events do not matter, only the later ones.
            let tail = text.len().saturating_sub(100);
            text.drain(..tail);
            text.extend_from_slice(&buffer[..count]);
        }
    };
    read_until("event: reset").await;
    announce(&mut redis, &[account(7)]).await;
    read_until("event: account").await;
    assert_eq!(quick.soon().await.kind, "account");
}

#[tokio::test]
async fn clients_get_a_reset_and_later_changes_after_redis_is_emptied() {
    // This Redis loses its data at a restart.
    let redis = RedisOptions { appendfsync: Appendfsync::No, ..RedisOptions::default() };
    let mut system = System::start_with(StackOptions { redis, ..StackOptions::default() }).await;
    let mut events = Events::of(&system, "/events").await;
    for restart in [false, true] {
        eventually("the demo data", SOON, async || {
            let answer = system.post("/init-data", &Value::Null).await;
            if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.text()) }
        })
        .await;
        let order = system.order(&["201"], "101").await.id.to_string();
        let is_paid =
            |event: &Event| event.data["id"] == order && event.data["status"] == "to-be-shipped";
        let received = events.until(is_paid).await;
        assert!(received.iter().all(|event| event.kind != "reset"), "{received:?}");
        let old = events.last.clone();

        if restart {
            let redis = system.stack.redis().expect("a Redis of its own");
            redis.kill().expect("killed");
            redis.restart().expect("restarted");
        } else {
            let mut redis = system.redis().await;
            let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("emptied");
        }
        events.until(|event| event.kind == "reset").await;
        let url = format!("{}/events", system.url());
        let mut late = Browser::default().open(&url, Some(&old)).await.expect("a stream");
        assert_eq!(late.soon().await.kind, "reset");
    }
}

#[tokio::test]
async fn changes_come_from_every_redis_and_resume_after_an_outage() {
    let options = StackOptions { isolated: true, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    system.init_data().await;
    let mut events = Events::of(&system, "/events").await;
    for round in 0..2 {
        let order = system.order(&["204"], "103").await;
        assert_eq!(order.status, OrderStatus::ToBeShipped);
        let mut missing = vec!["order", "product", "account", "message"];
        while !missing.is_empty() {
            let event = events.soon().await;
            assert_ne!(event.kind, "reset", "round {round}");
            missing.retain(|kind| *kind != event.kind);
        }
        for topic in topics::ALL {
            let server = system.stack.redis_of(database(topic)).expect("a private one");
            server.kill().expect("killed");
            server.restart().expect("restarted");
        }
    }
}
