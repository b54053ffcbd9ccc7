//! Log lines: order ids, trace ids, control characters.

use std::collections::BTreeMap;

use common::contract::{order::Order, order_status::OrderStatus, streams};
use http::StatusCode;
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{SOON, System, env, eventually, order_body};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The services that log about every order.
const LOGGING_SERVICES: [Service; 4] =
    [Service::Order, Service::Inventory, Service::Account, Service::Message];

/// A paid order with a trace, and a rejected one with an invalid trace.
async fn traced(system: &System) -> [Order; 2] {
    system.init_data().await;
    let url = format!("{}/order", system.url());
    let mut orders = Vec::new();
    for (products, traceparent) in [(["201"], TRACEPARENT), (["none"], "00-\u{1f}forged")] {
        let body = order_body(&products, "101");
        let traceparent = traceparent.replace('\u{1f}', " ");
        let answer =
            system.client.post(&url, &body, &[("traceparent", &traceparent)]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        orders.push(system.ended(&answer.parse()).await);
    }
    system.quiet(SOON).await;
    orders.try_into().unwrap()
}

#[tokio::test]
async fn log_lines_about_an_order_have_its_id_and_its_trace() {
    for format in ["json", "text"] {
        let env = env(&[("LOG_FORMAT", format), ("LOG_LEVEL", "debug,hyper=info")]);
        let system = System::start_with(StackOptions { env, ..StackOptions::default() }).await;
        let [good, bad] = traced(&system).await.map(|order| order.id.to_string());
        let matches = |line: &str, order: &str, trace_id: Option<&str>| match format {
            "json" => {
                let line: Value = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("no JSON: {error}: {line}"));
                line["subject.id"] == order && line["trace.id"].as_str() == trace_id
            }
            _ => {
                let of_trace = trace_id.map(|id| format!("trace.id={id:?}"));
                line.contains(&format!("subject.id={order}"))
                    && of_trace.map_or(!line.contains("trace.id"), |it| line.contains(&it))
            }
        };
        for service in LOGGING_SERVICES {
            eventually("the log", SOON, async || {
                let log = system.logs(service);
                let is_logged = |order, id| log.lines().any(|line| matches(line, order, id));
                let rejected = service == Service::Account || is_logged(&bad, None);
                if is_logged(&good, Some(TRACE_ID)) && rejected { Ok(()) } else { Err(log) }
            })
            .await;
            let log = system.logs(service);
            // Every other line that names the order is a delivered message.
            let is_message = |line: &&str| {
                line.starts_with(r#"{"delivered":"#) || line.starts_with("to Anthony <")
            };
            let lines = log.lines().filter(|line| !is_message(line));
            for line in lines.filter(|line| line.contains(&good)) {
                assert!(matches(line, &good, Some(TRACE_ID)), "{service}: {line}");
            }
            assert!(!log.contains("forged"), "{service}: {log}");
        }
        if format == "json" {
            let log = system.logs(Service::Gateway);
            for line in log.lines() {
                let line: Value = serde_json::from_str(line).expect(line);
                assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
            }
            assert!(log.lines().count() > 0);
        }
    }
}

#[tokio::test]
async fn a_paid_order_is_one_line_at_level_info() {
    let system = System::start().await;
    system.init_data().await;
    let order = system.order(&["201"], "101").await;
    assert_eq!(order.status, OrderStatus::ToBeShipped);
    system.quiet(SOON).await;
    let id = order.id.to_string();
    let lines = eventually("the line and the messages", SOON, async || {
        let logs = Service::ALL.map(|service| system.logs(service));
        let named = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(&id));
        let (messages, lines): (Vec<&str>, Vec<&str>) =
            named.partition(|line| line.starts_with("to "));
        let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        if messages.len() == 3 && !lines.is_empty() { Ok(lines) } else { Err(format!("{lines:?}")) }
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("order is to-be-shipped"), "{lines:?}");
}

#[tokio::test]
async fn the_traceparent_travels_in_the_stream_entries() {
    let system = System::start().await;
    let [good, bad] = traced(&system).await;
    let published = [
        streams::ORDER_CREATED,
        streams::ORDER_UPDATED,
        streams::INVENTORY_CHECK,
        streams::ACCOUNT_WALLET,
        streams::MESSAGE_SENT,
    ];
    for stream in published {
        for entry in system.entries(stream).await {
            let text = entry.entity().to_string();
            let traceparent = entry.fields.get("traceparent").map(String::as_str);
            if text.contains(&good.id.to_string()) {
                assert_eq!(traceparent, Some(TRACEPARENT), "{stream}: {entry:?}");
            } else if text.contains(&bad.id.to_string()) {
                assert_eq!(traceparent, None, "{stream}: {entry:?}");
            }
        }
    }
}

#[tokio::test]
async fn names_with_control_characters_cannot_forge_a_log_line() {
    for format in ["json", "text"] {
        let env = BTreeMap::from([("LOG_FORMAT".to_owned(), format.to_owned())]);
        let system = System::start_with(StackOptions { env, ..StackOptions::default() }).await;
        let forged = "x\r\nERROR forged\u{1b}[2J\u{7}\u{9b}31m\u{0}";
        let account = json!({"id": "7", "name": forged, "email": forged, "balance": 100});
        system.publish(streams::ACCOUNT_CREATED, &account).await;
        let product = json!({"id": "7", "name": forged, "price": 1, "amount": 100});
        system.publish(streams::INVENTORY_CREATED, &product).await;
        system.quiet(SOON).await;
        assert_eq!(system.order(&["7"], "7").await.status, OrderStatus::ToBeShipped);
        // An unreadable entry is logged with its reason, which may quote it.
        let poison = json!({"id": forged, "product_ids": forged, "customer_id": forged});
        system.publish(streams::ORDER_CREATED, &poison).await;
        eventually("the messages and the poison are logged", SOON, async || {
            let is_sent = system.logs(Service::Message).contains("Your order is paid");
            let log = system.logs(Service::Inventory);
            if is_sent && log.contains("cannot be handled") { Ok(()) } else { Err(log) }
        })
        .await;
        for service in Service::ALL {
            let log = system.logs(service);
            assert!(!log.lines().any(|line| line.starts_with("ERROR")), "{service}: {log:?}");
            let control = log.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(control, None, "{format} {service}: {log:?}");
        }
        assert!(system.logs(Service::Message).contains("forged"));
    }
}
