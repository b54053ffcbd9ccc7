//! Personal data in logs: only delivered messages, with masked addresses.

use std::collections::BTreeMap;

use common::contract::{
    order_status::OrderStatus,
    streams::{self, topics},
};
use http::StatusCode;
use serde_json::json;
use stack::Service;
use system_tests::{SOON, System, eventually, run};

const NAME: &str = "Marker-Name";
const ADDRESS: &str = "marker.address@private.example";
const MASKED: &str = "m…@private.example";

async fn system(level: &str, more: &[(&str, &str)]) -> System {
    let env: Vec<_> = more.iter().copied().chain([("LOG_LEVEL", level)]).collect();
    let system = System::start_with_env(&env).await;
    system.init_data().await;
    let account = json!({ "name": NAME, "email": ADDRESS, "balance": 1_000 });
    system.define("/accounts/m", &account).await;
    system
}

/// The lines of msg_service that deliver a message, and all other lines of all services.
fn lines(system: &System) -> (Vec<String>, Vec<String>) {
    let logs = Service::ALL.map(|service| system.logs(service));
    let all = logs.iter().flat_map(|log| log.lines().map(str::to_owned));
    all.partition(|line| line.starts_with("to ") || line.starts_with("{\"delivered\":"))
}

#[tokio::test]
async fn personal_data_is_in_no_log_except_as_a_delivered_message() {
    let system = system("debug", &[]).await;
    let paid = system.order(&["204"], "m").await;
    assert_eq!(paid.status, OrderStatus::ToBeShipped);
    assert_eq!(system.order(&["201"; 4], "m").await.status, OrderStatus::InsufficientFund);
    assert_eq!(system.order(&["201"; 6], "m").await.status, OrderStatus::OutOfStock);
    assert_eq!(system.order(&["999"], "m").await.status, OrderStatus::Rejected);
    system.top_up("m", 5).await;
    assert_eq!(system.cancel(&paid).await.status, StatusCode::OK);
    // An unreadable entry is logged with a reason that must not quote it.
    for (stream, entity) in [
        (streams::ACCOUNT_CREATED, json!({"id": "x", "name": NAME, "balance": ADDRESS})),
        (streams::ORDER_CREATED, json!({"id": ADDRESS, "product_ids": NAME})),
        (streams::ORDER_CREATED, json!({"id": NAME, "customer_id": ADDRESS, "product_ids": []})),
    ] {
        system.publish(stream, &entity).await;
    }
    // The same for unreadable stored data.
    let mut redis = system.redis_of(topics::ACCOUNT).await;
    let text = format!("7 {}", json!({"id": "y", "name": NAME, "email": "", "balance": ADDRESS}));
    run::<()>(&mut redis, &["SET", "{account}:entity:y", &text]).await;
    system.get("/accounts/y").await.with_status(StatusCode::INTERNAL_SERVER_ERROR);
    system.quiet(SOON).await;
    let sent = system.entries(streams::MESSAGE_SENT).await;
    let (delivered, logged) = eventually("all messages are delivered", SOON, async || {
        let (delivered, logged) = lines(&system);
        let dead = logged.iter().filter(|line| line.contains("cannot be handled")).count();
        match delivered.len() == sent.len() && dead >= 4 {
            true => Ok((delivered, logged)),
            false => Err(format!("{} of {}, {dead} dead", delivered.len(), sent.len())),
        }
    })
    .await;
    for line in &delivered {
        assert!(line.contains(NAME) && line.contains(MASKED), "{line}");
        assert!(!line.contains(ADDRESS), "{line}");
    }
    for line in &logged {
        for secret in [NAME, ADDRESS, MASKED, "Dear ", "Anthony", "@server.com"] {
            assert!(!line.contains(secret), "{secret}: {line}");
        }
    }
    let kinds = ["order-received", "insufficient-fund", "out-of-stock", "rejected", "refunded"];
    for kind in kinds {
        let is_logged = logged.iter().any(|line| line.contains(&format!("{kind} to customer m")));
        assert!(is_logged, "{kind}: {logged:#?}");
    }
}

#[tokio::test]
async fn messages_are_delivered_at_any_log_level_and_with_masked_addresses() {
    for (format, begin) in [("text", "to Marker"), ("json", "{\"delivered\":\"to Marker")] {
        let more = [("WHOLE_ADDRESSES", "true"), ("LOG_FORMAT", format)];
        let system = system("error", &more).await;
        system.order(&["204"], "m").await;
        system.quiet(SOON).await;
        let delivered = eventually("all messages are delivered", SOON, async || {
            let (delivered, _) = lines(&system);
            if delivered.len() == 3 { Ok(delivered) } else { Err(format!("{delivered:?}")) }
        })
        .await;
        for line in delivered {
            assert!(line.starts_with(begin) && line.contains(ADDRESS), "{line}");
            let json = serde_json::from_str::<BTreeMap<String, String>>(&line).is_ok();
            assert_eq!(json, format == "json", "{line}");
        }
    }
}
