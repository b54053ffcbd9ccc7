//! The transitions of the status, compared with a table.

use std::collections::HashSet;

use common::{
    contract::{
        events::{OrderCancelled, StockChecked},
        order::{Confirmation, Order, Step},
        order_routes::OrderAction,
        order_status::OrderStatus,
    },
    decision::in_memory::Memory,
};
use order_service::order::{Answer, Input, Orders};

use crate::{
    scenarios::{rising, scenarios},
    support::{
        ORDERS, Service, act, announced, answered, append, customer, id, new_order, permutations,
        placed, result, results, step, steps, updated,
    },
    table::{
        Cause, OUT_OF_STOCK, PAID, PAYMENT_REJECTED, RESERVED, STOCK_REJECTED, TRANSITIONS, UNPAID,
        expected, next_status, rank,
    },
};

use Confirmation::{PaymentCancelled, StockCancelled};
use OrderStatus::{Cancelled, OutOfStock, PaymentRequired, Pending, Rejected, ToBeShipped};

#[test]
fn the_transition_table_has_every_status() {
    assert_eq!(TRANSITIONS.map(|(status, _)| status), OrderStatus::ALL);
}

#[test]
fn every_status_is_reached_in_the_first_and_in_the_second_attempt() {
    let reached: HashSet<(OrderStatus, u32)> = scenarios(rising)
        .iter()
        .map(|scenario| (scenario.order.status, scenario.order.attempt))
        .collect();
    for status in OrderStatus::ALL {
        for attempt in [1, 2] {
            assert!(reached.contains(&(status, attempt)), "{status:?} in attempt {attempt}");
        }
    }
}

#[test]
fn the_history_is_ordered_and_ends_with_the_current_status() {
    for scenario in scenarios(rising) {
        let (order, case) = (&scenario.order, scenario.describe());
        let far = |step: &Step| (step.attempt, rank(step.status));
        assert!(order.history.windows(2).all(|pair| far(&pair[0]) < far(&pair[1])), "{case}");
        assert_eq!(steps(order).last(), Some(&(order.attempt, order.status)), "{case}");
        assert_eq!(order.history[0], step(Pending, 1_000_000, 1), "{case}");
        let begun = order.history.iter().filter(|step| step.status == Pending).count();
        assert_eq!(begun, order.attempt as usize, "{case}: every attempt begins once");
        let asked = order.history.iter().filter_map(|step| step.request);
        let granted = scenario.granted.iter().map(|(act, _)| act.request);
        assert!(asked.eq(granted), "{case}: a step remembers the request for it");
    }
}

#[test]
fn a_result_changes_the_status_as_the_table_says() {
    for scenario in scenarios(rising) {
        let (given, now) = (&scenario.order, scenario.now() + 10);
        let mut at_rest = Service::with(&scenario.inputs);
        assert_eq!(at_rest.order().as_ref(), Some(given), "the scenario is true");
        for (cause, input) in results(given.attempt) {
            let case = format!("{}, when {cause:?}", scenario.describe());
            let (then, published) = expected(given, cause, None, now);
            // Of two with one rank only one can happen.
            let ranks = steps(given).into_iter().map(|(attempt, it)| (attempt, rank(it)));
            let reached = then.history.iter().find(|step| !given.history.contains(step)).unwrap();
            if ranks.into_iter().any(|it| it == (given.attempt, rank(reached.status))) {
                assert_eq!(next_status(given.status, cause), None, "{case}");
                // A payment for a rejected order: see below.
                if (given.status, cause) == (Rejected, PAID) {
                    continue;
                }
                assert_eq!(at_rest.when_nothing_happens(&input, now, &case), None);
                continue;
            }
            let mut service = Service::with(&scenario.inputs);
            assert_eq!(service.when(&input, now), None, "{case}: no answer");
            assert_eq!(service.order(), Some(then), "{case}");
            assert_eq!(service.published(), published, "{case}");
            service.when_nothing_happens(&input, now + 1, &format!("{case}, and again"));
        }
    }
}

