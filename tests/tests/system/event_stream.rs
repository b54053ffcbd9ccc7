//! Event streams: `GET /events`, and the event flow at `GET /flow`.

use std::{collections::BTreeMap, time::Duration};

use common::{
    contract::{
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::{ENTITY, EVENT_ID, Stream},
};
use http::StatusCode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use redis::{Pipeline, aio::MultiplexedConnection};
use serde_json::{Value, json};
use stack::{Appendfsync, RedisOptions, Service, StackOptions};
use system_tests::{
    SOON, System, database,
    events::{Browser, Event, Events},
    eventually, unread,
};
use tokio::{io::AsyncReadExt as _, task::JoinSet};

/// The time for a shutdown after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

fn product(number: usize, name: &str) -> (Stream, Value) {
    let product = json!({"id": number.to_string(), "name": name, "price": 1, "amount": 1});
    (streams::INVENTORY_UPDATED, product)
}

fn account(number: usize) -> (Stream, Value) {
    let account = json!({"id": number.to_string(), "name": "N", "email": "e", "balance": 1});
    (streams::ACCOUNT_UPDATED, account)
}

/// Publishes changes in the place of the owners.
async fn announce(redis: &mut MultiplexedConnection, changes: &[(Stream, Value)]) {
    let mut commands = Pipeline::new();
    for (stream, entity) in changes {
        let id = uuid::Uuid::new_v4().to_string();
        commands.cmd("XADD").arg(stream.key()).arg("*").arg(EVENT_ID).arg(id);
        commands.arg(ENTITY).arg(entity.to_string()).ignore();
    }
    let () = commands.query_async(redis).await.expect("published");
}

/// The connections to Redis, one line for each.
async fn connections(redis: &mut MultiplexedConnection) -> Vec<String> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.expect("a list");
    list.lines().map(str::to_owned).collect()
}

