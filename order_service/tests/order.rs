//! What becomes of orders: given an order, when something happens to it, then it stands like this.

use common::{
    consumer::StreamEntry,
    decision::{Append, Decider, Millis, World},
    entities::{Order, OrderStatus, Step},
    events::{StockChecked, StockOutcome, Stream, WalletChecked, WalletOutcome},
    ids::{CustomerId, EntryId, OrderId, ProductId},
    memory::Memory,
};
use order_service::{
    order::{Answer, Input, Orders, Place},
    subscriptions,
};
use uuid::Uuid;

use OrderStatus::{
    Cancelled, Completed, InsufficientFund, OutOfStock, PaymentRequired, Pending, Rejected,
    Shipped, ToBeShipped,
};

const STATUSES: [OrderStatus; 9] = [
    Pending,
    OutOfStock,
    PaymentRequired,
    InsufficientFund,
    ToBeShipped,
    Shipped,
    Completed,
    Rejected,
    Cancelled,
];

/// How far each status is. Written down here a second time, so that a change of the rule is noticed.
fn rank(status: OrderStatus) -> u8 {
    match status {
        Pending => 0,
        OutOfStock | PaymentRequired => 1,
        InsufficientFund | ToBeShipped | Rejected => 2,
        Shipped => 3,
        Completed => 4,
        Cancelled => 5,
    }
}

fn id() -> OrderId {
    OrderId(Uuid::from_u128(1))
}

fn products(ids: &[&str]) -> Vec<ProductId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

fn place(ids: &[&str], payer: &str) -> Input {
    Input::Place(Place { id: id(), product_ids: products(ids), customer_id: customer(payer) })
}

fn stock(inventory: StockOutcome, attempt: u32) -> Input {
    let held = inventory == StockOutcome::PaymentRequired;
    Input::Stock(StockChecked {
        inventory,
        order_id: id(),
        customer_id: customer("101"),
        product_ids: products(&["201", "204"]),
        order_total: held.then_some(900),
        attempt,
        reason: (!held).then(|| "said by the stock".to_owned()),
    })
}

fn wallet(account: WalletOutcome, attempt: u32) -> Input {
    Input::Wallet(WalletChecked {
        order_id: id(),
        customer_id: customer("101"),
        account,
        attempt,
        reason: (account == WalletOutcome::Rejected).then(|| "said by the wallet".to_owned()),
    })
}

