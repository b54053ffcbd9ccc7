//! Reads the snapshot: everything that the services have stored and published.

use std::collections::{BTreeMap, BTreeSet};

use account_service::wallet::Payment;
use anyhow::bail;
use common::{
    clock::Millis,
    contract::{
        backorders::BackorderPage,
        entities::{Account, Delivery, Deposit, Product},
        events::{OrderCreated, PaymentConfirmed, StockConfirmed},
        ids::OrderId,
        keys,
        messages::MessageSent,
        order::Order,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::{
        entity::Entity,
        entry_id::EntryId,
        stored_form,
        stream::{ENTITY, Stream, Topic},
    },
};
use inventory_service::reservation::Reservation;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    facts::{ConfirmationEntry, Index, OrderCreatedEntry, OrderStepEntry, STEP_STREAMS, Snapshot},
    lost::LostStores,
    reading::Links,
};

impl Snapshot {
    pub(super) async fn read(links: &mut Links) -> anyhow::Result<Self> {
        let mut snapshot = Self { lost: LostStores::read(links).await?, ..Self::default() };
        snapshot.read_entities(links).await?;
        snapshot.read_events(links).await?;
        for topic in topics::ALL {
            let length = links.length(topic.dead_letters()).await?;
            if let Some(length) = length.filter(|length| length.entries > 0) {
                let entries = usize::try_from(length.entries).unwrap_or(usize::MAX);
                snapshot.dead_letters.insert(topic.service(), entries);
            }
        }
        Ok(snapshot)
    }

    async fn read_entities(&mut self, links: &mut Links) -> anyhow::Result<()> {
        let orders = self.entities::<Order>(links, topics::ORDER).await?;
        self.read_lists(links, topics::ORDER, keys::ORDERS_OF, &orders).await?;
        self.read_statuses(links, &orders).await?;
        self.orders = orders.into_iter().map(|order| (order.id, order)).collect();
        let products = self.entities::<Product>(links, topics::INVENTORY).await?;
        self.products = by_id(products, |product| product.id.clone());
        let reservations = self.entities::<Reservation>(links, topics::INVENTORY).await?;
        self.reservations = by_id(reservations, |reservation| reservation.order_id);
        let pages = self.entities::<BackorderPage>(links, topics::INVENTORY).await?;
        self.queue_pages = by_id(pages, |page| page.id.clone());
        let deliveries = self.entities::<Delivery>(links, topics::INVENTORY).await?;
        self.deliveries = by_id(deliveries, |delivery| delivery.id);
        let accounts = self.entities::<Account>(links, topics::ACCOUNT).await?;
        self.accounts = by_id(accounts, |account| account.id.clone());
        let payments = self.entities::<Payment>(links, topics::ACCOUNT).await?;
        self.payments = payments.into_iter().map(|payment| (payment.order_id, payment)).collect();
        let deposits = self.entities::<Deposit>(links, topics::ACCOUNT).await?;
        self.deposits = by_id(deposits, |deposit| deposit.id);
        let messages = self.entities::<MessageSent>(links, topics::MESSAGE).await?;
        self.read_lists(links, topics::MESSAGE, keys::MESSAGES_TO, &messages).await?;
        self.messages = by_id(messages, |message| message.id);
        Ok(())
    }

