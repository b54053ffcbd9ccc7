//! Lines: who waits for stock, and who is served when it comes in.

use common::contract::{
    entities::{Line, LinePage},
    events::{
        StockChecked,
        StockOutcome::{OutOfStock, PaymentRequired, Rejected},
    },
};
use inventory_service::{ORDERS_PER_PAGE, reservation::ReservationState, stock::Input};

use crate::support::{
    Ids, Told, Warehouse, cancelled, created, entry, ordered, redefined, restocked, shipped, unpaid,
};

/// Many pieces of product 201.
fn pieces(count: usize) -> Vec<&'static str> {
    vec!["201"; count]
}

/// Orders 1, 2 and so on wait for so many pieces of product 201, of which there are none.
fn waiting(wanted: &[usize]) -> Warehouse {
    let mut warehouse = Warehouse::with(&[("201", 800, 0)]);
    for (count, number) in wanted.iter().zip(1..) {
        warehouse.when_unchecked(&ordered(number, 1, &pieces(*count)));
    }
    warehouse.memory.published.clear();
    warehouse
}

#[test]
fn who_can_be_filled_whole_is_served_in_order_of_arrival() {
    /// How many pieces each order waits for.
    type Wanted<'a> = &'a [usize];
    // And how many come in, which orders get theirs, and what is left on hand.
    let table: [(&str, Wanted<'_>, u64, &[u128], u64); 10] = [
        ("the first one", &[1, 1, 1], 1, &[1], 0),
        ("as far as it goes", &[1, 1, 1], 2, &[1, 2], 0),
        ("all of them", &[1, 2, 3], 6, &[1, 2, 3], 0),
        ("the rest is on hand", &[1, 2], 7, &[1, 2], 4),
        ("who needs more holds up nobody", &[5, 1, 2], 3, &[2, 3], 0),
        ("who needs more than is left holds up nobody", &[2, 2, 1], 3, &[1, 3], 0),
        ("the first one, though the next would leave less", &[2, 3], 3, &[1], 1),
        ("nobody gets a part", &[5, 4], 3, &[], 3),
        ("nothing comes in", &[1], 0, &[], 0),
        ("nobody waits", &[], 3, &[], 3),
    ];
    for (name, wanted, amount, filled, left) in table {
        let mut warehouse = waiting(wanted);
        warehouse.when(&restocked(1, "201", amount));
        let expected: Vec<Told> = filled.iter().map(|number| (*number, PaymentRequired)).collect();
        assert_eq!(warehouse.told(), expected, "{name}");
        assert_eq!(warehouse.stock("201").0, left, "{name}");
        let mut waits: Vec<u128> = (1..).take(wanted.len()).collect();
        waits.retain(|number| !filled.contains(number));
        assert_eq!(warehouse.line("201"), waits, "{name}");
    }
}

#[test]
fn who_was_passed_over_keeps_its_place() {
    let mut warehouse = waiting(&[3, 1, 3]);
    warehouse.when(&restocked(1, "201", 2));
    assert_eq!(warehouse.told(), [(2, PaymentRequired)]);
    warehouse.when(&ordered(4, 1, &pieces(3)));
    assert_eq!(warehouse.told(), [(4, OutOfStock)]);
    warehouse.when(&restocked(2, "201", 5));
    assert_eq!(warehouse.told(), [(1, PaymentRequired), (3, PaymentRequired)]);
    assert_eq!(warehouse.line("201"), [4]);
}

#[test]
fn a_filled_order_is_told_as_if_just_placed() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1), ("204", 100, 1)]);
    warehouse.when(&ordered(1, 2, &["204", "201", "201"]));
    let told = warehouse.outcome();
    assert_eq!((told.inventory, told.attempt, told.order_total), (OutOfStock, Some(2), None));
    assert_eq!(told.reason.as_deref(), Some("201: 2 wanted, 1 on hand"));
    let spot = warehouse.reservation(1).position.expect("it waits");
    assert_eq!(spot.pages.len(), 2, "in both lines");
    warehouse.when(&restocked(1, "201", 1));
    let expected =
        StockChecked { inventory: PaymentRequired, order_total: Some(1_700), reason: None, ..told };
    assert_eq!(warehouse.outcome(), expected);
    let reservation = warehouse.reservation(1);
    assert_eq!((reservation.state, reservation.total), (ReservationState::Held, Some(1_700)));
    assert_eq!((reservation.reason, reservation.position), (None, None));
    assert_eq!((warehouse.stock("201"), warehouse.stock("204")), ((0, 2), (0, 1)));
    assert!(warehouse.line("201").is_empty() && warehouse.line("204").is_empty());
}

