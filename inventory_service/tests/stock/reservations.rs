//! Reservations: reserve, release, cancel and ship.

use common::{
    contract::{
        backorders::BackorderQueue,
        entities::{Product, ProductUpdated},
        events::{StockChecked, StockOutcome},
        streams,
    },
    decision::{DecideError, Decider, World},
};
use inventory_service::{
    reservation::{Reservation, ReservationState},
    stock::Stock,
};

use crate::support::{
    Ids, ProductRow, Warehouse, cancelled, created, customer, entry, order_id, ordered,
    ordered_after, paid_by_the_original, product_id, resent, restocked, shipped, still_unpaid,
    unpaid, unpaid_by_the_original,
};

#[test]
fn an_order_is_reserved_in_full_or_not_at_all() {
    /// The outcome of the order.
    enum Then {
        Total(u64),
        Waits(&'static str),
        Rejected(&'static str),
    }
    use Then::{Rejected, Total, Waits};
    // The products ordered, of 4 units of 201, 3 of 204 and none of 205; the outcome; then the stock
    // of 201 and 204.
    let table: [(&str, Ids<'_>, Then, (u64, u64)); 11] = [
        ("one unit", &["201"], Total(800), (3, 3)),
        ("two products", &["201", "204"], Total(900), (3, 2)),
        ("a repeated id means a quantity", &["204", "201", "204"], Total(1_000), (3, 1)),
        ("the last unit", &["201", "201", "201", "201"], Total(3_200), (0, 3)),
        (
            "one unit too many",
            &["201", "201", "201", "201", "201"],
            Waits("201: 5 wanted, 4 available"),
            (4, 3),
        ),
        (
            "partly available is not enough",
            &["201", "204", "204", "204", "204"],
            Waits("204: 4 wanted, 3 available"),
            (4, 3),
        ),
        (
            "all short products are named",
            &["205", "204", "204", "201", "204", "204"],
            Waits("204: 4 wanted, 3 available; 205: 1 wanted, 0 available"),
            (4, 3),
        ),
        ("none available", &["205"], Waits("205: 1 wanted, 0 available"), (4, 3)),
        ("an unknown product", &["999"], Rejected("there is no product 999"), (4, 3)),
        (
            "unknown products beside known ones",
            &["201", "999", "204", "998", "999"],
            Rejected("there are no products 998 and 999"),
            (4, 3),
        ),
        (
            "waiting for stock would not help an unknown product",
            &["205", "999"],
            Rejected("there is no product 999"),
            (4, 3),
        ),
    ];
    for (name, ids, then, left) in table {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 0)]);
        warehouse.when(&ordered(1, 1, ids));
        let (inventory, state, order_total, reason) = match then {
            Total(total) => {
                (StockOutcome::PaymentRequired, ReservationState::Held, Some(total), None)
            }
            Waits(reason) => {
                (StockOutcome::OutOfStock, ReservationState::Waiting, None, Some(reason))
            }
            Rejected(reason) => {
                (StockOutcome::Rejected, ReservationState::Rejected, None, Some(reason))
            }
        };
        let expected = StockChecked {
            inventory,
            order_id: order_id(1),
            customer_id: customer(),
            product_ids: ids.iter().map(|id| product_id(id)).collect(),
            order_total,
            attempt: Some(1),
            reason: reason.map(str::to_owned),
            resend: false,
            released: false,
        };
        assert_eq!(warehouse.outcome(), expected, "{name}");
        assert_eq!(warehouse.state(1), state, "{name}");
        assert_eq!((warehouse.stock("201").0, warehouse.stock("204").0), left, "{name}");
    }
}

