//! Payments: charges, attempts and resends.

use account_service::wallet::{Charge, Input, Payment};
use common::contract::{
    entities::Account,
    events::{WalletChecked, WalletOutcome},
    streams,
};

use crate::support::{
    Bank, cancelled, charge, charged, charged_by_the_original, created, customer, entry, order_id,
    redefined, released, resent, topped_up,
};

use WalletOutcome::{InsufficientFund, Rejected, ToBeShipped};

#[test]
fn an_order_is_paid_in_full_or_not_at_all() {
    // Name, charge, outcome; then balance and paid of 101, who had 1000.
    let table = [
        ("less than the balance", charge(1, 1, "101", 900), ToBeShipped, (100, 900)),
        ("exactly the balance", charge(1, 1, "101", 1_000), ToBeShipped, (0, 1_000)),
        ("nothing", charge(1, 1, "101", 0), ToBeShipped, (1_000, 0)),
        ("one more than the balance", charge(1, 1, "101", 1_001), InsufficientFund, (1_000, 0)),
        ("the largest total", charge(1, 1, "101", u64::MAX), InsufficientFund, (1_000, 0)),
        ("nothing of nothing", charge(1, 1, "102", 0), ToBeShipped, (1_000, 0)),
        ("something of nothing", charge(1, 1, "102", 1), InsufficientFund, (1_000, 0)),
        ("an unknown customer", charge(1, 1, "999", 1), Rejected, (1_000, 0)),
        ("an unknown customer, for nothing", charge(1, 1, "999", 0), Rejected, (1_000, 0)),
        ("a later attempt", charge(1, 3, "101", 900), ToBeShipped, (100, 900)),
        ("a later attempt, too dear", charge(1, 3, "101", 1_001), InsufficientFund, (1_000, 0)),
    ];
    for (name, charge, outcome, books) in table {
        // A resent charge has the same outcome if the first one was lost.
        for resend in [false, true] {
            let (payer, total) = (charge.customer_id.as_str(), charge.total);
            let mut bank = Bank::with(&[("101", 1_000), ("102", 0)]);
            let balance = if payer == "102" { 0 } else { 1_000 };
            bank.when(&Input::Charge(Charge { resend, ..charge.clone() }));
            assert_eq!(bank.books("101"), books, "{name}");
            let reason = match outcome {
                ToBeShipped => None,
                InsufficientFund => Some(format!("it costs {total}, the balance is {balance}")),
                Rejected => Some(format!("there is no customer {payer}")),
            };
            let expected = WalletChecked {
                order_id: order_id(1),
                customer_id: customer(payer),
                account: outcome,
                order_total: Some(total),
                attempt: charge.attempt,
                reason: reason.clone(),
            };
            assert_eq!(bank.outcome(), expected, "{name}");
            let payment = Payment {
                order_id: order_id(1),
                customer_id: customer(payer),
                attempt: charge.attempt.unwrap(),
                total,
                outcome: Some(outcome),
                reason,
                cancelled: false,
                unnumbered_charge: None,
            };
            assert_eq!(bank.0.all::<Payment>(), [payment], "{name}");
            let updated: Vec<Account> = bank.take(streams::ACCOUNT_UPDATED);
            let expected = (outcome == ToBeShipped).then(|| bank.account(payer));
            assert_eq!(updated, Vec::from_iter(expected), "{name}");
            assert!(bank.0.published.is_empty(), "{name}");
        }
    }
}

#[test]
fn released_stock_is_not_charged() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&released(1, 1, "101", 900));
    let outcome = bank.outcome();
    assert_eq!((outcome.account, bank.books("101")), (InsufficientFund, (1_000, 0)));
    assert_eq!(outcome.reason.as_deref(), Some("its stock was released; pay again"));
    bank.when_nothing_happens(&charged(1, 1, "101", 900));
    assert_eq!(bank.when_nothing_changes(&released(1, 1, "101", 900)), [outcome]);

    bank.when(&charged(1, 2, "101", 900));
    assert_eq!((bank.outcome().account, bank.books("101")), (ToBeShipped, (100, 900)));

    bank.when(&released(2, 1, "999", 1));
    let outcome = bank.outcome();
    assert_eq!(outcome.account, Rejected, "to pay again would not help");
    assert_eq!(outcome.reason.as_deref(), Some("there is no customer 999"));
}

#[test]
fn a_redelivered_charge_is_paid_once() {
    for (payer, total) in [("101", 900), ("101", 1_001), ("999", 1)] {
        let mut bank = Bank::with(&[("101", 1_000)]);
        bank.when(&charged(1, 1, payer, total));
        bank.when_nothing_happens(&charged(1, 1, payer, total));
        // Also if the customer can pay by now.
        bank.when(&created("101", 5_000, entry(2)));
        bank.when(&created("999", 5_000, entry(2)));
        bank.when(&topped_up(1, "101", 5_000));
        bank.when_nothing_happens(&charged(1, 1, payer, total));
    }
}

#[test]
fn a_resent_charge_repeats_the_outcome_and_never_charges_twice() {
    for (payer, total) in [("101", 900), ("101", 0), ("101", 1_001), ("999", 1)] {
        for attempt in [1, 2] {
            let mut bank = Bank::with(&[("101", 1_000)]);
            bank.when(&charged(1, attempt, payer, total));
            let first = bank.outcome();
            // Also if the customer can pay by now, or the price has changed.
            bank.when(&topped_up(1, "101", 5_000));
            bank.when(&created("999", 5_000, entry(2)));
            let again = [
                resent(1, attempt, payer, total),
                resent(1, attempt, payer, total + 1),
                released(1, attempt, payer, total),
            ];
            for input in again.iter().chain(&again) {
                assert_eq!(
                    bank.when_nothing_changes(input),
                    std::slice::from_ref(&first),
                    "{input:?}"
                );
            }
            bank.when_nothing_happens(&resent(1, attempt - 1, payer, total));
        }
    }
}

