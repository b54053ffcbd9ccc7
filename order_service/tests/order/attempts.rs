//! Orders with many attempts, and customers with many orders.

use common::{
    contract::{
        ids::OrderId,
        order::{KEPT_ATTEMPTS, MAX_ATTEMPTS, MAX_UNSHORTENED_ATTEMPTS, Order, Step},
        order_routes::OrderAction,
        order_status::OrderStatus,
    },
    decision::{Changes, Decider, World, in_memory::Memory},
};
use order_service::{
    history::Retry,
    order::{Answer, Input, NewOrder, Orders},
};
use uuid::Uuid;

use crate::{
    support::{
        ORDERS, Service, act, customer, id, new_order, permutations, placed, products, result,
        step, steps,
    },
    table::{OUT_OF_STOCK, PAID, RESERVED, UNPAID},
};

use OrderStatus::{Cancelled, InsufficientFund, PaymentRequired, Pending};

#[test]
fn an_unpaid_order_can_be_tried_many_times() {
    let mut service = Service::with(&[(placed(), 0)]);
    for attempt in 1..=5 {
        let now = u64::from(attempt) * 10;
        service.when(&result(RESERVED, attempt).unwrap(), now);
        service.when(&result(UNPAID, attempt).unwrap(), now + 1);
        let order = service.order().unwrap();
        assert_eq!((order.status, order.order_total), (InsufficientFund, Some(900)));
        assert!(order.reason.is_some());
        service.asked(OrderAction::Pay, u128::from(attempt), now + 2);
        let order = service.order().unwrap();
        assert_eq!((order.status, order.attempt), (Pending, attempt + 1));
        let begun_anew = (order.order_total, &order.reason, order.resent);
        assert_eq!(begun_anew, (None, &None, None), "nothing is left of the previous attempt");
    }
    let one = |attempt| [Pending, PaymentRequired, InsufficientFund].map(|it| (attempt, it));
    let expected: Vec<_> = (1..=5).flat_map(one).chain([(6, Pending)]).collect();
    assert_eq!(steps(&service.order().unwrap()), expected);
}

/// The sizes of the stored order and of the records of requests to pay again.
fn stored_bytes(service: &Service) -> (usize, Vec<usize>) {
    let order = serde_json::to_string(&service.order().unwrap()).unwrap();
    let records = service.0.all::<Retry>();
    let records = records.iter().map(|it| serde_json::to_string(it).unwrap().len()).collect();
    (order.len(), records)
}

#[test]
fn an_order_with_hundreds_of_attempts_stays_small_and_repeats_answers() {
    let mut service = Service::with(&[(placed(), 1_000_000)]);
    let mut granted = Vec::new();
    let mut largest_early = 0;
    for attempt in 1..=300 {
        let now = 1_000_000 + u64::from(attempt) * 10;
        // Results arrive in every order, so some steps are late.
        let causes = permutations(&[OUT_OF_STOCK, RESERVED, UNPAID]);
        for cause in causes[attempt as usize % causes.len()].iter().rev() {
            service.when(&result(*cause, attempt).unwrap(), now);
        }
        let (order, records) = stored_bytes(&service);
        if attempt <= 2 * KEPT_ATTEMPTS {
            largest_early = largest_early.max(order);
        }
        assert!(order <= largest_early + 100, "{order} bytes in attempt {attempt}");
        assert!(records.iter().all(|size| *size <= largest_early), "{records:?}");
        let Some(Answer::Done(answer)) = service.asked(OrderAction::Pay, attempt.into(), now + 1)
        else {
            panic!("attempt {attempt} was the last")
        };
        assert_eq!((answer.attempt, answer.status), (attempt + 1, Pending));
        assert_eq!(answer.history[0], step(Pending, 1_000_000, 1), "the first step stays");
        granted.push(answer);
        if attempt % 60 != 0 && attempt > 2 * KEPT_ATTEMPTS {
            continue;
        }
        let case = format!("in attempt {}", attempt + 1);
        service.0.published.clear();
        for (request, first) in (1..).zip(&granted) {
            let again = Input::Act(act(OrderAction::Pay, request));
            let answer = service.when_nothing_happens(&again, now + 2, &case);
            assert_eq!(answer, Some(Answer::Replayed(first.clone())), "{case}: {request}");
            let reused = Input::Act(act(OrderAction::Cancel, request));
            let answer = service.when_nothing_happens(&reused, now + 2, &case);
            assert_eq!(answer, Some(Answer::KeyReused), "{case}: {request}");
        }
        let answer = service.when_nothing_happens(&placed(), now + 2, &case);
        assert_eq!(answer, Some(Answer::Replayed(new_order(1_000_000))), "{case}");
    }
    let order = service.order().unwrap();
    let all_steps = 300 * 4 + 1;
    assert_eq!(order.history.len() + order.omitted.unwrap() as usize, all_steps);
    // The end is like that of any order.
    let Some(Answer::Done(cancelled)) = service.asked(OrderAction::Cancel, 1_000, 2_000_000) else {
        panic!("not cancelled")
    };
    service.when(&result(RESERVED, 301).unwrap(), 2_000_001);
    let answer = service.asked(OrderAction::Cancel, 1_000, 2_000_002);
    assert_eq!(answer, Some(Answer::Replayed(cancelled)));
}

