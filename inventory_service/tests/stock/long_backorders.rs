//! Queues that are too long for one decision: each fills a part and leaves the rest to the next one, which
//! a [`FillBackorders`](common::contract::events::FillBackorders) asks for.

use common::contract::{
    backorders::BackorderQueue,
    events::{
        FillBackorders,
        StockOutcome::{OutOfStock, PaymentRequired},
    },
};
use inventory_service::{Limits, ORDERS_PER_PAGE, reservation::ReservationState, stock::Input};

use crate::support::{
    OrderOutcome, Warehouse, cancelled, created, entry, ordered, product_id, redefined, restocked,
    unpaid,
};

const PLENTY: Limits = Limits {
    fills: usize::MAX,
    pages: usize::MAX,
    entities: usize::MAX,
    queues: 8,
    listed_products: 4,
};
/// Limits that fill one order at a time.
const ONE_TURN: Limits = Limits { fills: 1, ..PLENTY };

/// Orders 1, 2 and so on wait for one unit of product 201 each.
fn waiting(limits: Limits, orders: usize) -> Warehouse {
    let mut warehouse = Warehouse::limited(limits, &[("201", 800, 0)]);
    for number in (1..).take(orders) {
        warehouse.when_unchecked(&ordered(number, 1, &["201"]));
    }
    warehouse.memory.published.clear();
    warehouse
}

/// The same, with a delivery of one unit for each of the first orders.
fn being_filled(orders: usize, units: u64) -> Warehouse {
    let mut warehouse = waiting(ONE_TURN, orders);
    warehouse.when(&restocked(1, "201", units));
    assert!(warehouse.order_outcomes().is_empty(), "the delivery fills no order");
    warehouse.continue_filling();
    assert_eq!(warehouse.order_outcomes(), [(1, PaymentRequired)]);
    warehouse
}

fn filled(numbers: impl IntoIterator<Item = u128>) -> Vec<OrderOutcome> {
    numbers.into_iter().map(|number| (number, PaymentRequired)).collect()
}

fn sequence(warehouse: &Warehouse, number: u128) -> u64 {
    warehouse.reservation(number).position.unwrap().sequence
}

#[test]
fn a_long_queue_is_filled_in_parts() {
    // The number of orders that wait, the quantity that arrives, and the orders that each decision fills.
    let table: [(usize, usize, u64, &[usize]); 8] = [
        (2, 5, 5, &[2, 2, 1]),
        (2, 4, 4, &[2, 2]),
        (2, 2, 2, &[2]),
        (2, 5, 3, &[2, 1]),
        (2, 5, 2, &[2]),
        (1, 3, 9, &[1, 1, 1]),
        (3, 1, 9, &[1]),
        (100, 99, 99, &[99]),
    ];
    for (fills, orders, units, parts) in table {
        let name = format!("{units} units for {orders} orders, {fills} at a time");
        let mut warehouse = waiting(Limits { fills, ..PLENTY }, orders);
        warehouse.when(&restocked(1, "201", units));
        warehouse.continue_filling();
        let mut next = 1;
        for (part, number) in parts.iter().zip(1..) {
            let first = next;
            next += *part as u128;
            assert_eq!(warehouse.order_outcomes(), filled(first..next), "{name}: part {number}");
            let due = warehouse.due_inputs();
            assert_eq!(due.len(), usize::from(number < parts.len()), "{name}: after {number}");
            assert_eq!(warehouse.product("201").backorders.fill.is_some(), !due.is_empty());
            due.iter().for_each(|input| warehouse.when(input));
        }
        assert!(warehouse.order_outcomes().is_empty(), "{name}");
    }
}

#[test]
fn the_default_limits_are_large_and_hold() {
    let mut warehouse = waiting(Limits::default(), 900);
    warehouse.when(&restocked(1, "201", 1_000));
    warehouse.continue_filling();
    assert_eq!(warehouse.order_outcomes(), filled(1..=300));
    assert!(warehouse.memory.concerned <= Limits::default().entities);
    assert_eq!(warehouse.fill_to_the_end(), 2);
    assert_eq!(warehouse.order_outcomes(), filled(301..=900));
    assert_eq!(warehouse.stock("201"), (100, 900));
}