/// Every result there is, the status that it stands for, and the reason that comes with it.
fn results(attempt: u32) -> [(Input, OrderStatus, Option<&'static str>); 6] {
    [
        (stock(StockOutcome::PaymentRequired, attempt), PaymentRequired, None),
        (stock(StockOutcome::OutOfStock, attempt), OutOfStock, Some("said by the stock")),
        (stock(StockOutcome::Rejected, attempt), Rejected, Some("said by the stock")),
        (wallet(WalletOutcome::ToBeShipped, attempt), ToBeShipped, None),
        (wallet(WalletOutcome::InsufficientFund, attempt), InsufficientFund, None),
        (wallet(WalletOutcome::Rejected, attempt), Rejected, Some("said by the wallet")),
    ]
}

/// An order that went through these statuses in this attempt, the first one at 1 ms, and so on.
fn order(attempt: u32, statuses: &[OrderStatus]) -> Order {
    let steps = statuses.iter().zip(1..);
    Order {
        id: id(),
        product_ids: products(&["201", "204"]),
        customer_id: customer("101"),
        status: *statuses.last().unwrap(),
        attempt,
        order_total: None,
        reason: None,
        history: steps.map(|(status, at)| Step { status: *status, at, attempt }).collect(),
    }
}

/// The order after this happened at `now`, and what was published; `None` if nothing came of it.
fn after(given: &Order, input: &Input, now: Millis) -> (Option<Order>, Vec<Append>) {
    let mut world = World::for_tests().with(given.clone());
    let mut changes = Orders.decide(input, &world, now).unwrap();
    let events = changes.events().to_vec();
    if changes.is_empty() {
        return (None, events);
    }
    world.apply(&mut changes);
    (Some(world.get::<Order>(&id()).unwrap().unwrap().clone()), events)
}

fn statuses(order: &Order) -> Vec<OrderStatus> {
    order.history.iter().map(|step| step.status).collect()
}

#[test]
fn a_new_order_is_pending_and_announced_as_in_the_contract() {
    let mut orders = Memory::new(Orders);
    let answer = orders.handle(&place(&["201", "204", "201"], "101"), 7).unwrap();
    let stored = Order {
        product_ids: products(&["201", "204", "201"]),
        history: vec![Step { status: Pending, at: 7, attempt: 1 }],
        ..order(1, &[Pending])
    };
    assert_eq!(answer, Some(Answer::Placed(stored.clone())));
    assert_eq!(orders.all::<Order>(), [stored]);
    let published = orders.take(Stream::OrderCreated);
    let event: serde_json::Value = serde_json::from_str(&published[0]).unwrap();
    assert_eq!(
        event,
        serde_json::json!({
            "id": id(), "product_ids": ["201", "204", "201"], "customer_id": "101",
            "status": "pending", "attempt": 1,
        })
    );
    assert_eq!(published.len(), 1);
    assert!(orders.published.is_empty());
}

#[test]
fn a_repeated_order_is_answered_with_the_order_as_it_stands() {
    let mut orders = Memory::new(Orders);
    let command = place(&["201", "204"], "101");
    orders.handle(&command, 1).unwrap();
    for (result, ..) in [&results(1)[0], &results(1)[3]] {
        orders.handle(result, 2).unwrap();
        orders.published.clear();
        let stored = orders.all::<Order>().remove(0);
        let answer = orders.handle(&command, 3).unwrap();
        assert_eq!(answer, Some(Answer::Replayed(stored.clone())));
        assert_eq!(orders.all::<Order>(), [stored]);
        assert!(orders.published.is_empty());
    }
}

#[test]
fn a_key_that_was_used_for_another_order_is_refused() {
    let others = [
        place(&["201"], "101"),
        place(&["201", "204", "204"], "101"),
        place(&["204", "201"], "101"),
        place(&["201", "204"], "102"),
    ];
    for other in others {
        let mut orders = Memory::new(Orders);
        orders.handle(&place(&["201", "204"], "101"), 1).unwrap();
        let stored = orders.all::<Order>();
        orders.published.clear();
        assert_eq!(orders.handle(&other, 2).unwrap(), Some(Answer::KeyReused), "{other:?}");
        assert_eq!(orders.all::<Order>(), stored);
        assert!(orders.published.is_empty());
    }
}

#[test]
fn each_result_moves_a_pending_order_on() {
    for (result, status, reason) in results(1) {
        let (then, events) = after(&order(1, &[Pending]), &result, 8);
        let expected = Order {
            status,
            order_total: (status == PaymentRequired).then_some(900),
            reason: reason.map(str::to_owned),
            history: vec![
                Step { status: Pending, at: 1, attempt: 1 },
                Step { status, at: 8, attempt: 1 },
            ],
            ..order(1, &[Pending])
        };
        assert_eq!(then, Some(expected), "{result:?}");
        assert!(events.is_empty(), "the whole order is published by being stored: {events:?}");
    }
}

#[test]
fn a_changed_order_is_published_whole() {
    let mut orders = Memory::new(Orders);
    orders.handle(&place(&["201", "204"], "101"), 1).unwrap();
    orders.published.clear();
    orders.handle(&stock(StockOutcome::PaymentRequired, 1), 2).unwrap();
    let published = orders.take(Stream::OrderUpdated);
    let event: Order = serde_json::from_str(&published[0]).unwrap();
    assert_eq!(orders.all::<Order>(), [event]);
    assert_eq!(published.len(), 1);
    assert!(orders.published.is_empty());
}

#[test]
fn no_result_moves_any_order_back() {
    for status in STATUSES {
        for (result, news, reason) in results(1) {
            let given = match status {
                Pending => order(1, &[Pending]),
                other => order(1, &[Pending, other]),
            };
            let case = format!("given {status:?}, when {result:?}");
            let (then, _) = after(&given, &result, 9);
            if statuses(&given).iter().any(|step| rank(*step) == rank(news)) {
                assert_eq!(then, None, "{case}: only one of a rank can happen");
                continue;
            }
            let then = then.unwrap_or_else(|| panic!("{case}: it has to be learned"));
            assert!(rank(then.status) >= rank(status), "{case}: {:?}", then.status);
            if rank(news) > rank(status) {
                assert_eq!((then.status, then.reason.as_deref()), (news, reason), "{case}");
            } else {
                assert_eq!((then.status, &then.reason), (status, &given.reason), "{case}");
            }
            let steps = statuses(&then);
            assert!(steps.is_sorted_by_key(|step| rank(*step)), "{case}: {steps:?}");
            assert_eq!(steps.iter().filter(|step| **step == news).count(), 1, "{case}");
            assert_eq!(then.history.len(), given.history.len() + 1, "{case}");
            assert_eq!(after(&then, &result, 10).0, None, "{case}, again: it was learned before");
        }
    }
}

#[test]
fn however_results_follow_each_other_the_status_is_the_furthest_of_the_history() {
    const LENGTH: u32 = 4;
    let results = results(1);
    for mut number in 0..results.len().pow(LENGTH) {
        let mut standing = order(1, &[Pending]);
        for now in 2..2 + u64::from(LENGTH) {
            let (result, ..) = &results[number % results.len()];
            number /= results.len();
            let (then, _) = after(&standing, result, now);
            let Some(then) = then else { continue };
            assert!(rank(then.status) >= rank(standing.status), "{standing:?}, then {then:?}");
            let steps = statuses(&then);
            assert!(steps.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])), "{steps:?}");
            assert_eq!(steps.last(), Some(&then.status));
            assert_eq!(then.order_total.is_some(), steps.contains(&PaymentRequired));
            standing = then;
        }
    }
}

