//! Orders for up to 100 products: the entities of one decision are bounded by its order and by the limits,
//! never by the orders that wait.

use common::{
    contract::{
        backorders::BackorderPage,
        entities::Product,
        events::{FillBackorders, StockOutcome::PaymentRequired},
    },
    decision::{Decider, World},
};
use inventory_service::{
    Limits, ORDERS_PER_PAGE,
    reservation::{Reservation, ReservationState},
    stock::{Input, Stock},
};

use crate::support::{
    OrderOutcome, Warehouse, cancelled, created, entry, order_id, ordered, product_id, redefined,
    restocked, unpaid,
};

/// The largest number of products in one order.
const WIDE: usize = 100;
/// The largest number of entities in a decision about one order: its reservation, and for each product
/// the last page of its queue and the next one.
const ORDER: usize = 1 + 3 * WIDE;

/// The largest number of entities in a decision about a queue: those that it needs in the end, and those
/// that it requested together with an order before it found that another queue comes first.
const MOST: usize = 500 + 5 * 100;

/// A service with the default limits whose queues are filled when the test says so.
fn warehouse() -> Warehouse {
    Warehouse::limited(Limits::default(), &[])
}

fn define(warehouse: &mut Warehouse, id: &str, amount: u64) {
    warehouse.when_unchecked(&created(id, 1, amount, entry(1)));
}

/// An order for these products and for this number of others that only it names and that are available.
fn place(warehouse: &mut Warehouse, number: u128, products: &[&str], others: usize) {
    let others: Vec<String> = (0..others).map(|other| format!("{number}-{other}")).collect();
    others.iter().for_each(|id| define(warehouse, id, 100));
    let ids: Vec<&str> =
        products.iter().copied().chain(others.iter().map(String::as_str)).collect();
    warehouse.when_unchecked(&ordered(number, 1, &ids));
    assert!(warehouse.memory.concerned <= ORDER, "{}", warehouse.memory.concerned);
}

/// Fills all queues to their ends, and checks the entities of each decision.
fn fill_queues(warehouse: &mut Warehouse) -> usize {
    let mut decisions = 0;
    loop {
        let due = warehouse.due_inputs();
        if due.is_empty() {
            return decisions;
        }
        for input in due {
            warehouse.when_unchecked(&input);
            let concerned = warehouse.memory.concerned;
            assert!(concerned <= MOST, "{concerned} in {input:?}");
            decisions += 1;
        }
        assert!(decisions < 10_000, "it does not end");
    }
}

fn filled(numbers: impl IntoIterator<Item = u128>) -> Vec<OrderOutcome> {
    numbers.into_iter().map(|number| (number, PaymentRequired)).collect()
}

#[test]
fn incoming_stock_does_not_depend_on_wide_backorders() {
    let table = [
        ("a delivery", restocked(1, "wanted", 21), (21, 1), 21),
        ("a cancellation", cancelled(1_000), (1, 0), 1),
        ("a payment that failed", unpaid(1_000, 1), (1, 0), 1),
        ("a new attempt of the order that held it", ordered(1_000, 2, &["wanted"]), (1, 0), 1),
        ("a definition", created("wanted", 1, 21, entry(2)), (21, 1), 21),
    ];
    for (name, input, stock, served) in table {
        let mut warehouse = warehouse();
        define(&mut warehouse, "wanted", 1);
        warehouse.when_unchecked(&ordered(1_000, 1, &["wanted"]));
        (1..=21).for_each(|number| place(&mut warehouse, number, &["wanted"], WIDE - 1));
        warehouse.memory.published.clear();
        warehouse.when(&input);
        assert!(warehouse.memory.concerned <= 4, "{name}: {}", warehouse.memory.concerned);
        assert_eq!(warehouse.stock("wanted"), stock, "{name}");
        warehouse.outcomes();
        fill_queues(&mut warehouse);
        assert_eq!(warehouse.order_outcomes(), filled(1..=served), "{name}");
        warehouse.when_unchecked(&redefined("wanted", 2, 0, entry(3)));
        assert_eq!(warehouse.product("wanted").backorders.fill, None, "{name}");
        warehouse.when(&restocked(2, "wanted", 0));
    }
}