#[test]
fn with_any_limits_all_orders_are_filled_in_the_end() {
    let limits = [
        Limits { fills: 1, pages: 1, entities: 1, ..PLENTY },
        Limits { fills: 1, pages: 1, entities: 9, ..PLENTY },
        Limits { fills: 7, pages: 1, entities: 20, ..PLENTY },
        Limits { entities: 1, ..PLENTY },
        Limits { entities: 30, ..PLENTY },
        Limits { pages: 1, ..PLENTY },
    ];
    for limits in limits {
        let mut warehouse = waiting(limits, ORDERS_PER_PAGE + 9);
        warehouse.when(&restocked(1, "201", 100));
        warehouse.fill_to_the_end();
        assert_eq!(
            warehouse.order_outcomes(),
            filled(1..=ORDERS_PER_PAGE as u128 + 9),
            "{limits:?}"
        );
        assert_eq!(warehouse.product("201").backorders, BackorderQueue::default(), "{limits:?}");
    }
}

#[test]
fn one_decision_requests_a_bounded_number_of_entities() {
    // At least one order is filled, and what one decision fills is bounded.
    for (entities, parts) in [(1, 10), (4, 5), (1_000, 1)] {
        let mut warehouse = waiting(Limits { entities, ..PLENTY }, 10);
        warehouse.when(&restocked(1, "201", 10));
        let decisions = warehouse.fill_to_the_end();
        assert!(decisions >= parts && (decisions == 1) == (parts == 1), "{entities}: {decisions}");
    }
}

#[test]
fn many_orders_that_need_too_much_are_passed_in_parts() {
    let mut warehouse = Warehouse::limited(Limits { pages: 1, ..PLENTY }, &[("201", 800, 0)]);
    let last = 3 * ORDERS_PER_PAGE as u128 + 1;
    for number in 1..last {
        warehouse.when_unchecked(&ordered(number, 1, &["201", "201"]));
    }
    warehouse.when_unchecked(&ordered(last, 1, &["201"]));
    warehouse.memory.published.clear();
    warehouse.when(&restocked(1, "201", 1));
    warehouse.continue_filling();
    assert!(warehouse.order_outcomes().is_empty(), "it is too far back");
    assert_eq!(warehouse.product("201").backorders.fill.map(|fill| fill.page), Some(1));
    assert_eq!(warehouse.fill_to_the_end(), 2);
    assert_eq!(warehouse.order_outcomes(), filled([last]));
}

#[test]
fn each_queue_is_scanned_in_parts() {
    let products = [("201", 800, 1), ("204", 100, 1)];
    let mut warehouse = Warehouse::limited(Limits { pages: 1, ..PLENTY }, &products);
    warehouse.when(&ordered(1, 1, &["201", "204"]));
    for (id, count) in [("201", 4 * ORDERS_PER_PAGE), ("204", 4 * ORDERS_PER_PAGE)] {
        for number in (1_000 * (1 + u128::from(id == "204"))..).take(count) {
            warehouse.when_unchecked(&ordered(number, 1, &[id, id]));
        }
    }
    warehouse.memory.published.clear();
    warehouse.when(&cancelled(1));
    for page in 0..=1 {
        for id in ["201", "204"] {
            let fill = warehouse.product(id).backorders.fill;
            assert_eq!(fill.map(|fill| fill.page), Some(page), "{id}");
        }
        warehouse.continue_filling();
    }
}

#[test]
fn an_order_placed_while_a_queue_is_filled_joins_its_end() {
    let mut warehouse = being_filled(3, 3);
    warehouse.when(&ordered(4, 1, &["201"]));
    let outcomes = warehouse.outcomes();
    assert_eq!(outcomes[0].reason.as_deref(), Some("201: earlier backorders wait for it"));
    assert_eq!((outcomes.len(), outcomes[0].inventory), (1, OutOfStock));
    assert_eq!(warehouse.queue("201"), [2, 3, 4], "although two units are available");
    warehouse.fill_to_the_end();
    assert_eq!(warehouse.order_outcomes(), filled([2, 3]));
    assert_eq!(warehouse.queue("201"), [4]);
}

#[test]
fn an_order_that_joins_a_queue_while_it_is_filled_is_considered() {
    let mut warehouse = being_filled(2, 9);
    warehouse.when(&ordered(3, 1, &["201"]));
    warehouse.when(&ordered(4, 1, &["201"]));
    warehouse.fill_to_the_end();
    assert_eq!(
        warehouse.order_outcomes(),
        [
            (3, OutOfStock),
            (4, OutOfStock),
            (2, PaymentRequired),
            (3, PaymentRequired),
            (4, PaymentRequired)
        ]
    );
    warehouse.when(&ordered(5, 1, &["201"]));
    assert_eq!(
        warehouse.order_outcomes(),
        filled([5]),
        "filled to its end, the queue holds up no order"
    );
}

