//! The books: all that the services have stored and published.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use account_service::wallet::Payment;
use anyhow::bail;
use common::{
    clock::Millis,
    contract::{
        entities::{Account, Delivery, Deposit, LinePage, Order, OrderStatus, PageId, Product},
        entity::Entity,
        events::{
            AccountCreated, ConfirmedStep, ENTITY, MessageSent, OrderCreated, OrderUnpaid,
            PaymentConfirmed, ProductCreated, Refunded, Restock, StockChecked, StockConfirmed,
            Stream, TopUp, Topic, ToppedUp, WalletChecked,
        },
        ids::{CustomerId, EntryId, OrderId, ProductId},
        keys,
    },
};
use inventory_service::reservation::Reservation;
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{Report, indexes::Index, lost::Lost, order_history::Story, reading::Links};

/// How the keys of [`keys::orders_of`] begin.
const ORDERS_OF: &str = "{order}:index:";
/// How the keys of [`keys::messages_to`] begin.
const MESSAGES_TO: &str = "{message}:index:";

/// An entry of `events:{order}_created`.
#[derive(Clone)]
pub(super) struct Created {
    pub(super) order: OrderId,
    pub(super) attempt: u32,
    /// Written by this system's order_service, which then keeps the order, too.
    pub(super) ours: bool,
    /// Said again because no answer came.
    pub(super) resend: bool,
}

/// The streams that tell of a step of an order which nobody has to decide about.
pub(super) const ACTS: [Stream; 3] =
    [Stream::OrderCancelled, Stream::OrderShipped, Stream::OrderCompleted];

/// An entry of one of [`ACTS`].
#[derive(Clone, Copy)]
pub(super) struct Act {
    pub(super) order: OrderId,
    pub(super) stream: Stream,
    pub(super) attempt: u32,
    /// Published again because no confirmation arrived.
    pub(super) resend: bool,
}

/// An entry of one of the streams on which owners confirm steps.
#[derive(Clone, Copy)]
pub(super) struct ConfirmedEntry {
    pub(super) order: OrderId,
    pub(super) stream: Stream,
    pub(super) attempt: u32,
    pub(super) step: ConfirmedStep,
}

/// All that the services have stored and published, as it was read.
#[derive(Default)]
pub(super) struct Books {
    pub(super) orders: HashMap<OrderId, Order>,
    pub(super) products: BTreeMap<ProductId, Product>,
    pub(super) accounts: BTreeMap<CustomerId, Account>,
    pub(super) reservations: BTreeMap<OrderId, Reservation>,
    pub(super) line_pages: BTreeMap<PageId, LinePage>,
    pub(super) payments: HashMap<OrderId, Payment>,
    pub(super) deliveries: BTreeMap<Uuid, Delivery>,
    pub(super) deposits: BTreeMap<Uuid, Deposit>,
    pub(super) messages: BTreeMap<Uuid, MessageSent>,
    /// Every list or set of ids with those that it should list.
    pub(super) indexes: Vec<Index>,
    pub(super) created: Vec<Created>,
    pub(super) acts: Vec<Act>,
    pub(super) checks: Vec<StockChecked>,
    pub(super) wallets: Vec<WalletChecked>,
    pub(super) refunds: Vec<Refunded>,
    pub(super) unpaid: Vec<OrderUnpaid>,
    pub(super) confirmed: Vec<ConfirmedEntry>,
    pub(super) topped_up: Vec<ToppedUp>,
    pub(super) sent: Vec<MessageSent>,
    pub(super) products_defined: Vec<ProductCreated>,
    pub(super) accounts_defined: Vec<AccountCreated>,
    pub(super) restocks: Vec<(EntryId, Restock)>,
    pub(super) top_ups: Vec<(EntryId, TopUp)>,
    pub(super) trimmed: Trimmed,
    /// When each order was first heard of in an event.
    pub(super) heard_of: HashMap<OrderId, Millis>,
    pub(super) lost: Lost,
    pub(super) dead_letters: BTreeMap<&'static str, usize>,
    /// What is stored or published but cannot be read.
    pub(super) unreadable: Vec<String>,
}

