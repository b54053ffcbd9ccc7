//! Orders that are shipped, called off, paid again and sent again.

use common::contract::{
    entities::OrderStatus,
    events::{MessageKind, StockOutcome},
};
use inventory_service::reservation::ReservationState;

use super::{
    NOTHING, Spoil, assert_found, findings,
    samples::{balanced, cancelled, id, paid_again, refund, shipped},
};
use crate::audit::snapshot::{Books, Created};

#[test]
fn what_left_the_house_counts_as_sold_and_its_order_as_shipped() {
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.products.values_mut().for_each(|it| it.sold = 1),
            "product p: 1 sold, but 2 left the house with orders",
        ),
        (
            |b| b.reservation(id(1)).shipped = false,
            "it is shipped, but its reservation is held and its payment to-be-shipped",
        ),
        (
            |b| b.order(id(1)).status = OrderStatus::ToBeShipped,
            "it is to-be-shipped, but its reservation is held and shipped and its payment",
        ),
        (|b| b.acts.clear(), "0 entries on events:{order}_shipped for attempt 1 instead of 1"),
        (
            |b| b.order(id(1)).status = OrderStatus::Completed,
            "0 entries on events:{order}_completed for attempt 1 instead of 1",
        ),
    ];
    assert_found(shipped, cases);
}

#[test]
fn an_order_that_is_called_off_holds_nothing_and_is_refunded_once() {
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.refunds.clear(),
            "0 entries on events:{account}_refunded for attempt 1 instead of 1",
        ),
        (
            |b| b.refunds.push(refund(20)),
            "2 entries on events:{account}_refunded for attempt 1 instead of 1",
        ),
        (|b| b.refunds[0] = refund(19), "19 were given back of 20 paid"),
        (
            |b| b.reservation(id(1)).state = ReservationState::Held,
            "it is cancelled, but its reservation is held and its payment cancelled",
        ),
        (
            |b| b.payments.values_mut().for_each(|payment| payment.cancelled = false),
            "it is cancelled, but its reservation is cancelled and its payment to-be-shipped",
        ),
        (|b| b.acts.clear(), "0 entries on events:{order}_cancelled for attempt 1 instead of 1"),
        (
            |b| b.order(id(1)).status = OrderStatus::ToBeShipped,
            "1 entries on events:{order}_cancelled for attempt 1 instead of 0",
        ),
    ];
    assert_found(cancelled, cases);
}

#[test]
fn an_order_that_is_called_off_may_stand_still_at_any_point() {
    // Before anything was done for it: both only know that it is called off.
    let before = findings(cancelled(), |books| {
        let reservation = books.reservation(id(1));
        reservation.quantities.clear();
        books.payments.values_mut().for_each(|it| (it.total, it.outcome) = (0, None));
        books.checks.clear();
        books.wallets.clear();
        books.refunds.clear();
        for told in ["stock-reserved", "on-its-way", "refunded"] {
            books.sent.retain(|message| message.kind.name() != told);
            books.messages.retain(|_, message| message.kind.name() != told);
        }
    });
    assert_eq!(before, NOTHING);
    // After it was paid again, before anybody heard of that.
    let again = findings(cancelled(), |books| {
        books.order(id(1)).attempt = 2;
        books.acts[0].attempt = 2;
        books.created.push(Created { order: id(1), attempt: 2, ours: true, resend: false });
        books.tell(id(1), &["tried-again"]);
    });
    assert_eq!(again, NOTHING);
}

#[test]
fn each_attempt_is_announced_and_answered_once() {
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.created.retain(|event| event.attempt == 1),
            "0 entries on events:{order}_created for attempt 2 instead of 1",
        ),
        (
            |b| b.wallets.retain(|event| event.attempt == Some(2)),
            "0 entries on events:{account}_wallet for attempt 1 instead of 1",
        ),
        (
            |b| b.check_stock_of(id(1), StockOutcome::OutOfStock, 2),
            "3 entries on events:{inventory}_check for attempt 2 instead of 2",
        ),
        (
            |b| b.messages.retain(|_, message| message.kind != MessageKind::TriedAgain),
            "0 messages tried-again are stored instead of 1",
        ),
    ];
    assert_found(paid_again, cases);
}

#[test]
fn an_order_that_was_sent_again_may_be_answered_again() {
    let say_again = |books: &mut Books| {
        let mut check = books.checks[0].clone();
        check.resend = true;
        books.checks.push(check);
        books.wallets.push(books.wallets[0].clone());
    };
    let send_again = |books: &mut Books| {
        let order = id(1);
        books.created.push(Created { order, attempt: 1, ours: true, resend: true });
    };
    let asked = findings(balanced(), |books| {
        send_again(books);
        say_again(books);
        say_again(books);
    });
    assert_eq!(asked, NOTHING);
    // The event was lost: who was sent again is answered for the first time.
    let lost = findings(balanced(), |books| {
        send_again(books);
        books.checks[0].resend = true;
    });
    assert_eq!(lost, NOTHING);
    let unasked = findings(balanced(), say_again);
    assert!(unasked.contains("2 entries on events:{inventory}_check"), "{unasked}");
    assert!(unasked.contains("2 entries on events:{account}_wallet"), "{unasked}");
    let doubled = findings(balanced(), |books| {
        send_again(books);
        books.checks.push(books.checks[0].clone());
        books.wallets.push(books.wallets[0].clone());
    });
    assert!(doubled.contains("2 entries on events:{inventory}_check"), "{doubled}");
    assert!(doubled.contains("2 entries on events:{account}_wallet"), "{doubled}");
}
