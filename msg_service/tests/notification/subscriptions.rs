//! The streams that msg_service reads.

use common::{
    consumer::StreamEntry,
    contract::events::{MessageKind, MessageSent, Stream},
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
        (Stream::AccountCreated, account, None),
        (Stream::OrderCreated, created, Some(MessageKind::OrderReceived)),
        (Stream::OrderCreated, again, Some(MessageKind::TriedAgain)),
        (Stream::InventoryCheck, check("payment-required"), Some(MessageKind::StockReserved)),
        (Stream::InventoryCheck, check("out-of-stock"), Some(MessageKind::OutOfStock)),
        (Stream::InventoryCheck, check("rejected"), Some(MessageKind::Rejected)),
        (Stream::AccountWallet, payment("to-be-shipped"), Some(MessageKind::OnItsWay)),
        (Stream::AccountWallet, payment("insufficient-fund"), Some(MessageKind::InsufficientFund)),
        (Stream::AccountWallet, payment("rejected"), Some(MessageKind::Rejected)),
        (Stream::OrderCancelled, about.clone(), Some(MessageKind::Cancelled)),
        (Stream::OrderShipped, about.clone(), Some(MessageKind::Shipped)),
        (Stream::OrderCompleted, about, Some(MessageKind::Completed)),
        (Stream::AccountRefunded, refund, Some(MessageKind::Refunded)),
        (Stream::AccountToppedUp, deposit, Some(MessageKind::ToppedUp)),
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