#[test]
fn texts_about_unknown_products_are_bounded() {
    let ids: Vec<String> = (0..100).map(|n| format!("xyz-{n:060}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut warehouse = Warehouse::with(&[]);
    warehouse.when(&ordered(1, 1, &ids));
    assert!(warehouse.memory.written < 700, "{}", warehouse.memory.written);
    let first = warehouse.outcome();
    let reason = first.reason.clone().expect("a reason");
    assert!(reason.starts_with("there are no products xyz-0000") && reason.len() < 300, "{reason}");
    assert!(reason.ends_with("… and 94 more"), "{reason}");
    // The repeated outcome is the same.
    warehouse.when(&resent(1, 1, &ids));
    assert_eq!(warehouse.outcome(), StockChecked { resend: true, ..first });

    let amounts: Vec<(&str, u64, u64)> = ids.iter().map(|id| (*id, 1, 0)).collect();
    let mut warehouse = Warehouse::with(&amounts);
    warehouse.when(&ordered(1, 1, &ids));
    let reason = warehouse.outcome().reason.expect("a reason");
    assert!(reason.ends_with(": 1 wanted, 0 available and 94 more"), "{reason}");
    assert!(reason.len() < 400, "{reason}");
}

#[test]
fn only_a_reserved_order_has_a_total() {
    for (id, has_total) in [("201", true), ("205", false), ("999", false)] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("205", 300, 0)]);
        warehouse.when(&ordered(1, 1, &[id]));
        let json = warehouse.memory.take(streams::INVENTORY_CHECK).remove(0);
        assert_eq!(json.contains("order_total"), has_total, "{json}");
    }
}

#[test]
fn a_total_that_overflows_is_rejected() {
    let table: [(&str, [ProductRow<'_>; 2], Ids<'_>); 3] = [
        ("two units", [("201", u64::MAX, 4), ("204", 1, 4)], &["201", "201"]),
        ("two products", [("201", u64::MAX, 4), ("204", 1, 4)], &["201", "204"]),
        ("the other way round", [("201", 1, 4), ("204", u64::MAX, 4)], &["201", "204"]),
    ];
    for (name, products, ids) in table {
        let mut warehouse = Warehouse::with(&products);
        warehouse.when(&ordered(1, 1, ids));
        let event = warehouse.outcome();
        assert_eq!((event.inventory, event.order_total), (StockOutcome::Rejected, None), "{name}");
        assert_eq!(event.reason.as_deref(), Some("the total is too large to be paid"), "{name}");
        assert_eq!((warehouse.stock("201"), warehouse.stock("204")), ((4, 0), (4, 0)), "{name}");
    }
    let mut warehouse = Warehouse::with(&[("201", u64::MAX - 1, 4), ("204", 1, 4)]);
    warehouse.when(&ordered(1, 1, &["201", "204"]));
    assert_eq!(warehouse.outcome().order_total, Some(u64::MAX), "the largest total is valid");
}

#[test]
fn redelivered_order_reserves_stock_once() {
    for ids in [&["201", "204"][..], &["205"], &["999"]] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 0)]);
        let order = ordered(1, 1, ids);
        warehouse.when(&order);
        warehouse.when_nothing_happens(&order);
        // Also after other inputs that would change the outcome now.
        warehouse.when(&created("205", 300, 9, entry(2)));
        warehouse.when(&created("999", 1, 9, entry(2)));
        warehouse.when(&ordered(2, 1, &["201", "201", "201"]));
        warehouse.when_nothing_happens(&order);
    }
}

#[test]
fn an_order_that_was_released_is_not_reserved_again_by_its_old_event() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&unpaid(1, 1));
    warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    assert_eq!(warehouse.stock("201"), (4, 0));
}

#[test]
fn orders_share_the_stock_until_it_is_gone() {
    use StockOutcome::{OutOfStock, PaymentRequired};
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    let outcomes = [(1, 1), (2, 2), (3, 2), (4, 1), (5, 1)].map(|(number, quantity)| {
        warehouse.when(&ordered(number, 1, &vec!["201"; quantity]));
        warehouse.outcome().inventory
    });
    let expected = [PaymentRequired, PaymentRequired, OutOfStock, PaymentRequired, OutOfStock];
    assert_eq!(outcomes, expected);
    assert_eq!(warehouse.stock("201"), (0, 4));
}

#[test]
fn an_unpaid_order_is_released_once() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 8)]);
    warehouse.when(&ordered(1, 1, &["201", "204", "204"]));
    warehouse.when(&ordered(2, 1, &["201", "205"]));
    warehouse.memory.published.clear();
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.state(1), ReservationState::Released);
    assert_eq!(warehouse.stock("201"), (3, 1), "the other order keeps its unit");
    assert_eq!(warehouse.stock("204"), (3, 0));
    assert_eq!(warehouse.stock("205"), (7, 1));
    assert_eq!(
        warehouse.memory.take(streams::INVENTORY_UPDATED).len(),
        2,
        "only changed products are announced"
    );
    assert_eq!(warehouse.memory.take(streams::INVENTORY_CONFIRMED).len(), 1);
    assert!(warehouse.memory.published.is_empty(), "nothing else is published");
    warehouse.when_nothing_happens(&unpaid(1, 1));
}

