//! Cancellations and refunds.

use account_service::wallet::{Input, Payment};
use common::contract::{
    entities::Account,
    events::{WalletChecked, WalletOutcome},
    streams,
};

use crate::support::{
    Bank, cancelled, cancelled_again, charged, created, customer, entry, order_id, released,
    resent, topped_up,
};

use WalletOutcome::{InsufficientFund, Rejected, ToBeShipped};

#[test]
fn a_cancelled_order_is_refunded_and_not_charged_again() {
    let unpaid = charged(1, 1, "101", 1_001);
    // The inputs for an order of 101, who had 1000, and the attempt of its cancellation; then the
    // recorded outcome, attempt and total, and the refund.
    let table = [
        ("nothing", vec![], 1, (None, 1, 0), None),
        ("nothing in the second attempt", vec![], 2, (None, 2, 0), None),
        ("paid", vec![charged(1, 1, "101", 400)], 1, (Some(ToBeShipped), 1, 400), Some(400)),
        ("paid, for nothing", vec![charged(1, 1, "101", 0)], 1, (Some(ToBeShipped), 1, 0), None),
        ("not paid", vec![unpaid.clone()], 1, (Some(InsufficientFund), 1, 1_001), None),
        ("of an unknown customer", vec![charged(1, 1, "999", 1)], 1, (Some(Rejected), 1, 1), None),
        (
            "not paid, then tried again",
            vec![unpaid.clone()],
            2,
            (Some(InsufficientFund), 1, 1_001),
            None,
        ),
        (
            "not paid, then paid",
            vec![unpaid.clone(), topped_up(7, "101", 1), charged(1, 2, "101", 1_001)],
            2,
            (Some(ToBeShipped), 2, 1_001),
            Some(1_001),
        ),
        (
            "paid, then the account was reset",
            vec![charged(1, 1, "101", 400), created("101", 1_000, entry(2))],
            1,
            (Some(ToBeShipped), 1, 400),
            Some(400),
        ),
    ];
    for (name, before, last, (outcome, attempt, total), refund) in table {
        let mut bank = Bank::with(&[("101", 1_000)]);
        before.iter().for_each(|input| bank.when(input));
        bank.0.published.clear();
        let (deposited, before) = (bank.account("101").deposited, bank.payment(1));
        let payer = before.as_ref().map_or(customer("101"), |it| it.customer_id.clone());
        bank.when(&cancelled(1, last, payer.as_str()));

        let refunded = refund.map(|amount| {
            serde_json::json!({
                "order_id": order_id(1), "customer_id": payer, "amount": amount, "attempt": attempt,
            })
        });
        let events: Vec<serde_json::Value> = bank.take(streams::ACCOUNT_REFUNDED);
        assert_eq!(events, Vec::from_iter(refunded), "{name}");
        let updated: Vec<Account> = bank.take(streams::ACCOUNT_UPDATED);
        assert_eq!(updated, Vec::from_iter(refund.map(|_| bank.account("101"))), "{name}");
        assert_eq!(bank.0.take(streams::ACCOUNT_CONFIRMED).len(), 1, "{name}");
        assert!(bank.0.published.is_empty(), "{name}");
        assert_eq!(bank.books("101"), (deposited, 0), "{name}");
        let payment = Payment {
            order_id: order_id(1),
            customer_id: payer.clone(),
            attempt,
            total,
            outcome,
            reason: before.and_then(|payment| payment.reason),
            cancelled: true,
            unnumbered_charge: None,
        };
        assert_eq!(bank.payment(1), Some(payment), "{name}");

        // From now on nothing changes, in any attempt.
        bank.when(&topped_up(9, "101", 5_000));
        bank.when(&created("999", 5_000, entry(2)));
        bank.0.published.clear();
        for attempt in 1..=3 {
            for payer in ["101", "999"] {
                bank.when_nothing_happens(&cancelled(1, attempt, payer));
                bank.when_nothing_happens(&charged(1, attempt, payer, 400));
                bank.when_nothing_happens(&resent(1, attempt, payer, 400));
                bank.when_nothing_happens(&released(1, attempt, payer, 400));
            }
        }
    }
}

