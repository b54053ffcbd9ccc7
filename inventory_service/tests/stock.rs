//! What orders hold of the stock: given products, when something happens, then so much is left.

use std::collections::BTreeMap;

use common::{
    consumer::StreamEntry,
    decision::{Decider, Halt, World},
    entities::Product,
    events::{
        OrderCreated, ProductCreated, StockChecked, StockOutcome, Stream, WalletChecked,
        WalletOutcome,
    },
    ids::{CustomerId, EntryId, OrderId, ProductId},
    memory::Memory,
};
use inventory_service::{
    stock::{Holding, Input, Reservation, Stock, frees_stock},
    subscriptions,
};
use uuid::Uuid;

fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

fn product_id(id: &str) -> ProductId {
    id.parse().unwrap()
}

fn customer() -> CustomerId {
    "101".parse().unwrap()
}

fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

fn created(id: &str, price: u64, amount: u64, by: EntryId) -> Input {
    let event = ProductCreated { id: product_id(id), name: format!("No. {id}"), price, amount };
    Input::Created(event, by)
}

fn ordered(number: u128, attempt: u32, ids: &[&str]) -> Input {
    Input::Ordered(OrderCreated {
        id: order_id(number),
        product_ids: ids.iter().map(|id| product_id(id)).collect(),
        customer_id: customer(),
        status: "pending".to_owned(),
        attempt,
    })
}

fn unpaid(number: u128, attempt: u32) -> Input {
    Input::Unpaid(WalletChecked {
        order_id: order_id(number),
        customer_id: customer(),
        account: WalletOutcome::InsufficientFund,
        attempt,
        reason: None,
    })
}

/// The service in memory, with its books checked after everything that happens.
struct Warehouse(Memory<Stock>);

