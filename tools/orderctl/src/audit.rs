//! Checks the books: whether stock, money, orders, events and messages agree.
//!
//! It reads what the owners stored and published, all of it, and compares. That is only of use at a
//! quiet moment: while events are under way their effects are here and not yet there. The report
//! tells whether it was one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use account_service::wallet::Payment;
use anyhow::{Context as _, bail};
use common::{
    config::Sources,
    decision::Entity,
    entities::{Account, Order, OrderStatus, Product},
    events::{
        ENTITY, MessageKind, MessageSent, OrderCreated, StockChecked, StockOutcome, Stream, Topic,
        WalletChecked, WalletOutcome,
    },
    ids::{CustomerId, EntryId, OrderId, ProductId},
    redis_link::Link,
};
use inventory_service::stock::{Holding, Reservation};
use redis::{Cmd, Pipeline, Value, from_redis_value};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

/// How long Redis may take to answer one command.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many keys or entries are read at once.
const PAGE: usize = 1_000;
/// How many findings are printed; the rest is counted.
const SHOWN: usize = 100;

/// What the audit found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What does not agree, each with its culprit and both numbers.
    pub findings: Vec<String>,
    /// What could not be looked at.
    pub notes: Vec<String>,
    /// How many orders order_service keeps.
    pub orders: usize,
    /// How many of them have each status.
    pub by_status: BTreeMap<&'static str, usize>,
    /// How many orders of another order service there are: known by their events alone.
    pub foreign: usize,
    /// How many orders have not come to their end.
    pub unfinished: usize,
    /// How many messages were sent.
    pub messages: usize,
    /// How many dead letters each owner wrote.
    pub dead_letters: BTreeMap<&'static str, usize>,
    /// How far each group is.
    pub groups: Vec<Group>,
}

/// How far a consumer group is in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stream.
    pub stream: Stream,
    /// The group.
    pub name: String,
    /// Entries that were delivered and not acknowledged.
    pub pending: u64,
    /// Entries that were not delivered yet; unknown to Redis before version 7 and after deletions.
    pub lag: Option<u64>,
    /// Whether everything in the stream was delivered.
    pub at_end: bool,
}

impl Report {
    /// Whether no event was under way when the audit began.
    pub fn is_quiet(&self) -> bool {
        is_quiet(&self.groups)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, foreign, unfinished, messages, .. } = self;
        writeln!(f, "{orders} orders, {unfinished} unfinished, {messages} messages")?;
        for (status, count) in &self.by_status {
            writeln!(f, "  {status:<20}{count:>9}")?;
        }
        if *foreign > 0 {
            writeln!(f, "  {foreign} orders are kept by another order service")?;
        }
        for (owner, count) in &self.dead_letters {
            writeln!(f, "  {count} dead letters of {owner}")?;
        }
        writeln!(f, "groups                                             pending      lag")?;
        for Group { stream, name, pending, lag, at_end } in &self.groups {
            let lag = match lag {
                Some(lag) => lag.to_string(),
                None if *at_end => "0".to_owned(),
                None => "?".to_owned(),
            };
            writeln!(f, "  {:<28}{name:<20}{pending:>8}{lag:>9}", stream.key())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "FINDING: {finding}")?;
        }
        match self.findings.len() {
            0 => writeln!(f, "the books balance"),
            count if count > SHOWN => writeln!(f, "{count} findings, {SHOWN} of them shown"),
            count => writeln!(f, "{count} findings"),
        }
    }
}

/// Whether nothing waits in these groups.
pub fn is_quiet(groups: &[Group]) -> bool {
    groups.iter().all(|group| group.pending == 0 && group.at_end)
}

/// Reads everything and checks it.
///
/// # Errors
///
/// Redis cannot be read. What is wrong with the books is no error but a finding.
pub async fn audit(sources: &Sources) -> anyhow::Result<Report> {
    let mut links = Links::new(sources);
    // First: what is quiet now stays quiet, unless somebody places new orders.
    let groups = read_groups(&mut links).await?;
    let books = Books::read(&mut links).await?;
    let mut report = books.check();
    report.groups = groups;
    if !report.is_quiet() {
        report.notes.push("events were under way: findings may only mean that".to_owned());
    }
    Ok(report)
}

/// How far every group of the system is. The streams are looked at in the direction of the flow, so
/// that an event cannot slip through: whoever acknowledged it has published what follows from it.
///
/// # Errors
///
/// Redis cannot be read.
pub async fn groups(sources: &Sources) -> anyhow::Result<Vec<Group>> {
    read_groups(&mut Links::new(sources)).await
}