#[test]
fn orders_are_paid_until_the_balance_is_used_up() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    let outcomes = [(1, 600), (2, 600), (3, 400), (4, 1)].map(|(number, total)| {
        bank.when(&charged(number, 1, "101", total));
        bank.outcome().account
    });
    assert_eq!(outcomes, [ToBeShipped, InsufficientFund, ToBeShipped, InsufficientFund]);
    assert_eq!(bank.books("101"), (0, 1_000));
}

#[test]
fn a_later_attempt_is_charged_and_an_earlier_one_is_not() {
    // The input in between, the outcome of the second attempt, and whether it was resent.
    let table = [
        (topped_up(1, "101", 50), ToBeShipped, (0, 150)),
        (topped_up(1, "101", 49), InsufficientFund, (149, 0)),
        (created("101", 200, entry(2)), ToBeShipped, (50, 150)),
        (redefined("101", 200, entry(2)), InsufficientFund, (100, 0)),
    ];
    for (between, outcome, books) in table {
        for second in [charged(1, 2, "101", 150), resent(1, 2, "101", 150)] {
            let mut bank = Bank::with(&[("101", 100)]);
            bank.when(&charged(1, 1, "101", 150));
            assert_eq!(bank.outcome().account, InsufficientFund);
            bank.when(&between);
            bank.when(&second);
            let event = bank.outcome();
            assert_eq!((event.account, event.attempt), (outcome, Some(2)), "{between:?}");
            assert_eq!(bank.books("101"), books, "{between:?}");
            assert_eq!(bank.payment(1).unwrap().attempt, 2);
            bank.when_nothing_happens(&charged(1, 2, "101", 150));
            bank.when_nothing_happens(&charged(1, 1, "101", 150));
            bank.when_nothing_happens(&resent(1, 1, "101", 150));
        }
    }
}

#[test]
fn an_attempt_that_is_overtaken_is_not_charged() {
    let mut bank = Bank::with(&[("101", 100)]);
    bank.when(&charged(1, 3, "101", 150));
    assert_eq!(bank.outcome().attempt, Some(3));
    bank.when(&topped_up(1, "101", 1_000));
    for attempt in [1, 2, 3] {
        bank.when_nothing_happens(&charged(1, attempt, "101", 150));
    }
    bank.when(&charged(1, 4, "101", 150));
    assert_eq!((bank.outcome().account, bank.books("101")), (ToBeShipped, (950, 150)));
}

#[test]
fn a_paid_order_is_not_paid_again_by_a_later_attempt() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 400));
    bank.when_nothing_happens(&charged(1, 2, "101", 400));
    // A resend repeats that it is paid.
    let published_outcomes = bank.when_nothing_changes(&resent(1, 2, "101", 400));
    let published_outcomes: Vec<_> =
        published_outcomes.iter().map(|event| (event.account, event.attempt)).collect();
    assert_eq!(published_outcomes, [(ToBeShipped, Some(2))]);
    assert_eq!(bank.books("101"), (600, 400));
}

#[test]
fn each_unnumbered_entry_charges_once() {
    let mut bank = Bank::with(&[("101", 100)]);
    let first = charged_by_the_original(1, entry(5), "101", 150);
    bank.when(&first);
    let outcome = bank.outcome();
    assert_eq!(
        (outcome.account, outcome.attempt),
        (InsufficientFund, None),
        "the order knows its attempt"
    );
    bank.when(&topped_up(1, "101", 900));
    bank.when_nothing_happens(&first);
    bank.when_nothing_happens(&charged_by_the_original(1, entry(4), "101", 150));
    let second = charged_by_the_original(1, entry(6), "101", 150);
    bank.when(&second);
    let outcome = bank.outcome();
    assert_eq!((outcome.account, outcome.attempt), (ToBeShipped, None));
    assert_eq!(bank.books("101"), (850, 150));
    bank.when_nothing_happens(&second);
    bank.when_nothing_happens(&first);
    // A resend repeats the outcome and charges nothing.
    let third = charged_by_the_original(1, entry(7), "101", 150);
    bank.when(&third);
    assert_eq!(bank.outcome().account, ToBeShipped);
    assert_eq!(bank.books("101"), (850, 150));
    bank.when_nothing_happens(&third);
    bank.when(&cancelled(1, 1, "101"));
    assert_eq!(bank.books("101"), (1_000, 0));
    bank.when_nothing_happens(&charged_by_the_original(1, entry(8), "101", 150));
}

#[test]
fn a_numbered_charge_follows_an_unnumbered_one() {
    let mut bank = Bank::with(&[("101", 100)]);
    bank.when(&charged_by_the_original(1, entry(5), "101", 150));
    assert_eq!(bank.outcome().account, InsufficientFund);
    bank.when(&topped_up(1, "101", 900));
    bank.when_nothing_happens(&charged(1, 1, "101", 150));
    bank.when(&charged(1, 2, "101", 150));
    assert_eq!((bank.outcome().account, bank.books("101")), (ToBeShipped, (850, 150)));
    // The reverse: a refused charge without an attempt is not charged on redelivery.
    let mut bank = Bank::with(&[("101", 100)]);
    let first = charged_by_the_original(1, entry(5), "101", 150);
    bank.when(&first);
    bank.when(&charged(1, 2, "101", 150));
    bank.when(&topped_up(1, "101", 900));
    bank.when_nothing_happens(&first);
}
