//! The findings in consistent snapshots and in corrupted ones.

mod lifecycle;
mod samples;
mod stock;

use common::{
    contract::{
        events::{ConfirmedStep, StockOutcome},
        order_status::OrderStatus,
        streams,
    },
    schema::stream::Stream,
};

use self::samples::{brought, cancelled, consistent, id, paid_again, shipped, waiting};
use super::{
    Report,
    facts::{ConfirmationEntry, OrderStepEntry, Snapshot},
};

const NOTHING: &str = "";

type Corrupt = fn(&mut Snapshot);

fn findings(mut snapshot: Snapshot, corrupt: impl FnOnce(&mut Snapshot)) -> String {
    corrupt(&mut snapshot);
    snapshot.check().findings.join("\n")
}

/// Asserts that each corruption leads to its finding.
fn assert_found(snapshot: fn() -> Snapshot, cases: &[(Corrupt, &str)]) {
    assert_eq!(findings(snapshot(), |_| {}), NOTHING);
    for (corrupt, expected) in cases {
        let found = findings(snapshot(), corrupt);
        assert!(found.contains(expected), "expected {expected:?} in:\n{found}");
    }
}

#[test]
fn a_consistent_snapshot_has_no_findings() {
    let report = consistent().check();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.orders, report.unfinished, report.foreign), (1, 0, 0));
    assert_eq!(report.by_status, [("to-be-shipped", 1)].into());
    let report: Report = waiting().check();
    // An order that waits for stock is not unfinished.
    assert_eq!((report.findings, report.unfinished), (Vec::new(), 0));
    assert_eq!(findings(paid_again(), |_| {}), NOTHING);
}

#[test]
fn each_disagreement_is_found_with_its_entity_and_both_numbers() {
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| b.products.values_mut().for_each(|it| it.amount = 4),
            "product p: received 5, but 4 available and 2 reserved make 6",
        ),
        (
            |b| b.reservation(id(1)).quantities.values_mut().for_each(|quantity| *quantity = 1),
            "product p: 2 reserved, but orders hold 1",
        ),
        (|b| b.products.clear(), "product p: does not exist, but orders hold 2"),
        (
            |b| b.accounts.values_mut().for_each(|it| it.balance = 60),
            "account c: deposited 100, but balance 60 and paid 20 make 80",
        ),
        (|b| b.payments.clear(), "account c: paid 20, but its payments make 0"),
        (|b| b.accounts.clear(), "account c: does not exist, but its payments make 20"),
        (
            |b| b.order(id(1)).status = OrderStatus::OutOfStock,
            "it is out-of-stock, but its reservation is held and its payment to-be-shipped",
        ),
        (
            |b| b.order(id(1)).status = OrderStatus::Pending,
            "it is still pending; its reservation is held and its payment to-be-shipped",
        ),
        (
            |b| b.checks.push(b.checks[0].clone()),
            "2 entries on events:{inventory}_check for attempt 1 instead of 1",
        ),
        (|b| b.checks.clear(), "0 entries on events:{inventory}_check for attempt 1 instead of 1"),
        (
            |b| b.check_stock_of(id(1), StockOutcome::Rejected, 1),
            "its stock check says payment-required and rejected for attempt 1",
        ),
        (|b| b.wallets.clear(), "0 entries on events:{account}_wallet for attempt 1 instead of 1"),
        (
            |b| b.wallets.push(b.wallets[0].clone()),
            "2 entries on events:{account}_wallet for attempt 1 instead of 1",
        ),
        (
            |b| b.pay_event(id(1), "rejected", 1),
            "its payment is said to be to-be-shipped and rejected for attempt 1",
        ),
        (
            |b| b.created.push(b.created[0].clone()),
            "2 entries on events:{order}_created for attempt 1 instead of 1",
        ),
        (
            |b| b.payments.values_mut().for_each(|it| it.total = 15),
            "its stock check says 20 is to be paid, its payment 15",
        ),
        (|b| b.order(id(1)).order_total = None, "its total is nothing, but its payment is of 20"),
        (
            |b| b.reservation(id(1)).customer_id = "d".parse().unwrap(),
            "it is c's, but its reservation is d's",
        ),
        (|b| b.reservation(id(1)).attempt = 2, "it is in attempt 1, but its reservation in 2"),
        (|b| b.orders.clear(), "it is published but not stored"),
        (|b| b.unreadable.push("this".to_owned()), "cannot be read: this"),
    ];
    assert_found(consistent, cases);
}

#[test]
fn messages_that_are_missing_doubled_or_different_are_found() {
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| b.sent.push(b.sent[0].clone()),
            "2 messages order-received on events:{message}_sent instead of 1",
        ),
        (|b| b.sent.push(b.sent[0].clone()), "was sent 2 times instead of 1"),
        (|b| b.messages.clear(), "0 messages on-its-way are stored instead of 1"),
        (|b| b.messages.clear(), "message 00000000-0000-0000-0000-000000000064: sent, but not"),
        (|b| b.sent.clear(), "message 00000000-0000-0000-0000-000000000064: stored, but not sent"),
        (|b| b.sent[0].body = "x".to_owned(), "the sent message differs from the stored one"),
        (
            |b| b.add_messages(id(1), &["cancelled"]),
            "1 messages cancelled on events:{message}_sent instead of 0",
        ),
        (|b| b.order(id(1)).customer_id = "d".parse().unwrap(), "went to c instead of d"),
    ];
    assert_found(consistent, cases);
}

