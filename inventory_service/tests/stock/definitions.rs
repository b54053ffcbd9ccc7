//! Definitions of products, and restocking.

use common::{
    contract::{
        backorders::BackorderQueue,
        definitions::ProductDefinition,
        entities::{Delivery, Product, Refused},
        events::{ProductCreated, StockOutcome},
    },
    schema::entry_id::EntryId,
};
use inventory_service::stock::Input;
use uuid::Uuid;

use crate::support::{
    Warehouse, cancelled, created, entry, ordered, product_id, redefined, restocked, unpaid,
};

#[test]
fn the_whole_amount_of_a_new_product_is_available() {
    let warehouse = Warehouse::with(&[("201", 800, 4)]);
    let expected = Product {
        id: product_id("201"),
        name: "No. 201".to_owned(),
        price: 800,
        amount: 4,
        reserved: 0,
        sold: 0,
        received: 4,
        created_by: Some(entry(1)),
        backorders: BackorderQueue::default(),
    };
    assert_eq!(warehouse.product("201"), expected);
}

#[test]
fn a_reset_product_keeps_reserved_stock() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201", "201", "201"]));
    for (number, amount) in [(2, 4), (3, 0), (4, 1_000)] {
        warehouse.when(&created("201", 700, amount, entry(number)));
        let product = warehouse.product("201");
        assert_eq!((product.price, product.amount), (700, amount), "reset to its first values");
        assert_eq!((product.reserved, product.received), (3, amount + 3));
    }
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.stock("201"), (1_003, 0), "released stock is added");
}

#[test]
fn an_older_created_event_changes_nothing() {
    let id = |text: &str| text.parse::<EntryId>().unwrap();
    // Applied, then late: compared as numbers; seconds of the original are below milliseconds.
    let table = [
        ("1767225600000-5", "1767225600000-5"),
        ("1767225600000-5", "1767225600000-4"),
        ("1767225600000-10", "1767225600000-9"),
        ("1767225600000-0", "999999999999-7"),
        ("1767225600000-0", "1767225600-999999"),
    ];
    for (applied, late) in table {
        let mut warehouse = Warehouse::with(&[]);
        warehouse.when(&created("201", 800, 4, id(applied)));
        warehouse.when_nothing_happens(&created("201", 1, 99, id(late)));
        warehouse.when(&ordered(1, 1, &["201"]));
        warehouse.when_nothing_happens(&created("201", 800, 4, id(applied)));
        warehouse.when(&created("201", 2, 7, EntryId { time: u64::MAX, sequence: 0 }));
        assert_eq!(warehouse.stock("201"), (7, 1), "a newer one changes it");
    }
}

#[test]
fn an_amount_that_overflows_is_a_fault_and_changes_nothing() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    let before = warehouse.product("201");
    let error = warehouse.memory.handle(&created("201", 800, u64::MAX, entry(2)), 1).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("201") && text.contains("too large"), "{text}");
    assert_eq!(warehouse.product("201"), before);
    warehouse.when(&created("201", 800, u64::MAX - 1, entry(2)));
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.stock("201"), (u64::MAX, 0), "the largest amount is valid");
}

#[test]
fn a_product_that_is_defined_again_may_keep_its_amount() {
    let mut warehouse = Warehouse::with(&[]);
    warehouse.when(&redefined("201", 800, 4, entry(1)));
    assert_eq!(warehouse.stock("201"), (4, 0), "a new product has no amount to keep");
    warehouse.when(&ordered(1, 1, &["201"]));
    for (number, amount) in [(2, 9), (3, 0), (4, u64::MAX)] {
        let mut expected = warehouse.product("201");
        (expected.price, expected.created_by) = (number, Some(entry(number)));
        warehouse.when(&redefined("201", number, amount, entry(number)));
        assert_eq!(warehouse.product("201"), expected, "only the price changes");
        warehouse.when_nothing_happens(&redefined("201", number, amount, entry(number)));
    }
    warehouse.when_nothing_happens(&redefined("201", 1, 1, entry(3)));
    warehouse.when_nothing_happens(&created("201", 1, 1, entry(3)));
    warehouse.when(&created("201", 1, 2, entry(5)));
    assert_eq!(warehouse.stock("201"), (2, 1), "otherwise it is reset");
}

#[test]
fn a_name_is_taken_over() {
    for keep in [true, false] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
        let Input::Created(mut event, by) = created("201", 800, 4, entry(2)) else {
            panic!("it is a definition")
        };
        event.name = "Denon Speakers".to_owned();
        event.keep = keep;
        warehouse.when(&Input::Created(event, by));
        assert_eq!(warehouse.product("201").name, "Denon Speakers");
    }
}

