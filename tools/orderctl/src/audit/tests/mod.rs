//! What is found in books that balance, and in books that were spoilt.

mod lives;
mod samples;
mod stock;

use common::contract::{
    entities::OrderStatus,
    events::{ConfirmedStep, StockOutcome, Stream},
};

use self::samples::{balanced, brought, cancelled, id, paid_again, shipped, waiting};
use super::{
    Report,
    snapshot::{Act, Books, ConfirmedEntry},
};

const NOTHING: &str = "";

type Spoil = fn(&mut Books);

fn findings(mut books: Books, spoil: impl FnOnce(&mut Books)) -> String {
    spoil(&mut books);
    books.check().findings.join("\n")
}

/// Each of these leads to its finding.
fn assert_found(books: fn() -> Books, cases: &[(Spoil, &str)]) {
    assert_eq!(findings(books(), |_| {}), NOTHING);
    for (spoil, expected) in cases {
        let found = findings(books(), spoil);
        assert!(found.contains(expected), "expected {expected:?} in:\n{found}");
    }
}

#[test]
fn balanced_books_have_no_findings() {
    let report = balanced().check();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.orders, report.unfinished, report.foreign), (1, 0, 0));
    assert_eq!(report.by_status, [("to-be-shipped", 1)].into());
    let report: Report = waiting().check();
    // Whoever waits for stock is not unfinished.
    assert_eq!((report.findings, report.unfinished), (Vec::new(), 0));
    assert_eq!(findings(paid_again(), |_| {}), NOTHING);
}

#[test]
fn each_fault_is_found_with_its_culprit_and_both_numbers() {
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.products.values_mut().for_each(|it| it.amount = 4),
            "product p: received 5, but 4 on hand and 2 reserved make 6",
        ),
        (
            |b| b.reservation(id(1)).quantities.values_mut().for_each(|pieces| *pieces = 1),
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
    assert_found(balanced, cases);
}

#[test]
fn messages_that_are_missing_doubled_or_different_are_found() {
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.sent.push(b.sent[0].clone()),
            "2 messages order-received on events:{message}_sent instead of 1",
        ),
        (|b| b.sent.push(b.sent[0].clone()), "was sent 2 times instead of 1"),
        (|b| b.messages.clear(), "0 messages on-its-way are stored instead of 1"),
        (|b| b.messages.clear(), "message 00000000-0000-0000-0000-000000000064: sent, but not"),
        (|b| b.sent.clear(), "message 00000000-0000-0000-0000-000000000064: stored, but not sent"),
        (|b| b.sent[0].body = "x".to_owned(), "what was sent is not what is stored"),
        (
            |b| b.tell(id(1), &["cancelled"]),
            "1 messages cancelled on events:{message}_sent instead of 0",
        ),
        (|b| b.order(id(1)).customer_id = "d".parse().unwrap(), "went to c instead of d"),
    ];
    assert_found(balanced, cases);
}

#[test]
fn ids_that_are_missing_from_a_list_or_too_much_in_it_are_found() {
    let cases: &[(Spoil, &str)] = &[
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
    assert_found(balanced, cases);
}

#[test]
fn what_was_trimmed_is_not_missed_but_double_effects_still_show() {
    let trim_all = |books: &mut Books| {
        books.created.clear();
        books.acts.clear();
        books.checks.clear();
        books.wallets.clear();
        books.refunds.clear();
        books.topped_up.clear();
        books.sent.clear();
        books.restocks.clear();
        books.top_ups.clear();
        books.products_defined.clear();
        books.accounts_defined.clear();
        books.trimmed.0.extend(Stream::ALL);
    };
    for books in [balanced, shipped, cancelled, waiting, brought, paid_again] {
        assert_eq!(findings(books(), trim_all), NOTHING);
        for stream in Stream::ALL {
            let found = findings(books(), |books| books.trimmed.0.push(stream));
            assert_eq!(found, NOTHING, "{stream}");
        }
    }
    let found = findings(balanced(), |books| {
        books.trimmed.0.push(Stream::InventoryCheck);
        books.checks.push(books.checks[0].clone());
        books.wallets.push(books.wallets[0].clone());
    });
    assert!(found.contains("2 entries on events:{inventory}_check"), "{found}");
    assert!(found.contains("2 entries on events:{account}_wallet"), "{found}");
}

#[test]
fn an_order_of_another_order_service_is_known_by_its_events() {
    let foreign = |mut books: Books| {
        books.orders.clear();
        books.indexes.clear();
        books.created.iter_mut().for_each(|created| created.ours = false);
        books
    };
    let report = foreign(waiting()).check();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.orders, report.foreign, report.unfinished), (0, 3, 0));
    let mut books = foreign(balanced());
    assert_eq!(books.check().findings, Vec::<String>::new());
    books.wallets.clear();
    books.payments.clear();
    let report = books.check();
    let expected = "it did not come to its end: its reservation is held and its payment missing";
    assert!(report.findings.iter().any(|it| it.contains(expected)), "{:?}", report.findings);
    assert_eq!(report.unfinished, 1);
}

fn confirmed(books: &mut Books, stream: Stream, step: ConfirmedStep) {
    books.confirmed.push(ConfirmedEntry { order: id(1), stream, attempt: 1, step });
}

#[test]
fn a_step_is_confirmed_once_and_only_if_it_had_its_effect() {
    use ConfirmedStep::{Cancelled, Released, Shipped};
    let stock = Stream::InventoryConfirmed;
    let cases: &[(Spoil, &str)] = &[
        (
            |b| confirmed(b, Stream::InventoryConfirmed, Shipped),
            "says shipped of attempt 1, which is not so",
        ),
        (
            |b| confirmed(b, Stream::InventoryConfirmed, Released),
            "says released of attempt 1, which is not so",
        ),
        (
            |b| confirmed(b, Stream::InventoryConfirmed, Cancelled),
            "says cancelled of attempt 1, which is not so",
        ),
        (
            |b| confirmed(b, Stream::AccountConfirmed, Cancelled),
            "says cancelled of attempt 1, which is not so",
        ),
    ];
    assert_found(balanced, cases);
    assert_eq!(findings(shipped(), |b| confirmed(b, stock, Shipped)), NOTHING);
    let twice = |b: &mut Books| {
        confirmed(b, stock, Cancelled);
        confirmed(b, stock, Cancelled);
    };
    let found = findings(cancelled(), twice);
    assert!(found.contains("2 entries on events:{inventory}_confirmed for attempt 1"), "{found}");
    // Unless it was asked for again, as often as it may be.
    let again = |b: &mut Books| {
        twice(b);
        let stream = Stream::OrderCancelled;
        b.acts.push(Act { order: id(1), stream, attempt: 1, resend: true });
    };
    assert_eq!(findings(cancelled(), again), NOTHING);
}