/// A connection to the Redis of every topic.
struct Links {
    sources: Sources,
    links: Vec<Link>,
}

impl Links {
    fn new(sources: &Sources) -> Self {
        let link = |url: &_| Link::new(Clone::clone(url), PATIENCE);
        Self { sources: sources.clone(), links: sources.servers().iter().map(link).collect() }
    }

    fn of(&mut self, topic: Topic) -> &mut Link {
        &mut self.links[self.sources.index(topic)]
    }

    /// Asks for something that may not be there: `None` if Redis says that it has no such key.
    async fn find(
        &mut self,
        topic: Topic,
        name: &'static str,
        command: Cmd,
    ) -> anyhow::Result<Option<Value>> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let link = self.of(topic);
        match link.send(&pipeline).await?.pop().unwrap_or(Value::Nil) {
            Value::ServerError(error)
                if error.details().is_some_and(|d| d.contains("no such key")) =>
            {
                Ok(None)
            }
            value => Ok(Some(link.accept(name, value)?)),
        }
    }
}

async fn read_groups(links: &mut Links) -> anyhow::Result<Vec<Group>> {
    const FLOW: [Stream; 5] = [
        Stream::InventoryCreated,
        Stream::AccountCreated,
        Stream::OrderCreated,
        Stream::InventoryCheck,
        Stream::AccountWallet,
    ];
    let mut all = Vec::new();
    for stream in FLOW {
        let mut ask = redis::cmd("XINFO");
        ask.arg("GROUPS").arg(stream.key());
        let found = links.find(stream.topic(), "XINFO GROUPS", ask).await?;
        // Asked after the groups, so that an entry that came in between is not overlooked.
        let Some(length) = length(links, stream).await? else { continue };
        let mut missing: BTreeSet<&str> =
            stream.readers().iter().map(|reader| reader.service()).collect();
        let groups: Vec<HashMap<String, Value>> =
            found.map(from_redis_value).transpose()?.unwrap_or_default();
        for mut group in groups {
            let name: String = take(&mut group, "name")?.context("a group without a name")?;
            let delivered: String = take(&mut group, "last-delivered-id")?.unwrap_or_default();
            let delivered: EntryId = delivered.parse().unwrap_or_default();
            missing.remove(name.as_str());
            all.push(Group {
                stream,
                name,
                pending: take(&mut group, "pending")?.unwrap_or(0),
                lag: take(&mut group, "lag")?.flatten(),
                at_end: length.entries == 0 || delivered >= length.last,
            });
        }
        for name in missing {
            let (name, at_end) = (name.to_owned(), length.entries == 0);
            all.push(Group { stream, name, pending: 0, lag: Some(length.entries), at_end });
        }
    }
    Ok(all)
}

/// A member of one of Redis' replies that are lists of names and values.
fn take<T: redis::FromRedisValue>(
    reply: &mut HashMap<String, Value>,
    name: &str,
) -> anyhow::Result<Option<T>> {
    let value = reply.remove(name).map(from_redis_value).transpose();
    value.with_context(|| format!("{name} in a reply to XINFO"))
}

/// How long a stream is.
struct Length {
    entries: u64,
    last: EntryId,
    /// Whether nothing was ever taken out of it.
    complete: bool,
}

async fn length(links: &mut Links, stream: Stream) -> anyhow::Result<Option<Length>> {
    let mut ask = redis::cmd("XINFO");
    ask.arg("STREAM").arg(stream.key());
    let Some(found) = links.find(stream.topic(), "XINFO STREAM", ask).await? else {
        return Ok(None);
    };
    let mut found: HashMap<String, Value> = from_redis_value(found)?;
    let entries = take(&mut found, "length")?.unwrap_or(0);
    let last: String = take(&mut found, "last-generated-id")?.unwrap_or_default();
    // Redis before version 7 does not count what was added; then nobody knows.
    let added: Option<u64> = take(&mut found, "entries-added")?;
    let last = last.parse().unwrap_or_default();
    Ok(Some(Length { entries, last, complete: added == Some(entries) }))
}

/// What was published on a stream.
struct Published<T> {
    entries: Vec<T>,
    /// Entries were taken out of it, so none can be missed.
    trimmed: bool,
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), trimmed: false }
    }
}

/// An entry of `events:{order}_created`.
struct Created {
    order: OrderId,
    attempt: u32,
    /// Written by this system's order_service, which then keeps the order, too.
    ours: bool,
}

