//! Backorders: the orders that wait for stock, and which of them incoming stock fills.

use common::contract::{
    backorders::{BackorderPage, BackorderQueue},
    events::{
        StockChecked,
        StockOutcome::{OutOfStock, PaymentRequired, Rejected},
    },
};
use inventory_service::{ORDERS_PER_PAGE, reservation::ReservationState, stock::Input};

use crate::support::{
    Ids, OrderOutcome, Warehouse, cancelled, created, entry, ordered, redefined, restocked,
    shipped, unpaid,
};

/// This quantity of product 201.
fn units(count: usize) -> Vec<&'static str> {
    vec!["201"; count]
}

/// Orders 1, 2 and so on wait for these quantities of product 201, which has no stock.
fn waiting(wanted: &[usize]) -> Warehouse {
    let mut warehouse = Warehouse::with(&[("201", 800, 0)]);
    for (count, number) in wanted.iter().zip(1..) {
        warehouse.when_unchecked(&ordered(number, 1, &units(*count)));
    }
    warehouse.memory.published.clear();
    warehouse
}

#[test]
fn backorders_with_enough_stock_are_filled_in_arrival_order() {
    /// The quantity for which each order waits.
    type Wanted<'a> = &'a [usize];
    // Then the quantity that arrives, the orders that are filled, and the quantity left.
    let table: [(&str, Wanted<'_>, u64, &[u128], u64); 10] = [
        ("the first one", &[1, 1, 1], 1, &[1], 0),
        ("as far as it goes", &[1, 1, 1], 2, &[1, 2], 0),
        ("all of them", &[1, 2, 3], 6, &[1, 2, 3], 0),
        ("the rest is available", &[1, 2], 7, &[1, 2], 4),
        ("an order that needs more holds up no other", &[5, 1, 2], 3, &[2, 3], 0),
        ("an order that needs more than is left holds up no other", &[2, 2, 1], 3, &[1, 3], 0),
        ("the first one, though the next would leave less", &[2, 3], 3, &[1], 1),
        ("no order gets a part", &[5, 4], 3, &[], 3),
        ("nothing arrives", &[1], 0, &[], 0),
        ("no order waits", &[], 3, &[], 3),
    ];
    for (name, wanted, amount, filled, left) in table {
        let mut warehouse = waiting(wanted);
        warehouse.when(&restocked(1, "201", amount));
        let expected: Vec<OrderOutcome> =
            filled.iter().map(|number| (*number, PaymentRequired)).collect();
        assert_eq!(warehouse.order_outcomes(), expected, "{name}");
        assert_eq!(warehouse.stock("201").0, left, "{name}");
        let mut waits: Vec<u128> = (1..).take(wanted.len()).collect();
        waits.retain(|number| !filled.contains(number));
        assert_eq!(warehouse.queue("201"), waits, "{name}");
    }
}

#[test]
fn a_skipped_backorder_keeps_its_position() {
    let mut warehouse = waiting(&[3, 1, 3]);
    warehouse.when(&restocked(1, "201", 2));
    assert_eq!(warehouse.order_outcomes(), [(2, PaymentRequired)]);
    warehouse.when(&ordered(4, 1, &units(3)));
    assert_eq!(warehouse.order_outcomes(), [(4, OutOfStock)]);
    warehouse.when(&restocked(2, "201", 5));
    assert_eq!(warehouse.order_outcomes(), [(1, PaymentRequired), (3, PaymentRequired)]);
    assert_eq!(warehouse.queue("201"), [4]);
}

#[test]
fn a_filled_order_is_published_like_a_new_one() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1), ("204", 100, 1)]);
    warehouse.when(&ordered(1, 2, &["204", "201", "201"]));
    let outcome = warehouse.outcome();
    assert_eq!(
        (outcome.inventory, outcome.attempt, outcome.order_total),
        (OutOfStock, Some(2), None)
    );
    assert_eq!(outcome.reason.as_deref(), Some("201: 2 wanted, 1 available"));
    let position = warehouse.reservation(1).position.expect("it waits");
    assert_eq!(position.pages.len(), 2, "in both queues");
    warehouse.when(&restocked(1, "201", 1));
    let expected = StockChecked {
        inventory: PaymentRequired,
        order_total: Some(1_700),
        reason: None,
        ..outcome
    };
    assert_eq!(warehouse.outcome(), expected);
    let reservation = warehouse.reservation(1);
    assert_eq!((reservation.state, reservation.total), (ReservationState::Held, Some(1_700)));
    assert_eq!((reservation.reason, reservation.position), (None, None));
    assert_eq!((warehouse.stock("201"), warehouse.stock("204")), ((0, 2), (0, 1)));
    assert!(warehouse.queue("201").is_empty() && warehouse.queue("204").is_empty());
}

