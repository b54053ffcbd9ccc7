//! Events of the original, which name no attempt.

use common::{
    consumer::StreamEntry,
    contract::{
        events::{OrderCreated, StockChecked, WalletChecked},
        order::Order,
        order_routes::OrderAction,
        order_status::OrderStatus,
        streams,
    },
    schema::entry_id::EntryId,
};
use order_service::{order::Input, subscriptions};

use crate::{
    support::{Service, after, id, new_order, placed, result},
    table::{Cause, PAID, RESERVED, UNPAID},
};

use OrderStatus::{InsufficientFund, OutOfStock, PaymentRequired, Pending, ToBeShipped};

#[test]
fn entries_of_the_original_are_understood() {
    let check = |rest: &str| {
        let id = id();
        let entity = format!(
            r#"{{"order_id": "{id}", "customer_id": "101", "product_ids": ["201", "204"], {rest}}}"#
        );
        (streams::INVENTORY_CHECK, entity)
    };
    let payment = |outcome: &str| {
        let id = id();
        let entity =
            format!(r#"{{"order_id": "{id}", "customer_id": "101", "account": "{outcome}"}}"#);
        (streams::ACCOUNT_WALLET, entity)
    };
    let table = [
        (
            check(r#""inventory": "payment-required", "order_total": 900"#),
            PaymentRequired,
            Some(900),
        ),
        (check(r#""inventory": "out-of-stock""#), OutOfStock, None),
        (payment("to-be-shipped"), ToBeShipped, None),
        (payment("insufficient-fund"), InsufficientFund, None),
    ];
    for ((stream, entity), status, total) in table {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entry = StreamEntry { id: EntryId::default(), entity: &entity, forgotten: false };
        let input = (subscription.parse)(&entry).unwrap().unwrap();
        let then = after(&new_order(1), &input, 2).unwrap();
        assert_eq!((then.status, then.order_total), (status, total), "{entity}");
        let known = Order { order_total: Some(900), ..new_order(1) };
        let then = after(&known, &input, 2).unwrap();
        assert_eq!(then.order_total, Some(900), "{entity}: the total stays known");
    }
}

/// A result as services of the original publish it: without attempt and reason.
fn of_the_original(cause: Cause, entry: u64) -> Input {
    let entry = original_entry(entry);
    match result(cause, 1).unwrap() {
        Input::Stock(event, _) => {
            Input::Stock(StockChecked { attempt: None, reason: None, ..event }, entry)
        }
        Input::Wallet(event, _) => {
            let event = WalletChecked { attempt: None, reason: None, order_total: None, ..event };
            Input::Wallet(event, entry)
        }
        _ => unreachable!("only results have causes"),
    }
}

fn original_entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600, sequence: number }
}

#[test]
fn an_unnumbered_result_belongs_to_the_current_attempt() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.when(&of_the_original(RESERVED, 3), 2);
    assert_eq!(service.order().unwrap().status, PaymentRequired);
    service.when(&of_the_original(UNPAID, 5), 3);
    assert_eq!(service.order().unwrap().status, InsufficientFund);
    // Other entries with the same results.
    service.when(&of_the_original(UNPAID, 6), 3);
    service.when(&of_the_original(RESERVED, 4), 3);
    service.published();
    service.when_nothing_happens(&of_the_original(RESERVED, 3), 3, "the result is known");
    service.asked(OrderAction::Pay, 7, 4);
    let created = service.published().into_iter().find(|it| it.stream == streams::ORDER_CREATED);
    let created: OrderCreated = serde_json::from_str(&created.unwrap().json).unwrap();
    let marks = (created.checked_by, created.refused_by);
    assert_eq!(marks, (Some(original_entry(4)), Some(original_entry(6))));
    for (cause, entry) in [(RESERVED, 3), (RESERVED, 4), (UNPAID, 5), (UNPAID, 6)] {
        let case = "the result belongs to the previous attempt";
        service.when_nothing_happens(&of_the_original(cause, entry), 5, case);
    }
    service.when(&of_the_original(RESERVED, 5), 6);
    service.when(&of_the_original(UNPAID, 7), 7);
    let order = service.order().unwrap();
    assert_eq!((order.status, order.attempt), (InsufficientFund, 2));
    service.asked(OrderAction::Pay, 8, 8);
    service.when(&of_the_original(PAID, 8), 9);
    let order = service.order().unwrap();
    assert_eq!((order.status, order.attempt), (ToBeShipped, 3));
    service.published();
    service.when_nothing_happens(&of_the_original(PAID, 8), 10, "it is paid");
}

#[test]
fn an_unnumbered_payment_after_a_refusal_counts_as_paid() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.when(&of_the_original(RESERVED, 0), 2);
    service.when(&of_the_original(UNPAID, 5), 3);
    service.when(&of_the_original(PAID, 6), 4);
    let order = service.order().unwrap();
    assert_eq!((order.status, order.unconfirmed), (ToBeShipped, Vec::new()));
    let statuses: Vec<_> = order.history.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [Pending, PaymentRequired, InsufficientFund, ToBeShipped]);
}