/// All that the services have stored and published, as it was read.
#[derive(Default)]
struct Books {
    orders: HashMap<OrderId, Order>,
    products: BTreeMap<ProductId, Product>,
    accounts: BTreeMap<CustomerId, Account>,
    reservations: HashMap<OrderId, Reservation>,
    payments: HashMap<OrderId, Payment>,
    messages: HashMap<Uuid, (OrderId, MessageKind)>,
    /// Every index with the ids that it lists and those that are stored.
    indexes: Vec<Index>,
    created: Published<Created>,
    checks: Published<StockChecked>,
    wallets: Published<WalletChecked>,
    sent: Published<(Uuid, OrderId, MessageKind)>,
    dead_letters: BTreeMap<&'static str, usize>,
    /// What is stored or published but cannot be read.
    unreadable: Vec<String>,
}

struct Index {
    key: &'static str,
    listed: Vec<String>,
    stored: BTreeSet<String>,
}

impl Books {
    async fn read(links: &mut Links) -> anyhow::Result<Self> {
        let mut books = Self::default();
        for order in books.entities::<Order>(links, Topic::Order).await? {
            books.orders.insert(order.id, order);
        }
        for product in books.entities::<Product>(links, Topic::Inventory).await? {
            books.products.insert(product.id.clone(), product);
        }
        for account in books.entities::<Account>(links, Topic::Account).await? {
            books.accounts.insert(account.id.clone(), account);
        }
        for reservation in books.entities::<Reservation>(links, Topic::Inventory).await? {
            books.reservations.insert(reservation.order_id, reservation);
        }
        for payment in books.entities::<Payment>(links, Topic::Account).await? {
            books.payments.insert(payment.order_id, payment);
        }
        for message in books.entities::<MessageSent>(links, Topic::Message).await? {
            books.messages.insert(message.id, (message.order, message.kind));
        }
        books.created = books
            .events(links, Stream::OrderCreated, |json| {
                #[derive(Deserialize)]
                struct Attempt {
                    attempt: Option<u32>,
                }
                let event: OrderCreated = serde_json::from_str(json)?;
                // The original's services do not know of attempts.
                let ours = serde_json::from_str::<Attempt>(json)?.attempt.is_some();
                Ok(Created { order: event.id, attempt: event.attempt, ours })
            })
            .await?;
        books.checks = books.events(links, Stream::InventoryCheck, parse).await?;
        books.wallets = books.events(links, Stream::AccountWallet, parse).await?;
        books.sent = books
            .events(links, Stream::MessageSent, |json| {
                let event: MessageSent = parse(json)?;
                Ok((event.id, event.order, event.kind))
            })
            .await?;
        for topic in Topic::ALL {
            let length = length(links, Stream::Dead(topic)).await?;
            if let Some(length) = length.filter(|length| length.entries > 0) {
                let entries = usize::try_from(length.entries).unwrap_or(usize::MAX);
                books.dead_letters.insert(topic.service(), entries);
            }
        }
        Ok(books)
    }