#[test]
fn only_the_attempt_that_is_held_is_released() {
    let held = || {
        let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
        warehouse.when(&ordered(1, 2, &["201"]));
        assert_eq!(warehouse.state(1), ReservationState::Held);
        warehouse
    };
    for attempt in [0, 1, 3] {
        held().when_nothing_happens(&unpaid(1, attempt));
    }
    let mut warehouse = held();
    warehouse.when(&unpaid(1, 2));
    assert_eq!(warehouse.stock("201"), (4, 0));
}

#[test]
fn an_order_that_holds_nothing_has_nothing_to_release() {
    for ids in [&["205"][..], &["999"], &["201", "999"]] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("205", 300, 0)]);
        warehouse.when(&ordered(1, 1, ids));
        warehouse.when_nothing_happens(&unpaid(1, 1));
    }
    let world = World::for_tests();
    for input in [unpaid(1, 1), shipped(1, 1)] {
        let changes = Stock::default().decide(&input, &world, 1).unwrap();
        assert!(changes.is_empty(), "the order is unknown: {input:?}");
    }
}

#[test]
fn no_more_is_released_or_sold_than_the_product_has_reserved() {
    let held = Reservation {
        order_id: order_id(1),
        customer_id: customer(),
        product_ids: ["201", "201", "204"].map(product_id).to_vec(),
        attempt: 1,
        state: ReservationState::Held,
        quantities: [(product_id("201"), 2), (product_id("204"), 1)].into(),
        total: Some(1_700),
        reason: None,
        shipped: false,
        position: None,
        paid: false,
        refused_by: None,
    };
    // The data of 201 was lost; 204 was defined again since, without its reserved stock.
    let product = Product {
        id: product_id("204"),
        name: "No. 204".to_owned(),
        price: 100,
        amount: 3,
        reserved: 0,
        sold: 0,
        received: 3,
        created_by: None,
        backorders: BackorderQueue::default(),
    };
    let table = [
        (unpaid(1, 1), ReservationState::Released, false),
        (cancelled(1), ReservationState::Cancelled, false),
        (shipped(1, 1), ReservationState::Held, true),
        (ordered(1, 2, &["999"]), ReservationState::Rejected, false),
    ];
    for (input, state, left) in table {
        let mut world = World::for_tests().with(held.clone()).with(product.clone());
        let mut changes = Stock::default().decide(&input, &world, 1).unwrap();
        world.apply(&mut changes);
        assert_eq!(world.get::<Product>(&product_id("201")).unwrap(), None, "{input:?}");
        assert_eq!(world.get::<Product>(&product_id("204")).unwrap(), Some(&product), "{input:?}");
        let reservation = world.get::<Reservation>(&order_id(1)).unwrap().unwrap();
        assert_eq!((reservation.state, reservation.shipped), (state, left), "{input:?}");
    }
}

#[test]
fn a_later_attempt_is_checked_and_an_earlier_one_is_not() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&unpaid(1, 1));
    warehouse.memory.published.clear();
    warehouse.when(&ordered(1, 2, &["201"]));
    let event = warehouse.outcome();
    assert_eq!((event.inventory, event.attempt), (StockOutcome::PaymentRequired, Some(2)));
    assert_eq!(warehouse.stock("201"), (0, 1));
    warehouse.when_nothing_happens(&ordered(1, 2, &["201"]));
    warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    warehouse.when_nothing_happens(&unpaid(1, 1));
}

#[test]
fn a_rejected_order_can_be_tried_again_once_the_product_exists() {
    let mut warehouse = Warehouse::with(&[]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&created("201", 800, 1, entry(1)));
    assert_eq!(
        warehouse.order_outcomes(),
        [(1, StockOutcome::Rejected)],
        "without a new attempt it stays rejected"
    );
    warehouse.when(&ordered(1, 2, &["201"]));
    assert_eq!(warehouse.order_outcomes(), [(1, StockOutcome::PaymentRequired)]);
}

