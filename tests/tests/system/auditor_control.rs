//! Controls of the auditor, on which the other tests rely: it must find injected faults.

use std::collections::BTreeMap;

use common::contract::streams;
use orderctl::audit::Report;
use serde_json::json;
use stack::Service;
use system_tests::{SOON, System};

/// Places twenty orders, then sets every group back to the beginning of its stream, so that all entries are
/// delivered a second time.
async fn twice(system: &System) -> Report {
    system.init_data().await;
    let account =
        json!({"id": "rich", "name": "Rich", "email": "rich@example.com", "balance": 100_000});
    system.publish(streams::ACCOUNT_CREATED, &account).await;
    let product = json!({"id": "many", "name": "Many", "price": 7, "amount": 100_000});
    system.publish(streams::INVENTORY_CREATED, &product).await;
    system.quiet(SOON).await;
    for products in [&["many"][..], &["many", "many"], &["201", "many"], &["201"; 5]] {
        for customer in ["101", "102", "rich", "rich", "unknown"] {
            system.place(products, customer).await;
        }
    }
    let once = system.assert_balanced(SOON).await;
    assert_eq!((once.orders, once.unfinished), (20, 0), "{once}");

    let mut redis = system.redis().await;
    for stream in streams::ALL {
        for reader in stream.readers() {
            let mut rewind = redis::cmd("XGROUP");
            rewind.arg("SETID").arg(stream.key()).arg(reader.service()).arg("0");
            let () = rewind.query_async(&mut redis).await.expect("the group is set back");
        }
    }
    // A group that waits for new entries does not return to earlier ones without a restart.
    let none = json!({"id": "none", "name": "None", "price": 1, "amount": 1});
    system.publish(streams::INVENTORY_CREATED, &none).await;
    let none = json!({"id": "none", "name": "None", "email": "none@example.com", "balance": 1});
    system.publish(streams::ACCOUNT_CREATED, &none).await;
    let order = system.place(&["none"], "none").await;
    let _ = system.ended(&order).await;
    system.audit(SOON).await
}

#[tokio::test]
async fn redelivered_events_change_nothing() {
    let system = System::start().await;
    let report = twice(&system).await;
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.orders, report.dead_letters), (21, BTreeMap::new()));
}

#[tokio::test]
async fn without_idempotency_records_the_auditor_reports_double_effects() {
    let system = System::start_with_env(&[("TEST_IGNORE_RECORDS", "1")]).await;
    assert!(system.logs(Service::Inventory).contains("TEST_IGNORE_RECORDS is set"));
    let report = twice(&system).await;
    let found = |parts: &[&str]| {
        report.findings.iter().any(|it| parts.iter().all(|part| it.contains(part)))
    };
    for parts in [
        &["product many", "reserved, but orders hold"][..],
        &["account rich", "but its payments make"],
        &["2 entries on events:{inventory}_check for attempt 1 instead of 1"],
        &["2 entries on events:{account}_wallet for attempt 1 instead of 1"],
        &["2 messages order-received on events:{message}_sent instead of 1"],
        &["was sent 2 times instead of 1"],
    ] {
        assert!(found(parts), "no finding with {parts:?} in\n{report}");
    }
}
