//! The streams that msg_service reads.

use common::{
    consumer::StreamEntry,
    contract::{
        messages::{MessageKind, MessageSent},
        streams,
    },
};
use msg_service::subscriptions;
use uuid::Uuid;

use crate::support::{entry, order_id, sent, service};

#[test]
fn every_subscribed_stream_sends_its_messages() {
    let order = order_id(1);
    let about = serde_json::json!({"id": order, "customer_id": "101", "attempt": 2});
    let check = |outcome| {
        serde_json::json!({
            "order_id": order, "customer_id": "101", "product_ids": ["201"], "inventory": outcome,
        })
    };
    let payment =
        |outcome| serde_json::json!({"order_id": order, "customer_id": "101", "account": outcome});
    let created = serde_json::json!({
        "id": order, "customer_id": "101", "product_ids": ["201"], "status": "pending",
    });
    let mut again = created.clone();
    again["attempt"] = 2.into();
    let refund = serde_json::json!({"order_id": order, "customer_id": "101", "amount": 900});
    let deposit = serde_json::json!({
        "id": Uuid::from_u128(1), "customer_id": "101", "amount": 500, "balance": 1_500,
    });
    let account = serde_json::json!({
        "id": "101", "name": "Anthony", "email": "a@server.com", "balance": 0, "keep": true,
    });
    let table = [
        (streams::ACCOUNT_CREATED, account, None),
        (streams::ORDER_CREATED, created, Some(MessageKind::OrderReceived)),
        (streams::ORDER_CREATED, again, Some(MessageKind::TriedAgain)),
        (streams::INVENTORY_CHECK, check("payment-required"), Some(MessageKind::StockReserved)),
        (streams::INVENTORY_CHECK, check("out-of-stock"), Some(MessageKind::OutOfStock)),
        (streams::INVENTORY_CHECK, check("rejected"), Some(MessageKind::Rejected)),
        (streams::ACCOUNT_WALLET, payment("to-be-shipped"), Some(MessageKind::OnItsWay)),
        (
            streams::ACCOUNT_WALLET,
            payment("insufficient-fund"),
            Some(MessageKind::InsufficientFund),
        ),
        (streams::ACCOUNT_WALLET, payment("rejected"), Some(MessageKind::Rejected)),
        (streams::ORDER_CANCELLED, about.clone(), Some(MessageKind::Cancelled)),
        (streams::ORDER_SHIPPED, about.clone(), Some(MessageKind::Shipped)),
        (streams::ORDER_COMPLETED, about, Some(MessageKind::Completed)),
        (streams::ACCOUNT_REFUNDED, refund, Some(MessageKind::Refunded)),
        (streams::ACCOUNT_TOPPED_UP, deposit, Some(MessageKind::ToppedUp)),
    ];
    for subscription in subscriptions() {
        let stream = subscription.stream;
        assert!(table.iter().any(|(it, ..)| *it == stream), "{stream} is read");
    }
    for (stream, entity, kind) in table {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entity = entity.to_string();
        let entry = StreamEntry { id: entry(2), entity: &entity, forgotten: false };
        let input = (subscription.parse)(&entry).unwrap().unwrap();
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let kinds: Vec<_> = sent(&mut service).iter().map(|message| message.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{stream}: {entity}");

        // Messages from before a data loss are stored and not sent again.
        let forgotten = StreamEntry { forgotten: true, ..entry };
        let input = (subscription.parse)(&forgotten).unwrap().unwrap();
        let mut service = self::service();
        service.handle(&input, 1).unwrap();
        assert_eq!(sent(&mut service), [], "{stream}: {entity}");
        assert_eq!((&service.deliveries[..], &service.notes[..]), (&[][..], &[][..]), "{stream}");
        let stored = service.all::<MessageSent>();
        let kinds: Vec<_> = stored.iter().map(|message| message.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{stream}: {entity}");
    }
}