#[test]
fn every_source_of_stock_fills_backorders() {
    let next = vec![(1, PaymentRequired)];
    let table = [
        ("a delivery", restocked(1, "201", 2), next.clone()),
        ("a cancelled order", cancelled(9), next.clone()),
        ("an order that is not paid", unpaid(9, 1), next.clone()),
        ("a product that is reset", created("201", 800, 2, entry(2)), next.clone()),
        (
            "a new attempt of the one that held it",
            ordered(9, 2, &["201", "201"]),
            vec![(9, OutOfStock), (1, PaymentRequired)],
        ),
        (
            "a new attempt for less",
            ordered(9, 2, &["201"]),
            vec![(9, OutOfStock), (1, PaymentRequired)],
        ),
    ];
    for (name, input, outcomes) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 2)]);
        warehouse.when(&ordered(9, 1, &["201", "201"]));
        warehouse.when(&ordered(1, 1, &["201", "201"]));
        warehouse.when(&ordered(2, 1, &["201", "201"]));
        warehouse.memory.published.clear();
        warehouse.when(&input);
        assert_eq!(warehouse.order_outcomes(), outcomes, "{name}");
        assert_eq!(warehouse.queue("201")[0], 2, "{name}");
        warehouse.when_nothing_happens(&input);
    }
}

#[test]
fn nothing_else_fills_a_backorder() {
    let table = [
        ("a delivery of another product", restocked(1, "204", 5)),
        ("a refused delivery", restocked(1, "201", u64::MAX)),
        ("a delivery of too little", restocked(1, "201", 1)),
        ("a reset to too little", created("201", 800, 1, entry(2))),
        ("an older definition", created("201", 800, 9, entry(0))),
        ("a definition that keeps the amount", redefined("201", 700, 9, entry(2))),
        ("a cancelled backorder", cancelled(2)),
        ("another one that waits and could not pay", unpaid(2, 1)),
        ("the order in front of it is shipped", shipped(9, 1)),
        ("an order for another product", ordered(3, 1, &["204"])),
        ("a cancelled order without stock", cancelled(8)),
    ];
    for (name, input) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 2), ("204", 100, 1)]);
        warehouse.when(&ordered(9, 1, &["201", "201"]));
        warehouse.when(&ordered(8, 1, &["999"]));
        warehouse.when(&ordered(1, 1, &["201", "201"]));
        warehouse.when(&ordered(2, 1, &["201", "201"]));
        warehouse.memory.published.clear();
        warehouse.when(&input);
        let outcomes = warehouse.order_outcomes();
        assert!(outcomes.iter().all(|(number, _)| *number == 3), "{name}: {outcomes:?}");
        assert_eq!(warehouse.state(1), ReservationState::Waiting, "{name}");
    }
}

#[test]
fn available_stock_goes_to_the_next_order() {
    let mut warehouse = Warehouse::with(&[("201", 800, 2)]);
    warehouse.when(&ordered(1, 1, &units(3)));
    warehouse.when(&ordered(2, 1, &units(2)));
    assert_eq!(warehouse.order_outcomes(), [(1, OutOfStock), (2, PaymentRequired)]);
    // Incoming stock that no backorder can use is available as well.
    warehouse.when(&restocked(1, "201", 2));
    warehouse.when(&ordered(3, 1, &units(1)));
    assert_eq!(warehouse.order_outcomes(), [(3, PaymentRequired)]);
    assert_eq!(warehouse.stock("201").0, 1);
}