    /// All entities of a kind, found by their keys, and what their index says.
    async fn entities<E: Entity>(
        &mut self,
        links: &mut Links,
        topic: Topic,
    ) -> anyhow::Result<Vec<E>> {
        let kind = E::kind();
        let mut keys = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{}*", kind.prefix)).arg("COUNT").arg(PAGE);
            let page = links.of(topic).ask("SCAN", scan).await?;
            let (next, found): (String, Vec<String>) = from_redis_value(page)?;
            keys.extend(found);
            if next == "0" {
                break;
            }
            cursor = next;
        }
        let keys: Vec<String> = keys.into_iter().collect();
        let mut entities = Vec::with_capacity(keys.len());
        for page in keys.chunks(PAGE) {
            let mut read = redis::cmd("MGET");
            read.arg(page);
            let values: Vec<Option<String>> =
                from_redis_value(links.of(topic).ask("MGET", read).await?)?;
            for (key, value) in page.iter().zip(values) {
                let json = value.as_deref().and_then(|text| Some(text.split_once(' ')?.1));
                match serde_json::from_str(json.unwrap_or_default()) {
                    Ok(entity) => entities.push(entity),
                    Err(error) => {
                        self.unreadable.push(format!("what is stored at {key}: {error}"));
                    }
                }
            }
        }
        if let Some(key) = kind.index {
            let mut read = redis::cmd("LRANGE");
            read.arg(key).arg(0).arg(-1);
            let listed = from_redis_value(links.of(topic).ask("LRANGE", read).await?)?;
            let id = |key: &String| key[kind.prefix.len()..].to_owned();
            self.indexes.push(Index { key, listed, stored: keys.iter().map(id).collect() });
        }
        Ok(entities)
    }

    /// All entries of a stream.
    async fn events<T>(
        &mut self,
        links: &mut Links,
        stream: Stream,
        parse: impl Fn(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<Published<T>> {
        type Entry = (String, Vec<(String, Vec<u8>)>);
        let Some(length) = length(links, stream).await? else { return Ok(Published::default()) };
        let mut entries = Vec::new();
        let mut from = "-".to_owned();
        loop {
            let mut read = redis::cmd("XRANGE");
            read.arg(stream.key()).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let page = links.of(stream.topic()).ask("XRANGE", read).await?;
            let page: Vec<Entry> = from_redis_value(page)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
            for (id, fields) in page {
                let json = fields.iter().find(|(name, _)| name == ENTITY);
                let json = json.map(|(_, bytes)| String::from_utf8_lossy(bytes));
                match parse(&json.unwrap_or_default()) {
                    Ok(event) => entries.push(event),
                    // Others write here, too; what they write wrongly becomes a dead letter.
                    Err(_) if stream == Stream::OrderCreated => {}
                    Err(error) => {
                        self.unreadable.push(format!("entry {id} of {stream}: {error:#}"));
                    }
                }
            }
        }
        Ok(Published { entries, trimmed: !length.complete })
    }

    fn check(&self) -> Report {
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
        self.check_money(&mut report.findings);
        self.check_indexes(&mut report.findings);
        let trimmed = Trimmed {
            created: self.created.trimmed,
            checks: self.checks.trimmed,
            wallets: self.wallets.trimmed,
            sent: self.sent.trimmed,
        };
        for (stream, trimmed) in [
            (Stream::OrderCreated, trimmed.created),
            (Stream::InventoryCheck, trimmed.checks),
            (Stream::AccountWallet, trimmed.wallets),
            (Stream::MessageSent, trimmed.sent),
        ] {
            if trimmed {
                report.notes.push(format!(
                    "{stream} was trimmed (or its Redis is too old to tell): entries are looked \
                     at, but none is missed there"
                ));
            }
        }
        for (id, story) in self.stories() {
            report.foreign += usize::from(story.order.is_none());
            let before = report.findings.len();
            let finished = story.check(&trimmed, &mut report.findings);
            report.unfinished += usize::from(!finished);
            for finding in &mut report.findings[before..] {
                finding.insert_str(0, &format!("order {id}: "));
            }
        }
        report
    }

    fn check_stock(&self, findings: &mut Vec<String>) {
        let mut held: BTreeMap<&ProductId, u64> = BTreeMap::new();
        let holding = |reservation: &&Reservation| reservation.state == Holding::Held;
        for reservation in self.reservations.values().filter(holding) {
            for (product, pieces) in &reservation.pieces {
                *held.entry(product).or_default() += pieces;
            }
        }
        for (id, product) in &self.products {
            let Product { amount, reserved, received, .. } = product;
            if amount.checked_add(*reserved) != Some(*received) {
                findings.push(format!(
                    "product {id}: received {received}, but {amount} on hand and {reserved} \
                     reserved make {}",
                    u128::from(*amount) + u128::from(*reserved)
                ));
            }
            let held = held.remove(id).unwrap_or(0);
            if held != *reserved {
                findings.push(format!("product {id}: {reserved} reserved, but orders hold {held}"));
            }
        }
        for (id, held) in held {
            findings.push(format!("product {id}: does not exist, but orders hold {held}"));
        }
    }

    fn check_money(&self, findings: &mut Vec<String>) {
        let mut paid: BTreeMap<&CustomerId, u128> = BTreeMap::new();
        let done = |payment: &&Payment| payment.outcome == WalletOutcome::ToBeShipped;
        for payment in self.payments.values().filter(done) {
            *paid.entry(&payment.customer_id).or_default() += u128::from(payment.total);
        }
        for (id, account) in &self.accounts {
            let Account { balance, paid: booked, deposited, .. } = account;
            if balance.checked_add(*booked) != Some(*deposited) {
                findings.push(format!(
                    "account {id}: deposited {deposited}, but balance {balance} and paid {booked} \
                     make {}",
                    u128::from(*balance) + u128::from(*booked)
                ));
            }
            let paid = paid.remove(id).unwrap_or(0);
            if paid != u128::from(*booked) {
                findings.push(format!("account {id}: paid {booked}, but its payments make {paid}"));
            }
        }
        for (id, paid) in paid {
            findings.push(format!("account {id}: does not exist, but its payments make {paid}"));
        }
    }

    fn check_indexes(&self, findings: &mut Vec<String>) {
        for Index { key, listed, stored } in &self.indexes {
            let mut times: BTreeMap<&String, usize> = stored.iter().map(|id| (id, 0)).collect();
            for id in listed {
                *times.entry(id).or_default() += 1;
            }
            for (id, times) in times {
                if !stored.contains(id) {
                    findings.push(format!("{key}: lists {id} {times} times, but it is not stored"));
                } else if times != 1 {
                    findings.push(format!("{key}: lists {id} {times} times instead of 1"));
                }
            }
        }
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
        for event in &self.created.entries {
            stories.entry(event.order).or_default().created.push(event);
        }
        for event in &self.checks.entries {
            stories.entry(event.order_id).or_default().checks.push(event);
        }
        for event in &self.wallets.entries {
            stories.entry(event.order_id).or_default().wallets.push(event);
        }
        for (id, order, kind) in &self.sent.entries {
            stories.entry(*order).or_default().sent.push((*id, *kind));
        }
        for (id, (order, kind)) in &self.messages {
            stories.entry(*order).or_default().stored.push((*id, *kind));
        }
        stories
    }
}

fn parse<T: DeserializeOwned>(json: &str) -> anyhow::Result<T> {
    if json.is_empty() {
        bail!("it has no field `{ENTITY}`");
    }
    Ok(serde_json::from_str(json)?)
}

/// Which streams may have lost their older entries.
#[derive(Clone, Copy, Default)]
struct Trimmed {
    created: bool,
    checks: bool,
    wallets: bool,
    sent: bool,
}

/// Whether an entry may be missing because it was trimmed away, or seem to come from nowhere because
/// what it follows was.
#[derive(Clone, Copy)]
struct Forgotten {
    itself: bool,
    what_it_follows: bool,
}

/// What is known about one order.
#[derive(Default)]
struct Story<'a> {
    order: Option<&'a Order>,
    reservation: Option<&'a Reservation>,
    payment: Option<&'a Payment>,
    created: Vec<&'a Created>,
    checks: Vec<&'a StockChecked>,
    wallets: Vec<&'a WalletChecked>,
    sent: Vec<(Uuid, MessageKind)>,
    stored: Vec<(Uuid, MessageKind)>,
}