/// The streams that may have lost their older entries, so that none can be missed there.
#[derive(Default)]
pub(super) struct Trimmed(pub(super) Vec<Stream>);

impl Trimmed {
    pub(super) fn has(&self, stream: Stream) -> bool {
        self.0.contains(&stream)
    }

    pub(super) fn has_any(&self, streams: &[Stream]) -> bool {
        streams.iter().any(|stream| self.has(*stream))
    }
}

impl Books {
    pub(super) async fn read(links: &mut Links) -> anyhow::Result<Self> {
        let mut books = Self { lost: Lost::read(links).await?, ..Self::default() };
        books.read_entities(links).await?;
        books.read_events(links).await?;
        for topic in Topic::ALL {
            let length = links.length(Stream::Dead(topic)).await?;
            if let Some(length) = length.filter(|length| length.entries > 0) {
                let entries = usize::try_from(length.entries).unwrap_or(usize::MAX);
                books.dead_letters.insert(topic.service(), entries);
            }
        }
        Ok(books)
    }

    async fn read_entities(&mut self, links: &mut Links) -> anyhow::Result<()> {
        let orders = self.entities::<Order>(links, Topic::Order).await?;
        self.read_lists(links, Topic::Order, ORDERS_OF, &orders).await?;
        self.read_statuses(links, &orders).await?;
        self.orders = orders.into_iter().map(|order| (order.id, order)).collect();
        let products = self.entities::<Product>(links, Topic::Inventory).await?;
        self.products = by_id(products, |product| product.id.clone());
        let reservations = self.entities::<Reservation>(links, Topic::Inventory).await?;
        self.reservations = by_id(reservations, |reservation| reservation.order_id);
        let pages = self.entities::<LinePage>(links, Topic::Inventory).await?;
        self.line_pages = by_id(pages, |page| page.id.clone());
        let deliveries = self.entities::<Delivery>(links, Topic::Inventory).await?;
        self.deliveries = by_id(deliveries, |delivery| delivery.id);
        let accounts = self.entities::<Account>(links, Topic::Account).await?;
        self.accounts = by_id(accounts, |account| account.id.clone());
        let payments = self.entities::<Payment>(links, Topic::Account).await?;
        self.payments = payments.into_iter().map(|payment| (payment.order_id, payment)).collect();
        let deposits = self.entities::<Deposit>(links, Topic::Account).await?;
        self.deposits = by_id(deposits, |deposit| deposit.id);
        let messages = self.entities::<MessageSent>(links, Topic::Message).await?;
        self.read_lists(links, Topic::Message, MESSAGES_TO, &messages).await?;
        self.messages = by_id(messages, |message| message.id);
        Ok(())
    }

    async fn read_events(&mut self, links: &mut Links) -> anyhow::Result<()> {
        self.created = self
            .events(links, Stream::OrderCreated, |_, json| {
                #[derive(Deserialize)]
                struct Attempt {
                    attempt: Option<u32>,
                }
                let event: OrderCreated = parse(json)?;
                // The original's services do not know of attempts.
                let ours = parse::<Attempt>(json)?.attempt.is_some();
                let OrderCreated { id: order, attempt, resend, .. } = event;
                Ok(Created { order, attempt, ours, resend: resend > 0 })
            })
            .await?;
        for stream in ACTS {
            let acts = self
                .events(links, stream, |_, json| {
                    #[derive(Deserialize)]
                    struct OfOrder {
                        id: OrderId,
                        attempt: Option<u32>,
                        resend: Option<u32>,
                    }
                    let OfOrder { id: order, attempt, resend } = parse(json)?;
                    let resend = resend.unwrap_or(0) > 0;
                    Ok(Act { order, stream, attempt: attempt.unwrap_or(1), resend })
                })
                .await?;
            self.acts.extend(acts);
        }
        self.checks = self.events(links, Stream::InventoryCheck, |_, json| parse(json)).await?;
        self.wallets = self.events(links, Stream::AccountWallet, |_, json| parse(json)).await?;
        self.refunds = self.events(links, Stream::AccountRefunded, |_, json| parse(json)).await?;
        self.unpaid = self.events(links, Stream::OrderUnpaid, |_, json| parse(json)).await?;
        self.confirmed = self
            .events(links, Stream::InventoryConfirmed, |_, json| {
                let StockConfirmed { order_id: order, attempt, step } = parse(json)?;
                Ok(ConfirmedEntry { order, stream: Stream::InventoryConfirmed, attempt, step })
            })
            .await?;
        let payments = self
            .events(links, Stream::AccountConfirmed, |_, json| {
                let PaymentConfirmed { order_id: order, attempt, step } = parse(json)?;
                Ok(ConfirmedEntry { order, stream: Stream::AccountConfirmed, attempt, step })
            })
            .await?;
        self.confirmed.extend(payments);
        self.topped_up = self.events(links, Stream::AccountToppedUp, |_, json| parse(json)).await?;
        self.sent = self.events(links, Stream::MessageSent, |_, json| parse(json)).await?;
        self.products_defined =
            self.events(links, Stream::InventoryCreated, |_, json| parse(json)).await?;
        self.accounts_defined =
            self.events(links, Stream::AccountCreated, |_, json| parse(json)).await?;
        self.restocks = self
            .events(links, Stream::InventoryRestock, |entry, json| Ok((entry, parse(json)?)))
            .await?;
        self.top_ups = self
            .events(links, Stream::AccountTopUp, |entry, json| Ok((entry, parse(json)?)))
            .await?;
        Ok(())
    }

