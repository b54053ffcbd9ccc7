//! Causes: whatever is stored has its cause in the same store, also after a loss of data.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contract::{
        keys,
        streams::{self, topics},
    },
    schema::stream::Topic,
};
use serde_json::Value as Json;

use crate::{
    stored::{documents, events},
    world::World,
};

/// Names of effects or causes: a stream or the prefix of keys, and the member that names the subject.
type Named = (&'static str, &'static str);

/// Each effect with its possible causes, of which one must be stored for the same subject.
static EFFECTS: [(Named, &[Named]); 15] = [
    ((streams::INVENTORY_CHECK.key(), "order_id"), &[(streams::ORDER_CREATED.key(), "id")]),
    (
        (streams::INVENTORY_CONFIRMED.key(), "order_id"),
        &[
            (streams::ORDER_CANCELLED.key(), "id"),
            (streams::ORDER_SHIPPED.key(), "id"),
            (streams::ORDER_UNPAID.key(), "id"),
            (streams::ACCOUNT_WALLET.key(), "order_id"),
        ],
    ),
    ((streams::INVENTORY_FILL.key(), "product_id"), &[(streams::INVENTORY_CREATED.key(), "id")]),
    ((streams::INVENTORY_UPDATED.key(), "id"), &[(streams::INVENTORY_CREATED.key(), "id")]),
    ((streams::ACCOUNT_WALLET.key(), "order_id"), &[(streams::INVENTORY_CHECK.key(), "order_id")]),
    ((streams::ACCOUNT_REFUNDED.key(), "order_id"), &[(streams::ORDER_CANCELLED.key(), "id")]),
    ((streams::ACCOUNT_CONFIRMED.key(), "order_id"), &[(streams::ORDER_CANCELLED.key(), "id")]),
    ((streams::ACCOUNT_TOPPED_UP.key(), "id"), &[(streams::ACCOUNT_TOP_UP.key(), "id")]),
    ((streams::ACCOUNT_UPDATED.key(), "id"), &[(streams::ACCOUNT_CREATED.key(), "id")]),
    (
        (streams::MESSAGE_SENT.key(), "order"),
        &[
            (streams::ORDER_CREATED.key(), "id"),
            (streams::ORDER_CANCELLED.key(), "id"),
            (streams::ORDER_SHIPPED.key(), "id"),
            (streams::ORDER_COMPLETED.key(), "id"),
            (streams::INVENTORY_CHECK.key(), "order_id"),
            (streams::ACCOUNT_WALLET.key(), "order_id"),
            (streams::ACCOUNT_REFUNDED.key(), "order_id"),
        ],
    ),
    ((streams::ORDER_CREATED.key(), "id"), &[(keys::ORDER.prefix, "id")]),
    // A cancellation that comes before the order leaves a reservation and a payment of nothing.
    (
        (keys::RESERVATION.prefix, "order_id"),
        &[(streams::ORDER_CREATED.key(), "id"), (streams::ORDER_CANCELLED.key(), "id")],
    ),
    (
        (keys::PAYMENT.prefix, "order_id"),
        &[(streams::INVENTORY_CHECK.key(), "order_id"), (streams::ORDER_CANCELLED.key(), "id")],
    ),
    ((keys::DELIVERY.prefix, "id"), &[(streams::INVENTORY_RESTOCK.key(), "id")]),
    ((keys::DEPOSIT.prefix, "id"), &[(streams::ACCOUNT_TOP_UP.key(), "id")]),
];

/// An effect without a cause in the stores of the system.
pub fn uncaused(world: &World) -> Option<String> {
    let mut stored = Stored { world, places: BTreeMap::new() };
    for (effect, causes) in &EFFECTS {
        let mut known = BTreeSet::new();
        for (place, member) in *causes {
            let subjects = stored.of(place).iter().filter_map(|it| it[member].as_str());
            known.extend(subjects.map(str::to_owned));
        }
        let (place, member) = effect;
        let has_no_cause =
            |it: &&Json| it[member].as_str().is_some_and(|subject| !known.contains(subject));
        if let Some(orphan) = stored.of(place).iter().find(has_no_cause) {
            let causes: Vec<&str> = causes.iter().map(|it| it.0).collect();
            return Some(format!("{place} has no cause on {}: {orphan}", causes.join(" or ")));
        }
    }
    None
}

/// Everything in a place, which is read once.
struct Stored<'a> {
    world: &'a World,
    places: BTreeMap<&'static str, Vec<Json>>,
}

impl Stored<'_> {
    /// All documents of a place. Streams keep what was trimmed.
    fn of(&mut self, place: &'static str) -> &[Json] {
        let world = self.world;
        self.places.entry(place).or_insert_with(|| {
            let of = |topic: &Topic| place.contains(&format!("{{{}}}", topic.name()));
            let topic = topics::ALL.into_iter().find(of).expect("each place has a topic");
            match place.starts_with("events:") {
                true => events(world, topic, place),
                false => documents(world, topic, place),
            }
        })
    }
}
