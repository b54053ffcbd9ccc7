//! The lifecycle of a reservation: every input in every state.

use common::contract::{
    events::{
        ConfirmedStep, FillBackorders, OrderCreated, StockChecked, StockConfirmed, StockOutcome,
    },
    streams,
};
use inventory_service::{reservation::ReservationState, stock::Input};

use crate::support::{
    Ids, Warehouse, cancelled, cancelled_again, created, entry, order_id, ordered, product_id,
    redefined, resent, restocked, shipped, shipped_again, still_unpaid, unpaid,
};

/// The products of order 1.
const IDS: Ids<'_> = &["201", "201"];

/// The states of order 1 in its second attempt.
#[derive(Clone, Copy, Debug)]
enum Given {
    Unheard,
    Held,
    Shipped,
    Waiting,
    Rejected,
    Released,
    Cancelled,
    CancelledUnheard,
}

/// The effects of an input.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    /// Nothing.
    No,
    /// The product changes, but not the order.
    Else,
    /// The order is reserved, and that is published.
    Held,
    /// The order waits, and that is published.
    Waits,
    /// The outcome is published again; nothing changes.
    Said,
    /// Its stock is released.
    Freed,
    /// Its stock is shipped.
    Left,
    /// The order is cancelled.
    Off,
}

const COLUMNS: [Given; 8] = [
    Given::Unheard,
    Given::Held,
    Given::Shipped,
    Given::Waiting,
    Given::Rejected,
    Given::Released,
    Given::Cancelled,
    Given::CancelledUnheard,
];

/// Order 9 holds two units; three are available, or one if order 1 waits.
fn given(state: Given) -> Warehouse {
    let mut warehouse = Warehouse::with(&[("201", 800, 5)]);
    warehouse.when(&ordered(9, 1, IDS));
    match state {
        Given::Unheard => {}
        Given::Held => warehouse.when(&ordered(1, 2, IDS)),
        Given::Shipped => {
            warehouse.when(&ordered(1, 2, IDS));
            warehouse.when(&shipped(1, 2));
        }
        Given::Waiting => {
            warehouse.when(&created("201", 800, 1, entry(2)));
            warehouse.when(&ordered(1, 2, IDS));
        }
        Given::Rejected => {
            warehouse.when(&redefined("201", u64::MAX, 0, entry(2)));
            warehouse.when(&ordered(1, 2, IDS));
            warehouse.when(&redefined("201", 800, 0, entry(3)));
        }
        Given::Released => {
            warehouse.when(&ordered(1, 2, IDS));
            warehouse.when(&unpaid(1, 2));
        }
        Given::Cancelled => {
            warehouse.when(&ordered(1, 2, IDS));
            warehouse.when(&cancelled(1));
        }
        Given::CancelledUnheard => warehouse.when(&cancelled(1)),
    }
    warehouse.memory.published.clear();
    warehouse
}

#[test]
fn every_input_in_every_state_has_its_effect() {
    use Then::{Else, Freed, Held, Left, No, Off, Said, Waits};
    let fill = || Input::FillBackorders(FillBackorders { product_id: product_id("201"), after: 0 });
    // The columns: unknown, held, shipped, waiting, rejected, released, cancelled, and cancelled before
    // the order arrived.
    let table = [
        (ordered(1, 1, IDS), [Held, No, No, No, No, No, No, No]),
        (ordered(1, 2, IDS), [Held, No, No, No, No, No, No, No]),
        (ordered(1, 3, IDS), [Held, Held, No, Waits, Held, Held, No, No]),
        (resent(1, 1, IDS), [Held, No, No, No, No, No, No, No]),
        (resent(1, 2, IDS), [Held, Said, No, Said, Said, Said, No, No]),
        (resent(1, 3, IDS), [Held, Held, No, Waits, Held, Held, No, No]),
        (unpaid(1, 1), [No, No, No, No, No, No, No, No]),
        (unpaid(1, 2), [No, Freed, No, No, No, No, No, No]),
        (unpaid(1, 3), [No, No, No, No, No, No, No, No]),
        (cancelled(1), [Off, Off, No, Off, Off, Off, No, No]),
        (shipped(1, 1), [No, No, No, No, No, No, No, No]),
        (shipped(1, 2), [No, Left, No, No, No, No, No, No]),
        (shipped(1, 3), [No, No, No, No, No, No, No, No]),
        (restocked(1, "201", 1), [Else, Else, Else, Held, Else, Else, Else, Else]),
        (created("201", 800, 2, entry(4)), [Else, Else, Else, Held, Else, Else, Else, Else]),
        (redefined("201", 700, 2, entry(4)), [Else; 8]),
        (fill(), [No; 8]),
    ];
    for (input, thens) in table {
        for (state, then) in COLUMNS.into_iter().zip(thens) {
            let mut warehouse = given(state);
            if then == No {
                warehouse.when_nothing_happens(&input);
            } else {
                check(&mut warehouse, state, &input, then);
                // A redelivery has no effect; but a resend publishes its outcome again.
                if then != Said && !matches!(&input, Input::Ordered(order) if order.resend > 0) {
                    warehouse.when_nothing_happens(&input);
                }
            }
        }
    }
}

