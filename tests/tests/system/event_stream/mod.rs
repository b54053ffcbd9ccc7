//! Event streams: `GET /events`, and the event flow at `GET /flow`.

mod limits;
mod resuming;

use std::{collections::BTreeMap, time::Duration};

use common::{
    contract::streams::{self, topics},
    schema::stream::{ENTITY, EVENT_ID, Stream},
};
use http::StatusCode;
use redis::{Pipeline, aio::MultiplexedConnection};
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{
    SOON, System,
    events::{Event, Events},
    eventually,
};

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
        let id = common::random::new_id().to_string();
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
    assert_eq!(members, ["topic", "stream", "entry", "group", "reason", "at"]);
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