/// Waits until this number of connections read changes.
async fn expect_readers(redis: &mut MultiplexedConnection, count: usize) {
    eventually("the readers at rest", SOON, async || {
        let connections = connections(redis).await;
        let found = connections.iter().filter(|line| line.contains(" cmd=xread ")).count();
        if found == count { Ok(()) } else { Err(format!("{connections:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn changes_are_sent_completely_and_in_order() {
    let system = System::start().await;
    system.init_data().await;
    system.quiet(SOON).await;
    let mut events = Events::of(&system, "/events").await;
    let order = system.place(&["201", "204"], "101").await;
    let id = order.id.to_string();
    let mut own = Events::of(&system, &format!("/events?order={id}")).await;

    let is_last = |event: &Event| event.data["kind"] == "on-its-way";
    let mut received = events.until(is_last).await;
    if !received.iter().any(|event| event.data["status"] == "to-be-shipped") {
        received.extend(events.until(|event| event.data["status"] == "to-be-shipped").await);
    }
    let of = |kind: &str| -> Vec<&Event> { received.iter().filter(|it| it.kind == kind).collect() };
    let statuses: Vec<_> = of("order").iter().map(|it| it.data["status"].clone()).collect();
    assert_eq!(statuses, ["pending", "payment-required", "to-be-shipped"], "{received:#?}");
    let first = &of("order")[0].data;
    assert_eq!((&first["id"], &first["attempt"]), (&json!(id), &json!(1)));
    assert_eq!(first["created_at"], first["updated_at"]);
    assert_eq!(of("account")[0].data, system.get("/accounts/101").await.json());
    let mut shown = system.get(&format!("/order/{id}")).await.json();
    let history = shown.as_object_mut().unwrap().remove("history").unwrap();
    shown["created_at"] = history[0]["at"].clone();
    let times = history.as_array().unwrap().iter().map(|step| step["at"].as_u64().unwrap());
    shown["updated_at"] = times.max().unwrap().into();
    assert_eq!(of("order")[2].data, shown, "all but the history, which the page asks for");
    for event in of("product") {
        let path = format!("/inventory/{}", event.data["id"].as_str().unwrap());
        let mut shown = system.get(&path).await.json();
        shown["waiting"] = json!(0);
        assert_eq!(event.data, shown);
    }
    assert_eq!(of("product").len(), 2, "{received:#?}");
    let messages = system.get("/customers/101/messages").await.json();
    let mut messages = messages["messages"].as_array().unwrap().clone();
    messages.reverse();
    let sent: Vec<_> = of("message").iter().map(|it| it.data.clone()).collect();
    assert_eq!(sent, messages);

    // Changes of other orders are not sent to followers of this one.
    let other = system.order(&["205"], "103").await;
    events.until(|event| event.data["id"] == other.id.to_string()).await;
    assert_eq!(system.cancel(&order).await.status, StatusCode::OK);
    let own = own.until(|event| event.data["status"] == "cancelled").await;
    for event in own {
        let about = if event.kind == "order" { "id" } else { "order" };
        assert_eq!(event.data[about], id, "{event:?}");
    }
}

#[tokio::test]
async fn a_client_that_reconnects_gets_each_missed_event_once_at_any_gateway() {
    let instances = BTreeMap::from([(Service::Gateway, 2)]);
    let mut system =
        System::start_with(StackOptions { instances, ..StackOptions::default() }).await;
    let gateways = system.stack.gateway_urls();
    let mut redis = system.redis().await;
    let browser = Browser::default();
    let url = |turn: usize| format!("{}/events", gateways[turn % 2]);
    let mut last = browser.open(&url(0), None).await.expect("a stream").last;
    let (mut published, mut received) = (0, [0, 0]);
    for turn in 0..40 {
        // Changes are published with and without a connection; some are unsent at the next disconnection.
        let mut more = async |count: usize| {
            for _ in 0..count {
                announce(&mut redis, &[product(published, "P"), account(published)]).await;
                published += 1;
            }
        };
        more(turn % 7).await;
        if turn % 20 == 10 {
            system.restart(Service::Gateway, 1).await;
        }
        let mut events = browser.open(&url(turn), Some(&last)).await.expect("a stream");
        more(turn % 11).await;
        let waiting = 2 * published - received[0] - received[1];
        let take = if turn == 39 { waiting } else { waiting.min(1 + turn % 13) };
        for _ in 0..take {
            let event = events.soon().await;
            let place = match event.kind.as_str() {
                "product" => 0,
                "account" => 1,
                _ => panic!("turn {turn} after {last}: {event:?}"),
            };
            let number: usize = event.data["id"].as_str().unwrap().parse().unwrap();
            assert_eq!(number, received[place], "turn {turn} after {last}: {event:?}");
            received[place] += 1;
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
async fn a_silent_stream_sends_comments_with_its_position() {
    let system = System::start().await;
    let nothing = "/events?order=9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";
    let (mut all, mut none) =
        (Events::of(&system, "/events").await, Events::of(&system, nothing).await);
    announce(&mut system.redis().await, &[account(1)]).await;
    let event = all.soon().await;
    let mark = tokio::time::timeout(SOON, none.block()).await.expect("in time").expect("no end");
    assert_eq!(mark, format!(":\nid: {}\n\n", event.id));
}

#[tokio::test]
async fn one_read_serves_all_changes_to_a_thousand_clients() {
    const CLIENTS: usize = 1_000;
    const CHANGES: usize = 300;
    /// The maximum of a gateway.
    const OPEN: usize = 2_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let files = soft.max(hard.min(4_096));
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).expect("raised");
    assert!(files >= 3_000, "ulimit -Hn is {hard}: too few files for the connections");
    let system = System::start_alone(StackOptions::default()).await;
    let mut redis = system.redis().await;
    expect_readers(&mut redis, 0).await;

    let url = format!("{}/events", system.url());
    let browser = Browser::default();
    let open = async |count: usize| {
        let mut streams = JoinSet::new();
        for _ in 0..count {
            let (browser, url) = (browser.clone(), url.clone());
            streams.spawn(async move { browser.open(&url, None).await.expect("a stream") });
        }
        streams.join_all().await
    };
    let mut clients = JoinSet::new();
    for mut events in open(CLIENTS).await {
        clients.spawn(async move {
            for number in 0..CHANGES {
                let block = events.block().await.expect("no end");
                assert!(block.contains(&format!("\"id\":\"{number}\"")), "{number}: {block}");
            }
            events
        });
    }
    expect_readers(&mut redis, 1).await;
    for number in 0..CHANGES {
        announce(&mut redis, &[product(number, "P")]).await;
    }
    let streams = tokio::time::timeout(SOON * 2, clients.join_all())
        .await
        .expect("all clients are served in time");
    assert_eq!(streams.len(), CLIENTS);
    expect_readers(&mut redis, 1).await;

    // There is a limit, beyond which other calls still succeed.
    let more = open(OPEN - CLIENTS).await;
    let refused = browser.ask(&url, &[]).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(system.get("/report").await.status, StatusCode::OK);
    drop((streams, more));
    eventually("there is room again", SOON, async || {
        let status = browser.ask(&url, &[]).await?.status();
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// A system whose gateway trusts the forwarding header of this machine.
async fn behind_a_proxy(more: &[(&str, &str)]) -> System {
    let env: Vec<_> = more.iter().chain(&[("TRUSTED_PROXIES", "127.0.0.1")]).copied().collect();
    System::start_with_gateway_env(&env).await
}

#[tokio::test]
async fn repeated_events_count_as_further_requests_of_the_client() {
    const MANY: usize = 2_000;
    let system = behind_a_proxy(&[("RATE_PER_ADDRESS", "1/s:10")]).await;
    let (url, browser) = (format!("{}/events", system.url()), Browser::default());
    let from = |address: &'static str| [("X-Forwarded-For", address)];
    let mut events = browser.open_with(&url, &from("203.0.113.1")).await.unwrap();
    let before = events.last.clone();
    let mut redis = system.redis().await;
    let name = "n".repeat(500);
    let changes: Vec<_> = (0..MANY).map(|number| product(number, &name)).collect();
    announce(&mut redis, &changes).await;
    let last = (MANY - 1).to_string();
    events.until(|event| event.data["id"] == last).await;
    // A client that stayed connected has paid with its first request.
    let asks = async |address: &'static str| {
        browser.ask(&format!("{}/flow", system.url()), &from(address)).await.unwrap().status()
    };
    assert_eq!(asks("203.0.113.1").await, StatusCode::OK);
    // This client gets 1 MiB again, which costs 16 more of its 10.
    let resumed = format!("{url}?last_event_id={before}");
    let mut events = browser.open_with(&resumed, &from("203.0.113.2")).await.unwrap();
    let received = events.until(|event| event.data["id"] == last).await;
    assert_eq!(received.len(), MANY);
    assert_eq!(asks("203.0.113.2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asks("203.0.113.3").await, StatusCode::OK);
}

#[tokio::test]
async fn streams_of_an_address_are_limited_without_authentication() {
    let system = behind_a_proxy(&[]).await;
    let (url, browser) = (format!("{}/events", system.url()), Browser::default());
    let mut open = Vec::new();
    for _ in 0..500 {
        let address = [("X-Forwarded-For", "2001:db8::1")];
        open.push(browser.open_with(&url, &address).await.unwrap());
    }
    let ask = async |address: &'static str| {
        let answer = browser.ask(&url, &[("X-Forwarded-For", address)]).await.unwrap();
        let retry = answer.headers().get("retry-after").cloned();
        (answer.status(), retry.map(|it| it.to_str().unwrap().to_owned()))
    };
    let (status, retry) = ask("2001:db8::2").await;
    assert_eq!((status, retry.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("5")));
    assert_eq!(ask("2001:db8:0:1::1").await.0, StatusCode::OK);
    open.clear();
    eventually("a stream", SOON, async || {
        let (status, _) = ask("2001:db8::1").await;
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn open_streams_end_with_the_gateway_in_time() {
    let mut system = System::start().await;
    let mut streams = Vec::new();
    for path in
        ["/events", "/events?flow=true", "/events?order=9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11"]
    {
        streams.push(Events::of(&system, path).await);
    }
    let process = &mut system.first(Service::Gateway).process;
    process.terminate().expect("the signal is sent");
    for stream in &mut streams {
        let end = async { while stream.next().await.is_some() {} };
        tokio::time::timeout(GRACE, end).await.expect("the stream ends");
    }
    let status = process.wait(GRACE).expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{}", process.logs());
}

#[tokio::test]
async fn changes_come_from_every_redis_and_resume_after_an_outage() {
    let options = StackOptions { isolated: true, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    system.init_data().await;
    let mut events = Events::of(&system, "/events").await;
    for turn in 0..2 {
        let order = system.order(&["204"], "103").await;
        assert_eq!(order.status, OrderStatus::ToBeShipped);
        let mut missing = vec!["order", "product", "account", "message"];
        while !missing.is_empty() {
            let event = events.soon().await;
            assert_ne!(event.kind, "reset", "turn {turn}");
            missing.retain(|kind| *kind != event.kind);
        }
        for topic in topics::ALL {
            let server = system.stack.redis_of(database(topic)).expect("a private one");
            server.kill().expect("killed");
            server.restart().expect("restarted");
        }
    }
}

/// The part of `GET /flow` about a group on a stream.
fn group<'a>(flow: &'a Value, stream: Stream, group: &str) -> &'a Value {
    let streams = flow["streams"].as_array().expect("streams");
    let stream = streams.iter().find(|it| it["stream"] == stream.key()).expect("the stream");
    let groups = stream["groups"].as_array().expect("groups");
    groups.iter().find(|it| it["group"] == group).expect("the group")
}

#[tokio::test]
async fn the_flow_shows_the_backlog_of_a_stopped_service_and_its_drain() {
    let mut system = System::start_with(StackOptions {
        instances: BTreeMap::from([(Service::Message, 0)]),
        ..StackOptions::default()
    })
    .await;
    system.init_data().await;
    system.first(Service::Inventory).process.kill().expect("killed");
    let mut flow = Events::of(&system, "/events?flow=true").await;
    let orders = [system.place(&["204"], "101").await, system.place(&["204"], "101").await];

    let created = |flow: &Value, service: &str| {
        let group = group(flow, streams::ORDER_CREATED, service);
        (group["lag"].clone(), group["pending"].clone(), group["consumers"].clone())
    };
    let waits = (json!(2), json!(0), json!(1));
    let samples = flow.until(|it| created(&it.data, "inventory_service") == waits).await;
    let last = &samples.last().unwrap().data;
    // The backlog of a service that never ran is the whole stream.
    assert_eq!(created(last, "msg_service"), (json!(2), json!(0), json!(0)));
    let dead = |flow: &Value| flow["dead"].as_array().unwrap().clone();
    let none = topics::ALL.map(|topic| json!({"topic": topic.name(), "count": 0}));
    assert_eq!(dead(last), none);
    let names: Vec<&Value> =
        last["streams"].as_array().unwrap().iter().map(|it| &it["stream"]).collect();
    let read = streams::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
    assert_eq!(names, read.map(Stream::key).collect::<Vec<_>>());

    system.restart(Service::Inventory, 1).await;
    let drained = (json!(0), json!(0), json!(1));
    let samples = flow.until(|it| created(&it.data, "inventory_service") == drained).await;
    let rates = samples
        .iter()
        .map(|it| &group(&it.data, streams::ORDER_CREATED, "inventory_service")["rate"]);
    assert!(rates.into_iter().any(|rate| rate.as_f64() > Some(0.0)), "{samples:#?}");
    for order in &orders {
        system.ended(order).await;
    }
    let flow = system.get("/flow").await;
    assert_eq!((flow.status, flow.header("cache-control")), (StatusCode::OK, "no-store"));
    assert_eq!(created(&flow.json(), "inventory_service"), drained);
}

#[tokio::test]
async fn dead_letters_are_sent_and_counted() {
    let system = System::start().await;
    let mut events = Events::of(&system, "/events").await;
    system.publish(streams::INVENTORY_RESTOCK, &json!({"product_id": 7})).await;
    let dead = events.soon().await;
    assert_eq!(dead.kind, "dead");
    assert_eq!(dead.data["topic"], "inventory");
    assert_eq!(dead.data["stream"], streams::INVENTORY_RESTOCK.key());
    assert_eq!(dead.data["group"], "inventory_service");
    assert!(dead.data["reason"].is_string() && dead.data["at"].is_u64(), "{dead:?}");
    let members: Vec<&String> = dead.data.as_object().unwrap().keys().collect();
    assert_eq!(members, ["at", "entry", "group", "reason", "stream", "topic"]);
    eventually("it is counted", SOON, async || {
        let flow = system.get("/flow").await.json();
        let count = &flow["dead"][1];
        let one = json!({"topic": "inventory", "count": 1});
        if *count == one { Ok(()) } else { Err(flow.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let system = System::start().await;
    let id = "9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";
    for (query, field) in [
        ("order=7", "order"),
        ("order=", "order"),
        ("flow=maybe", "flow"),
        ("flow=1", "flow"),
        (&format!("order={id}&flow=true"), "order"),
        (&format!("order={id}&order={id}"), "order"),
    ] {
        let answer = system.get(&format!("/events?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{query}");
        assert_eq!(answer.json()["field"], field, "{query}: {}", answer.text());
    }
}
