//! The owners that have lost their stores.
//!
//! An owner that lost its store starts with an empty one. The others still have their data about older
//! orders, and each owner's data must be consistent; but it cannot be compared with that of the owner.

use std::collections::BTreeMap;

use common::{
    clock::Millis,
    consumer::checkpoints::Checkpoint,
    contract::streams::topics,
    engine::store_id::StoreId,
    schema::{entry_id::EntryId, keys, stream::Topic},
};

use super::reading::Links;

/// The time in which an event that was published before a loss is still handled, in milliseconds.
const IN_FLIGHT_MILLIS: Millis = 2_000;

/// The time at which the present store began, for each owner that lost the previous one.
#[derive(Default)]
pub(super) struct LostStores(pub(super) BTreeMap<&'static str, Millis>);

impl LostStores {
    pub(super) async fn read(links: &mut Links) -> anyhow::Result<Self> {
        let mut lost = BTreeMap::new();
        for topic in topics::ALL {
            let checkpoints = links.values(topic, &keys::checkpoints(topic)).await?;
            let checkpoints = checkpoints.iter().filter_map(|text| text.parse::<Checkpoint>().ok());
            // The owner's first store has checkpoints as well, but none of a lost store.
            if checkpoints.map(|it| it.forgotten).max().unwrap_or_default() == EntryId::default() {
                continue;
            }
            let store = links.string(topic, &keys::store(topic)).await?;
            let store = store.and_then(|text| text.parse::<StoreId>().ok());
            lost.insert(topic.service(), store.map_or(Millis::MAX, |store| store.began));
        }
        Ok(Self(lost))
    }

    pub(super) fn has(&self, owner: Topic) -> bool {
        self.0.contains_key(owner.service())
    }

    /// Whether an owner may have lost its data about an order. `began`: when the order first appeared.
    /// An order that was lost may appear at another owner only after the new store began, because that
    /// owner was handling its event.
    pub(super) fn forgets(&self, began: Option<Millis>) -> bool {
        let is_older = |store: &Millis| {
            began.is_none_or(|began| began < store.saturating_add(IN_FLIGHT_MILLIS))
        };
        self.0.values().any(is_older)
    }

    /// A note that `count` orders are not compared.
    pub(super) fn note(&self, count: usize) -> Option<String> {
        let owners: Vec<String> =
            self.0.iter().map(|(owner, began)| format!("{owner} (at {began} ms)")).collect();
        (!owners.is_empty()).then(|| {
            format!(
                "lost and began a new store: {}; {count} orders are older, and what the others \
                 keep of them cannot be compared",
                owners.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_orders_older_than_the_store_after_a_loss_are_excused() {
        assert!(!LostStores::default().forgets(None));
        assert_eq!(LostStores::default().note(0), None);
        let lost = LostStores([("account_service", 50)].into());
        assert!(lost.forgets(Some(2_049)) && lost.forgets(None) && !lost.forgets(Some(2_050)));
        assert!(lost.has(topics::ACCOUNT) && !lost.has(topics::ORDER));
        assert!(lost.note(3).unwrap().contains("account_service (at 50 ms); 3 orders"));
    }
}
