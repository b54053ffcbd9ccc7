//! Repeated requests: each gets its first answer and has its effect once.

use common::{
    clock::Millis,
    contract::{
        events::OrderCreated, order_routes::OrderAction, order_status::OrderStatus, streams,
    },
};
use order_service::order::{ActionRequest, Answer, Input};

use crate::{
    scenarios::{rising, scenarios},
    support::{Service, new_order, place, placed, result},
    table::UNPAID,
};

use OrderStatus::Pending;

#[test]
fn placing_an_order_again_repeats_the_first_answer_in_every_status() {
    let others = [
        place(&["201"], "101"),
        place(&["201", "204", "204"], "101"),
        place(&["204", "201"], "101"),
        place(&["201", "204"], "102"),
    ];
    for scenario in scenarios(rising) {
        let (case, now) = (scenario.describe(), scenario.now() + 10);
        let mut at_rest = Service::with(&scenario.inputs);
        let answer = at_rest.when_nothing_happens(&placed(), now, &case);
        assert_eq!(answer, Some(Answer::Replayed(new_order(1_000_000))), "{case}");
        for other in &others {
            let answer = at_rest.when_nothing_happens(other, now, &case);
            assert_eq!(answer, Some(Answer::KeyReused), "{case}, when {other:?}");
        }
    }
}

/// Repeats every granted request in every state of an order.
fn repeat_every_request(tick: fn(Millis) -> Millis) {
    let mut repeated = 0;
    for scenario in scenarios(tick) {
        let mut at_rest = Service::with(&scenario.inputs);
        for (asked, first) in &scenario.granted {
            for action in OrderAction::ALL {
                let case =
                    format!("{}, when {action:?} has the id of {asked:?}", scenario.describe());
                let again = Input::Act(ActionRequest { action, ..asked.clone() });
                let answer = at_rest.when_nothing_happens(&again, tick(scenario.now()), &case);
                let expected = if action == asked.action {
                    Answer::Replayed(first.clone())
                } else {
                    Answer::KeyReused
                };
                assert_eq!(answer, Some(expected), "{case}");
                repeated += 1;
            }
        }
    }
    assert!(repeated > 100);
}

#[test]
fn a_repeated_request_gets_the_first_answer_in_every_status() {
    repeat_every_request(rising);
}

#[test]
fn a_repeated_request_gets_the_first_answer_within_one_millisecond() {
    repeat_every_request(|now| now);
}

#[test]
fn a_repeated_request_gets_the_first_answer_although_clocks_differ() {
    repeat_every_request(|now| now - 10);
}

#[test]
fn two_concurrent_requests_to_pay_start_one_attempt() {
    let mut service = Service::with(&[(placed(), 1), (result(UNPAID, 1).unwrap(), 2)]);
    let Some(Answer::Done(first)) = service.asked(OrderAction::Pay, 7, 3) else {
        panic!("not tried")
    };
    assert_eq!(service.asked(OrderAction::Pay, 8, 3), Some(Answer::WrongState(Pending)));
    assert_eq!(service.asked(OrderAction::Pay, 7, 3), Some(Answer::Replayed(first.clone())));
    assert_eq!(service.order(), Some(first));
    let created: Vec<OrderCreated> = (service.0.take(streams::ORDER_CREATED).iter())
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    let attempts: Vec<_> = created.iter().map(|event| (event.attempt, event.resend)).collect();
    assert_eq!(attempts, [(2, 0)]);
}