#[test]
fn whatever_brings_stock_in_serves_the_line() {
    let next = vec![(1, PaymentRequired)];
    let table = [
        ("a delivery", restocked(1, "201", 2), next.clone()),
        ("an order that is called off", cancelled(9), next.clone()),
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
    for (name, input, told) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 2)]);
        warehouse.when(&ordered(9, 1, &["201", "201"]));
        warehouse.when(&ordered(1, 1, &["201", "201"]));
        warehouse.when(&ordered(2, 1, &["201", "201"]));
        warehouse.memory.published.clear();
        warehouse.when(&input);
        assert_eq!(warehouse.told(), told, "{name}");
        assert_eq!(warehouse.line("201")[0], 2, "{name}");
        warehouse.when_nothing_happens(&input);
    }
}

#[test]
fn nothing_else_serves_the_line() {
    let table = [
        ("a delivery of another product", restocked(1, "204", 5)),
        ("a delivery that is turned away", restocked(1, "201", u64::MAX)),
        ("a delivery of too little", restocked(1, "201", 1)),
        ("a reset to too little", created("201", 800, 1, entry(2))),
        ("an older definition", created("201", 800, 9, entry(0))),
        ("a definition that keeps the amount", redefined("201", 700, 9, entry(2))),
        ("another one that waits and is called off", cancelled(2)),
        ("another one that waits and could not pay", unpaid(2, 1)),
        ("the order in front of it leaves the house", shipped(9, 1)),
        ("an order for another product", ordered(3, 1, &["204"])),
        ("an order without stock that is called off", cancelled(8)),
    ];
    for (name, input) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 2), ("204", 100, 1)]);
        warehouse.when(&ordered(9, 1, &["201", "201"]));
        warehouse.when(&ordered(8, 1, &["999"]));
        warehouse.when(&ordered(1, 1, &["201", "201"]));
        warehouse.when(&ordered(2, 1, &["201", "201"]));
        warehouse.memory.published.clear();
        warehouse.when(&input);
        let told = warehouse.told();
        assert!(told.iter().all(|(number, _)| *number == 3), "{name}: {told:?}");
        assert_eq!(warehouse.state(1), ReservationState::Waiting, "{name}");
    }
}

#[test]
fn stock_on_hand_goes_to_whoever_orders_it_next() {
    let mut warehouse = Warehouse::with(&[("201", 800, 2)]);
    warehouse.when(&ordered(1, 1, &pieces(3)));
    warehouse.when(&ordered(2, 1, &pieces(2)));
    assert_eq!(warehouse.told(), [(1, OutOfStock), (2, PaymentRequired)]);
    // What comes in and nobody who waits can use is on hand, too.
    warehouse.when(&restocked(1, "201", 2));
    warehouse.when(&ordered(3, 1, &pieces(1)));
    assert_eq!(warehouse.told(), [(3, PaymentRequired)]);
    assert_eq!(warehouse.stock("201").0, 1);
}

#[test]
fn who_is_called_off_leaves_the_line() {
    for (gone, served) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        let mut warehouse = waiting(&[1, 1, 1]);
        warehouse.when(&cancelled(gone));
        assert_eq!(warehouse.line("201"), served);
        assert_eq!(warehouse.product("201").line.waiting, 2);
        warehouse.when(&restocked(1, "201", 5));
        assert_eq!(warehouse.told(), served.map(|number| (number, PaymentRequired)));
        assert_eq!(warehouse.stock("201"), (3, 2));
    }
}

#[test]
fn an_order_for_several_products_takes_none_before_it_gets_all() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1), ("204", 100, 0), ("205", 300, 0)]);
    warehouse.when(&ordered(1, 1, &["201", "204", "205"]));
    let reason = "204: 1 wanted, 0 on hand; 205: 1 wanted, 0 on hand";
    assert_eq!(warehouse.outcome().reason.as_deref(), Some(reason));
    warehouse.when(&restocked(1, "204", 1));
    assert!(warehouse.told().is_empty(), "205 is still missing");
    assert_eq!(warehouse.stock("204"), (1, 0));
    // What it leaves on hand, others order.
    warehouse.when(&ordered(2, 1, &["201"]));
    warehouse.when(&ordered(3, 1, &["204"]));
    assert_eq!(warehouse.told(), [(2, PaymentRequired), (3, PaymentRequired)]);
    warehouse.when(&restocked(2, "205", 1));
    warehouse.when(&cancelled(2));
    assert!(warehouse.told().is_empty(), "204 is gone again");
    warehouse.when(&restocked(3, "204", 1));
    assert_eq!(warehouse.told(), [(1, PaymentRequired)]);
    for id in ["201", "204", "205"] {
        assert!(warehouse.line(id).is_empty());
        assert_eq!(warehouse.stock(id).0, 0);
    }
}

