//! One message for each cause.

use std::collections::BTreeSet;

use common::contract::{
    events::{OrderCreated, StockChecked, StockOutcome, WalletChecked, WalletOutcome},
    messages::{MessageKind, MessageSent},
};
use msg_service::notification::Input;

use crate::support::{
    all_events, customer, entry, events, ordered, resent, sent, service, stock, topped_up, wallet,
};

#[test]
fn a_redelivered_event_sends_one_message() {
    for (input, _) in all_events() {
        let mut service = service();
        service.handle(&input, 1).unwrap();
        sent(&mut service);
        let before = service.all::<MessageSent>();
        service.handle(&input, 2).unwrap();
        // Also if the text of the message would differ by now.
        service.handle(&customer("Tony", entry(2)), 3).unwrap();
        service.handle(&input, 4).unwrap();
        assert_eq!(sent(&mut service), [], "{input:?}");
        assert_eq!(service.all::<MessageSent>(), before);
    }
}

#[test]
fn a_resent_event_sends_a_message_only_if_the_first_was_lost() {
    let mut count = 0;
    for (input, kind) in all_events() {
        let Some(again) = resent(&input) else { continue };
        let mut messages_sent = Vec::new();
        for inputs in [[&input, &again, &again], [&again, &input, &again]] {
            let mut service = service();
            for input in inputs {
                service.handle(input, 1).unwrap();
            }
            let messages = sent(&mut service);
            assert_eq!(messages.len(), 1, "{inputs:?}: {messages:?}");
            assert_eq!(messages[0].kind, kind, "{inputs:?}");
            messages_sent.extend(messages);
        }
        assert_eq!(messages_sent[0], messages_sent[1], "{input:?}: it reads the same");
        count += 1;
    }
    assert_eq!(count, 3 * 9);
}

#[test]
fn each_order_attempt_kind_and_deposit_has_its_own_message() {
    let mut service = service();
    // Every event is delivered twice.
    for _ in 0..2 {
        for number in 1..=3 {
            for attempt in 1..=3 {
                for (input, _) in events(number, attempt) {
                    service.handle(&input, 1).unwrap();
                }
            }
            // With the id that an order has, too.
            service.handle(&topped_up(number), 1).unwrap();
        }
    }
    // Ten kinds: a rejection sends one message, by stock check or by payment.
    let messages = sent(&mut service);
    let count = 3 * 3 * 10 + 3;
    assert_eq!(messages.len(), count);
    assert_eq!(messages.iter().map(|message| message.id).collect::<BTreeSet<_>>().len(), count);
    assert_eq!(service.all::<MessageSent>().len(), count);
}

#[test]
fn the_same_message_has_the_same_id_in_every_process() {
    for (input, _) in all_events() {
        let id = || {
            let mut service = service();
            service.handle(&input, 1).unwrap();
            sent(&mut service).remove(0).id
        };
        assert_eq!(id(), id());
        assert_eq!(id().get_version_num(), 5);
    }
}

#[test]
fn an_unnumbered_result_sends_one_message_per_attempt() {
    let wallet = |outcome, by| {
        let Input::Wallet(event, _) = wallet(1, 1, outcome, None) else { unreachable!() };
        Input::Wallet(WalletChecked { attempt: None, ..event }, entry(by))
    };
    let reserved = |by| {
        let reserved = stock(1, 1, StockOutcome::PaymentRequired, None);
        let Input::Stock(event, _) = reserved else { unreachable!() };
        Input::Stock(StockChecked { attempt: None, ..event }, entry(by))
    };
    let again = |attempt, checked_by, refused_by| {
        let Input::Ordered(event) = ordered(1, attempt, &["201"]) else { unreachable!() };
        let (checked_by, refused_by) = (Some(entry(checked_by)), Some(entry(refused_by)));
        Input::Ordered(OrderCreated { checked_by, refused_by, ..event })
    };
    let refused = |by| wallet(WalletOutcome::InsufficientFund, by);
    use MessageKind::{InsufficientFund, OnItsWay, OrderReceived, StockReserved, TriedAgain};
    let story = [
        (ordered(1, 1, &["201"]), Some(OrderReceived)),
        (reserved(3), Some(StockReserved)),
        (reserved(4), None),
        // The next attempt arrives before the refused payment of the first one.
        (again(2, 4, 6), Some(TriedAgain)),
        (refused(5), Some(InsufficientFund)),
        (refused(6), None),
        (reserved(3), None),
        (reserved(5), Some(StockReserved)),
        (reserved(5), None),
        (refused(7), Some(InsufficientFund)),
        (again(3, 5, 7), Some(TriedAgain)),
        (again(2, 4, 6), None),
        (refused(7), None),
        (wallet(WalletOutcome::ToBeShipped, 8), Some(OnItsWay)),
        (wallet(WalletOutcome::ToBeShipped, 9), None),
    ];
    let mut service = service();
    for (index, (input, kind)) in story.into_iter().enumerate() {
        service.handle(&input, 1).unwrap();
        let kinds: Vec<_> = sent(&mut service).iter().map(|message| message.kind).collect();
        assert_eq!(kinds, Vec::from_iter(kind), "{index}: {input:?}");
    }
}
