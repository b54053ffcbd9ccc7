//! Orders that are shipped, cancelled, paid again and resent.

use common::contract::{events::StockOutcome, messages::MessageKind, order_status::OrderStatus};
use inventory_service::reservation::ReservationState;

use super::{
    Corrupt, NOTHING, assert_found, findings,
    samples::{cancelled, consistent, id, paid_again, refund, shipped},
};
use crate::audit::facts::{OrderCreatedEntry, Snapshot};

#[test]
fn shipped_products_count_as_sold_and_their_order_as_shipped() {
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| b.products.values_mut().for_each(|it| it.sold = 1),
            "product p: 1 sold, but 2 were shipped with orders",
        ),
        (
            |b| b.reservation(id(1)).shipped = false,
            "it is shipped, but its reservation is held and its payment to-be-shipped",
        ),
        (
            |b| b.order(id(1)).status = OrderStatus::ToBeShipped,
            "it is to-be-shipped, but its reservation is held and shipped and its payment",
        ),
        (|b| b.steps.clear(), "0 entries on events:{order}_shipped for attempt 1 instead of 1"),
        (
            |b| b.order(id(1)).status = OrderStatus::Completed,
            "0 entries on events:{order}_completed for attempt 1 instead of 1",
        ),
    ];
    assert_found(shipped, cases);
}

#[test]
fn a_cancelled_order_holds_nothing_and_is_refunded_once() {
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| b.refunds.clear(),
            "0 entries on events:{account}_refunded for attempt 1 instead of 1",
        ),
        (
            |b| b.refunds.push(refund(20)),
            "2 entries on events:{account}_refunded for attempt 1 instead of 1",
        ),
        (|b| b.refunds[0] = refund(19), "19 refunded of 20 paid"),
        (
            |b| b.reservation(id(1)).state = ReservationState::Held,
            "it is cancelled, but its reservation is held and its payment cancelled",
        ),
        (
            |b| b.payments.values_mut().for_each(|payment| payment.cancelled = false),
            "it is cancelled, but its reservation is cancelled and its payment to-be-shipped",
        ),
        (|b| b.steps.clear(), "0 entries on events:{order}_cancelled for attempt 1 instead of 1"),
        (
            |b| b.order(id(1)).status = OrderStatus::ToBeShipped,
            "1 entries on events:{order}_cancelled for attempt 1 instead of 0",
        ),
    ];
    assert_found(cancelled, cases);
}

#[test]
fn a_cancelled_order_may_have_stopped_at_any_point() {
    // Before any work on it: both services know only the cancellation.
    let before = findings(cancelled(), |snapshot| {
        let reservation = snapshot.reservation(id(1));
        reservation.quantities.clear();
        snapshot.payments.values_mut().for_each(|it| (it.total, it.outcome) = (0, None));
        snapshot.checks.clear();
        snapshot.wallets.clear();
        snapshot.refunds.clear();
        for kind in ["stock-reserved", "on-its-way", "refunded"] {
            snapshot.sent.retain(|message| message.kind.name() != kind);
            snapshot.messages.retain(|_, message| message.kind.name() != kind);
        }
    });
    assert_eq!(before, NOTHING);
    // After it was paid again, before any service handled that.
    let again = findings(cancelled(), |snapshot| {
        snapshot.order(id(1)).attempt = 2;
        snapshot.steps[0].attempt = 2;
        snapshot.created.push(OrderCreatedEntry {
            order: id(1),
            attempt: 2,
            ours: true,
            resend: false,
        });
        snapshot.add_messages(id(1), &["tried-again"]);
    });
    assert_eq!(again, NOTHING);
}

#[test]
fn each_attempt_is_announced_and_answered_once() {
    let cases: &[(Corrupt, &str)] = &[
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
fn a_resent_order_may_be_answered_again() {
    let answer_again = |snapshot: &mut Snapshot| {
        let mut check = snapshot.checks[0].clone();
        check.resend = true;
        snapshot.checks.push(check);
        snapshot.wallets.push(snapshot.wallets[0].clone());
    };
    let resend = |snapshot: &mut Snapshot| {
        let order = id(1);
        snapshot.created.push(OrderCreatedEntry { order, attempt: 1, ours: true, resend: true });
    };
    let asked = findings(consistent(), |snapshot| {
        resend(snapshot);
        answer_again(snapshot);
        answer_again(snapshot);
    });
    assert_eq!(asked, NOTHING);
    // The first event was lost: the resend gets the first answer.
    let lost = findings(consistent(), |snapshot| {
        resend(snapshot);
        snapshot.checks[0].resend = true;
    });
    assert_eq!(lost, NOTHING);
    let unasked = findings(consistent(), answer_again);
    assert!(unasked.contains("2 entries on events:{inventory}_check"), "{unasked}");
    assert!(unasked.contains("2 entries on events:{account}_wallet"), "{unasked}");
    let doubled = findings(consistent(), |snapshot| {
        resend(snapshot);
        snapshot.checks.push(snapshot.checks[0].clone());
        snapshot.wallets.push(snapshot.wallets[0].clone());
    });
    assert!(doubled.contains("2 entries on events:{inventory}_check"), "{doubled}");
    assert!(doubled.contains("2 entries on events:{account}_wallet"), "{doubled}");
}