impl Warehouse {
    fn with(products: &[OnHand<'_>]) -> Self {
        let mut warehouse = Self(Memory::new(Stock));
        for (id, price, amount) in products {
            warehouse.when(&created(id, *price, *amount, entry(1)));
        }
        warehouse.0.published.clear();
        warehouse
    }

    fn when(&mut self, input: &Input) {
        self.0.handle(input, 1).unwrap();
        self.check_books();
    }

    /// The same, but nothing may come of it.
    fn when_nothing_happens(&mut self, input: &Input) {
        let before = (self.0.all::<Product>(), self.0.all::<Reservation>());
        let published = self.0.published.len();
        self.when(input);
        assert_eq!((self.0.all(), self.0.all()), before, "{input:?} changed something");
        assert_eq!(self.0.published.len(), published, "{input:?} published something");
    }

    fn check_books(&self) {
        let mut held = BTreeMap::<ProductId, u64>::new();
        for reservation in self.0.all::<Reservation>() {
            if reservation.state == Holding::Held {
                for (product, pieces) in reservation.pieces {
                    *held.entry(product).or_default() += pieces;
                }
            }
        }
        for product in self.0.all::<Product>() {
            assert_eq!(product.received, product.amount + product.reserved, "{product:?}");
            assert_eq!(product.reserved, held.remove(&product.id).unwrap_or(0), "{product:?}");
        }
        assert!(held.is_empty(), "held of products that do not exist: {held:?}");
    }

    fn product(&self, id: &str) -> Product {
        let mut products = self.0.all::<Product>().into_iter();
        products.find(|product| product.id.as_str() == id).unwrap()
    }

    /// Pieces on hand and pieces held.
    fn stock(&self, id: &str) -> (u64, u64) {
        let product = self.product(id);
        (product.amount, product.reserved)
    }

    fn reservation(&self, number: u128) -> Reservation {
        let mut reservations = self.0.all::<Reservation>().into_iter();
        reservations.find(|reservation| reservation.order_id == order_id(number)).unwrap()
    }

    /// The one outcome published since it was last asked for.
    fn outcome(&mut self) -> StockChecked {
        let published = self.0.take(Stream::InventoryCheck);
        assert_eq!(published.len(), 1, "{published:?}");
        serde_json::from_str(&published[0]).unwrap()
    }
}

/// Id, price and amount of a product.
type OnHand<'a> = (&'a str, u64, u64);
/// Products ordered.
type Ids<'a> = &'a [&'a str];

#[test]
fn an_order_gets_all_of_its_pieces_or_none() {
    /// What the order comes to.
    enum Then {
        Total(u64),
        Short(&'static str),
        Rejected(&'static str),
    }
    use Then::{Rejected, Short, Total};
    // What is ordered of 4 pieces of 201, 3 of 204 and none of 205; what it comes to; what is on
    // hand of 201 and 204 then.
    let table: [(&str, Ids<'_>, Then, (u64, u64)); 11] = [
        ("one piece", &["201"], Total(800), (3, 3)),
        ("two products", &["201", "204"], Total(900), (3, 2)),
        ("a repeated id means pieces", &["204", "201", "204"], Total(1_000), (3, 1)),
        ("the last piece", &["201", "201", "201", "201"], Total(3_200), (0, 3)),
        (
            "one piece too many",
            &["201", "201", "201", "201", "201"],
            Short("201: 5 wanted, 4 on hand"),
            (4, 3),
        ),
        (
            "partly there is not there",
            &["201", "204", "204", "204", "204"],
            Short("204: 4 wanted, 3 on hand"),
            (4, 3),
        ),
        (
            "all that is short is told",
            &["205", "204", "204", "201", "204", "204"],
            Short("204: 4 wanted, 3 on hand; 205: 1 wanted, 0 on hand"),
            (4, 3),
        ),
        ("none on hand", &["205"], Short("205: 1 wanted, 0 on hand"), (4, 3)),
        ("an unknown product", &["999"], Rejected("there is no product 999"), (4, 3)),
        (
            "unknown products beside known ones",
            &["201", "999", "204", "998", "999"],
            Rejected("there is no product 998, 999"),
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
            Total(total) => (StockOutcome::PaymentRequired, Holding::Held, Some(total), None),
            Short(reason) => (StockOutcome::OutOfStock, Holding::Short, None, Some(reason)),
            Rejected(reason) => (StockOutcome::Rejected, Holding::Rejected, None, Some(reason)),
        };
        let expected = StockChecked {
            inventory,
            order_id: order_id(1),
            customer_id: customer(),
            product_ids: ids.iter().map(|id| product_id(id)).collect(),
            order_total,
            attempt: 1,
            reason: reason.map(str::to_owned),
        };
        assert_eq!(warehouse.outcome(), expected, "{name}");
        assert_eq!(warehouse.reservation(1).state, state, "{name}");
        assert_eq!((warehouse.stock("201").0, warehouse.stock("204").0), left, "{name}");
    }
}

#[test]
fn only_a_reserved_order_tells_its_total() {
    for (id, told) in [("201", true), ("205", false), ("999", false)] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("205", 300, 0)]);
        warehouse.when(&ordered(1, 1, &[id]));
        let json = warehouse.0.take(Stream::InventoryCheck).remove(0);
        assert_eq!(json.contains("order_total"), told, "{json}");
    }
}

#[test]
fn a_total_that_cannot_be_counted_is_rejected() {
    let table: [(&str, [OnHand<'_>; 2], Ids<'_>); 3] = [
        ("two pieces", [("201", u64::MAX, 4), ("204", 1, 4)], &["201", "201"]),
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
    assert_eq!(warehouse.outcome().order_total, Some(u64::MAX), "the largest total is one");
}

#[test]
fn redelivered_order_reserves_stock_once() {
    for ids in [&["201", "204"][..], &["205"], &["999"]] {
        let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 0)]);
        let order = ordered(1, 1, ids);
        warehouse.when(&order);
        warehouse.when_nothing_happens(&order);
        // Also when other things happened in between, which would change the outcome now.
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
    let outcomes = [(1, 1), (2, 2), (3, 2), (4, 1), (5, 1)].map(|(number, pieces)| {
        warehouse.when(&ordered(number, 1, &vec!["201"; pieces]));
        warehouse.outcome().inventory
    });
    let expected = [PaymentRequired, PaymentRequired, OutOfStock, PaymentRequired, OutOfStock];
    assert_eq!(outcomes, expected);
    assert_eq!(warehouse.stock("201"), (0, 4));
}

#[test]
fn an_unpaid_order_gives_its_stock_back_once() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 8)]);
    warehouse.when(&ordered(1, 1, &["201", "204", "204"]));
    warehouse.when(&ordered(2, 1, &["201", "205"]));
    warehouse.0.published.clear();
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.reservation(1).state, Holding::Released);
    assert_eq!(warehouse.stock("201"), (3, 1), "the other order keeps its piece");
    assert_eq!(warehouse.stock("204"), (3, 0));
    assert_eq!(warehouse.stock("205"), (7, 1));
    assert_eq!(warehouse.0.take(Stream::InventoryUpdated).len(), 2, "only what changed is told");
    assert!(warehouse.0.published.is_empty(), "and nothing else");
    warehouse.when_nothing_happens(&unpaid(1, 1));
}