#[test]
fn a_repeated_fill_event_fills_nothing_more() {
    let mut warehouse = being_filled(4, 4);
    let first = warehouse.due_inputs().remove(0);
    warehouse.when(&first);
    assert_eq!(warehouse.order_outcomes(), filled([2]));
    warehouse.when_nothing_happens(&first);
    let second = warehouse.due_inputs().remove(0);
    warehouse.when(&second);
    warehouse.when_nothing_happens(&first);
    warehouse.when_nothing_happens(&second);
    warehouse.fill_to_the_end();
    assert_eq!(warehouse.order_outcomes(), filled([3, 4]));
    for again in [first, second] {
        warehouse.when_nothing_happens(&again);
    }
}

#[test]
fn a_queue_that_is_not_being_filled_does_not_change() {
    let fill = |id: &str, after| {
        Input::FillBackorders(FillBackorders { product_id: product_id(id), after })
    };
    let mut warehouse = waiting(ONE_TURN, 3);
    let sequences = [0, sequence(&warehouse, 1), sequence(&warehouse, 2), u64::MAX];
    for after in sequences {
        warehouse.when_nothing_happens(&fill("201", after));
        warehouse.when_nothing_happens(&fill("999", after));
    }
    warehouse.when(&restocked(1, "201", 3));
    warehouse.continue_filling();
    for after in sequences.into_iter().filter(|after| *after != sequences[1]) {
        warehouse.when_nothing_happens(&fill("201", after));
    }
    warehouse.when(&fill("201", sequences[1]));
    assert_eq!(warehouse.order_outcomes(), filled([1, 2]));
}

#[test]
fn after_a_lost_event_the_next_order_lets_the_queue_be_filled() {
    let table = [
        ("an order for the product", ordered(5, 1, &["201"])),
        ("one that cannot be filled", ordered(5, 1, &["201", "204"])),
        ("a delivery, from the beginning", restocked(2, "201", 1)),
        ("a reset, from the beginning", created("201", 800, 9, entry(2))),
        ("released stock", unpaid(1, 1)),
    ];
    for (name, input) in table {
        let mut warehouse = being_filled(3, 3);
        warehouse.when(&redefined("204", 100, 0, entry(1)));
        assert_eq!(warehouse.due_inputs().len(), 1, "it is lost");
        warehouse.when(&input);
        warehouse.fill_to_the_end();
        let outcomes = warehouse.order_outcomes();
        let outcomes: Vec<OrderOutcome> =
            outcomes.into_iter().filter(|(number, _)| *number != 5).collect();
        assert_eq!(outcomes, filled([2, 3]), "{name}");
        assert_eq!(warehouse.product("201").backorders.fill, None, "{name}");
    }
}

#[test]
fn a_delivery_into_a_queue_being_filled_starts_with_its_first_order() {
    let mut warehouse = Warehouse::limited(ONE_TURN, &[("201", 800, 0)]);
    for (number, count) in [(1, 3), (2, 1), (3, 1), (4, 1)] {
        warehouse.when(&ordered(number, 1, &["201"; 3][..count]));
    }
    warehouse.memory.published.clear();
    warehouse.when(&restocked(1, "201", 2));
    warehouse.continue_filling();
    assert_eq!(warehouse.order_outcomes(), filled([2]));
    let overtaken = warehouse.due_inputs().remove(0);
    // Now there is enough for the first order, which was passed already.
    warehouse.when(&restocked(2, "201", 3));
    warehouse.when_nothing_happens(&overtaken);
    warehouse.fill_to_the_end();
    assert_eq!(warehouse.order_outcomes(), filled([1, 3]));
    assert_eq!(warehouse.queue("201"), [4]);
}

#[test]
fn an_order_that_leaves_a_queue_being_filled_holds_up_no_other() {
    let table: [(&str, &[u128], &[u128]); 5] = [
        ("the next one", &[2], &[3, 4]),
        ("one further back", &[3], &[2, 4]),
        ("the last one", &[4], &[2, 3]),
        ("all but the last one", &[3, 2], &[4]),
        ("all", &[2, 3, 4], &[]),
    ];
    for (name, gone, served) in table {
        let mut warehouse = being_filled(4, 4);
        gone.iter().for_each(|number| warehouse.when(&cancelled(*number)));
        warehouse.fill_to_the_end();
        assert_eq!(warehouse.order_outcomes(), filled(served.iter().copied()), "{name}");
        assert_eq!(warehouse.product("201").backorders, BackorderQueue::default(), "{name}");
    }
}