    async fn read_events(&mut self, links: &mut Links) -> anyhow::Result<()> {
        self.created = self
            .events(links, streams::ORDER_CREATED, |_, json| {
                #[derive(Deserialize)]
                struct Attempt {
                    attempt: Option<u32>,
                }
                let event: OrderCreated = parse(json)?;
                // Services of the original have no attempts.
                let ours = parse::<Attempt>(json)?.attempt.is_some();
                let OrderCreated { id: order, attempt, resend, .. } = event;
                Ok(OrderCreatedEntry { order, attempt, ours, resend: resend > 0 })
            })
            .await?;
        for stream in STEP_STREAMS {
            let steps = self
                .events(links, stream, |_, json| {
                    #[derive(Deserialize)]
                    struct OfOrder {
                        id: OrderId,
                        attempt: Option<u32>,
                        resend: Option<u32>,
                    }
                    let OfOrder { id: order, attempt, resend } = parse(json)?;
                    let resend = resend.unwrap_or(0) > 0;
                    Ok(OrderStepEntry { order, stream, attempt: attempt.unwrap_or(1), resend })
                })
                .await?;
            self.steps.extend(steps);
        }
        self.checks = self.events(links, streams::INVENTORY_CHECK, |_, json| parse(json)).await?;
        self.wallets = self.events(links, streams::ACCOUNT_WALLET, |_, json| parse(json)).await?;
        self.refunds = self.events(links, streams::ACCOUNT_REFUNDED, |_, json| parse(json)).await?;
        self.unpaid = self.events(links, streams::ORDER_UNPAID, |_, json| parse(json)).await?;
        self.confirmed = self
            .events(links, streams::INVENTORY_CONFIRMED, |_, json| {
                let StockConfirmed { order_id: order, attempt, step } = parse(json)?;
                Ok(ConfirmationEntry { order, stream: streams::INVENTORY_CONFIRMED, attempt, step })
            })
            .await?;
        let payments = self
            .events(links, streams::ACCOUNT_CONFIRMED, |_, json| {
                let PaymentConfirmed { order_id: order, attempt, step } = parse(json)?;
                Ok(ConfirmationEntry { order, stream: streams::ACCOUNT_CONFIRMED, attempt, step })
            })
            .await?;
        self.confirmed.extend(payments);
        self.topped_up =
            self.events(links, streams::ACCOUNT_TOPPED_UP, |_, json| parse(json)).await?;
        self.sent = self.events(links, streams::MESSAGE_SENT, |_, json| parse(json)).await?;
        self.products_defined =
            self.events(links, streams::INVENTORY_CREATED, |_, json| parse(json)).await?;
        self.accounts_defined =
            self.events(links, streams::ACCOUNT_CREATED, |_, json| parse(json)).await?;
        self.restocks = self
            .events(links, streams::INVENTORY_RESTOCK, |entry, json| Ok((entry, parse(json)?)))
            .await?;
        self.top_ups = self
            .events(links, streams::ACCOUNT_TOP_UP, |entry, json| Ok((entry, parse(json)?)))
            .await?;
        Ok(())
    }

    /// All entities of a kind, found by their keys, and their index.
    async fn entities<E: Entity>(
        &mut self,
        links: &mut Links,
        topic: Topic,
    ) -> anyhow::Result<Vec<E>> {
        let kind = E::KIND;
        let keys = links.keys(topic, kind.prefix).await?;
        let mut entities = Vec::with_capacity(keys.len());
        for (key, value) in links.strings(topic, &keys).await? {
            let json = value.as_deref().and_then(|text| Some(stored_form::parse(text)?.1));
            match serde_json::from_str(json.unwrap_or_default()) {
                Ok(entity) => entities.push(entity),
                Err(error) => self.unreadable.push(format!("the value at {key}: {error}")),
            }
        }
        if let Some(key) = kind.index {
            let listed = links.list(topic, key).await?;
            let id = |key: &String| key[kind.prefix.len()..].to_owned();
            let due = keys.iter().map(id).collect();
            self.indexes.push(Index { key: key.to_owned(), listed, due });
        }
        Ok(entities)
    }

    /// The lists that these entities have joined, and all others with this prefix.
    async fn read_lists<E: Entity>(
        &mut self,
        links: &mut Links,
        topic: Topic,
        prefix: &str,
        entities: &[E],
    ) -> anyhow::Result<()> {
        let found = links.keys(topic, prefix).await?;
        let mut lists: BTreeMap<String, BTreeSet<String>> =
            found.into_iter().map(|key| (key, BTreeSet::new())).collect();
        for entity in entities {
            for key in entity.lists() {
                lists.entry(key).or_default().insert(entity.id().to_string());
            }
        }
        for (key, due) in lists {
            let listed = links.list(topic, &key).await?;
            self.indexes.push(Index { key, listed, due });
        }
        Ok(())
    }