impl Story<'_> {
    /// Gives whether the order came to its end.
    fn check(&self, trimmed: &Trimmed, findings: &mut Vec<String>) -> bool {
        self.check_totals(findings);
        self.check_pieces(findings);
        self.check_events(trimmed, findings);
        self.check_messages(trimmed, findings);
        self.check_ending(trimmed, findings)
    }

    /// Stock, money and status tell the same end.
    fn check_ending(&self, trimmed: &Trimmed, findings: &mut Vec<String>) -> bool {
        let reservation = self.reservation;
        // A payment of an earlier attempt says nothing about this one.
        let attempt = reservation.map_or(1, |reservation| reservation.attempt);
        let payment = self.payment.filter(|payment| payment.attempt >= attempt);
        let books = format!(
            "its reservation is {} and its payment {}",
            reservation.map_or_else(|| "missing".to_owned(), |it| name(&it.state)),
            payment.map_or_else(|| "missing".to_owned(), |it| name(&it.outcome)),
        );
        if let Some(payment) = payment
            && payment.attempt != attempt
        {
            findings.push(format!(
                "its reservation is of attempt {attempt}, but its payment of {}",
                payment.attempt
            ));
        }
        let due = match (reservation.map(|it| it.state), payment.map(|it| it.outcome)) {
            (Some(Holding::Short), None) => Some(OrderStatus::OutOfStock),
            (Some(Holding::Rejected), None) => Some(OrderStatus::Rejected),
            (Some(Holding::Held), Some(WalletOutcome::ToBeShipped)) => {
                Some(OrderStatus::ToBeShipped)
            }
            (Some(Holding::Released), Some(WalletOutcome::InsufficientFund)) => {
                Some(OrderStatus::InsufficientFund)
            }
            (Some(Holding::Released), Some(WalletOutcome::Rejected)) => Some(OrderStatus::Rejected),
            _ => None,
        };
        let Some(order) = self.order else {
            if !trimmed.created && self.created.is_empty() {
                findings.push(format!("nobody ordered it, but {books}"));
            } else if self.created.iter().any(|created| created.ours) {
                findings.push(format!("it is published but not stored; {books}"));
            } else if due.is_none() {
                findings.push(format!("it did not come to its end: {books}"));
            }
            return due.is_some();
        };
        let agrees = match order.status {
            OrderStatus::Pending | OrderStatus::PaymentRequired => {
                findings.push(format!("it is still {}; {books}", order.status.name()));
                return false;
            }
            // Both come after the payment, and nothing of it changes.
            OrderStatus::Shipped | OrderStatus::Completed => due == Some(OrderStatus::ToBeShipped),
            OrderStatus::Cancelled => {
                reservation.is_none_or(|it| it.state != Holding::Held) && due != Some(order.status)
            }
            status => due == Some(status),
        };
        if !agrees {
            findings.push(format!("it is {}, but {books}", order.status.name()));
        }
        if reservation.is_some() && attempt != order.attempt {
            findings.push(format!(
                "it is in attempt {}, but its reservation in {attempt}",
                order.attempt
            ));
        }
        true
    }

    /// Everybody means the same amount of money.
    fn check_totals(&self, findings: &mut Vec<String>) {
        if let Some(payment) = self.payment {
            let check = self.checks.iter().find(|check| check.attempt == payment.attempt);
            if let Some(total) = check.map(|check| check.order_total.unwrap_or(0))
                && total != payment.total
            {
                findings.push(format!(
                    "its stock check says {total} is to be paid, its payment {}",
                    payment.total
                ));
            }
            if let Some(order) = self.order
                && order.attempt == payment.attempt
                && order.order_total != Some(payment.total)
            {
                let total = order.order_total.map_or("nothing".to_owned(), |it| it.to_string());
                findings
                    .push(format!("its total is {total}, but its payment is of {}", payment.total));
            }
        }
    }

    /// The pieces that are held are those that were ordered.
    fn check_pieces(&self, findings: &mut Vec<String>) {
        let (Some(order), Some(reservation)) = (self.order, self.reservation) else { return };
        let mut ordered: BTreeMap<&ProductId, u64> = BTreeMap::new();
        for product in &order.product_ids {
            *ordered.entry(product).or_default() += 1;
        }
        let reserved = reservation.pieces.iter().map(|(product, pieces)| (product, *pieces));
        if !ordered.iter().map(|(product, pieces)| (*product, *pieces)).eq(reserved) {
            findings.push(format!(
                "it is about {ordered:?}, but its reservation about {:?}",
                reservation.pieces
            ));
        }
    }

    /// Each event once for every attempt that has it.
    fn check_events(&self, trimmed: &Trimmed, findings: &mut Vec<String>) {
        let last = self.order.map_or(0, |order| order.attempt);
        let created = count(self.created.iter().map(|event| event.attempt));
        let checked = count(self.checks.iter().map(|event| event.attempt));
        let paid = count(self.wallets.iter().map(|event| event.attempt));
        let to_pay = self.checks.iter().filter(|it| it.inventory == StockOutcome::PaymentRequired);
        let to_pay = count(to_pay.map(|event| event.attempt));
        let attempts: BTreeSet<u32> = created
            .keys()
            .chain(checked.keys())
            .chain(paid.keys())
            .copied()
            .chain(1..=last)
            .collect();
        for attempt in attempts {
            let mut once =
                |stream: Stream, found: &BTreeMap<u32, usize>, due, forgotten: Forgotten| {
                    let found = found.get(&attempt).copied().unwrap_or(0);
                    let excused =
                        found == 1 && forgotten.what_it_follows || found == 0 && forgotten.itself;
                    if found != usize::from(due) && !excused {
                        let due = usize::from(due);
                        findings.push(format!(
                            "{found} entries on {stream} for attempt {attempt} instead of {due}"
                        ));
                    }
                };
            // An order of another order service is stored there, not here.
            let stored = (1..=last).contains(&attempt);
            let forgotten = Forgotten { itself: trimmed.created, what_it_follows: true };
            once(Stream::OrderCreated, &created, stored, forgotten);
            let due = stored || created.contains_key(&attempt);
            let forgotten = Forgotten { itself: trimmed.checks, what_it_follows: trimmed.created };
            once(Stream::InventoryCheck, &checked, due, forgotten);
            let due = to_pay.contains_key(&attempt);
            let forgotten = Forgotten { itself: trimmed.wallets, what_it_follows: trimmed.checks };
            once(Stream::AccountWallet, &paid, due, forgotten);
        }
    }

    /// One message for every occasion, on the stream and stored.
    fn check_messages(&self, trimmed: &Trimmed, findings: &mut Vec<String>) {
        let mut occasions: BTreeSet<(&'static str, u32)> = BTreeSet::new();
        for event in &self.created {
            occasions.insert((MessageKind::OrderReceived.name(), event.attempt));
        }
        for event in &self.checks {
            let kind = match event.inventory {
                StockOutcome::PaymentRequired => MessageKind::StockReserved,
                StockOutcome::OutOfStock => MessageKind::OutOfStock,
                StockOutcome::Rejected => MessageKind::Rejected,
            };
            occasions.insert((kind.name(), event.attempt));
        }
        for event in &self.wallets {
            let kind = match event.account {
                WalletOutcome::ToBeShipped => MessageKind::OnItsWay,
                WalletOutcome::InsufficientFund => MessageKind::InsufficientFund,
                WalletOutcome::Rejected => MessageKind::Rejected,
            };
            occasions.insert((kind.name(), event.attempt));
        }
        let due = count(occasions.iter().map(|(kind, _)| *kind));
        let sent = count(self.sent.iter().map(|(_, kind)| kind.name()));
        let stored = count(self.stored.iter().map(|(_, kind)| kind.name()));
        let kinds: BTreeSet<_> =
            due.keys().chain(sent.keys()).chain(stored.keys()).copied().collect();
        // Where occasions may be forgotten, there may be more messages than are known to be due.
        let forgotten = trimmed.created || trimmed.checks || trimmed.wallets;
        for kind in kinds {
            let of = |counts: &BTreeMap<&str, usize>| counts.get(kind).copied().unwrap_or(0);
            let (due, sent, stored) = (of(&due), of(&sent), of(&stored));
            if sent < due && !trimmed.sent || sent > due && !forgotten {
                findings.push(format!(
                    "{sent} messages {kind} on {} instead of {due}",
                    Stream::MessageSent
                ));
            }
            if stored < due || stored > due && !forgotten {
                findings.push(format!("{stored} messages {kind} are stored instead of {due}"));
            }
        }
        for (id, times) in count(self.sent.iter().map(|(id, _)| id)) {
            if times > 1 {
                findings.push(format!("message {id} was sent {times} times instead of 1"));
            }
        }
    }
}

