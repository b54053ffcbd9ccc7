//! Lines, and what is brought.

use common::contract::{
    entities::{Deposit, Refused, Served},
    events::MessageKind,
};
use inventory_service::reservation::ReservationState;
use uuid::Uuid;

use super::{
    NOTHING, Spoil, assert_found, findings,
    samples::{brought, id, waiting},
};
use crate::audit::snapshot::Books;

#[test]
fn whoever_waits_stands_in_line_in_order_and_nobody_waits_for_nothing() {
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.line_pages.values_mut().for_each(|page| page.spots.truncate(1)),
            "order 00000000-0000-0000-0000-000000000003: it should stand in the line of product q \
             on page 3 with ticket 9 for 2, but does not",
        ),
        (
            |b| b.line_pages.values_mut().for_each(|page| page.spots.truncate(1)),
            "product q: 2 wait for it, but 1 stand in its line",
        ),
        (
            |b| b.reservation(id(2)).position.as_mut().unwrap().sequence = 6,
            "order 00000000-0000-0000-0000-000000000002: it stands in the line of product q on \
             page 3 with ticket 7 for 2, but its reservation says on page 3 with ticket 6 for 2",
        ),
        (|b| b.reservation(id(2)).position = None, "it does wait, but does not have a ticket"),
        (
            |b| b.reservation(id(2)).state = ReservationState::Rejected,
            "it stands in the line of product q on page 3 with ticket 7 for 2, but should not",
        ),
        (
            |b| b.reservation(id(2)).position.as_mut().unwrap().pages.clear(),
            "it waits, but in no line of product q",
        ),
        (
            |b| b.line_pages.values_mut().for_each(|page| page.spots.reverse()),
            "order 00000000-0000-0000-0000-000000000002 with ticket 7 stands behind order \
             00000000-0000-0000-0000-000000000003 with 9",
        ),
        (
            |b| b.product("q").line.ticket = 8,
            "order 00000000-0000-0000-0000-000000000003 has ticket 9, but 8 was given last",
        ),
        (
            |b| b.product("q").line.last = 2,
            "product q: 2 stand on page 3 of its line, which goes from page 2 to 2",
        ),
        (
            |b| {
                let served = Some(Served { ticket: 7, page: 3 });
                b.product("q").line.served = served;
            },
            "product q: its line is still being served, after ticket 7",
        ),
        (
            |b| b.product("q").amount = 2,
            "order 00000000-0000-0000-0000-000000000002: it waits, but could have all that it \
             needs: 2 of 2 q",
        ),
        (|b| drop(b.products.pop_last()), "product q: does not exist, but 2 wait for it"),
    ];
    assert_found(waiting, cases);
}

#[test]
fn what_is_brought_comes_in_once_and_as_it_was_brought() {
    let p = |b: &mut Books| (b.deliveries.pop_first(), b.deposits.pop_first());
    let found = findings(brought(), |b| drop(p(b)));
    for expected in [
        "delivery 00000000-0000-0000-0000-000000000033: entry 51-0 of \
         events:{inventory}_restock brings it, but it is not recorded",
        "product p: received 8, but 5 at first and 0 brought make 5",
        "deposit 00000000-0000-0000-0000-00000000003d: entry 61-0 of events:{account}_top-up \
         brings it, but it is not recorded",
        "account c: deposited 150, but 100 at first and 0 paid in make 100",
        "deposit 00000000-0000-0000-0000-00000000003d: 1 entries on \
         events:{account}_topped-up, but no record",
    ] {
        assert!(found.contains(expected), "expected {expected:?} in:\n{found}");
    }
    let cases: &[(Spoil, &str)] = &[
        (
            |b| b.products.values_mut().for_each(|it| (it.amount, it.received) = (9, 11)),
            "product p: received 11, but 5 at first and 3 brought make 8",
        ),
        (
            |b| b.accounts.values_mut().for_each(|it| (it.balance, it.deposited) = (180, 200)),
            "account c: deposited 200, but 100 at first and 50 paid in make 150",
        ),
        (
            |b| b.restocks.clear(),
            "recorded, but entry 51-0 of events:{inventory}_restock does not bring it",
        ),
        (
            |b| b.top_ups[0].1.amount = 51,
            "recorded as 50 to c, but entry 61-0 of events:{account}_top-up brings 51 to c",
        ),
        (|b| b.topped_up.clear(), "0 entries on events:{account}_topped-up instead of 1"),
        (
            |b| b.topped_up.push(b.topped_up[0].clone()),
            "2 entries on events:{account}_topped-up instead of 1",
        ),
        (
            |b| b.deposits.values_mut().for_each(refuse),
            "1 entries on events:{account}_topped-up instead of 0",
        ),
        (|b| b.topped_up[0].amount = 5, "recorded as 50 to c, but announced as 5 to c"),
        (
            |b| b.send(Uuid::from_u128(9), None, MessageKind::ToppedUp),
            "account c: 2 messages topped-up on events:{message}_sent instead of 1",
        ),
        (
            |b| b.messages.retain(|_, message| message.order.is_some()),
            "account c: 0 messages topped-up are stored instead of 1",
        ),
    ];
    assert_found(brought, cases);
    // Defined a second time, nobody knows how much had come in before.
    let redefined = findings(brought(), |b| {
        b.products_defined.push(b.products_defined[0].clone());
        b.products.values_mut().for_each(|it| (it.amount, it.received) = (9, 11));
    });
    assert_eq!(redefined, NOTHING);
}

fn refuse(deposit: &mut Deposit) {
    deposit.refused = Some(Refused::Unknown);
}