#[test]
fn products_that_come_in_together_are_served_in_one_order_of_arrival() {
    let table: [(&str, [Ids<'_>; 3], &[u128]); 5] = [
        ("one after the other", [&["204"], &["201"], &["204"]], &[1, 2]),
        ("the one that needs both comes first", [&["201", "204"], &["201"], &["204"]], &[1]),
        ("both are gone when it is its turn", [&["204"], &["201"], &["201", "204"]], &[1, 2]),
        ("one is gone", [&["204"], &["201", "204"], &["201"]], &[1, 3]),
        ("who needs too much of one", [&["201", "204", "204"], &["204"], &["201"]], &[2, 3]),
    ];
    for (name, waits, filled) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 1), ("204", 100, 1)]);
        warehouse.when(&ordered(9, 1, &["201", "204"]));
        for (ids, number) in waits.into_iter().zip(1..) {
            warehouse.when(&ordered(number, 1, ids));
        }
        warehouse.memory.published.clear();
        warehouse.when(&cancelled(9));
        let expected: Vec<Told> = filled.iter().map(|number| (*number, PaymentRequired)).collect();
        let mut told = warehouse.told();
        told.sort_by_key(|(number, _)| *number);
        assert_eq!(told, expected, "{name}");
    }
}

#[test]
fn a_total_that_cannot_be_counted_when_the_turn_comes_is_rejected_and_the_next_is_served() {
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
fn a_new_attempt_joins_the_line_at_its_end() {
    let mut warehouse = waiting(&[1, 1, 1]);
    warehouse.when(&ordered(1, 2, &["201"]));
    assert_eq!(warehouse.outcome().attempt, Some(2));
    assert_eq!(warehouse.line("201"), [2, 3, 1]);
    warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    warehouse.when(&restocked(1, "201", 3));
    let attempts: Vec<_> =
        warehouse.outcomes().iter().map(|it| (it.order_id.0.as_u128(), it.attempt)).collect();
    assert_eq!(attempts, [(2, Some(1)), (3, Some(1)), (1, Some(2))]);
}

#[test]
fn tickets_rise_whatever_the_clock_does() {
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
        (warehouse.line("201"), warehouse.line("204")),
        (vec![1, 2, 4, 5, 6], vec![2, 3, 4])
    );
    let ticket = |number| warehouse.reservation(number).position.unwrap().sequence;
    assert!((1..6).all(|number| ticket(number) < ticket(number + 1)));
}

/// The pages of a line: their numbers and how many wait there.
fn pages(warehouse: &Warehouse) -> Vec<(u64, usize)> {
    let pages = warehouse.memory.all::<LinePage>().into_iter();
    let mut pages: Vec<_> = pages.map(|page| (page.id.number, page.spots.len())).collect();
    pages.sort_unstable();
    pages
}

#[test]
fn a_line_goes_over_many_pages_and_begins_anew_when_it_was_empty() {
    let mut warehouse = waiting(&[1; 2 * ORDERS_PER_PAGE + 3]);
    assert_eq!(pages(&warehouse), [(0, ORDERS_PER_PAGE), (1, ORDERS_PER_PAGE), (2, 3)]);
    let ends = |warehouse: &Warehouse| {
        let Line { waiting, first, last, .. } = warehouse.product("201").line;
        (waiting, first, last)
    };
    assert_eq!(ends(&warehouse), (103, 0, 2));

    // Somebody leaves a page in the midst: its place stays free.
    warehouse.when(&cancelled(60));
    warehouse.when(&ordered(104, 1, &["201"]));
    assert_eq!(pages(&warehouse), [(0, ORDERS_PER_PAGE), (1, ORDERS_PER_PAGE - 1), (2, 4)]);
    warehouse.memory.published.clear();

    warehouse.when(&restocked(1, "201", ORDERS_PER_PAGE as u64 + 20));
    let served = warehouse.told();
    let numbers = (1..=71).filter(|number| *number != 60);
    assert_eq!(served, numbers.map(|number| (number, PaymentRequired)).collect::<Vec<_>>());
    assert_eq!(ends(&warehouse), (33, 1, 2));

    warehouse.when(&restocked(2, "201", 40));
    assert_eq!(warehouse.told().len(), 33);
    assert_eq!(warehouse.product("201").line, Line::default());
    assert_eq!(pages(&warehouse), [(0, 0), (1, 0), (2, 0)], "pages are kept for those who come");

    warehouse.when(&ordered(200, 1, &pieces(9)));
    assert_eq!((ends(&warehouse), warehouse.line("201")), ((1, 0, 0), vec![200]));
}

#[test]
fn the_same_order_waits_once_however_often_it_is_delivered() {
    let mut warehouse = waiting(&[1, 2]);
    for _ in 0..2 {
        warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    }
    warehouse.when(&restocked(1, "201", 1));
    assert_eq!(warehouse.told(), [(1, PaymentRequired)]);
    // Served, cancelled or moved on, it does not come back into the line.
    let later: [Input; 2] = [ordered(1, 1, &["201"]), ordered(2, 1, &pieces(2))];
    later.iter().for_each(|input| warehouse.when_nothing_happens(input));
    warehouse.when(&cancelled(2));
    later.iter().for_each(|input| warehouse.when_nothing_happens(input));
    assert!(warehouse.line("201").is_empty());
}