fn check(warehouse: &mut Warehouse, state: Given, input: &Input, then: Then) {
    let name = format!("{input:?} where it is {state:?}");
    let heard_of = !matches!(state, Given::Unheard);
    let before = heard_of.then(|| warehouse.reservation(1));
    let product = warehouse.product("201");
    warehouse.when(input);
    let outcomes = warehouse.outcomes();

    if then == Then::Else {
        assert!(outcomes.is_empty(), "{name}: {outcomes:?}");
        assert_eq!(heard_of.then(|| warehouse.reservation(1)), before, "{name}");
        assert_ne!(warehouse.product("201"), product, "{name}");
        return;
    }
    let (attempt, resend) = match input {
        Input::Ordered(order) => (order.attempt, order.resend > 0),
        Input::Cancelled(order) => (before.as_ref().map_or(order.attempt, |it| it.attempt), false),
        _ => (2, false),
    };
    let after = warehouse.reservation(1);
    let expected = match then {
        Then::Held | Then::Left => ReservationState::Held,
        Then::Waits => ReservationState::Waiting,
        Then::Freed => ReservationState::Released,
        Then::Off => ReservationState::Cancelled,
        Then::Said | Then::No | Then::Else => before.as_ref().unwrap().state,
    };
    assert_eq!((after.state, after.attempt), (expected, attempt), "{name}");
    assert_eq!(after.shipped, then == Then::Left, "{name}");
    let holds = if expected == ReservationState::Held { 2 } else { 0 };
    let product = warehouse.product("201");
    assert_eq!((product.reserved, product.sold), (2 + holds, if after.shipped { 2 } else { 0 }));

    let due = match (then, expected) {
        (Then::Freed | Then::Left | Then::Off, _) => None,
        (_, ReservationState::Held | ReservationState::Released) => {
            Some(StockOutcome::PaymentRequired)
        }
        (_, ReservationState::Waiting) => Some(StockOutcome::OutOfStock),
        (_, ReservationState::Rejected) => Some(StockOutcome::Rejected),
        (_, ReservationState::Cancelled) => None,
    };
    assert_eq!(outcomes.len(), usize::from(due.is_some()), "{name}: {outcomes:?}");
    for outcome in outcomes {
        let released = expected == ReservationState::Released;
        assert_eq!(Some(outcome.inventory), due, "{name}");
        assert_eq!(
            (outcome.attempt, outcome.resend, outcome.released),
            (Some(attempt), resend, released)
        );
        let has_total = outcome.inventory == StockOutcome::PaymentRequired;
        assert_eq!(outcome.order_total, has_total.then_some(1_600), "{name}");
        assert_eq!(outcome.reason, after.reason, "{name}");
    }
    if then == Then::Said {
        assert_eq!(Some(after), before, "{name}");
    }
}