#[test]
fn an_order_at_its_attempt_limit_can_only_be_cancelled() {
    for attempt in [MAX_ATTEMPTS, MAX_ATTEMPTS + 1, u32::MAX] {
        let given = Order { status: InsufficientFund, attempt, omitted: Some(9), ..new_order(1) };
        let mut world = World::for_tests().with(given);
        let mut ask = |action| {
            let mut changes = ORDERS.decide(&Input::Act(act(action, 7)), &world, 2).unwrap();
            let is_empty = changes.is_empty();
            world.apply(&mut changes);
            (is_empty, changes.into_answer().unwrap())
        };
        let refused = Answer::AttemptLimit { status: InsufficientFund, limit: MAX_ATTEMPTS };
        for action in [OrderAction::Pay, OrderAction::Ship, OrderAction::Complete] {
            assert_eq!(ask(action), (true, refused.clone()), "{action:?}");
        }
        let (_, answer) = ask(OrderAction::Cancel);
        assert!(matches!(&answer, Answer::Done(order) if order.status == Cancelled), "{answer:?}");
    }
    let given = Order { status: InsufficientFund, attempt: MAX_ATTEMPTS - 1, ..new_order(1) };
    let world = World::for_tests().with(Order { omitted: Some(9), ..given });
    let changes = ORDERS.decide(&Input::Act(act(OrderAction::Pay, 7)), &world, 2).unwrap();
    assert!(matches!(changes.into_answer(), Some(Answer::Done(_))));
}

#[test]
fn a_customer_at_the_limit_can_order_again_once_an_order_ends() {
    let mut service = Service(Memory::new(Orders { max_open: 2, ..ORDERS }));
    let place = |number: u128, payer: &str| {
        let (product_ids, customer_id) = (products(&["201"]), customer(payer));
        Input::Place(NewOrder { id: OrderId(Uuid::from_u128(number)), product_ids, customer_id })
    };
    let ask = |service: &mut Service, number, payer| {
        let answer = service.when(&place(number, payer), 1).expect("an answer");
        let orders = service.0.all::<Order>().len();
        (answer, orders, service.published().len())
    };
    let full = Answer::TooManyOpen { limit: 2 };
    for number in [1, 2] {
        assert!(matches!(ask(&mut service, number, "101"), (Answer::Done(_), _, 1)));
    }
    assert_eq!(ask(&mut service, 3, "101"), (full.clone(), 2, 0));
    assert!(matches!(ask(&mut service, 1, "101"), (Answer::Replayed(_), 2, 0)), "a repetition");
    assert!(matches!(ask(&mut service, 4, "102"), (Answer::Done(_), 3, 1)), "another customer");
    // Order 1 goes from status to status: only at its end is there room.
    for (input, is_over) in [
        (result(RESERVED, 1).unwrap(), false),
        (result(UNPAID, 1).unwrap(), false),
        (Input::Act(act(OrderAction::Pay, 1)), false),
        (result(RESERVED, 2).unwrap(), false),
        (result(PAID, 2).unwrap(), false),
        (Input::Act(act(OrderAction::Ship, 2)), false),
        (Input::Act(act(OrderAction::Complete, 3)), true),
    ] {
        service.when(&input, 2);
        service.published();
        let (answer, ..) = ask(&mut service, 5, "101");
        assert_eq!(answer != full, is_over, "{input:?}");
    }
    assert_eq!(ask(&mut service, 6, "101").0, full);
}

