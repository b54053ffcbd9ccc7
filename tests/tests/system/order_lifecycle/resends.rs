//! Resending of overdue orders.

use std::time::Duration;

use common::{
    contract::{order::Order, order_status::OrderStatus, streams},
    schema::stream::Stream,
};
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Entry, SOON, System, eventually, run};

use super::support::define;

/// A system that resends orders without an answer after this time.
async fn system_resending_after(after: Duration) -> System {
    let mut options = StackOptions::default();
    options.env.insert("RESEND_AFTER_MS".to_owned(), after.as_millis().to_string());
    let system = System::start_with(options).await;
    define(&system).await;
    system
}

async fn delete_all(system: &System, stream: Stream) -> usize {
    let mut redis = system.redis().await;
    let entries = system.entries(stream).await;
    for Entry { id, .. } in &entries {
        assert_eq!(run::<u64>(&mut redis, &["XDEL", stream.key(), id]).await, 1);
    }
    entries.len()
}

#[tokio::test]
async fn an_order_whose_event_was_lost_is_resent_and_finished() {
    let mut system = system_resending_after(Duration::from_millis(300)).await;
    let before = system.balance("rich").await;
    for (service, stream) in
        [(Service::Inventory, streams::ORDER_CREATED), (Service::Account, streams::INVENTORY_CHECK)]
    {
        system.first(service).process.kill().expect("killed");
        let order = system.place(&["q"], "rich").await;
        eventually("it is published", SOON, async || {
            let entries = system.entries(stream).await;
            let found =
                entries.iter().any(|it| it.fields["entity"].contains(&order.id.to_string()));
            if found { Ok(()) } else { Err(format!("{entries:?}")) }
        })
        .await;
        delete_all(&system, stream).await;
        system.restart(service, 1).await;
        let order = system.reaches(&order, OrderStatus::ToBeShipped).await;
        assert_eq!((order.attempt, order.resent), (1, None));
    }
    system.quiet(SOON).await;
    assert_eq!(
        (system.balance("rich").await, system.available_and_reserved("q").await),
        (before - 2, (3, 2))
    );
    let report = system.audit(SOON).await;
    assert_eq!(report.unfinished, 0, "{report}");
}

#[tokio::test]
async fn orders_that_wait_for_stock_or_money_are_not_resent() {
    let system = system_resending_after(Duration::from_millis(100)).await;
    let waits = system.order(&["p"], "rich").await;
    let unpaid = system.order(&["q"], "poor").await;
    assert_eq!(
        (waits.status, unpaid.status),
        (OrderStatus::OutOfStock, OrderStatus::InsufficientFund)
    );
    // Meanwhile a lost order is resent, so the resending task runs.
    let mut redis = system.redis().await;
    let stuck = json!({
        "id": common::random::new_id(), "product_ids": ["q"], "customer_id": "rich", "status": "pending",
        "attempt": 1, "history": [{ "status": "pending", "at": 1, "attempt": 1 }],
    });
    let id = stuck["id"].as_str().unwrap();
    let member = format!("{:012x}-{id}", 1);
    let key = format!("{{order}}:entity:{id}");
    run::<()>(&mut redis, &["SET", &key, &format!("1 {stuck}")]).await;
    run::<()>(&mut redis, &["ZADD", "{order}:status:pending", "0", &member]).await;
    let order: Order = serde_json::from_value(stuck).unwrap();
    system.reaches(&order, OrderStatus::ToBeShipped).await;
    let resent = system.entries(streams::ORDER_CREATED).await;
    let resent: Vec<Value> =
        resent.iter().map(Entry::entity).filter(|event| event["resend"] == 1).collect();
    assert!(resent.iter().all(|event| event["id"] == json!(order.id)), "{resent:?}");
    assert!(!resent.is_empty());
}