fn count<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// The name of a state as it is stored.
fn name(state: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(state).ok();
    json.and_then(|json| json.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> OrderId {
        OrderId(Uuid::from_u128(number))
    }

    fn parsed<T: DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    /// One order of two pieces for 20, paid, with all that belongs to it.
    fn balanced() -> Books {
        let order = id(1);
        let mut books = Books::default();
        let product = parsed::<Product>(serde_json::json!({
            "id": "p", "name": "", "price": 10, "amount": 3, "reserved": 2, "received": 5,
        }));
        let account = parsed::<Account>(serde_json::json!({
            "id": "c", "name": "", "email": "", "balance": 80, "paid": 20, "deposited": 100,
        }));
        books.products.insert(product.id.clone(), product);
        books.accounts.insert(account.id.clone(), account);
        let stored = parsed(serde_json::json!({
            "id": order, "product_ids": ["p", "p"], "customer_id": "c", "status": "to-be-shipped",
            "attempt": 1, "order_total": 20, "history": [],
        }));
        books.orders.insert(order, stored);
        let stored = parsed(serde_json::json!({
            "order_id": order, "attempt": 1, "state": "held", "pieces": { "p": 2 },
        }));
        books.reservations.insert(order, stored);
        let stored = parsed(serde_json::json!({
            "order_id": order, "customer_id": "c", "attempt": 1, "total": 20,
            "outcome": "to-be-shipped",
        }));
        books.payments.insert(order, stored);
        books.created.entries.push(Created { order, attempt: 1, ours: true });
        books.checks.entries.push(parsed(serde_json::json!({
            "inventory": "payment-required", "order_id": order, "customer_id": "c",
            "product_ids": ["p", "p"], "order_total": 20,
        })));
        books.wallets.entries.push(parsed(serde_json::json!({
            "order_id": order, "customer_id": "c", "account": "to-be-shipped",
        })));
        for (number, kind) in
            [MessageKind::OrderReceived, MessageKind::StockReserved, MessageKind::OnItsWay]
                .into_iter()
                .enumerate()
        {
            let message = Uuid::from_u128(100 + number as u128);
            books.sent.entries.push((message, order, kind));
            books.messages.insert(message, (order, kind));
        }
        let order = order.to_string();
        let stored = BTreeSet::from([order.clone()]);
        books.indexes.push(Index { key: "{order}:index", listed: vec![order], stored });
        books
    }

    fn findings(spoil: impl FnOnce(&mut Books)) -> String {
        let mut books = balanced();
        spoil(&mut books);
        books.check().findings.join("\n")
    }

    #[test]
    fn balanced_books_have_no_findings() {
        let report = balanced().check();
        assert_eq!(report.findings, Vec::<String>::new());
        assert_eq!((report.orders, report.unfinished, report.foreign), (1, 0, 0));
        assert_eq!(report.by_status, BTreeMap::from([("to-be-shipped", 1)]));
    }

    #[test]
    fn each_fault_is_found_with_its_culprit_and_both_numbers() {
        type Spoil = fn(&mut Books);
        let cases: [(Spoil, &str); 14] = [
            (
                |b| b.products.values_mut().for_each(|it| it.amount = 4),
                "product p: received 5, but 4 on hand and 2 reserved make 6",
            ),
            (
                |b| {
                    b.reservations.values_mut().for_each(|it| {
                        it.pieces.values_mut().for_each(|pieces| *pieces = 1);
                    });
                },
                "product p: 2 reserved, but orders hold 1",
            ),
            (|b| b.products.clear(), "product p: does not exist, but orders hold 2"),
            (
                |b| b.accounts.values_mut().for_each(|it| it.balance = 60),
                "account c: deposited 100, but balance 60 and paid 20 make 80",
            ),
            (|b| b.payments.clear(), "account c: paid 20, but its payments make 0"),
            (
                |b| b.orders.values_mut().for_each(|it| it.status = OrderStatus::OutOfStock),
                "it is out-of-stock, but its reservation is held and its payment to-be-shipped",
            ),
            (
                |b| b.orders.values_mut().for_each(|it| it.status = OrderStatus::Pending),
                "it is still pending; its reservation is held and its payment to-be-shipped",
            ),
            (
                |b| b.checks.entries.push(b.checks.entries[0].clone()),
                "2 entries on events:{inventory}_check for attempt 1 instead of 1",
            ),
            (
                |b| b.wallets.entries.clear(),
                "0 entries on events:{account}_wallet for attempt 1 instead of 1",
            ),
            (
                |b| b.sent.entries.push(b.sent.entries[0]),
                "2 messages order-received on events:{message}_sent instead of 1",
            ),
            (|b| b.messages.clear(), "0 messages on-its-way are stored instead of 1"),
            (
                |b| b.indexes[0].listed.push(id(1).to_string()),
                "{order}:index: lists 00000000-0000-0000-0000-000000000001 2 times instead of 1",
            ),
            (
                |b| b.payments.values_mut().for_each(|it| it.total = 15),
                "its stock check says 20 is to be paid, its payment 15",
            ),
            (|b| b.orders.clear(), "it is published but not stored"),
        ];
        for (spoil, expected) in cases {
            let found = findings(spoil);
            assert!(found.contains(expected), "expected {expected:?} in:\n{found}");
        }
    }

    #[test]
    fn what_was_trimmed_is_not_missed_but_double_effects_still_show() {
        let trim = |books: &mut Books| {
            books.created = Published { entries: Vec::new(), trimmed: true };
            books.checks = Published { entries: Vec::new(), trimmed: true };
            books.wallets = Published { entries: Vec::new(), trimmed: true };
            books.sent = Published { entries: Vec::new(), trimmed: true };
        };
        assert_eq!(findings(trim), "");
        let found = findings(|books| books.checks.trimmed = true);
        assert_eq!(found, "");
        let found = findings(|books| {
            books.checks.trimmed = true;
            books.checks.entries.push(books.checks.entries[0].clone());
        });
        assert!(found.contains("2 entries on events:{inventory}_check"), "{found}");
    }

    #[test]
    fn an_order_of_another_order_service_is_known_by_its_events() {
        let mut books = balanced();
        books.orders.clear();
        books.indexes.clear();
        books.created.entries[0].ours = false;
        let report = books.check();
        assert_eq!(report.findings, Vec::<String>::new());
        assert_eq!((report.orders, report.foreign, report.unfinished), (0, 1, 0));
        books.wallets.entries.clear();
        books.payments.clear();
        let report = books.check();
        let expected =
            "it did not come to its end: its reservation is held and its payment missing";
        assert!(report.findings.iter().any(|it| it.contains(expected)), "{:?}", report.findings);
        assert_eq!(report.unfinished, 1);
    }
}
