//! The messages: their events, texts, fields and delivery.

use std::collections::BTreeSet;

use common::{
    contract::{
        events::{StockOutcome, ToppedUp, WalletOutcome},
        messages::{MessageKind, MessageSent},
        streams,
    },
    decision::in_memory::Memory,
    schema::entity::Entity,
};
use msg_service::notification::{Input, Notifications};
use uuid::Uuid;

use crate::support::{
    all_events, cancelled, completed, customer, customer_id, entry, order_id, ordered, refunded,
    sent, service, shipped, stock, topped_up, wallet,
};

#[test]
fn each_event_sends_a_message_to_its_customer() {
    for (input, kind) in all_events() {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let messages = sent(&mut service);
        let [message] = &messages[..] else { panic!("{input:?}: {messages:?}") };
        let order = (kind != MessageKind::ToppedUp).then_some(order_id(1));
        assert_eq!((message.kind, message.order), (kind, order), "{input:?}");
        assert_eq!(message.customer, customer_id());
        assert!(!message.subject.is_empty() && !message.subject.contains('\n'));
        assert!(message.body.starts_with("Dear Anthony, "), "{}", message.body);
        assert_eq!(service.all::<MessageSent>(), messages, "the stored messages are the sent ones");
    }
}

#[test]
fn a_message_is_delivered_as_one_line_and_the_log_has_no_personal_data() {
    for (whole_addresses, address) in [(false, "<A…@server.com>"), (true, "<Anthony@server.com>")]
    {
        for (input, kind) in all_events() {
            let mut service = Memory::new(Notifications { whole_addresses });
            service.handle(&customer("Anthony", entry(1)), 1).unwrap();
            service.handle(&input, 1).unwrap();
            let message = sent(&mut service).remove(0);
            let [line] = &service.deliveries[..] else { panic!("{:?}", service.deliveries) };
            let order = message.order.map(|order| order.to_string()).unwrap_or_default();
            for part in ["Anthony", address, &order, &message.subject, &message.body] {
                assert!(line.contains(part), "{part:?} is not in {line:?}");
            }
            assert_eq!(line.contains("Anthony@"), whole_addresses, "{line}");
            let [note] = &service.notes[..] else { panic!("{:?}", service.notes) };
            assert_eq!(note.subject, message.order.map(uuid::Uuid::from));
            assert_eq!(note.text, format!("{} to customer 101", kind.name()));
            // A redelivered event sends no second message.
            service.handle(&input, 2).unwrap();
            assert_eq!((service.deliveries.len(), service.notes.len()), (1, 1), "{input:?}");
        }
    }
}

#[test]
fn a_message_names_the_first_few_products_of_an_order() {
    let ids: Vec<String> = (0..100).map(|n| format!("xyz-{n:060}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (ids, named) in
        [(&["201", "204"][..], "2 products: 201 and 204."), (&ids, "… and 94 more.")]
    {
        let mut service = service();
        service.handle(&ordered(1, 1, ids), 1).unwrap();
        let body = &sent(&mut service)[0].body;
        assert!(body.ends_with(named) && body.len() < 400, "{body}");
    }
}

#[test]
fn every_kind_of_message_has_its_event_and_its_name() {
    let names: BTreeSet<&str> = all_events().iter().map(|(_, kind)| kind.name()).collect();
    let expected = [
        "cancelled",
        "completed",
        "insufficient-fund",
        "on-its-way",
        "order-received",
        "out-of-stock",
        "refunded",
        "rejected",
        "shipped",
        "stock-reserved",
        "topped-up",
        "tried-again",
    ];
    assert!(names.iter().eq(&expected), "{names:?}");
    for (_, kind) in all_events() {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn only_a_new_attempt_sends_tried_again() {
    use MessageKind::{OrderReceived, TriedAgain};
    let mut service = service();
    let kinds = [(1, OrderReceived), (2, TriedAgain), (3, TriedAgain), (u32::MAX, TriedAgain)];
    for (attempt, kind) in kinds {
        service.handle(&ordered(1, attempt, &["201"]), 1).unwrap();
        let kinds: Vec<_> = sent(&mut service).iter().map(|message| message.kind).collect();
        assert_eq!(kinds, [kind], "attempt {attempt}");
    }
}

#[test]
fn a_message_has_the_fields_of_the_contract() {
    let table: [(Input, &str, &[&str]); 2] = [
        (
            ordered(1, 1, &["201"]),
            "order-received",
            &["body", "customer", "id", "kind", "order", "subject"],
        ),
        (topped_up(1), "topped-up", &["body", "customer", "id", "kind", "subject"]),
    ];
    for (input, kind, expected) in table {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let message: serde_json::Value =
            serde_json::from_str(&service.take(streams::MESSAGE_SENT)[0]).unwrap();
        let fields: BTreeSet<&str> =
            message.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(fields.iter().eq(expected), "{fields:?}");
        assert_eq!(message["kind"], kind);
        assert_eq!(message["customer"], "101");
        if expected.contains(&"order") {
            assert_eq!(message["order"], order_id(1).to_string());
        }
    }
}

#[test]
fn a_message_is_listed_only_by_customer() {
    for (input, _) in all_events() {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let message = sent(&mut service).remove(0);
        assert_eq!(message.lists(), ["{message}:index:101"], "{input:?}");
        assert_eq!(message.sorted_sets(), []);
        assert_eq!((MessageSent::KIND.index, MessageSent::KIND.updates), (None, None));
    }
    let mut service = service();
    let other = ToppedUp {
        id: Uuid::from_u128(1),
        customer_id: "102".parse().unwrap(),
        amount: 1,
        balance: 1,
    };
    service.handle(&Input::ToppedUp(other), 1).unwrap();
    assert_eq!(sent(&mut service)[0].lists(), ["{message}:index:102"]);
}

#[test]
fn the_text_of_a_message_fits_its_event() {
    let table: [(Input, &[&str]); 16] = [
        (ordered(1, 1, &["201"]), &["1 product: 201."]),
        (ordered(1, 1, &["201", "204", "201"]), &["3 products: 201, 204 and 201."]),
        (stock(1, 1, StockOutcome::PaymentRequired, None), &["in stock", "payment of 900"]),
        (stock(1, 1, StockOutcome::OutOfStock, Some("201: 6 wanted")), &["waits", "tell you"]),
        (stock(1, 1, StockOutcome::Rejected, Some("there is no product 9")), &["no product 9"]),
        (stock(1, 1, StockOutcome::Rejected, None), &["does not exist"]),
        (wallet(1, 1, WalletOutcome::ToBeShipped, None), &["on its way"]),
        (wallet(1, 1, WalletOutcome::InsufficientFund, None), &["top up", "wallet", "pay"]),
        (wallet(1, 1, WalletOutcome::Rejected, Some("there is no customer")), &["no customer"]),
        (ordered(1, 2, &["201"]), &["paying again", "once more"]),
        (cancelled(1, 1), &["your order is cancelled", "comes back to your wallet"]),
        (refunded(1, 1), &["refunded 900", "cancelled order"]),
        (shipped(1, 1), &["handed to the carrier"]),
        (completed(1, 1), &["delivered"]),
        (topped_up(1), &["received 500.", "balance is 1500."]),
        (stock(1, 2, StockOutcome::PaymentRequired, None), &["in stock", "payment of 900"]),
    ];
    for (input, words) in table {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        let body = sent(&mut service).remove(0).body;
        for word in words {
            assert!(body.contains(word), "{word:?} is missing in {body:?}");
        }
        assert!(!body.contains("  ") && body.ends_with(['.', '!']), "{body:?}");
    }
}