#[test]
fn a_cancelled_order_leaves_the_queue() {
    for (gone, served) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        let mut warehouse = waiting(&[1, 1, 1]);
        warehouse.when(&cancelled(gone));
        assert_eq!(warehouse.queue("201"), served);
        assert_eq!(warehouse.product("201").backorders.waiting, 2);
        warehouse.when(&restocked(1, "201", 5));
        assert_eq!(warehouse.order_outcomes(), served.map(|number| (number, PaymentRequired)));
        assert_eq!(warehouse.stock("201"), (3, 2));
    }
}

#[test]
fn an_order_for_several_products_takes_all_or_none() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1), ("204", 100, 0), ("205", 300, 0)]);
    warehouse.when(&ordered(1, 1, &["201", "204", "205"]));
    let reason = "204: 1 wanted, 0 available; 205: 1 wanted, 0 available";
    assert_eq!(warehouse.outcome().reason.as_deref(), Some(reason));
    warehouse.when(&restocked(1, "204", 1));
    assert!(warehouse.order_outcomes().is_empty(), "205 is still missing");
    assert_eq!(warehouse.stock("204"), (1, 0));
    // Other orders take the stock that it leaves available.
    warehouse.when(&ordered(2, 1, &["201"]));
    warehouse.when(&ordered(3, 1, &["204"]));
    assert_eq!(warehouse.order_outcomes(), [(2, PaymentRequired), (3, PaymentRequired)]);
    warehouse.when(&restocked(2, "205", 1));
    warehouse.when(&cancelled(2));
    assert!(warehouse.order_outcomes().is_empty(), "204 is gone again");
    warehouse.when(&restocked(3, "204", 1));
    assert_eq!(warehouse.order_outcomes(), [(1, PaymentRequired)]);
    for id in ["201", "204", "205"] {
        assert!(warehouse.queue(id).is_empty());
        assert_eq!(warehouse.stock(id).0, 0);
    }
}

#[test]
fn products_that_arrive_together_are_given_out_in_arrival_order() {
    let table: [(&str, [Ids<'_>; 3], &[u128]); 5] = [
        ("one after the other", [&["204"], &["201"], &["204"]], &[1, 2]),
        ("the one that needs both comes first", [&["201", "204"], &["201"], &["204"]], &[1]),
        ("both are gone when it is next", [&["204"], &["201"], &["201", "204"]], &[1, 2]),
        ("one is gone", [&["204"], &["201", "204"], &["201"]], &[1, 3]),
        (
            "an order that needs too much of one",
            [&["201", "204", "204"], &["204"], &["201"]],
            &[2, 3],
        ),
    ];
    for (name, waits, filled) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 1), ("204", 100, 1)]);
        warehouse.when(&ordered(9, 1, &["201", "204"]));
        for (ids, number) in waits.into_iter().zip(1..) {
            warehouse.when(&ordered(number, 1, ids));
        }
        warehouse.memory.published.clear();
        warehouse.when(&cancelled(9));
        let expected: Vec<OrderOutcome> =
            filled.iter().map(|number| (*number, PaymentRequired)).collect();
        let mut outcomes = warehouse.order_outcomes();
        outcomes.sort_by_key(|(number, _)| *number);
        assert_eq!(outcomes, expected, "{name}");
    }
}

#[test]
fn a_backorder_whose_total_overflows_is_rejected_and_the_next_is_filled() {
    let mut warehouse = waiting(&[2, 1]);
    warehouse.when(&redefined("201", u64::MAX, 0, entry(2)));
    warehouse.when(&restocked(1, "201", 2));
    let outcomes = warehouse.outcomes();
    assert_eq!(outcomes[0].inventory, Rejected);
    assert_eq!(outcomes[0].reason.as_deref(), Some("the total is too large to be paid"));
    assert_eq!(outcomes[1].order_total, Some(u64::MAX));
    assert_eq!(
        (warehouse.state(1), warehouse.state(2)),
        (ReservationState::Rejected, ReservationState::Held)
    );
    assert_eq!(warehouse.stock("201"), (1, 1));
}

#[test]
fn a_new_attempt_joins_the_queue_at_its_end() {
    let mut warehouse = waiting(&[1, 1, 1]);
    warehouse.when(&ordered(1, 2, &["201"]));
    assert_eq!(warehouse.outcome().attempt, Some(2));
    assert_eq!(warehouse.queue("201"), [2, 3, 1]);
    warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    warehouse.when(&restocked(1, "201", 3));
    let attempts: Vec<_> =
        warehouse.outcomes().iter().map(|it| (it.order_id.0.as_u128(), it.attempt)).collect();
    assert_eq!(attempts, [(2, Some(1)), (3, Some(1)), (1, Some(2))]);
}