#[test]
fn only_the_attempt_that_is_held_is_released() {
    let held = || {
        let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
        warehouse.when(&ordered(1, 2, &["201"]));
        assert_eq!(warehouse.reservation(1).state, Holding::Held);
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
    assert!(Stock.decide(&unpaid(1, 1), &world, 1).unwrap().is_empty(), "it was never here");
}

#[test]
fn a_release_gives_back_no_more_than_the_product_has_reserved() {
    let reservation = Reservation {
        order_id: order_id(1),
        attempt: 1,
        state: Holding::Held,
        pieces: [(product_id("201"), 2), (product_id("204"), 1)].into(),
    };
    // The data of 201 was lost; 204 was defined again since, without what it held.
    let product = Product {
        id: product_id("204"),
        name: "No. 204".to_owned(),
        price: 100,
        amount: 3,
        reserved: 0,
        received: 3,
        created_by: None,
    };
    let mut world = World::for_tests().with(reservation).with(product.clone());
    let mut changes = Stock.decide(&unpaid(1, 1), &world, 1).unwrap();
    world.apply(&mut changes);
    assert_eq!(world.get::<Product>(&product_id("201")).unwrap(), None);
    assert_eq!(world.get::<Product>(&product_id("204")).unwrap(), Some(&product));
    let reservation = world.get::<Reservation>(&order_id(1)).unwrap().unwrap();
    assert_eq!(reservation.state, Holding::Released);
}

#[test]
fn a_later_attempt_is_checked_anew_and_an_earlier_one_no_more() {
    let mut warehouse = Warehouse::with(&[("201", 800, 0)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    assert_eq!(warehouse.outcome().inventory, StockOutcome::OutOfStock);
    warehouse.when(&created("201", 800, 1, entry(2)));
    warehouse.when(&ordered(1, 2, &["201"]));
    let event = warehouse.outcome();
    assert_eq!((event.inventory, event.attempt), (StockOutcome::PaymentRequired, 2));
    assert_eq!(warehouse.stock("201"), (0, 1));
    warehouse.when_nothing_happens(&ordered(1, 2, &["201"]));
    warehouse.when_nothing_happens(&ordered(1, 1, &["201"]));
    warehouse.when_nothing_happens(&unpaid(1, 1));
}

#[test]
fn a_new_product_is_on_hand_whole() {
    let warehouse = Warehouse::with(&[("201", 800, 4)]);
    let expected = Product {
        id: product_id("201"),
        name: "No. 201".to_owned(),
        price: 800,
        amount: 4,
        reserved: 0,
        received: 4,
        created_by: Some(entry(1)),
    };
    assert_eq!(warehouse.product("201"), expected);
}

#[test]
fn a_reset_product_keeps_what_orders_hold() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201", "201", "201"]));
    for (number, amount) in [(2, 4), (3, 0), (4, 1_000)] {
        warehouse.when(&created("201", 700, amount, entry(number)));
        let product = warehouse.product("201");
        assert_eq!((product.price, product.amount), (700, amount), "reset to its first values");
        assert_eq!((product.reserved, product.received), (3, amount + 3));
    }
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.stock("201"), (1_003, 0), "what is given back comes on top");
}

#[test]
fn an_older_created_event_changes_nothing() {
    let id = |text: &str| text.parse::<EntryId>().unwrap();
    // Applied, then late: by number, not as text; seconds of the original below milliseconds.
    let table = [
        ("1767225600000-5", "1767225600000-5"),
        ("1767225600000-5", "1767225600000-4"),
        ("1767225600000-10", "1767225600000-9"),
        ("1767225600000-0", "999999999999-7"),
        ("1767225600000-0", "1767225600-999999"),
    ];
    for (applied, late) in table {
        let mut warehouse = Warehouse(Memory::new(Stock));
        warehouse.when(&created("201", 800, 4, id(applied)));
        warehouse.when_nothing_happens(&created("201", 1, 99, id(late)));
        warehouse.when(&ordered(1, 1, &["201"]));
        warehouse.when_nothing_happens(&created("201", 800, 4, id(applied)));
        warehouse.when(&created("201", 2, 7, EntryId { time: u64::MAX, sequence: 0 }));
        assert_eq!(warehouse.stock("201"), (7, 1), "a newer one does");
    }
}

#[test]
fn an_amount_that_cannot_be_counted_is_at_fault_and_changes_nothing() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201"]));
    let before = warehouse.product("201");
    let fault = warehouse.0.handle(&created("201", 800, u64::MAX, entry(2)), 1).unwrap_err();
    let text = fault.to_string();
    assert!(text.contains("201") && text.contains("too large"), "{text}");
    assert_eq!(warehouse.product("201"), before);
    warehouse.when(&created("201", 800, u64::MAX - 1, entry(2)));
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.stock("201"), (u64::MAX, 0), "the largest amount is one");
}