#[test]
fn an_order_without_products_is_at_fault() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    let error = warehouse.memory.handle(&ordered(1, 1, &[]), 1).unwrap_err();
    assert_eq!(error, DecideError::invalid("the order has no products"));
    assert!(
        warehouse.memory.all::<Reservation>().is_empty() && warehouse.memory.published.is_empty()
    );
}

#[test]
fn only_changed_products_are_announced() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 0)]);
    let table: [(Ids<'_>, Ids<'_>); 4] = [
        (&["201", "204"], &["201", "204"]),
        (&["204", "204"], &["204"]),
        (&["201", "205"], &["201", "205"]),
        (&["201", "999"], &[]),
    ];
    for ((ids, updated), number) in table.into_iter().zip(1..) {
        warehouse.when(&ordered(number, 1, ids));
        let published = warehouse.memory.take(streams::INVENTORY_UPDATED);
        let announced: Vec<ProductUpdated> =
            published.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        let expected: Vec<_> =
            updated.iter().map(|id| ProductUpdated::from(&warehouse.product(id))).collect();
        assert_eq!(announced, expected, "{ids:?}: with amount and the number of waiting orders");
    }
}

#[test]
fn an_attempt_that_overtakes_a_failed_payment_releases_the_previous_one() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201", "201"]));
    warehouse.when(&created("201", 700, 2, entry(2)));
    warehouse.memory.published.clear();
    warehouse.when(&ordered(1, 2, &["201", "201"]));
    assert_eq!(warehouse.outcome().order_total, Some(1_400), "at the current price");
    warehouse.when_nothing_happens(&unpaid(1, 1));
    assert_eq!(warehouse.stock("201"), (2, 2));
    warehouse.when(&unpaid(1, 2));
    assert_eq!(warehouse.stock("201"), (4, 0));
}

#[test]
fn a_cancelled_order_is_released_once_and_never_reserved_again() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3)]);
    warehouse.when(&ordered(1, 1, &["201", "204", "204"]));
    warehouse.when(&ordered(2, 1, &["201"]));
    warehouse.memory.published.clear();
    warehouse.when(&cancelled(1));
    assert_eq!((warehouse.stock("201"), warehouse.stock("204")), ((3, 1), (3, 0)));
    assert!(warehouse.order_outcomes().is_empty(), "no outcome is published");
    assert_eq!(warehouse.memory.take(streams::INVENTORY_UPDATED).len(), 2);
    let later = [
        cancelled(1),
        unpaid(1, 1),
        shipped(1, 1),
        ordered(1, 1, &["201"]),
        ordered(1, 2, &["201"]),
        resent(1, 2, &["201"]),
    ];
    later.iter().for_each(|input| warehouse.when_nothing_happens(input));
}

#[test]
fn an_order_cancelled_before_it_arrives_is_not_reserved() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("205", 300, 0)]);
    for (number, ids) in [(1, &["201"]), (2, &["205"]), (3, &["999"])] {
        warehouse.when(&cancelled(number));
        warehouse.when_nothing_happens(&ordered(number, 1, ids));
        warehouse.when_nothing_happens(&cancelled(number));
    }
    assert_eq!(warehouse.memory.take(streams::INVENTORY_CONFIRMED).len(), 3);
    assert!(warehouse.memory.published.is_empty());
    warehouse.when(&restocked(1, "205", 1));
    assert_eq!((warehouse.stock("201"), warehouse.stock("205")), ((4, 0), (1, 0)));
}

#[test]
fn shipped_stock_is_counted_as_sold_once_and_stays_reserved() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3)]);
    warehouse.when(&ordered(1, 1, &["201", "204", "204"]));
    warehouse.when(&ordered(2, 1, &["201"]));
    warehouse.memory.published.clear();
    let counts = |warehouse: &Warehouse, id| {
        let product = warehouse.product(id);
        (product.amount, product.reserved, product.sold, product.received)
    };
    warehouse.when(&shipped(1, 1));
    assert_eq!(counts(&warehouse, "201"), (2, 2, 1, 4));
    assert_eq!(counts(&warehouse, "204"), (1, 2, 2, 3));
    assert!(warehouse.order_outcomes().is_empty(), "no outcome is published");
    assert_eq!(warehouse.memory.take(streams::INVENTORY_UPDATED).len(), 2);
    warehouse.when(&shipped(2, 1));
    assert_eq!(counts(&warehouse, "201"), (2, 2, 2, 4));
    // Neither a reset nor a delivery undoes it.
    warehouse.when(&created("201", 800, 7, entry(2)));
    assert_eq!(counts(&warehouse, "201"), (7, 2, 2, 9));
    warehouse.when(&restocked(1, "201", 1));
    assert_eq!(counts(&warehouse, "201"), (8, 2, 2, 10));
}