    /// All entities of a kind, found by their keys, and what their index says.
    async fn entities<E: Entity>(
        &mut self,
        links: &mut Links,
        topic: Topic,
    ) -> anyhow::Result<Vec<E>> {
        let kind = E::kind();
        let keys = links.keys(topic, kind.prefix).await?;
        let mut entities = Vec::with_capacity(keys.len());
        for (key, value) in links.strings(topic, &keys).await? {
            let json = value.as_deref().and_then(|text| Some(text.split_once(' ')?.1));
            match serde_json::from_str(json.unwrap_or_default()) {
                Ok(entity) => entities.push(entity),
                Err(error) => self.unreadable.push(format!("what is stored at {key}: {error}")),
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

    /// The lists that these entities have joined, and any other that begins like them.
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

    /// The sorted sets of the orders that have each status, by time and by customer, of those that are
    /// open, and of those with a step to confirm.
    async fn read_statuses(&mut self, links: &mut Links, orders: &[Order]) -> anyhow::Result<()> {
        let further = [keys::UNCONFIRMED_ORDERS, keys::OPEN_ORDERS].map(str::to_owned);
        let sets = OrderStatus::ALL
            .into_iter()
            .flat_map(|status| [keys::orders_with(status), keys::customers_orders_with(status)]);
        let sets = sets.chain(further);
        let mut sets: BTreeMap<_, _> = sets.map(|key| (key, BTreeSet::new())).collect();
        for place in orders.iter().flat_map(Entity::places) {
            sets.entry(place.set).or_default().insert(place.member);
        }
        for (key, due) in sets {
            let listed = links.members(Topic::Order, &key).await?;
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
        let Some(length) = links.length(stream).await? else { return Ok(Vec::new()) };
        if !length.complete {
            self.trimmed.0.push(stream);
        }
        let mut events = Vec::new();
        for (id, json) in links.entries(stream).await? {
            if let Some(order) = order_of(stream, &json) {
                let at = self.heard_of.entry(order).or_insert(Millis::MAX);
                *at = (*at).min(millis(id));
            }
            match parse(id, &json) {
                Ok(event) => events.push(event),
                // Others write here, too; what they write wrongly becomes a dead letter.
                Err(_) if OPEN.contains(&stream) => {}
                Err(error) => self.unreadable.push(format!("entry {id} of {stream}: {error:#}")),
            }
        }
        Ok(events)
    }

    pub(super) fn check(&self) -> Report {
        let mut report = Report {
            orders: self.orders.len(),
            messages: self.messages.len(),
            dead_letters: self.dead_letters.clone(),
            ..Report::default()
        };
        for order in self.orders.values() {
            *report.by_status.entry(order.status.name()).or_default() += 1;
        }
        let unreadable = self.unreadable.iter().map(|what| format!("cannot be read: {what}"));
        report.findings.extend(unreadable);
        self.check_stock(&mut report.findings);
        self.check_lines(&mut report.findings);
        self.check_money(&mut report.findings);
        self.check_deliveries(&mut report.findings);
        self.check_deposits(&mut report.findings);
        self.check_indexes(&mut report.findings);
        self.check_messages(&mut report.findings);
        for stream in &self.trimmed.0 {
            report.notes.push(format!(
                "{stream} was trimmed (or its Redis is too old to tell): entries are looked at, \
                 but none is missed there"
            ));
        }
        for (id, story) in self.stories() {
            if self.lost.forgets(self.began(id, &story)) {
                report.forgotten += 1;
                // Whatever was lost, nobody waits for ever.
                if let Some(order) = story.order.filter(|order| order.status.is_underway()) {
                    report.unfinished += 1;
                    report
                        .findings
                        .push(format!("order {id}: it is still {}", order.status.name()));
                }
                continue;
            }
            report.foreign += usize::from(story.order.is_none());
            let before = report.findings.len();
            let finished = story.check(&self.trimmed, &mut report.findings);
            report.unfinished += usize::from(!finished);
            for finding in &mut report.findings[before..] {
                finding.insert_str(0, &format!("order {id}: "));
            }
        }
        report.notes.extend(self.lost.note(report.forgotten));
        report
    }

    /// When an order was first heard of, if that is known.
    fn began(&self, id: OrderId, story: &Story<'_>) -> Option<Millis> {
        let placed = story.order.map(Order::created);
        placed.into_iter().chain(self.heard_of.get(&id).copied()).min()
    }

    /// What is known about each order.
    fn stories(&self) -> BTreeMap<OrderId, Story<'_>> {
        let mut stories: BTreeMap<OrderId, Story<'_>> = BTreeMap::new();
        for (id, order) in &self.orders {
            stories.entry(*id).or_default().order = Some(order);
        }
        for (id, reservation) in &self.reservations {
            stories.entry(*id).or_default().reservation = Some(reservation);
        }
        for (id, payment) in &self.payments {
            stories.entry(*id).or_default().payment = Some(payment);
        }
        for event in &self.created {
            stories.entry(event.order).or_default().created.push(event);
        }
        for event in &self.acts {
            stories.entry(event.order).or_default().acts.push(event);
        }
        for event in &self.checks {
            stories.entry(event.order_id).or_default().checks.push(event);
        }
        for event in &self.wallets {
            stories.entry(event.order_id).or_default().wallets.push(event);
        }
        for event in &self.refunds {
            stories.entry(event.order_id).or_default().refunds.push(event);
        }
        for event in &self.unpaid {
            stories.entry(event.id).or_default().unpaid.push(event);
        }
        for event in &self.confirmed {
            stories.entry(event.order).or_default().confirmed.push(event);
        }
        for message in &self.sent {
            let Some(order) = message.order else { continue };
            stories.entry(order).or_default().sent.push(message);
        }
        for message in self.messages.values() {
            let Some(order) = message.order else { continue };
            stories.entry(order).or_default().stored.push(message);
        }
        stories
    }
}

/// The streams on which others write than the services of this system.
const OPEN: [Stream; 5] = [
    Stream::OrderCreated,
    Stream::InventoryCreated,
    Stream::InventoryRestock,
    Stream::AccountCreated,
    Stream::AccountTopUp,
];

/// The order that an event is about, if it is about one.
fn order_of(stream: Stream, json: &str) -> Option<OrderId> {
    #[derive(Deserialize)]
    struct Event {
        id: Option<OrderId>,
        order_id: Option<OrderId>,
        order: Option<OrderId>,
    }
    let Event { id, order_id, order } = serde_json::from_str(json).ok()?;
    let own = id.filter(|_| stream.topic() == Topic::Order);
    own.or(order_id).or(order)
}

/// When an entry was added. The original's services count in seconds.
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

/// How often each of them is there.
pub(super) fn count<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_lists_are_looked_for_where_they_are_kept() {
        let customer: CustomerId = "101".parse().unwrap();
        assert_eq!(keys::orders_of(&customer), format!("{ORDERS_OF}101"));
        assert_eq!(keys::messages_to(&customer), format!("{MESSAGES_TO}101"));
    }
}