#[test]
fn a_result_of_another_attempt_changes_nothing() {
    for scenario in scenarios(rising) {
        let mut at_rest = Service::with(&scenario.inputs);
        let (attempt, now) = (scenario.order.attempt, scenario.now() + 10);
        for other in [attempt - 1, attempt + 1, 0, u32::MAX] {
            for (cause, input) in results(other) {
                let case = format!("{}, when {cause:?} of attempt {other}", scenario.describe());
                assert_eq!(at_rest.when_nothing_happens(&input, now, &case), None, "{case}");
            }
        }
    }
}

#[test]
fn a_request_is_granted_or_refused_as_the_table_says() {
    for scenario in scenarios(rising) {
        let (given, now) = (&scenario.order, scenario.now() + 10);
        let mut at_rest = Service::with(&scenario.inputs);
        for action in OrderAction::ALL {
            let case = format!("{}, when asked to {}", scenario.describe(), action.name());
            let cause = Cause::Asked(action);
            let asked = scenario.fresh_request(action);
            let input = Input::Act(asked.clone());
            if next_status(given.status, cause).is_none() {
                let answer = at_rest.when_nothing_happens(&input, now, &case);
                assert_eq!(answer, Some(Answer::WrongState(given.status)), "{case}");
                continue;
            }
            let mut service = Service::with(&scenario.inputs);
            let (then, published) = expected(given, cause, Some(&asked), now);
            assert_eq!(service.when(&input, now), Some(Answer::Done(answered(&then))), "{case}");
            assert_eq!(service.order(), Some(then), "{case}");
            assert_eq!(service.published(), published, "{case}");
        }
    }
}

#[test]
fn the_allowed_actions_are_those_of_the_table() {
    for action in OrderAction::ALL {
        for (status, _) in TRANSITIONS {
            let to = next_status(status, Cause::Asked(action));
            assert_eq!(action.fits(status), to.is_some(), "{action:?} of {status:?}");
            assert!(to.is_none_or(|to| to == action.status()), "{action:?} of {status:?}");
        }
    }
}

#[test]
fn an_order_that_was_never_placed_is_unknown() {
    let mut service = Service::new();
    for action in OrderAction::ALL {
        let input = Input::Act(act(action, 1));
        let answer = service.when_nothing_happens(&input, 1, action.name());
        assert_eq!(answer, Some(Answer::Unknown));
    }
    let answer =
        service.when_nothing_happens(&Input::ResendOverdue(id()), u64::MAX, "an overdue order");
    assert_eq!(answer, Some(Answer::Nothing));
    for attempt in [1, 2] {
        for (cause, input) in results(attempt) {
            assert_eq!(service.when_nothing_happens(&input, 1, &format!("{cause:?}")), None);
        }
    }
}

#[test]
fn results_in_any_order_lead_to_the_same_state() {
    let histories: [&[Cause]; 9] = [
        &[OUT_OF_STOCK, RESERVED],
        &[OUT_OF_STOCK, STOCK_REJECTED],
        &[RESERVED, PAID],
        &[RESERVED, UNPAID],
        &[RESERVED, PAYMENT_REJECTED],
        &[OUT_OF_STOCK, RESERVED, PAID],
        &[OUT_OF_STOCK, RESERVED, UNPAID],
        &[OUT_OF_STOCK, RESERVED, PAYMENT_REJECTED],
        &[OUT_OF_STOCK, STOCK_REJECTED, RESERVED],
    ];
    for attempt in [1, 2] {
        let mut inputs = vec![(placed(), 1)];
        if attempt == 2 {
            inputs.push((result(UNPAID, 1).unwrap(), 2));
            inputs.push((Input::Act(act(OrderAction::Pay, 7)), 3));
        }
        for causes in histories {
            let mut ends = permutations(causes).into_iter().map(|permutation| {
                let mut service = Service::with(&inputs);
                for cause in permutation {
                    // Each result arrives at a time of its own, so that they can be distinguished.
                    let number = causes.iter().position(|it| *it == cause).unwrap();
                    service.when(&result(cause, attempt).unwrap(), 10 + number as u64);
                }
                // Only the order of arrival may differ.
                let mut order = service.order().unwrap();
                for step in &mut order.history {
                    (step.late, step.order_total) = (None, None);
                }
                order
            });
            let end = ends.next().unwrap();
            let causes_known = steps(&end).iter().filter(|step| step.0 == attempt).count() - 1;
            assert_eq!(causes_known, causes.len(), "{causes:?}: all results are in the history");
            assert!(ends.all(|other| other == end), "{causes:?} in attempt {attempt}");
        }
    }
}