#[test]
fn shipped_stock_is_never_released() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&ordered(2, 1, &["201"]));
    warehouse.when(&shipped(1, 1));
    let later = [
        shipped(1, 1),
        cancelled(1),
        unpaid(1, 1),
        ordered(1, 2, &["201"]),
        resent(1, 1, &["201"]),
        resent(1, 2, &["201"]),
    ];
    later.iter().for_each(|input| warehouse.when_nothing_happens(input));
    assert_eq!(warehouse.queue("201"), [2], "the backorder still waits");
}

#[test]
fn only_the_attempt_that_is_held_is_shipped() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1)]);
    warehouse.when(&ordered(1, 2, &["201"]));
    for attempt in [0, 1, 3] {
        warehouse.when_nothing_happens(&shipped(1, attempt));
    }
    warehouse.when(&shipped(1, 2));
    assert_eq!(warehouse.product("201").sold, 1);
}

#[test]
fn an_unnumbered_refusal_releases_the_current_attempt_once() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&unpaid_by_the_original(1, entry(5)));
    assert_eq!(warehouse.stock("201"), (4, 0));
    warehouse.when_nothing_happens(&unpaid_by_the_original(1, entry(5)));
    warehouse.when(&ordered_after(1, 2, &["201"], entry(5)));
    assert_eq!(warehouse.stock("201"), (3, 1));
    // A redelivered or late refusal belongs to the previous attempt.
    warehouse.when_nothing_happens(&unpaid_by_the_original(1, entry(5)));
    warehouse.when_nothing_happens(&unpaid_by_the_original(1, entry(4)));
    warehouse.when(&unpaid_by_the_original(1, entry(6)));
    assert_eq!(warehouse.stock("201"), (4, 0));
    assert_eq!(warehouse.reservation(1).state, ReservationState::Released);
}

#[test]
fn a_late_refusal_does_not_touch_the_next_attempt() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    warehouse.when(&ordered_after(1, 2, &["201"], entry(5)));
    warehouse.when_nothing_happens(&unpaid_by_the_original(1, entry(5)));
    warehouse.when(&paid_by_the_original(1));
    assert_eq!(warehouse.stock("201"), (3, 1));
    assert_eq!(warehouse.reservation(1).state, ReservationState::Held);
}

#[test]
fn a_refusal_after_the_payment_releases_nothing() {
    for refusal in [unpaid_by_the_original(1, entry(5)), unpaid(1, 1), still_unpaid(1, 1)] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
        warehouse.when(&ordered(1, 1, &["201"]));
        warehouse.when(&paid_by_the_original(1));
        warehouse.when(&refusal);
        assert_eq!(warehouse.stock("201"), (3, 1), "{refusal:?}");
        assert_eq!(warehouse.reservation(1).state, ReservationState::Held, "{refusal:?}");
    }
}

#[test]
fn a_reservation_is_stored_under_the_names_that_earlier_versions_gave() {
    let mut warehouse = Warehouse::with(&[("201", 800, 1)]);
    warehouse.when(&ordered(1, 1, &["201", "201"]));
    let mut stored = serde_json::to_value(warehouse.reservation(1)).unwrap();
    let sequence = stored["spot"]["ticket"].take();
    assert!(sequence.is_u64(), "{stored}");
    stored["spot"]["ticket"] = 7.into();
    let expected = serde_json::json!({
        "order_id": order_id(1), "customer_id": "101", "product_ids": ["201", "201"], "attempt": 1,
        "state": "waiting", "pieces": { "201": 2 }, "reason": "201: 2 wanted, 1 available",
        "spot": { "ticket": 7, "pages": { "201": 0 } },
    });
    assert_eq!(stored, expected);
}
