//! Resending: orders without an answer and steps without a confirmation.

use common::{
    consumer::StreamEntry,
    contract::{
        events::{OrderCancelled, OrderShipped, OrderUnpaid},
        order::{CONFIRMATION_RESENDS_MAX, Confirmation, Order, Resent},
        order_routes::OrderAction,
        order_status::OrderStatus,
        streams,
    },
    schema::{entity::Entity, entry_id::EntryId},
};
use order_service::{
    order::{Answer, Input},
    subscriptions,
};

use crate::{
    scenarios::{rising, scenarios},
    support::{
        CONFIRMATIONS, RESEND_AFTER, Service, after, announced, append, confirmed, customer, id,
        new_order, placed, result, step, updated,
    },
    table::{AWAITS_ANSWER, CANCEL, Cause, PAID, RESERVED, SHIP, UNPAID},
};

use Confirmation::{PaymentCancelled, StockCancelled, StockReleased, StockShipped};
use OrderStatus::{Cancelled, OutOfStock, PaymentRequired};

#[test]
fn only_overdue_orders_are_resent() {
    for scenario in scenarios(rising) {
        let (given, case) = (&scenario.order, scenario.describe());
        let overdue = Input::ResendOverdue(id());
        let mut service = Service::with(&scenario.inputs);
        let early = scenario.overdue_at() - 1;
        let answer = service.when_nothing_happens(&overdue, early, &case);
        assert_eq!(answer, Some(Answer::Nothing), "{case}, a millisecond too early");
        if !AWAITS_ANSWER.contains(&given.status) && given.unconfirmed.is_empty() {
            for now in [scenario.overdue_at(), u64::MAX] {
                let answer = service.when_nothing_happens(&overdue, now, &case);
                assert_eq!(answer, Some(Answer::Nothing), "{case}: no answer is due");
            }
            continue;
        }
        let now = scenario.overdue_at();
        let times = given.resent.map_or(0, |resent| resent.times) + 1;
        let then = Order { resent: Some(Resent { at: now, times }), ..given.clone() };
        assert_eq!(service.when(&overdue, now), Some(Answer::Done(then.clone())), "{case}");
        let (id, customer_id, attempt) = (id(), customer("101"), given.attempt);
        let resend = times;
        let event = match given.unconfirmed.first() {
            None => append(&announced(&then, times)),
            Some(StockCancelled | PaymentCancelled) => {
                append(&OrderCancelled { id, customer_id, attempt, resend })
            }
            Some(StockShipped) => append(&OrderShipped { id, customer_id, attempt, resend }),
            Some(StockReleased) => append(&OrderUnpaid { id, customer_id, attempt, resend }),
        };
        assert_eq!(service.published(), [updated(&then), event], "{case}");
        assert_eq!(service.order(), Some(then), "{case}");
        // Another instance read the order at the same time.
        let answer = service.when_nothing_happens(&overdue, now, &case);
        assert_eq!(answer, Some(Answer::Nothing), "{case}, at once again");
    }
}

#[test]
fn each_resend_doubles_the_waiting_time_up_to_a_limit() {
    for status in AWAITS_ANSWER {
        let mut service = Service::with(&[(placed(), 5_000)]);
        let mut last = 5_000;
        if status == PaymentRequired {
            last = 7_000;
            service.when(&result(RESERVED, 1).unwrap(), last);
        }
        for (factor, times) in [1, 2, 4, 8, 16, 32, 64, 64, 64].into_iter().zip(1..) {
            let due = last + factor * RESEND_AFTER;
            let early = service.when(&Input::ResendOverdue(id()), due - 1);
            assert_eq!(early, Some(Answer::Nothing), "the {times}. time");
            let Some(Answer::Done(order)) = service.when(&Input::ResendOverdue(id()), due) else {
                panic!("{status:?}: no resend {times}")
            };
            assert_eq!(order.resent, Some(Resent { at: due, times }));
            assert_eq!(order.status, status, "that is no step");
            last = due;
        }
    }
}

#[test]
fn a_step_resets_the_waiting_time() {
    let overdue = Input::ResendOverdue(id());
    let result = |cause, attempt| result(cause, attempt).unwrap();
    let mut service = Service::with(&[(placed(), 0)]);
    for now in [1_000, 3_000, 7_000] {
        assert!(matches!(service.when(&overdue, now), Some(Answer::Done(_))), "at {now}");
    }
    service.when(&result(RESERVED, 1), 8_000);
    assert_eq!(service.order().unwrap().resent, None, "its answer has arrived");
    assert_eq!(service.when(&overdue, 8_999), Some(Answer::Nothing));
    assert!(matches!(service.when(&overdue, 9_000), Some(Answer::Done(_))));

    service.when(&result(UNPAID, 1), 9_500);
    assert_eq!(service.order().unwrap().resent, None);
    service.when(&confirmed(StockReleased, 1), 9_600);
    assert_eq!(service.when(&overdue, 1_000_000), Some(Answer::Nothing), "it waits for a customer");
    service.asked(OrderAction::Pay, 1, 20_000);
    assert_eq!(service.when(&overdue, 20_999), Some(Answer::Nothing));
    let Some(Answer::Done(order)) = service.when(&overdue, 21_000) else { panic!("overdue") };
    assert_eq!(order.resent, Some(Resent { at: 21_000, times: 1 }));
    assert_eq!(order.attempt, 2);

    service.asked(OrderAction::Cancel, 2, 21_500);
    assert_eq!(service.order().unwrap().resent, None, "another wait begins");
    assert_eq!(service.when(&overdue, 22_499), Some(Answer::Nothing));
    service.when(&confirmed(StockCancelled, 2), 22_499);
    service.when(&confirmed(PaymentCancelled, 2), 22_499);
    assert_eq!(service.when(&overdue, u64::MAX), Some(Answer::Nothing), "no answer is due");
}

