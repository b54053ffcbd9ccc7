//! The lists and sorted sets that an order joins.

use common::{
    contract::{ids::OrderId, order::Order, order_status::OrderStatus},
    decision::{Decider, World},
    schema::entity::{Entity, SortedSetEntry as Listed},
};
use order_service::order::{Answer, Input};
use uuid::Uuid;

use crate::{
    scenarios::{rising, scenarios},
    support::{ORDERS, Service, after, id, new_order, result},
    table::{OUT_OF_STOCK, RESERVED},
};

use OrderStatus::{
    Cancelled, Completed, InsufficientFund, OutOfStock, PaymentRequired, Pending, Rejected,
    Shipped, ToBeShipped,
};

#[test]
fn the_sets_of_unconfirmed_and_open_orders_follow_the_status() {
    for scenario in scenarios(rising) {
        let entries = scenario.order.sorted_sets();
        let sets: Vec<&str> = entries[2..].iter().map(|entry| entry.set.as_str()).collect();
        let is_open = !matches!(scenario.order.status, Completed | Rejected | Cancelled);
        let unconfirmed = (!scenario.order.unconfirmed.is_empty()).then_some("{order}:unconfirmed");
        let open = is_open.then_some("{order}:open");
        let expected: Vec<&str> = [unconfirmed, open].into_iter().flatten().collect();
        assert_eq!(sets, expected, "{}", scenario.describe());
        let own = format!("101/{}", entries[0].member);
        let sorted_by_customer = ["{order}:open", entries[1].set.as_str()];
        for entry in &entries {
            let is_own = sorted_by_customer.contains(&entry.set.as_str());
            assert_eq!(entry.member, if is_own { &own } else { &entries[0].member }.as_str());
        }
    }
}

#[test]
fn an_order_is_listed_by_customer_and_by_status() {
    let names = [
        (Pending, "pending"),
        (OutOfStock, "out-of-stock"),
        (PaymentRequired, "payment-required"),
        (InsufficientFund, "insufficient-fund"),
        (ToBeShipped, "to-be-shipped"),
        (Shipped, "shipped"),
        (Completed, "completed"),
        (Rejected, "rejected"),
        (Cancelled, "cancelled"),
    ];
    for scenario in scenarios(rising) {
        let (_, name) = names.iter().find(|(status, _)| *status == scenario.order.status).unwrap();
        // 1,000,000 ms: the time at which it was placed, in every attempt.
        let member = "0000000f4240-00000000-0000-0000-0000-000000000001".to_owned();
        let of_all = Listed::new(format!("{{order}}:status:{name}"), member.clone());
        let own = format!("101/{member}");
        let of_customer = Listed::new(format!("{{order}}:status:{name}:customers"), own);
        assert_eq!(
            scenario.order.sorted_sets()[..2],
            [of_all, of_customer],
            "{}",
            scenario.describe()
        );
        assert_eq!(scenario.order.lists(), ["{order}:index:101"]);
    }
}

#[test]
fn an_order_of_an_earlier_version_is_reindexed_without_an_event() {
    for scenario in scenarios(rising) {
        let mut service = Service::with(&scenario.inputs);
        let answer =
            service.when_nothing_happens(&Input::Reindex(id()), u64::MAX, &scenario.describe());
        assert_eq!(answer, Some(Answer::Nothing));
    }
    let world = World::for_tests().with(new_order(1));
    let changes = ORDERS.decide(&Input::Reindex(id()), &world, 2).unwrap();
    assert!(!changes.is_empty(), "it is written and joins its sets");
}

#[test]
fn orders_of_one_status_sort_by_their_age() {
    // Times, then ids; the older one comes first as text as well.
    let ages = [(0, 9), (1, 2), (999, 1), (1_767_225_600_000, 5), (1_767_225_600_000, 6)];
    let members = ages.map(|(at, number)| {
        let order = Order { id: OrderId(Uuid::from_u128(number)), ..new_order(at) };
        order.sorted_sets().remove(0).member
    });
    assert!(members.is_sorted(), "{members:?}");
    // The resending task reads those before a time, and takes the id from behind the first dash.
    assert!(members[3] < format!("{:012x}", 1_767_225_600_001_u64));
    assert!(members[3] > format!("{:012x}", 1_767_225_600_000_u64));
    let (_, id) = members[3].split_once('-').unwrap();
    assert_eq!(id.parse(), Ok(OrderId(Uuid::from_u128(5))));
}

#[test]
fn an_order_moves_to_the_set_of_its_new_status() {
    let (given, mut entries) = (new_order(1), Vec::new());
    entries.push(given.sorted_sets());
    let held = after(&given, &result(RESERVED, 1).unwrap(), 2).unwrap();
    entries.push(held.sorted_sets());
    let resent = after(&held, &Input::ResendOverdue(id()), 5_000).unwrap();
    entries.push(resent.sorted_sets());
    let late = after(&resent, &result(OUT_OF_STOCK, 1).unwrap(), 5_001).unwrap();
    entries.push(late.sorted_sets());
    assert_ne!(entries[0], entries[1], "a step transitions it");
    assert_eq!(entries[1], entries[2], "a resend does not");
    assert_eq!(entries[1], entries[3], "nor does a late result");
}
