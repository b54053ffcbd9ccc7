//! The documents of the gateway, compared with the running system.

use std::collections::BTreeMap;

use common::{
    contract::{order_status::OrderStatus, streams},
    schema::stream::ENTITY,
};
use http::{Method, StatusCode};
use jsonschema::Validator;
use serde_json::{Value, json};
use system_tests::{Client, SOON, System, eventually, order_body, run};

use crate::original::assert_all_cacheable;

/// One more than inventory_service fills in one decision.
const LONG_LINE: usize = 101;

#[tokio::test]
async fn every_entry_of_every_stream_matches_the_asyncapi_document() {
    let system = System::start_with_env(&[("RESEND_AFTER_MS", "1000")]).await;
    let document = system.get("/asyncapi.json").await.json();
    play(&system).await;
    ask_for_a_release(&system).await;
    system.quiet(SOON).await;

    let messages = messages(&document);
    for stream in streams::ALL {
        let (headers, payload) = &messages[stream.key()];
        let entries = system.entries(stream).await;
        assert!(!entries.is_empty(), "{stream}: nothing to look at");
        for mut entry in entries {
            let entity = entry.fields.remove(ENTITY).expect("it has an entity");
            let what = format!("{stream} {}: {entity}", entry.id);
            assert_fits(headers, &json!(entry.fields), &what);
            if entity != SPOILT {
                assert_fits(payload, &serde_json::from_str(&entity).expect(&what), &what);
            }
        }
    }
}

#[tokio::test]
async fn the_original_can_cache_every_event_that_it_caches() {
    let system = System::start().await;
    play(&system).await;
    // A second definition of an existing product keeps its amount.
    let product = json!({ "name": "Rare", "price": 2 });
    system.define("/inventory/rare", &product).await;
    system.quiet(SOON).await;
    let cached = assert_all_cacheable(&system).await;
    let is_there = |name: &str| cached.iter().any(|entity| entity.get(name).is_some());
    for name in ["keep", "request", "attempt", "reason", "created_by", "waiting"] {
        assert!(is_there(name), "no event has a member {name}");
    }
}

/// An entity that no service accepts as an event.
const SPOILT: &str = "{}";

/// All changes of orders, products and customers.
async fn play(system: &System) {
    system.guide_orders_to_the_end().await;
    let rejected = system.order(&["204"], "999").await;
    assert_eq!(rejected.status, OrderStatus::Rejected);
    let traceparent = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let (url, body) = (format!("{}/order", system.url()), order_body(&["202"], "103"));
    let traced =
        system.client.post(&url, &body, &[traceparent]).await.expect("the gateway answers");
    system.ended(&traced.parse()).await;

    let product = json!({ "name": "Rare", "price": 1 });
    let account = json!({ "name": "Dora", "email": "dora@server.com", "balance": 1_000 });
    for (path, body) in [("/inventory/rare", product), ("/accounts/104", account)] {
        system.define(path, &body).await;
    }
    for _ in 0..LONG_LINE {
        system.place(&["rare"], "104").await;
    }
    system.quiet(SOON).await;
    system.restock("rare", LONG_LINE as u64).await;

    // Each service reads one of these streams.
    for stream in [streams::ORDER_CREATED, streams::INVENTORY_CHECK] {
        system.publish(stream, &json!({})).await;
    }
}

/// An order whose stock is not confirmed as released, as after the loss of its failed payment.
async fn ask_for_a_release(system: &System) {
    let (mut redis, id) = (system.redis().await, common::random::new_id());
    let order = json!({
        "id": id, "product_ids": ["201"], "customer_id": "101", "status": "insufficient-fund",
        "attempt": 1, "history": [{ "status": "pending", "at": 1, "attempt": 1 }],
        "unconfirmed": ["stock-released"],
    });
    let key = format!("{{order}}:entity:{id}");
    run::<()>(&mut redis, &["SET", &key, &format!("1 {order}")]).await;
    let member = format!("{:012x}-{id}", 1);
    run::<()>(&mut redis, &["ZADD", "{order}:unconfirmed", "0", &member]).await;
    eventually("the release is confirmed", SOON, async || {
        let order = system.get(&format!("/order/{id}")).await.json();
        if order["unconfirmed"] == Value::Null { Ok(()) } else { Err(order.to_string()) }
    })
    .await;
}

/// By the key of each stream: the validators of the other fields and of the event.
fn messages(document: &Value) -> BTreeMap<String, (Validator, Validator)> {
    let mut schemas = document["components"]["schemas"].clone();
    close(&mut schemas);
    let validator = |schema: &Value| {
        let schema = json!({ "allOf": [schema], "components": { "schemas": schemas } });
        jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
    };
    let channels = document["channels"].as_object().unwrap().values();
    let messages = channels.map(|channel| {
        let reference = channel["messages"].as_object().unwrap().values().next().unwrap();
        let path = reference["$ref"].as_str().unwrap().trim_start_matches('#');
        let message = document.pointer(path).unwrap();
        let both = (validator(&message["headers"]), validator(&message["payload"]));
        (channel["address"].as_str().unwrap().to_owned(), both)
    });
    messages.collect()
}

/// Forbids members that the schema does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("properties").is_some_and(Value::is_object) {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn assert_fits(validator: &Validator, value: &Value, what: &str) {
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

#[tokio::test]
async fn the_documentation_loads_and_runs_only_its_own_files() {
    let system = System::start().await;
    let mut seen = Vec::new();
    for page in ["/docs", "/docs/", "/docs/events"] {
        let answer = system.get(page).await;
        assert_eq!(answer.status, StatusCode::OK, "{page}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{page}: {policy}");
        assert!(!policy.contains("unsafe"), "{page}: {policy}");
        let html = answer.text();
        assert!(!html.contains("<style") && !html.contains("style="), "{page} has inline styles");
        for script in html.split("<script").skip(1) {
            assert!(script.contains("></script>"), "{page} has an inline script");
        }
        for attribute in [" src=\"", " href=\""] {
            let links = html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
            seen.extend(links.map(str::to_owned).filter(|link| !link.starts_with('#')));
        }
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() > 5, "{seen:?}");
    for link in seen {
        assert!(link.starts_with('/') && !link.starts_with("//"), "{link} is elsewhere");
        let answer = system.get(&link).await;
        assert_eq!(answer.status, StatusCode::OK, "{link}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{link}");
        // A client with a cached copy does not load it again.
        let known = [("if-none-match", answer.header("etag"))];
        let request = system_tests::request(
            Method::GET,
            &format!("{}{link}", system.url()),
            &known,
            bytes::Bytes::new(),
        );
        let again = Client::default().send(request).await.expect("the gateway answers");
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{link}");
    }
}