#[test]
fn the_payment_may_be_known_before_the_stock_check() {
    let table = [
        (WalletOutcome::ToBeShipped, ToBeShipped, None),
        (WalletOutcome::InsufficientFund, InsufficientFund, None),
        (WalletOutcome::Rejected, Rejected, Some("said by the wallet")),
    ];
    let reserved = stock(StockOutcome::PaymentRequired, 1);
    for (outcome, status, reason) in table {
        let paid = after(&order(1, &[Pending]), &wallet(outcome, 1), 20).0.unwrap();
        assert_eq!((paid.status, paid.order_total), (status, None));

        let both = after(&paid, &reserved, 30).0.unwrap();
        assert_eq!(both.status, status, "the older result does not become the status");
        assert_eq!(both.reason.as_deref(), reason);
        assert_eq!(both.order_total, Some(900), "what it cost is learned even so");
        let steps: Vec<_> = both.history.iter().map(|step| (step.status, step.at)).collect();
        assert_eq!(steps, [(Pending, 1), (PaymentRequired, 30), (status, 20)]);

        let stock_first = after(&order(1, &[Pending]), &reserved, 30).0.unwrap();
        let both_in_order = after(&stock_first, &wallet(outcome, 1), 20).0;
        assert_eq!(both_in_order, Some(both), "either order ends in the same");
    }
}

#[test]
fn a_redelivered_result_changes_nothing() {
    for (first, ..) in results(1) {
        let once = after(&order(1, &[Pending]), &first, 2).0.unwrap();
        assert_eq!(after(&once, &first, 3), (None, Vec::new()), "{first:?} at once");
        for (second, ..) in results(1) {
            let (Some(twice), _) = after(&once, &second, 3) else { continue };
            for late in [&first, &second] {
                let case = format!("{first:?}, {second:?}, then again {late:?}");
                assert_eq!(after(&twice, late, 4), (None, Vec::new()), "{case}");
            }
        }
    }
}

#[test]
fn results_of_another_attempt_change_nothing() {
    for status in STATUSES {
        let given = order(2, &[status]);
        for attempt in [0, 1, 3, u32::MAX] {
            for (result, ..) in results(attempt) {
                assert_eq!(after(&given, &result, 9), (None, Vec::new()), "{status:?}: {result:?}");
            }
        }
    }
}

#[test]
fn a_new_attempt_is_moved_on_whatever_the_one_before_came_to() {
    for before in [OutOfStock, InsufficientFund] {
        let mut given = order(1, &[Pending, before]);
        given.attempt = 2;
        given.status = Pending;
        given.history.push(Step { status: Pending, at: 3, attempt: 2 });
        for (result, status, _) in results(2) {
            let then = after(&given, &result, 9).0.unwrap();
            assert_eq!(then.status, status);
            let steps: Vec<_> =
                then.history.iter().map(|step| (step.attempt, step.status)).collect();
            assert_eq!(steps, [(1, Pending), (1, before), (2, Pending), (2, status)]);
        }
    }
}

#[test]
fn a_result_for_an_order_that_is_not_here_changes_nothing() {
    for (result, ..) in results(1) {
        let mut orders = Memory::new(Orders);
        assert_eq!(orders.handle(&result, 1).unwrap(), None);
        assert!(orders.all::<Order>().is_empty() && orders.published.is_empty(), "{result:?}");
    }
}

#[test]
fn entries_of_the_original_are_understood() {
    let check = |rest: &str| {
        let id = id();
        let entity = format!(
            r#"{{"order_id": "{id}", "customer_id": "101", "product_ids": ["201", "204"], {rest}}}"#
        );
        (Stream::InventoryCheck, entity)
    };
    let payment = |outcome: &str| {
        let id = id();
        let entity =
            format!(r#"{{"order_id": "{id}", "customer_id": "101", "account": "{outcome}"}}"#);
        (Stream::AccountWallet, entity)
    };
    let table = [
        (check(r#""inventory": "payment-required", "order_total": 900"#), PaymentRequired),
        (check(r#""inventory": "out-of-stock""#), OutOfStock),
        (payment("to-be-shipped"), ToBeShipped),
        (payment("insufficient-fund"), InsufficientFund),
    ];
    for ((stream, entity), status) in table {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entry = StreamEntry { id: EntryId::default(), entity: &entity };
        let input = (subscription.parse)(&entry).unwrap().unwrap();
        let then = after(&order(1, &[Pending]), &input, 2).0.unwrap();
        assert_eq!(then.status, status, "{entity}");
    }
}