#[test]
fn a_cancelled_order_costs_nothing_in_any_order_of_events() {
    let inputs = [
        charged(1, 1, "101", 1_100),
        topped_up(7, "101", 200),
        charged(1, 2, "101", 1_100),
        resent(1, 2, "101", 1_100),
        cancelled(1, 2, "101"),
        cancelled(1, 2, "101"),
    ];
    let mut ends = std::collections::BTreeSet::new();
    for order in permutations(&[0, 1, 2, 3, 4, 5]) {
        let mut bank = Bank::with(&[("101", 1_000)]);
        order.iter().for_each(|index| bank.when(&inputs[*index]));
        assert_eq!(bank.books("101"), (1_200, 0), "{order:?}");
        assert!(bank.payment(1).unwrap().cancelled, "{order:?}");
        let outcomes: Vec<WalletChecked> = bank.take(streams::ACCOUNT_WALLET);
        // Published again, it is still one payment.
        let paid = outcomes.iter().any(|event| event.account == ToBeShipped);
        let refunds = bank.refunds();
        assert_eq!(refunds, if paid { vec![1_100] } else { Vec::new() }, "{order:?}");
        ends.insert((outcomes.len(), paid));
    }
    assert!(ends.len() > 4, "the order of events matters: {ends:?}");
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in items.iter().enumerate() {
        let rest = [&items[..index], &items[index + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [&[*first][..], &rest].concat()));
    }
    all
}

#[test]
fn a_refund_pays_for_other_orders() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 1_000));
    bank.when(&charged(2, 1, "101", 600));
    bank.when(&cancelled(1, 1, "101"));
    bank.when(&charged(2, 2, "101", 600));
    bank.when(&charged(3, 1, "101", 400));
    assert_eq!(bank.books("101"), (0, 1_000));
    bank.when(&cancelled(2, 2, "101"));
    assert_eq!((bank.books("101"), bank.refunds()), ((600, 400), vec![1_000, 600]));
}

#[test]
fn a_cancellation_is_confirmed_once_and_after_each_resend() {
    let given: [(&str, Vec<Input>); 5] = [
        ("unknown", vec![]),
        ("paid", vec![charged(1, 1, "101", 400)]),
        ("not paid", vec![charged(1, 1, "101", 4_000)]),
        ("of an unknown customer", vec![charged(1, 1, "999", 1)]),
        ("cancelled", vec![charged(1, 1, "101", 400), cancelled(1, 1, "101")]),
    ];
    for (name, inputs) in given {
        let mut bank = Bank::with(&[("101", 1_000)]);
        inputs.iter().for_each(|input| bank.when(input));
        let mut confirmed = |input: &Input| {
            bank.0.take(streams::ACCOUNT_CONFIRMED);
            bank.when(input);
            bank.take::<serde_json::Value>(streams::ACCOUNT_CONFIRMED)
        };
        let confirmation = serde_json::json!({
            "order_id": order_id(1), "attempt": 2, "step": "cancelled",
        });
        let first = usize::from(name != "cancelled");
        assert_eq!(confirmed(&cancelled(1, 2, "101")).len(), first, "{name}");
        assert!(confirmed(&cancelled(1, 2, "101")).is_empty(), "{name}: it is only redelivered");
        for resend in [1, 2] {
            let again = confirmed(&cancelled_again(1, 2, "101", resend));
            assert_eq!(again, std::slice::from_ref(&confirmation), "{name}");
        }
        assert_eq!(bank.books("101"), (1_000, 0), "{name}");
        bank.when_nothing_happens(&resent(1, 3, "101", 400));
        let refunds = bank.refunds().len();
        assert_eq!(refunds, usize::from(matches!(name, "paid" | "cancelled")), "{name}");
    }
}