#[test]
fn a_repeated_outcome_equals_the_first() {
    let table = [
        ("held", vec![ordered(1, 1, &["201", "201"])], false),
        ("waiting", vec![ordered(1, 1, &["201", "205", "205"])], false),
        ("rejected", vec![ordered(1, 1, &["201", "999"])], false),
        ("released", vec![ordered(1, 1, &["201", "201"]), unpaid(1, 1)], true),
    ];
    for (name, inputs, released) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("205", 300, 1)]);
        inputs.iter().for_each(|input| warehouse.when(input));
        let first = warehouse.outcome();
        assert!(!first.resend && !first.released, "{name}");
        // Later changes of the products do not matter.
        warehouse.when(&redefined("201", 1, 0, entry(2)));
        warehouse.when(&created("999", 1, 9, entry(2)));
        let Input::Ordered(order) = &inputs[0] else { panic!("it was ordered first") };
        let again = Input::Ordered(OrderCreated { resend: 1, ..order.clone() });
        for _ in 0..2 {
            let stored = warehouse.stored();
            warehouse.when(&again);
            assert_eq!(warehouse.stored(), stored, "{name}");
            let expected = StockChecked { resend: true, released, ..first.clone() };
            assert_eq!(warehouse.outcome(), expected, "{name}");
        }
    }
}

#[test]
fn an_order_whose_event_was_lost_is_decided_on_its_resend() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("205", 300, 0)]);
    warehouse.when(&resent(1, 1, &["201"]));
    warehouse.when(&resent(2, 1, &["205"]));
    let outcomes = warehouse.outcomes();
    assert!(outcomes.iter().all(|outcome| outcome.resend), "{outcomes:?}");
    // The late event arrives.
    warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    // The outcome after waiting is no answer to a resend.
    warehouse.when(&restocked(1, "205", 1));
    assert!(!warehouse.outcome().resend);
}

#[test]
fn a_step_is_confirmed_once_and_after_each_resend() {
    use ConfirmedStep::{Cancelled, Released, Shipped};
    use Given as G;
    // A step, its resend, its attempt, and the state in which it has its effect.
    let steps: [(Input, Input, ConfirmedStep, u32, &[Given]); 3] = [
        (
            cancelled(1),
            cancelled_again(1, 1),
            Cancelled,
            1,
            &[G::Unheard, G::Held, G::Waiting, G::Rejected, G::Released],
        ),
        (shipped(1, 2), shipped_again(1, 2, 1), Shipped, 2, &[G::Held]),
        (unpaid(1, 2), still_unpaid(1, 2), Released, 2, &[G::Held]),
    ];
    for (first, again, step, attempt, effective) in steps {
        for state in COLUMNS {
            let case = format!("{step:?} where it is {state:?}");
            let has_effect = effective.iter().any(|it| format!("{it:?}") == format!("{state:?}"));
            let is_denied = step == Cancelled && matches!(state, Given::Shipped);
            let confirmed = |warehouse: &mut Warehouse, input: &Input| {
                warehouse.memory.take(streams::INVENTORY_CONFIRMED);
                warehouse.when(input);
                let published = warehouse.memory.take(streams::INVENTORY_CONFIRMED);
                let events = published.iter().map(|json| serde_json::from_str(json).unwrap());
                events.collect::<Vec<StockConfirmed>>()
            };
            let due = StockConfirmed { order_id: order_id(1), attempt, step };
            let mut warehouse = given(state);
            let at_first = confirmed(&mut warehouse, &first);
            assert_eq!(at_first, vec![due; usize::from(has_effect)], "{case}");
            assert_eq!(confirmed(&mut warehouse, &first), [], "{case}: it is only redelivered");
            let stored = warehouse.stored();
            for _ in 0..2 {
                let again = confirmed(&mut warehouse, &again);
                assert_eq!(again, vec![due; usize::from(!is_denied)], "{case}");
                assert_eq!(warehouse.stored(), stored, "{case}");
            }
            // If the first event was lost, the second has its effect.
            let mut other = given(state);
            let at_first = confirmed(&mut other, &again);
            assert_eq!(at_first, vec![due; usize::from(!is_denied)], "{case}");
            assert_eq!(other.stored(), stored, "{case}");
            assert_eq!(confirmed(&mut other, &first), [], "{case}: the first one is late");
            assert_eq!(other.stored(), stored, "{case}");
        }
    }
}