#[test]
fn wide_and_narrow_orders_are_filled_in_arrival_order() {
    let mut warehouse = warehouse();
    define(&mut warehouse, "wanted", 0);
    // Every third order is wide; every fifth one needs a product without stock.
    define(&mut warehouse, "short", 0);
    for number in 1..=60 {
        let products: &[&str] = if number % 5 == 0 { &["wanted", "short"] } else { &["wanted"] };
        place(&mut warehouse, number, products, if number % 3 == 0 { WIDE - 2 } else { 0 });
    }
    warehouse.memory.published.clear();
    let mut next = (1..=60).filter(|number| number % 5 != 0);
    for (delivery, amount) in [1, 7, 20, 20].into_iter().enumerate() {
        warehouse.when_unchecked(&restocked(delivery as u128, "wanted", amount));
        fill_queues(&mut warehouse);
        let expected = filled(next.by_ref().take(amount as usize));
        assert_eq!(warehouse.order_outcomes(), expected, "delivery {delivery}");
    }
    warehouse.when_unchecked(&restocked(10, "short", 100));
    fill_queues(&mut warehouse);
    assert!(warehouse.order_outcomes().is_empty(), "nothing is left of the other product");
    warehouse.when_unchecked(&restocked(11, "wanted", 100));
    fill_queues(&mut warehouse);
    assert_eq!(warehouse.order_outcomes(), filled((5..=60).step_by(5)));
}

#[test]
fn orders_placed_between_parts_of_a_queue_wait_behind_it() {
    let mut warehouse = warehouse();
    define(&mut warehouse, "wanted", 0);
    (1..=9).for_each(|number| place(&mut warehouse, number, &["wanted"], WIDE - 1));
    warehouse.memory.published.clear();
    warehouse.when_unchecked(&restocked(1, "wanted", 9));
    warehouse.continue_filling();
    let first = warehouse.order_outcomes();
    assert!((1..9).contains(&first.len()), "{first:?}");
    assert!(
        warehouse.product("wanted").backorders.fill.is_some_and(|it| it.page == 0),
        "in its page"
    );
    warehouse.when(&ordered(10, 1, &["wanted"]));
    warehouse.outcomes();
    fill_queues(&mut warehouse);
    assert_eq!(warehouse.order_outcomes(), filled(first.len() as u128 + 1..=9));
    assert_eq!(warehouse.queue("wanted"), [10]);
}

#[test]
fn dependent_wide_orders_are_filled_in_bounded_parts() {
    // Order n waits for products n and n + 1: each queue depends on the previous one.
    let mut warehouse = warehouse();
    let hot: Vec<String> = (0..=12).map(|number| format!("hot{number}")).collect();
    hot.iter().for_each(|id| define(&mut warehouse, id, 1));
    let ids: Vec<&str> = hot.iter().map(String::as_str).collect();
    warehouse.when_unchecked(&ordered(1_000, 1, &ids));
    for number in 1..=12 {
        place(&mut warehouse, number as u128, &[ids[number], ids[number - 1]], WIDE - 2);
    }
    warehouse.memory.published.clear();
    warehouse.when(&cancelled(1_000));
    assert_eq!(warehouse.memory.concerned, 1 + ids.len());
    fill_queues(&mut warehouse);
    let mut outcomes = warehouse.order_outcomes();
    outcomes.sort_by_key(|(number, _)| *number);
    assert_eq!(outcomes, filled((1..=12).step_by(2)), "the earlier one of each pair");
    warehouse.when(&restocked(1, "hot0", 0));
}

#[test]
fn one_delivery_fills_wide_orders_that_share_all_products() {
    let mut warehouse = warehouse();
    let ids: Vec<String> = (0..WIDE).map(|number| format!("{number:x>64}")).collect();
    ids.iter().for_each(|id| define(&mut warehouse, id, if *id == ids[0] { 0 } else { 1_000 }));
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let orders = 2 * ORDERS_PER_PAGE as u128 + 10;
    for number in 1..=orders {
        warehouse.when_unchecked(&ordered(number, 1, &ids));
        let (concerned, written) = (warehouse.memory.concerned, warehouse.memory.written);
        assert!(concerned <= ORDER, "{concerned}");
        assert!(written <= 1_000_000, "{written} bytes for one order");
    }
    warehouse.memory.published.clear();
    warehouse.when_unchecked(&restocked(1, ids[0], orders as u64));
    let decisions = fill_queues(&mut warehouse);
    assert!(decisions <= 5, "{decisions}");
    assert_eq!(warehouse.order_outcomes(), filled(1..=orders));
}

#[test]
fn a_hundred_queues_filled_at_once_fill_the_orders_in_all_of_them() {
    let mut warehouse = warehouse();
    let ids: Vec<String> = (0..WIDE).map(|number| format!("hot{number}")).collect();
    ids.iter().for_each(|id| define(&mut warehouse, id, 2));
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    (1_000..1_002).for_each(|number| warehouse.when_unchecked(&ordered(number, 1, &ids)));
    for number in 1..=20 {
        // Half of the orders name all products, the others one each and many of their own.
        match number % 2 {
            0 => warehouse.when_unchecked(&ordered(number, 1, &ids)),
            _ => place(&mut warehouse, number, &ids[number as usize..][..1], WIDE - 1),
        }
    }
    warehouse.memory.published.clear();
    warehouse.when_unchecked(&cancelled(1_000));
    assert!(warehouse.memory.concerned <= ORDER);
    warehouse.when(&cancelled(1_001));
    fill_queues(&mut warehouse);
    let mut outcomes = warehouse.order_outcomes();
    outcomes.sort_by_key(|(number, _)| *number);
    // Two units of each: the second and the fourth order take one of everything, unless it is gone.
    let expected = [1, 2].into_iter().chain((3..20).step_by(2));
    assert_eq!(outcomes, filled(expected));
    warehouse.when(&restocked(1, "hot0", 0));
}