#[test]
fn a_result_after_a_cancellation_joins_only_the_history() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.asked(OrderAction::Cancel, 7, 2);
    for (cause, now) in
        [(PAID, 3), (RESERVED, 4), (OUT_OF_STOCK, 5), (UNPAID, 6), (PAYMENT_REJECTED, 7)]
    {
        service.when(&result(cause, 1).unwrap(), now);
    }
    let order = service.order().unwrap();
    let history: Vec<_> = order.history.iter().map(|step| (step.status, step.at)).collect();
    let expected =
        [(Pending, 1), (OutOfStock, 5), (PaymentRequired, 4), (ToBeShipped, 3), (Cancelled, 2)];
    assert_eq!(history, expected);
    assert_eq!((order.status, order.reason), (Cancelled, None));
    assert_eq!(order.order_total, Some(900), "the total is known");
}

#[test]
fn a_new_order_is_pending_and_announced() {
    let mut service = Service::new();
    assert_eq!(service.when(&placed(), 7), Some(Answer::Done(new_order(7))));
    assert_eq!(service.order(), Some(new_order(7)));
    assert_eq!(service.published(), [append(&announced(&new_order(7), 0))]);
}

#[test]
fn a_payment_for_a_rejected_order_is_refunded() {
    let mut service = Service::with(&[(placed(), 1), (result(STOCK_REJECTED, 1).unwrap(), 2)]);
    let order = service.order().unwrap();
    service.when(&result(PAID, 1).unwrap(), 3);
    let customer_id = order.customer_id.clone();
    let cancelled = OrderCancelled { id: id(), customer_id, attempt: 1, resend: 0 };
    let then = Order { unconfirmed: vec![StockCancelled, PaymentCancelled], ..order };
    assert_eq!(service.published(), [updated(&then), append(&cancelled)]);
    assert_eq!(service.order(), Some(then), "it stays rejected");
}

#[test]
fn an_order_whose_reservation_was_lost_before_its_payment_waits_for_stock_again() {
    let resent = |input: Option<Input>| match input.unwrap() {
        Input::Stock(check, entry) => Input::Stock(StockChecked { resend: true, ..check }, entry),
        other => other,
    };
    let given = [(placed(), 1), (result(RESERVED, 1).unwrap(), 2)];
    let mut service = Service::with(&given);
    service.when(&resent(result(OUT_OF_STOCK, 1)), 3);
    assert_eq!(service.order().unwrap().status, OutOfStock, "inventory_service decided anew");
    service.when(&result(PAID, 1).unwrap(), 4);
    assert_eq!(service.order().unwrap().status, ToBeShipped);
    // The same answer, or one that does not answer a resend, is an older one that was redelivered.
    let mut waited = Service::with(&[(placed(), 1), (result(OUT_OF_STOCK, 1).unwrap(), 2)]);
    waited.when(&result(RESERVED, 1).unwrap(), 3);
    waited.when(&resent(result(OUT_OF_STOCK, 1)), 4);
    assert_eq!(waited.order().unwrap().status, PaymentRequired);
    let mut plain = Service::with(&given);
    plain.when(&result(OUT_OF_STOCK, 1).unwrap(), 3);
    assert_eq!(plain.order().unwrap().status, PaymentRequired);
}

#[test]
fn a_result_that_binds_an_unknown_order_is_cancelled() {
    for (cause, input) in results(2) {
        let mut service = Service(Memory::new(Orders { single_redis: true, ..ORDERS }));
        service.when(&input, 1);
        let (id, customer_id) = (id(), customer("101"));
        let off = append(&OrderCancelled { id, customer_id, attempt: 2, resend: 0 });
        let binds = matches!(cause, RESERVED | OUT_OF_STOCK | PAID);
        assert_eq!(service.published(), if binds { vec![off] } else { vec![] }, "{cause:?}");
        assert_eq!(service.order(), None);
        // With several Redis servers, the order may have been lost.
        Service::new().when_nothing_happens(&input, 1, "the order may be lost");
    }
}