#[test]
fn a_price_change_applies_to_later_reservations() {
    let mut warehouse = Warehouse::with(&[("201", 800, 2)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&ordered(2, 1, &["201", "201"]));
    let totals = |warehouse: &mut Warehouse| -> Vec<Option<u64>> {
        warehouse.outcomes().iter().map(|outcome| outcome.order_total).collect()
    };
    assert_eq!(totals(&mut warehouse), [Some(800), None]);
    warehouse.when(&redefined("201", 700, 0, entry(2)));
    assert_eq!(warehouse.reservation(1).total, Some(800));
    warehouse.when(&ordered(3, 1, &["201"]));
    assert_eq!(totals(&mut warehouse), [Some(700)]);
    // A backorder costs the price at which it is filled.
    warehouse.when(&created("201", 600, 2, entry(3)));
    assert_eq!(totals(&mut warehouse), [Some(1_200)]);
}

#[test]
fn a_delivery_comes_in_once() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 0)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&restocked(1, "201", 5));
    let product = warehouse.product("201");
    assert_eq!((product.amount, product.reserved, product.received), (8, 1, 9));
    let expected = Delivery {
        id: Uuid::from_u128(1),
        product_id: product_id("201"),
        amount: 5,
        on_hand: Some(8),
        refused: None,
        entry: entry(1_000),
    };
    assert_eq!(warehouse.delivery(1), expected);
    warehouse.when_nothing_happens(&restocked(1, "201", 5));
    // Also if the stock has changed, and with any contents.
    warehouse.when(&ordered(2, 1, &["201", "201"]));
    warehouse.when_nothing_happens(&restocked(1, "201", 5));
    warehouse.when_nothing_happens(&restocked(1, "201", 6));
    warehouse.when_nothing_happens(&restocked(1, "204", 5));
    warehouse.when(&restocked(2, "201", 5));
    assert_eq!(warehouse.stock("201"), (11, 3), "another delivery does");
}

#[test]
fn a_delivery_records_the_amount_before_backorders_are_filled() {
    for amount in [0, 1, 2, 5] {
        let mut warehouse = Warehouse::with(&[("201", 800, 0)]);
        warehouse.when(&ordered(1, 1, &["201", "201"]));
        warehouse.when(&restocked(1, "201", amount));
        assert_eq!(warehouse.delivery(1).on_hand, Some(amount), "{amount} came in");
    }
}

#[test]
fn a_refused_delivery_stays_refused() {
    let table = [
        ("an unknown product", "999", 5, Refused::Unknown),
        ("more than can be counted", "201", u64::MAX - 3, Refused::TooMuch),
        (
            "a sum with reserved stock above the largest number",
            "201",
            u64::MAX - 4,
            Refused::TooMuch,
        ),
    ];
    for (name, id, amount, refused) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 5)]);
        warehouse.when(&ordered(1, 1, &["201"]));
        let before = warehouse.product("201");
        warehouse.memory.published.clear();
        warehouse.when(&restocked(1, id, amount));
        assert_eq!(warehouse.product("201"), before, "{name}");
        assert!(warehouse.memory.published.is_empty(), "{name}");
        let delivery = warehouse.delivery(1);
        assert_eq!((delivery.refused, delivery.on_hand), (Some(refused), None), "{name}");
        // Although it could be added now.
        warehouse.when(&created(id, 800, 0, entry(2)));
        warehouse.when(&cancelled(1));
        warehouse.when_nothing_happens(&restocked(1, id, amount));
        warehouse.when(&restocked(2, id, 1));
        assert_eq!(warehouse.delivery(2).refused, None, "{name}: another one comes in");
    }
    let mut warehouse = Warehouse::with(&[("201", 800, 5)]);
    warehouse.when(&restocked(1, "201", u64::MAX - 5));
    assert_eq!(warehouse.stock("201"), (u64::MAX, 0), "the largest amount is valid");
    warehouse.when(&ordered(1, 1, &["201"]));
    assert_eq!(warehouse.order_outcomes(), [(1, StockOutcome::PaymentRequired)]);
}

#[test]
fn a_requested_definition_is_applied_once_and_recorded() {
    let mut warehouse = Warehouse::with(&[]);
    let asked = |name: &str, request: u128| {
        let Input::Created(event, _) = redefined("201", 800, 4, entry(1)) else {
            panic!("no event")
        };
        ProductCreated { name: name.to_owned(), request: Some(Uuid::from_u128(request)), ..event }
    };
    let record = |warehouse: &Warehouse, request: u128| {
        let records = warehouse.memory.all::<ProductDefinition>().into_iter();
        records.filter(|it| it.id == Uuid::from_u128(request)).collect::<Vec<_>>()
    };
    let (first, second) = (asked("First", 1), asked("Second", 2));
    warehouse.when(&Input::Created(first.clone(), entry(2)));
    let made = warehouse.product("201");
    warehouse.when(&Input::Created(second, entry(4)));
    // The event of the first request is redelivered, and published again.
    for by in [entry(2), entry(3), entry(5)] {
        warehouse.when_nothing_happens(&Input::Created(first.clone(), by));
    }
    assert_eq!(warehouse.product("201").name, "Second");
    let [known] = &record(&warehouse, 1)[..] else { panic!("one record") };
    assert_eq!((&known.asked, known.entry, known.is_new), (&first, entry(2), true));
    assert_eq!(known.made.as_ref(), Some(&made));
    assert!(!record(&warehouse, 2)[0].is_new);
    // A definition after a newer one changes nothing, and its record says so.
    warehouse.when_nothing_happens(&Input::Created(asked("Late", 3), entry(3)));
    assert_eq!(record(&warehouse, 3)[0].made, None);
}