    /// The sorted sets of the orders of each status, by time and by customer, of the open orders, and of
    /// the orders with an unconfirmed step.
    async fn read_statuses(&mut self, links: &mut Links, orders: &[Order]) -> anyhow::Result<()> {
        let further = [keys::UNCONFIRMED_ORDERS, keys::OPEN_ORDERS].map(str::to_owned);
        let sets = OrderStatus::ALL
            .into_iter()
            .flat_map(|status| [keys::orders_with(status), keys::customers_orders_with(status)]);
        let sets = sets.chain(further);
        let mut sets: BTreeMap<_, _> = sets.map(|key| (key, BTreeSet::new())).collect();
        for entry in orders.iter().flat_map(Entity::sorted_sets) {
            sets.entry(entry.set).or_default().insert(entry.member);
        }
        for (key, due) in sets {
            let listed = links.members(topics::ORDER, &key).await?;
            self.indexes.push(Index { key, listed, due });
        }
        Ok(())
    }

    /// All events on a stream.
    async fn events<T>(
        &mut self,
        links: &mut Links,
        stream: Stream,
        parse: impl Fn(EntryId, &str) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let mut events = Vec::new();
        for (id, json) in links.entries(stream).await? {
            if let Some(order) = order_of(stream, &json) {
                let at = self.first_seen.entry(order).or_insert(Millis::MAX);
                *at = (*at).min(millis(id));
            }
            match parse(id, &json) {
                Ok(event) => events.push(event),
                // Other systems write here as well; their invalid entries become dead letters.
                Err(_) if SHARED_STREAMS.contains(&stream) => {}
                Err(error) => self.unreadable.push(format!("entry {id} of {stream}: {error:#}")),
            }
        }
        // After the entries: a stream that is trimmed while it is read counts as trimmed.
        if links.length(stream).await?.is_some_and(|length| !length.complete) {
            self.trimmed.0.push(stream);
        }
        Ok(events)
    }
}

/// The streams on which other systems write as well.
const SHARED_STREAMS: [Stream; 5] = [
    streams::ORDER_CREATED,
    streams::INVENTORY_CREATED,
    streams::INVENTORY_RESTOCK,
    streams::ACCOUNT_CREATED,
    streams::ACCOUNT_TOP_UP,
];

/// The order that an event concerns, if any.
fn order_of(stream: Stream, json: &str) -> Option<OrderId> {
    #[derive(Deserialize)]
    struct Event {
        id: Option<OrderId>,
        order_id: Option<OrderId>,
        order: Option<OrderId>,
    }
    let Event { id, order_id, order } = serde_json::from_str(json).ok()?;
    let own = id.filter(|_| stream.topic() == topics::ORDER);
    own.or(order_id).or(order)
}

/// The time at which an entry was added. Services of the original count in seconds.
fn millis(entry: EntryId) -> Millis {
    const YEAR_5138_IN_SECONDS: u64 = 100_000_000_000;
    if entry.time < YEAR_5138_IN_SECONDS { entry.time.saturating_mul(1_000) } else { entry.time }
}

fn by_id<I: Ord, E>(entities: Vec<E>, id: impl Fn(&E) -> I) -> BTreeMap<I, E> {
    entities.into_iter().map(|entity| (id(&entity), entity)).collect()
}

fn parse<T: DeserializeOwned>(json: &str) -> anyhow::Result<T> {
    if json.is_empty() {
        bail!("it has no field `{ENTITY}`");
    }
    Ok(serde_json::from_str(json)?)
}
