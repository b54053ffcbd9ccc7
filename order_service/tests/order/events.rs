//! The events that order_service publishes and reads.

use common::{
    consumer::StreamEntry,
    contract::{order_routes::OrderAction, streams},
    schema::entry_id::EntryId,
};
use order_service::{order::Input, subscriptions};

use crate::{
    support::{RESEND_AFTER, Service, id, place, placed, result},
    table::{PAID, UNPAID, reason},
};

#[test]
fn a_changed_order_is_announced_flat_and_without_its_history() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.when(&Input::ResendOverdue(id()), RESEND_AFTER + 1);
    service.when(&result(UNPAID, 1).unwrap(), 2_002);
    service.asked(OrderAction::Pay, 1, 2_003);
    service.asked(OrderAction::Cancel, 2, 2_004);
    let published = service.0.take(streams::ORDER_UPDATED);
    let published: Vec<serde_json::Value> =
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
    let flat = |status: &str, attempt, updated_at: u64| {
        serde_json::json!({
            "id": id(), "product_ids": ["201", "204"], "customer_id": "101", "status": status,
            "attempt": attempt, "created_at": 1, "updated_at": updated_at,
        })
    };
    let mut unpaid = flat("insufficient-fund", 1, 2_002);
    unpaid["order_total"] = 900.into();
    unpaid["reason"] = reason(UNPAID).unwrap().into();
    let expected = [
        flat("pending", 1, RESEND_AFTER + 1),
        unpaid,
        flat("pending", 2, 2_003),
        flat("cancelled", 2, 2_004),
    ];
    assert_eq!(published, expected);
}

#[test]
fn events_look_as_in_the_contract() {
    let mut service = Service::new();
    service.when(&place(&["201", "204", "201"], "101"), 0);
    service.when(&Input::ResendOverdue(id()), RESEND_AFTER);
    service.when(&result(UNPAID, 1).unwrap(), 2_000);
    service.asked(OrderAction::Pay, 1, 2_001);
    service.when(&result(PAID, 2).unwrap(), 2_002);
    service.asked(OrderAction::Ship, 2, 2_003);
    service.asked(OrderAction::Complete, 3, 2_004);
    let created = |attempt| {
        serde_json::json!({
            "id": id(), "product_ids": ["201", "204", "201"], "customer_id": "101",
            "status": "pending", "attempt": attempt,
        })
    };
    let mut resent = created(1);
    resent["resend"] = 1.into();
    let about = |attempt| serde_json::json!({"id": id(), "customer_id": "101", "attempt": attempt});
    let mut taken = |stream| -> Vec<serde_json::Value> {
        let published = service.0.take(stream);
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    };
    assert_eq!(taken(streams::ORDER_CREATED), [created(1), resent, created(2)]);
    assert_eq!(taken(streams::ORDER_SHIPPED), [about(2)]);
    assert_eq!(taken(streams::ORDER_COMPLETED), [about(2)]);
    assert_eq!(taken(streams::ORDER_UPDATED).len(), 6, "every change but the first is announced");
    assert!(service.published().is_empty());

    let mut service = Service::with(&[(placed(), 1)]);
    service.asked(OrderAction::Cancel, 1, 2);
    let cancelled = service.0.take(streams::ORDER_CANCELLED);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&cancelled[0]).unwrap(), about(1));
    assert_eq!(cancelled.len(), 1);
}

#[test]
fn results_from_before_a_data_loss_are_ignored() {
    for subscription in subscriptions() {
        let entry = StreamEntry { id: EntryId::default(), entity: "", forgotten: true };
        assert_eq!((subscription.parse)(&entry), Ok(None), "{}", subscription.stream);
    }
}
