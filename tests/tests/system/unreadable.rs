//! Unreadable stored or published data affects no other data, and the answer reports it.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{
    contract::{
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::Stream,
};
use http::Method;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stack::Service;
use system_tests::{Answer, SOON, System, eventually, request};
use uuid::Uuid;

async fn html(system: &System, path: &str) -> Answer {
    let url = format!("{}{path}", system.url());
    let request = request(Method::GET, &url, &[("accept", "text/html")], Bytes::new());
    system.client.send(request).await.expect("an answer")
}

fn assert_internal(what: &str, answer: &Answer) {
    let text = answer.text();
    assert_eq!(answer.status, 500, "{what}: {text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    assert_eq!(answer.json()["type"], "urn:problem-type:orders:internal", "{what}: {text}");
    assert_eq!(answer.header("retry-after"), "", "{what}: trying again is of no use");
    assert!(
        !text.contains("entity:") && !text.contains("index"),
        "{what} reveals internals: {text}"
    );
}

/// Replaces an entity by a text, a document of another form, a list, or a value of another type.
async fn spoil(redis: &mut MultiplexedConnection, key: &str, how: usize) {
    let () = redis::cmd("DEL").arg(key).query_async(redis).await.expect("DEL");
    let text = ["garbage", "7 {}", "7 []", ""][how];
    let mut spoil = redis::cmd(if text.is_empty() { "HSET" } else { "SET" });
    spoil.arg(key);
    if text.is_empty() {
        spoil.arg("a").arg("hash")
    } else {
        spoil.arg(text)
    };
    let () = spoil.query_async(redis).await.expect("spoilt");
}

#[tokio::test]
async fn an_unreadable_entity_is_a_500_alone_and_left_out_of_lists() {
    let system = System::start().await;
    system.init_data().await;
    let (spoilt, good) = (system.order(&["204"], "101").await, system.order(&["204"], "101").await);
    system.quiet(SOON).await;
    let mut redis = system.redis().await;
    let order = format!("{{order}}:entity:{}", spoilt.id);
    let keys = [order.as_str(), "{inventory}:entity:204", "{account}:entity:101"];
    for how in 0..4 {
        for key in keys {
            spoil(&mut redis, key, how).await;
        }
        let order = format!("/order/{}", spoilt.id);
        for path in [&order, "/inventory/204", "/accounts/101"] {
            assert_internal(path, &system.get(path).await);
        }
        let page = html(&system, &order).await;
        assert_eq!(
            (page.status.as_u16(), page.header("retry-after")),
            (500, ""),
            "{}",
            page.text()
        );
        let product = json!({ "name": "n", "price": 1 });
        let account = json!({ "name": "n", "email": "e@example.org" });
        let amount = json!({ "amount": 1 });
        for (method, path, body) in [
            (Method::PUT, "/inventory/204", &product),
            (Method::PUT, "/accounts/101", &account),
            (Method::POST, "/inventory/204/restock", &amount),
            (Method::POST, "/accounts/101/top-up", &amount),
        ] {
            assert_internal(path, &system.ask(method, path, Some(body)).await);
        }
        // Pages and lists show all other entities.
        let other = format!("/order/{}", good.id);
        assert_eq!(system.get(&other).await.status, 200);
        assert_eq!(html(&system, &other).await.status, 200);
        assert_eq!(html(&system, "/report").await.status, 200);
        let report = system.report().await;
        let ids = |list: &Value| -> Vec<String> {
            let all = list.as_array().unwrap().iter();
            all.map(|it| it["id"].as_str().unwrap_or("none").to_owned()).collect()
        };
        assert_eq!(ids(&report["orders"]), [good.id.to_string()], "{how}");
        assert_eq!(ids(&report["inventory"]), ["201", "202", "203", "205"], "{how}");
        assert_eq!(ids(&report["accounts"]), ["102", "103"], "{how}");
        for path in ["/orders", "/orders?customer_id=101", "/orders?status=to-be-shipped"] {
            let answer = system.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(ids(&answer.json()["orders"]), [good.id.to_string()], "{path}");
        }
        for path in ["/inventory", "/accounts", "/orders/counts", "/customers/101/messages"] {
            assert_eq!(system.get(path).await.status, 200, "{path}");
        }
    }
    let log = system.logs(Service::Gateway);
    for key in keys {
        let reported = format!("the value at {key} in the Redis at ");
        let left_out = log.lines().filter(|it| it.contains(&reported) && it.contains("left out"));
        assert_eq!(left_out.count(), 1, "{key}: {log}");
    }
}

#[tokio::test]
async fn an_index_of_another_type_is_a_500_on_every_route() {
    let system = System::start().await;
    system.init_data().await;
    system.order(&["204"], "101").await;
    system.quiet(SOON).await;
    let mut redis = system.redis().await;
    let routes: [(&str, &[&str], &[&str]); 7] = [
        ("{order}:index", &["/orders", "/report"], &["/report"]),
        ("{order}:index:101", &["/orders?customer_id=101"], &["/report?customer_id=101"]),
        (
            "{order}:status:to-be-shipped",
            &["/orders?status=to-be-shipped", "/orders/counts"],
            &["/report"],
        ),
        ("{inventory}:index", &["/inventory", "/report"], &["/report"]),
        ("{account}:index", &["/accounts", "/report"], &["/report"]),
        ("{message}:index:101", &["/customers/101/messages"], &[]),
        (
            "{order}:status:to-be-shipped:customers",
            &["/orders?status=to-be-shipped&customer_id=101"],
            &["/report?status=to-be-shipped&customer_id=101"],
        ),
    ];
    for (key, documents, pages) in routes {
        let kept = format!("{key}:kept");
        let rename = async |redis: &mut MultiplexedConnection, from: &str, to: &str| {
            let mut rename = redis::cmd("RENAME");
            let () = rename.arg(from).arg(to).query_async(redis).await.expect("renamed");
        };
        rename(&mut redis, key, &kept).await;
        spoil(&mut redis, key, 0).await;
        for path in documents {
            assert_internal(path, &system.get(path).await);
        }
        for path in pages {
            let page = html(&system, path).await;
            let expected = if key.starts_with("{order}") { 500 } else { 200 };
            assert_eq!(
                (page.status.as_u16(), page.header("retry-after")),
                (expected, ""),
                "{key}: {path}"
            );
            assert_eq!(expected == 500, !page.text().contains("cannot be read at the moment"));
        }
        rename(&mut redis, &kept, key).await;
        for path in documents {
            assert_eq!(system.get(path).await.status, 200, "{path}");
        }
    }
}

/// An event as the list of its members in their order, which serde would accept as the event.
fn list(stream: Stream, id: Uuid) -> Option<Value> {
    Some(match stream {
        streams::ORDER_CREATED => json!([id, ["201"], "101", "pending", 1, false]),
        streams::ORDER_CANCELLED
        | streams::ORDER_SHIPPED
        | streams::ORDER_COMPLETED
        | streams::ORDER_UNPAID => json!([id, "101", 1]),
        streams::INVENTORY_CHECK => {
            json!(["payment-required", id, "101", ["201"], 800, 1, null, false, false])
        }
        streams::INVENTORY_CREATED => json!(["new", "n", 1, 1, false]),
        streams::INVENTORY_RESTOCK => json!([id, "201", 5]),
        streams::INVENTORY_CONFIRMED | streams::ACCOUNT_CONFIRMED => json!([id, 1, "cancelled"]),
        streams::INVENTORY_FILL => json!(["201", 0]),
        streams::ACCOUNT_CREATED => json!(["new", "n", "n@example.org", 5, false]),
        streams::ACCOUNT_TOP_UP => json!([id, "101", 500]),
        streams::ACCOUNT_TOPPED_UP => json!([id, "101", 5, 1_005]),
        streams::ACCOUNT_WALLET => json!([id, "101", "to-be-shipped", 800, 1, null]),
        streams::ACCOUNT_REFUNDED => json!([id, "101", 5, 1]),
        streams::ORDER_UPDATED
        | streams::INVENTORY_UPDATED
        | streams::ACCOUNT_UPDATED
        | streams::MESSAGE_SENT => return None,
        _ if stream.is_dead_letters() => return None,
        _ => panic!("{stream}: say here which list might stand for its object"),
    })
}

#[tokio::test]
async fn a_list_in_the_place_of_an_event_is_a_dead_letter_of_every_reader() {
    let system = System::start().await;
    system.init_data().await;
    let order = system.order(&["204"], "101").await;
    assert_eq!(order.status, OrderStatus::ToBeShipped);
    system.quiet(SOON).await;
    let before = (system.report().await, system.get("/customers/101/messages").await.json());
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    for stream in streams::ALL {
        let Some(list) = list(stream, order.id.0) else { continue };
        system.publish(stream, &list).await;
        for reader in stream.readers() {
            *expected.entry(reader.name()).or_default() += 1;
        }
    }
    assert_eq!(
        expected.values().sum::<usize>(),
        streams::ALL.map(|it| it.readers().len()).iter().sum::<usize>()
    );
    eventually("all are dead letters", SOON, async || {
        let mut found = BTreeMap::new();
        for topic in topics::ALL {
            let letters = system.entries(topic.dead_letters()).await;
            let lists = letters.iter().filter(|it| {
                it.entity()["reason"] == "field `entity`: it is a list and not an object"
            });
            found.insert(topic.name(), lists.count());
        }
        if found == expected { Ok(()) } else { Err(format!("{found:?} of {expected:?}")) }
    })
    .await;
    system.quiet(SOON).await;
    let after = (system.report().await, system.get("/customers/101/messages").await.json());
    assert_eq!(after, before);
}