#[test]
fn orders_of_few_products_are_passed_without_their_reservations() {
    let mut warehouse = warehouse();
    for id in ["wanted", "a", "b", "c", "short"] {
        define(&mut warehouse, id, 0);
    }
    for number in 1..=2_000 {
        warehouse.when_unchecked(&ordered(number, 1, &["wanted", "a", "b", "c", "short"]));
    }
    warehouse.when_unchecked(&restocked(1, "wanted", 1));
    assert_eq!(fill_queues(&mut warehouse), 1);
    assert!(
        warehouse.memory.concerned <= 2_000 / ORDERS_PER_PAGE + 5,
        "{}",
        warehouse.memory.concerned
    );
}

#[test]
fn an_order_of_more_products_than_the_interface_allows_is_rejected() {
    let mut warehouse = warehouse();
    let ids: Vec<String> = (0..=WIDE).map(|number| number.to_string()).collect();
    ids.iter().for_each(|id| define(&mut warehouse, id, 1));
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    warehouse.when(&ordered(1, 1, &ids));
    let reason = warehouse.outcome().reason;
    assert_eq!(reason.as_deref(), Some("it names 101 products; the limit is 100"));
    assert_eq!(warehouse.memory.concerned, 1);
    warehouse.when_nothing_happens(&ordered(1, 1, &ids));
    warehouse.when(&cancelled(1));
    // A large quantity of one product is no wide order.
    warehouse.when(&ordered(2, 1, &["1"; 2 * WIDE]));
    assert_eq!(warehouse.state(2), ReservationState::Waiting);
}

#[test]
fn a_queue_of_an_earlier_version_with_all_products_listed_is_filled() {
    let others: Vec<String> = (0..WIDE - 1).map(|number| format!("other{number}")).collect();
    let product = |id: &str, amount, line: &str| -> Product {
        let json = format!(
            r#"{{"id":"{id}","name":"","price":1,"amount":{amount},"received":{amount},"line":{line}}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    let line = r#"{"waiting":1,"first":0,"last":0,"ticket":7}"#;
    let begun = r#"{"waiting":1,"first":0,"last":0,"ticket":7,"served":{"ticket":0,"page":0}}"#;
    let quantities = |ids: &[String]| -> String {
        let quantities: Vec<String> = ids.iter().map(|id| format!(r#""{id}":1"#)).collect();
        format!("{{{}}}", quantities.join(","))
    };
    let page = |id: &str, others: &str| -> BackorderPage {
        let json = format!(
            r#"{{"id":{{"product":"{id}","number":0}},"spots":[{{"ticket":7,"order":"{}","pieces":1,
            "others":{others}}}]}}"#,
            order_id(1)
        );
        serde_json::from_str(&json).unwrap()
    };
    let mut all = others.clone();
    all.push("wanted".to_owned());
    let pages: Vec<String> = all.iter().map(|id| format!(r#""{id}":0"#)).collect();
    let reservation = format!(
        r#"{{"order_id":"{}","customer_id":"101","product_ids":["wanted"],"attempt":1,"state":"waiting",
        "pieces":{},"spot":{{"ticket":7,"pages":{{{}}}}}}}"#,
        order_id(1),
        quantities(&all),
        pages.join(","),
    );
    let reservation: Reservation = serde_json::from_str(&reservation).unwrap();
    let mut world = World::for_tests()
        .with(product("wanted", 1, begun))
        .with(page("wanted", &quantities(&others)))
        .with(reservation);
    for id in &others {
        let rest: Vec<String> = all.iter().filter(|it| *it != id).cloned().collect();
        world = world.with(product(id, 1, line)).with(page(id, &quantities(&rest)));
    }
    let fill = Input::FillBackorders(FillBackorders { product_id: product_id("wanted"), after: 0 });
    let changes = Stock::default().decide(&fill, &world, 1).unwrap();
    let [outcome] = changes.events() else { panic!("{changes:?}") };
    assert!(outcome.json.contains("payment-required"), "{outcome:?}");
}

#[test]
fn a_batch_has_room_for_inputs_that_are_decided_again() {
    let Limits { entities, queues, .. } = Limits::default();
    assert!(ORDER <= entities && entities + (1 + queues) * 100 <= MOST);
    const { assert!(2 * MOST <= common::engine::BATCH_KEYS) };
}