#[test]
fn missing_and_surplus_entries_of_indexes_are_found() {
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| b.indexes[0].listed.push(id(1).to_string()),
            "{order}:index: lists 00000000-0000-0000-0000-000000000001 2 times instead of 1",
        ),
        (
            |b| b.indexes[0].listed.clear(),
            "{order}:index: lists 00000000-0000-0000-0000-000000000001 0 times instead of 1",
        ),
        (
            |b| b.indexes[1].listed.push("gone".to_owned()),
            "{order}:status:pending: lists gone 1 times instead of 0",
        ),
    ];
    assert_found(consistent, cases);
}

#[test]
fn trimmed_entries_are_excused_but_double_effects_are_found() {
    let trim_all = |snapshot: &mut Snapshot| {
        snapshot.created.clear();
        snapshot.steps.clear();
        snapshot.checks.clear();
        snapshot.wallets.clear();
        snapshot.refunds.clear();
        snapshot.topped_up.clear();
        snapshot.sent.clear();
        snapshot.restocks.clear();
        snapshot.top_ups.clear();
        snapshot.products_defined.clear();
        snapshot.accounts_defined.clear();
        snapshot.trimmed.0.extend(streams::ALL);
    };
    for snapshot in [consistent, shipped, cancelled, waiting, brought, paid_again] {
        assert_eq!(findings(snapshot(), trim_all), NOTHING);
        for stream in streams::ALL {
            let found = findings(snapshot(), |snapshot| snapshot.trimmed.0.push(stream));
            assert_eq!(found, NOTHING, "{stream}");
        }
    }
    let found = findings(consistent(), |snapshot| {
        snapshot.trimmed.0.push(streams::INVENTORY_CHECK);
        snapshot.checks.push(snapshot.checks[0].clone());
        snapshot.wallets.push(snapshot.wallets[0].clone());
    });
    assert!(found.contains("2 entries on events:{inventory}_check"), "{found}");
    assert!(found.contains("2 entries on events:{account}_wallet"), "{found}");
}

#[test]
fn an_order_of_another_order_service_is_known_by_its_events() {
    let foreign = |mut snapshot: Snapshot| {
        snapshot.orders.clear();
        snapshot.indexes.clear();
        snapshot.created.iter_mut().for_each(|created| created.ours = false);
        snapshot
    };
    let report = foreign(waiting()).check();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.orders, report.foreign, report.unfinished), (0, 3, 0));
    let mut snapshot = foreign(consistent());
    assert_eq!(snapshot.check().findings, Vec::<String>::new());
    snapshot.wallets.clear();
    snapshot.payments.clear();
    let report = snapshot.check();
    let expected = "it is not finished: its reservation is held and its payment missing";
    assert!(report.findings.iter().any(|it| it.contains(expected)), "{:?}", report.findings);
    assert_eq!(report.unfinished, 1);
}

fn confirmed(snapshot: &mut Snapshot, stream: Stream, step: ConfirmedStep) {
    snapshot.confirmed.push(ConfirmationEntry { order: id(1), stream, attempt: 1, step });
}

#[test]
fn a_step_is_confirmed_once_and_only_if_it_had_its_effect() {
    use ConfirmedStep::{Cancelled, Released, Shipped};
    let stock = streams::INVENTORY_CONFIRMED;
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| confirmed(b, streams::INVENTORY_CONFIRMED, Shipped),
            "says shipped of attempt 1, which is not so",
        ),
        (
            |b| confirmed(b, streams::INVENTORY_CONFIRMED, Released),
            "says released of attempt 1, which is not so",
        ),
        (
            |b| confirmed(b, streams::INVENTORY_CONFIRMED, Cancelled),
            "says cancelled of attempt 1, which is not so",
        ),
        (
            |b| confirmed(b, streams::ACCOUNT_CONFIRMED, Cancelled),
            "says cancelled of attempt 1, which is not so",
        ),
    ];
    assert_found(consistent, cases);
    assert_eq!(findings(shipped(), |b| confirmed(b, stock, Shipped)), NOTHING);
    let twice = |b: &mut Snapshot| {
        confirmed(b, stock, Cancelled);
        confirmed(b, stock, Cancelled);
    };
    let found = findings(cancelled(), twice);
    assert!(found.contains("2 entries on events:{inventory}_confirmed for attempt 1"), "{found}");
    // A resend may be confirmed again.
    let again = |b: &mut Snapshot| {
        twice(b);
        let stream = streams::ORDER_CANCELLED;
        b.steps.push(OrderStepEntry { order: id(1), stream, attempt: 1, resend: true });
    };
    assert_eq!(findings(cancelled(), again), NOTHING);
}
