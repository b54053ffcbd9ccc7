//! Backorder queues, deliveries and deposits.

use common::contract::{
    backorders::FillProgress,
    entities::{Deposit, Refused},
    messages::MessageKind,
};
use inventory_service::reservation::ReservationState;
use uuid::Uuid;

use super::{
    Corrupt, NOTHING, assert_found, findings,
    samples::{brought, id, waiting},
};
use crate::audit::facts::Snapshot;

#[test]
fn queue_entries_that_disagree_with_reservations_are_found() {
    let cases: &[(Corrupt, &str)] = &[
        (
            |b| b.queue_pages.values_mut().for_each(|page| page.entries.truncate(1)),
            "order 00000000-0000-0000-0000-000000000003: it should be in the queue of product q \
             on page 3 with number 9 for 2, but is not",
        ),
        (
            |b| b.queue_pages.values_mut().for_each(|page| page.entries.truncate(1)),
            "product q: 2 wait for it, but 1 are in its queue",
        ),
        (
            |b| b.reservation(id(2)).position.as_mut().unwrap().sequence = 6,
            "order 00000000-0000-0000-0000-000000000002: it is in the queue of product q on \
             page 3 with number 7 for 2, but its reservation says on page 3 with number 6 for 2",
        ),
        (
            |b| b.reservation(id(2)).position = None,
            "it does wait, but does not have a queue position",
        ),
        (
            |b| b.reservation(id(2)).state = ReservationState::Rejected,
            "it is in the queue of product q on page 3 with number 7 for 2, but should not",
        ),
        (
            |b| b.reservation(id(2)).position.as_mut().unwrap().pages.clear(),
            "it waits, but not in the queue of product q",
        ),
        (
            |b| b.queue_pages.values_mut().for_each(|page| page.entries.reverse()),
            "order 00000000-0000-0000-0000-000000000002 with number 7 is behind order \
             00000000-0000-0000-0000-000000000003 with 9",
        ),
        (
            |b| b.product("q").backorders.sequence = 8,
            "order 00000000-0000-0000-0000-000000000003 has number 9, but 8 was given last",
        ),
        (
            |b| b.product("q").backorders.last = 2,
            "product q: 2 are on page 3 of its queue, which goes from page 2 to 2",
        ),
        (
            |b| {
                let fill = Some(FillProgress { sequence: 7, page: 3 });
                b.product("q").backorders.fill = fill;
            },
            "product q: its queue is still being filled, after number 7",
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
fn deliveries_and_deposits_that_disagree_are_found() {
    let p = |b: &mut Snapshot| (b.deliveries.pop_first(), b.deposits.pop_first());
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
    let cases: &[(Corrupt, &str)] = &[
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
    // A second definition discards an unknown amount.
    let redefined = findings(brought(), |b| {
        b.products_defined.push(b.products_defined[0].clone());
        b.products.values_mut().for_each(|it| (it.amount, it.received) = (9, 11));
    });
    assert_eq!(redefined, NOTHING);
}

fn refuse(deposit: &mut Deposit) {
    deposit.refused = Some(Refused::Unknown);
}