#[test]
fn a_confirmation_ends_only_its_own_wait() {
    let mut ended = 0;
    for scenario in scenarios(rising) {
        let (given, now) = (&scenario.order, scenario.now() + 10);
        let mut at_rest = Service::with(&scenario.inputs);
        for confirmation in CONFIRMATIONS {
            for attempt in [given.attempt - 1, given.attempt, given.attempt + 1] {
                let case = format!("{}, when {confirmation:?} of {attempt}", scenario.describe());
                let input = confirmed(confirmation, attempt);
                let is_due = given.unconfirmed.contains(&confirmation);
                if !is_due || attempt != given.attempt {
                    at_rest.when_nothing_happens(&input, now, &case);
                    continue;
                }
                let mut then = given.clone();
                then.unconfirmed.retain(|it| *it != confirmation);
                then.resent = then.resent.filter(|_| !then.unconfirmed.is_empty());
                let mut service = Service::with(&scenario.inputs);
                service.when(&input, now);
                assert_eq!(service.published(), [updated(&then)], "{case}");
                assert_eq!(service.order(), Some(then), "{case}");
                service.when_nothing_happens(&input, now, &case);
                ended += 1;
            }
        }
    }
    assert!(ended > 20, "{ended}");
}

#[test]
fn an_unconfirmed_step_is_resent_twenty_times_and_reported_once() {
    let paid = [(placed(), 0), (result(PAID, 1).unwrap(), 0)];
    for (action, stream) in [(CANCEL, streams::ORDER_CANCELLED), (SHIP, streams::ORDER_SHIPPED)] {
        let Cause::Asked(action) = action else { panic!("a request") };
        let mut service = Service::with(&paid);
        service.asked(action, 1, 0);
        let listed = |service: &Service| {
            let entries = service.order().unwrap().sorted_sets();
            entries.iter().any(|entry| entry.set == "{order}:unconfirmed")
        };
        let mut last = 0;
        for times in 1..=CONFIRMATION_RESENDS_MAX {
            let due = last + (RESEND_AFTER << (times - 1).min(6));
            assert_eq!(service.when(&Input::ResendOverdue(id()), due - 1), Some(Answer::Nothing));
            let answer = service.when(&Input::ResendOverdue(id()), due);
            assert!(matches!(answer, Some(Answer::Done(_))), "{times}: {answer:?}");
            assert!(listed(&service));
            last = due;
        }
        let published = service.0.take(stream).len() as u32;
        assert_eq!(published, 1 + CONFIRMATION_RESENDS_MAX);
        let answer = service.when(&Input::ResendOverdue(id()), last + 64 * RESEND_AFTER);
        assert!(matches!(answer, Some(Answer::Unconfirmed(_))), "{answer:?}");
        assert!(!listed(&service), "it is not read any more");
        service.published();
        let answer =
            service.when_nothing_happens(&Input::ResendOverdue(id()), u64::MAX, "an overdue order");
        assert_eq!(answer, Some(Answer::Nothing));
        // A late confirmation is applied all the same.
        for confirmation in CONFIRMATIONS {
            service.when(&confirmed(confirmation, 1), u64::MAX);
        }
        assert_eq!(service.order().unwrap().unconfirmed, []);
    }
}

#[test]
fn an_order_of_an_earlier_version_counts_as_confirmed() {
    let stored = serde_json::to_value(new_order(1)).unwrap();
    assert_eq!(stored.get("unconfirmed"), None, "nothing is stored where nothing is outstanding");
    let mut stored = Order { status: Cancelled, ..serde_json::from_value(stored).unwrap() };
    stored.history.push(step(Cancelled, 2, 1));
    assert_eq!(after(&stored, &Input::ResendOverdue(id()), u64::MAX), None);
    assert_eq!(stored.sorted_sets().len(), 2);
}

#[test]
fn confirmations_are_read_from_the_streams_of_both_owners() {
    let table = [
        (streams::INVENTORY_CONFIRMED, "cancelled", Some(StockCancelled)),
        (streams::INVENTORY_CONFIRMED, "shipped", Some(StockShipped)),
        (streams::INVENTORY_CONFIRMED, "released", Some(StockReleased)),
        (streams::ACCOUNT_CONFIRMED, "cancelled", Some(PaymentCancelled)),
        (streams::ACCOUNT_CONFIRMED, "shipped", None),
    ];
    for (stream, step, confirmation) in table {
        let entity = format!(r#"{{"order_id": "{}", "attempt": 2, "step": "{step}"}}"#, id());
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entry = StreamEntry { id: EntryId::default(), entity: &entity, forgotten: false };
        let expected = confirmation.map(|it| confirmed(it, 2));
        assert_eq!((subscription.parse)(&entry), Ok(expected), "{stream} {step}");
    }
}

#[test]
fn only_a_backorder_is_resent_when_its_queue_is_lost() {
    for scenario in scenarios(rising) {
        let (given, case) = (&scenario.order, scenario.describe());
        let mut service = Service::with(&scenario.inputs);
        if given.status != OutOfStock {
            let answer = service.when_nothing_happens(&Input::Requeue(id()), u64::MAX, &case);
            assert_eq!(answer, Some(Answer::Nothing), "{case}");
            continue;
        }
        let answer = service.when(&Input::Requeue(id()), 1_000_000);
        assert_eq!(answer, Some(Answer::Done(given.clone())), "{case}");
        assert_eq!(service.published(), [append(&announced(given, 1))], "{case}");
        assert_eq!(service.order().as_ref(), Some(given), "{case}: a resend is no step");
    }
}