/// An order as earlier versions stored it: all steps of all attempts, and no records.
fn of_an_earlier_version(attempts: u32) -> Order {
    let mut order = new_order(1_000);
    for attempt in 1..=attempts {
        let at = 1_000 + u64::from(attempt) * 10;
        if attempt > 1 {
            let request = Some(Uuid::from_u128(attempt.into()));
            order.history.push(Step { request, ..step(Pending, at, attempt) });
        }
        // The payment result arrived before the result of the stock check.
        let late = Some(order.history.len() as u32 + 1);
        order.history.push(Step { late, ..step(PaymentRequired, at + 2, attempt) });
        let order_total = Some(900);
        order.history.push(Step { order_total, ..step(InsufficientFund, at + 1, attempt) });
    }
    Order { status: InsufficientFund, attempt: attempts, order_total: Some(900), ..order }
}

#[test]
fn a_history_of_an_earlier_version_is_shortened_and_answers_repeat() {
    for attempts in [2, KEPT_ATTEMPTS - 1, KEPT_ATTEMPTS, KEPT_ATTEMPTS + 1, 49] {
        let given = of_an_earlier_version(attempts);
        let replayed = |world: &World| -> Vec<Option<Answer>> {
            let requests = (2..=attempts).map(|attempt| act(OrderAction::Pay, attempt.into()));
            let replays = requests.map(|it| ORDERS.decide(&Input::Act(it), world, 9_000).unwrap());
            replays.map(Changes::into_answer).collect()
        };
        let mut world = World::for_tests().with(given.clone());
        let before = replayed(&world);
        for request in 1_000..1_003 {
            let order = world.get::<Order>(&id()).unwrap().unwrap().clone();
            world = world.with(Order { status: InsufficientFund, ..order });
            let pay = Input::Act(act(OrderAction::Pay, request));
            let mut changes = ORDERS.decide(&pay, &world, 8_000).unwrap();
            world.apply(&mut changes);
            assert!(matches!(changes.into_answer(), Some(Answer::Done(_))), "{attempts}");
            assert_eq!(replayed(&world), before, "{attempts} attempts, request {request}");
        }
        let order = world.get::<Order>(&id()).unwrap().unwrap();
        assert!(order.history.len() <= 1 + 3 * KEPT_ATTEMPTS as usize, "{order:?}");
    }
}

#[test]
fn a_too_long_history_of_an_earlier_version_takes_no_new_attempt() {
    let attempts = 4_000;
    let given = of_an_earlier_version(attempts);
    let world = World::for_tests().with(given.clone());
    let ask = |action, request| {
        let changes = ORDERS.decide(&Input::Act(act(action, request)), &world, 9_000).unwrap();
        changes.into_answer().unwrap()
    };
    let limit = MAX_UNSHORTENED_ATTEMPTS;
    let refused = Answer::AttemptLimit { status: InsufficientFund, limit };
    assert_eq!(ask(OrderAction::Pay, 1_000_000), refused);
    assert!(matches!(ask(OrderAction::Pay, 2), Answer::Replayed(order) if order.attempt == 2));
    let Answer::Done(order) = ask(OrderAction::Cancel, 1_000_000) else { panic!("not cancelled") };
    assert_eq!(order.history[..given.history.len()], given.history, "nothing is lost");
}