#[test]
fn an_order_without_products_is_at_fault() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    let fault = warehouse.0.handle(&ordered(1, 1, &[]), 1).unwrap_err();
    assert_eq!(fault, Halt::fault("the order has no products"));
    assert!(warehouse.0.all::<Reservation>().is_empty() && warehouse.0.published.is_empty());
}

#[test]
fn only_products_that_changed_are_told_as_updated() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4), ("204", 100, 3), ("205", 300, 0)]);
    let table: [(Ids<'_>, Ids<'_>); 4] = [
        (&["201", "204"], &["201", "204"]),
        (&["204", "204"], &["204"]),
        (&["201", "205"], &[]),
        (&["201", "999"], &[]),
    ];
    for ((ids, updated), number) in table.into_iter().zip(1..) {
        warehouse.when(&ordered(number, 1, ids));
        let told = warehouse.0.take(Stream::InventoryUpdated);
        let told: Vec<Product> =
            told.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        let expected: Vec<Product> = updated.iter().map(|id| warehouse.product(id)).collect();
        assert_eq!(told, expected, "{ids:?}: whole, with the new amount");
    }
}

#[test]
fn only_a_failed_payment_frees_stock() {
    let table = [
        (WalletOutcome::ToBeShipped, "to-be-shipped", false),
        (WalletOutcome::InsufficientFund, "insufficient-fund", true),
        (WalletOutcome::Rejected, "rejected", true),
    ];
    let wallet = subscriptions().into_iter().find(|it| it.stream == Stream::AccountWallet).unwrap();
    for (account, name, frees) in table {
        assert_eq!(frees_stock(account), frees);
        let order_id = order_id(1);
        let entity =
            format!(r#"{{"order_id": "{order_id}", "customer_id": "101", "account": "{name}"}}"#);
        let payment =
            WalletChecked { order_id, customer_id: customer(), account, attempt: 1, reason: None };
        let input = (wallet.parse)(&StreamEntry { id: entry(1), entity: &entity });
        assert_eq!(input, Ok(frees.then_some(Input::Unpaid(payment))), "{name}");
    }
}

#[test]
fn a_new_attempt_takes_over_what_the_one_before_still_holds() {
    let mut warehouse = Warehouse::with(&[("201", 800, 4)]);
    warehouse.when(&ordered(1, 1, &["201", "201"]));
    warehouse.when(&ordered(1, 2, &["201", "201"]));
    warehouse.when(&unpaid(1, 1));
    assert_eq!(warehouse.stock("201"), (2, 2));
}