#[test]
fn a_queue_whose_stock_is_gone_before_its_end_holds_up_no_order() {
    let mut warehouse = being_filled(3, 3);
    warehouse.when(&created("201", 800, 0, entry(2)));
    warehouse.fill_to_the_end();
    assert!(warehouse.order_outcomes().is_empty());
    assert_eq!(warehouse.product("201").backorders.fill, None);
    assert_eq!(warehouse.queue("201"), [2, 3]);
}

#[test]
fn an_order_in_two_queues_is_filled_where_it_is_due_last() {
    // Product 204 arrives before the queue of 201 is filled up to order 3.
    for first in ["201", "204"] {
        let mut warehouse = Warehouse::limited(ONE_TURN, &[("201", 800, 0), ("204", 100, 0)]);
        for (number, ids) in [(1, &["201"][..]), (2, &["201"]), (3, &["201", "204"]), (4, &["204"])]
        {
            warehouse.when(&ordered(number, 1, ids));
        }
        warehouse.memory.published.clear();
        warehouse.when(&restocked(1, "201", 3));
        warehouse.when(&restocked(2, "204", 1 + u64::from(first == "204")));
        assert_eq!(warehouse.state(3), ReservationState::Waiting, "2 is before it");
        let mut due = warehouse.due_inputs();
        while !due.is_empty() {
            let is_first = |input: &Input| match input {
                Input::FillBackorders(event) => event.product_id.as_str() == first,
                _ => false,
            };
            let next = due.iter().position(is_first).unwrap_or(0);
            let next = due.remove(next);
            warehouse.when(&next);
            due.extend(warehouse.due_inputs());
        }
        assert_eq!(
            (warehouse.state(2), warehouse.state(3)),
            (ReservationState::Held, ReservationState::Held)
        );
        assert_eq!(warehouse.stock("201").0, 0);
    }
}

#[test]
fn an_order_that_waits_for_all_arrivals_is_considered_once() {
    let products = [("201", 800, 1), ("204", 100, 1), ("205", 300, 0)];
    let mut warehouse = Warehouse::limited(Limits { fills: 2, ..PLENTY }, &products);
    for (number, ids) in [(9, &["201", "204"][..]), (1, &["201", "204", "205"]), (2, &["204"])] {
        warehouse.when(&ordered(number, 1, ids));
    }
    warehouse.memory.published.clear();
    warehouse.when(&cancelled(9));
    warehouse.fill_to_the_end();
    assert_eq!(warehouse.order_outcomes(), filled([2]), "the first one is short of 205");
}

#[test]
fn emptied_pages_are_not_scanned_for_ever() {
    let mut warehouse = Warehouse::limited(Limits { pages: 2, ..PLENTY }, &[("201", 800, 0)]);
    // The first order needs so much that all pages behind it are filled before it is cancelled.
    warehouse.when(&ordered(1, 1, &["201"; 100]));
    for number in (2..).take(6 * ORDERS_PER_PAGE) {
        warehouse.when_unchecked(&ordered(number, 1, &["201"]));
    }
    for (delivery, amount) in [60, 60, 60, 60, 59].into_iter().enumerate() {
        warehouse.when(&restocked(delivery as u128, "201", amount));
        warehouse.fill_to_the_end();
    }
    warehouse.when(&cancelled(1));
    warehouse.when(&ordered(1_000, 1, &["201", "201"]));
    assert_eq!(warehouse.queue("201"), [301, 1_000], "they are on the last page");
    warehouse.when(&restocked(100, "201", 1));
    warehouse.fill_to_the_end();
    assert_eq!(warehouse.queue("201"), [1_000]);
    warehouse.when(&restocked(101, "201", 2));
    assert_eq!(warehouse.fill_to_the_end(), 1, "the pages before them were passed");
}

#[test]
fn an_order_for_stock_that_no_backorder_can_need_is_reserved() {
    // Two orders wait, for 100 units each at most.
    for (units, outcomes) in [(200, OutOfStock), (201, PaymentRequired)] {
        let mut warehouse = waiting(ONE_TURN, 2);
        warehouse.when(&restocked(1, "201", units));
        warehouse.when(&ordered(3, 1, &["201"]));
        assert_eq!(warehouse.order_outcomes(), [(3, outcomes)], "{units}");
        warehouse.fill_to_the_end();
        assert_eq!(
            warehouse.order_outcomes().last(),
            Some(&(if units == 200 { 3 } else { 2 }, PaymentRequired))
        );
    }
}