#[test]
fn sequence_numbers_increase_although_the_clock_goes_back() {
    let mut warehouse = Warehouse::with(&[("201", 800, 0), ("204", 100, 0)]);
    let arrivals: [(u64, Ids<'_>); 6] = [
        (500, &["201"]),
        (500, &["201", "204"]),
        (300, &["204"]),
        (0, &["201", "204"]),
        (501, &["201"]),
        (900, &["201"]),
    ];
    for ((clock, ids), number) in arrivals.into_iter().zip(1..) {
        warehouse.clock = clock;
        warehouse.when(&ordered(number, 1, ids));
    }
    assert_eq!(
        (warehouse.queue("201"), warehouse.queue("204")),
        (vec![1, 2, 4, 5, 6], vec![2, 3, 4])
    );
    let sequence = |number| warehouse.reservation(number).position.unwrap().sequence;
    assert!((1..6).all(|number| sequence(number) < sequence(number + 1)));
}

/// The pages of a queue: their numbers and the number of orders on each.
fn pages(warehouse: &Warehouse) -> Vec<(u64, usize)> {
    let pages = warehouse.memory.all::<BackorderPage>().into_iter();
    let mut pages: Vec<_> = pages.map(|page| (page.id.number, page.entries.len())).collect();
    pages.sort_unstable();
    pages
}

#[test]
fn a_queue_spans_many_pages_and_starts_anew_once_empty() {
    let mut warehouse = waiting(&[1; 2 * ORDERS_PER_PAGE + 3]);
    assert_eq!(pages(&warehouse), [(0, ORDERS_PER_PAGE), (1, ORDERS_PER_PAGE), (2, 3)]);
    let ends = |warehouse: &Warehouse| {
        let BackorderQueue { waiting, first, last, .. } = warehouse.product("201").backorders;
        (waiting, first, last)
    };
    assert_eq!(ends(&warehouse), (103, 0, 2));

    // An order leaves a page in the middle: its place stays free.
    warehouse.when(&cancelled(60));
    warehouse.when(&ordered(104, 1, &["201"]));
    assert_eq!(pages(&warehouse), [(0, ORDERS_PER_PAGE), (1, ORDERS_PER_PAGE - 1), (2, 4)]);
    warehouse.memory.published.clear();

    warehouse.when(&restocked(1, "201", ORDERS_PER_PAGE as u64 + 20));
    let served = warehouse.order_outcomes();
    let numbers = (1..=71).filter(|number| *number != 60);
    assert_eq!(served, numbers.map(|number| (number, PaymentRequired)).collect::<Vec<_>>());
    assert_eq!(ends(&warehouse), (33, 1, 2));

    warehouse.when(&restocked(2, "201", 40));
    assert_eq!(warehouse.order_outcomes().len(), 33);
    assert_eq!(warehouse.product("201").backorders, BackorderQueue::default());
    assert_eq!(pages(&warehouse), [(0, 0), (1, 0), (2, 0)], "pages stay for new orders");

    warehouse.when(&ordered(200, 1, &units(9)));
    assert_eq!((ends(&warehouse), warehouse.queue("201")), ((1, 0, 0), vec![200]));
}

#[test]
fn a_redelivered_order_waits_once() {
    let mut warehouse = waiting(&[1, 2]);
    for _ in 0..2 {
        warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    }
    warehouse.when(&restocked(1, "201", 1));
    assert_eq!(warehouse.order_outcomes(), [(1, PaymentRequired)]);
    // Filled, cancelled or tried again, it does not return to the queue.
    let later: [Input; 2] = [ordered(1, 1, &["201"]), ordered(2, 1, &units(2))];
    later.iter().for_each(|input| warehouse.when_nothing_happens(input));
    warehouse.when(&cancelled(2));
    later.iter().for_each(|input| warehouse.when_nothing_happens(input));
    assert!(warehouse.queue("201").is_empty());
}
