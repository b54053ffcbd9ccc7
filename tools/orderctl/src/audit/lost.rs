//! Which owners have lost their stores, and which orders nobody can be asked about for that.
//!
//! The books of an owner that lost its store begin anew. What the others keep of older orders is
//! still theirs, and each owner's own books still have to balance; but there is nothing to compare.

use std::collections::BTreeMap;

use common::{
    clock::Millis,
    consumer::checkpoints::Bookmark,
    contract::{events::Topic, ids::EntryId, keys},
    engine::store_id::StoreId,
};

use super::reading::Links;

/// When the present store of each owner began that lost the one before.
#[derive(Default)]
pub(super) struct Lost(pub(super) BTreeMap<&'static str, Millis>);

impl Lost {
    pub(super) async fn read(links: &mut Links) -> anyhow::Result<Self> {
        let mut lost = BTreeMap::new();
        for topic in Topic::ALL {
            let bookmarks = links.values(topic, &keys::bookmarks(topic)).await?;
            let bookmarks = bookmarks.iter().filter_map(|text| text.parse::<Bookmark>().ok());
            // A store that is the owner's first has bookmarks, too, but has forgotten nothing.
            if bookmarks.map(|it| it.forgotten).max().unwrap_or_default() == EntryId::default() {
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

    /// Whether somebody may have known the order and does not any more. `began`: when the order was
    /// first heard of.
    pub(super) fn forgets(&self, began: Option<Millis>) -> bool {
        self.0.values().any(|store| began.is_none_or(|began| began < *store))
    }

    /// For people, where `count` orders are not compared.
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
    fn only_orders_that_are_older_than_a_store_which_followed_a_lost_one_are_forgotten() {
        assert!(!Lost::default().forgets(None));
        assert_eq!(Lost::default().note(0), None);
        let lost = Lost([("account_service", 50)].into());
        assert!(lost.forgets(Some(49)) && lost.forgets(None) && !lost.forgets(Some(50)));
        assert!(lost.has(Topic::Account) && !lost.has(Topic::Order));
        assert!(lost.note(3).unwrap().contains("account_service (at 50 ms); 3 orders"));
    }
}
