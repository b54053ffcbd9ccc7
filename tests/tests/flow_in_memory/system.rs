//! The services in memory, and the streams between them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
};

use account_service::wallet::{Payment, Wallet};
use common::{
    clock::Millis,
    consumer::{StreamEntry, Subscription},
    contract::{
        entities::{Account, Product},
        events::{AccountCreated, ProductCreated, Restock, StockChecked, StockOutcome, TopUp},
        ids::{CustomerId, OrderId, ProductId},
        order::Order,
        order_routes::OrderAction,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    decision::{Append, Decider, in_memory::Memory},
    schema::{
        entity::Entity,
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};
use inventory_service::{
    reservation::{Reservation, ReservationState},
    stock::Stock,
};
use msg_service::notification::Notifications;
use order_service::order::{ActionRequest, Answer, Input, NewOrder, Orders};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    Checked,
    books::{Ledger, Seen},
    failed,
    history::{CUSTOMERS, History, PRODUCTS, Step, account, define, product},
    rests,
};

/// An action: the result of a [`Step`].
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Place(usize),
    Ask(ActionRequest),
    Publish(Stream, String),
    ResendOverdue(OrderId),
    Deliver { reader: usize, entry: usize },
    Lose { reader: usize, entry: usize },
}

/// A service and its subscriptions.
pub(crate) struct Service<D: Decider> {
    memory: Memory<D>,
    subscriptions: Vec<Subscription<D::Input>>,
}

impl<D: Decider> Service<D> {
    fn new(decider: D, subscriptions: Vec<Subscription<D::Input>>) -> Self {
        Self { memory: Memory::new(decider), subscriptions }
    }

    pub(crate) fn all<E: Entity>(&self) -> Vec<E> {
        self.memory.all()
    }
}

/// Any of the services.
trait Reads {
    fn topic(&self) -> Topic;
    fn streams(&self) -> Vec<Stream>;
    /// Handles an entry of the stream with this number; returns the published events.
    fn read(
        &mut self,
        number: usize,
        entry: &StreamEntry<'_>,
        now: Millis,
    ) -> Result<VecDeque<Append>, String>;
}

impl<D: Decider> Reads for Service<D> {
    fn topic(&self) -> Topic {
        D::TOPIC
    }

    fn streams(&self) -> Vec<Stream> {
        self.subscriptions.iter().map(|subscription| subscription.stream).collect()
    }

    fn read(
        &mut self,
        number: usize,
        entry: &StreamEntry<'_>,
        now: Millis,
    ) -> Result<VecDeque<Append>, String> {
        if let Some(input) = (self.subscriptions[number].parse)(entry)? {
            self.memory.handle(&input, now).map_err(|error| error.to_string())?;
        }
        Ok(std::mem::take(&mut self.memory.published))
    }
}

/// The consumer group of a service on one stream.
struct Reader {
    topic: Topic,
    stream: Stream,
    number: usize,
    waiting: Vec<usize>,
    had: Vec<usize>,
}

pub(crate) struct System {
    pub(crate) original: bool,
    pub(crate) clock: Millis,
    pub(crate) commands: Vec<NewOrder>,
    placed: usize,
    asked: Vec<ActionRequest>,
    /// The first answer to each granted request.
    granted: HashMap<Uuid, Order>,
    brought: Option<(Stream, String)>,
    numbers: u128,
    pub(crate) orders: Service<Orders>,
    pub(crate) stock: Service<Stock>,
    pub(crate) wallets: Service<Wallet>,
    pub(crate) messages: Service<Notifications>,
    pub(crate) streams: HashMap<Stream, Vec<Rc<str>>>,
    readers: Vec<Reader>,
    pub(crate) ledger: Ledger,
    pub(crate) seen: Seen,
}

impl System {
    pub(crate) fn new(history: &History) -> Self {
        let orders = history.orders.iter().enumerate();
        let commands = orders.map(|(number, (customer, products))| NewOrder {
            id: order_id(number),
            product_ids: products.iter().map(|id| id.parse().unwrap()).collect(),
            customer_id: customer.parse().unwrap(),
        });
        let stock = Stock { limits: history.limits };
        let mut system = Self {
            original: history.original,
            clock: 0,
            commands: commands.collect(),
            placed: 0,
            asked: Vec::new(),
            granted: HashMap::new(),
            brought: None,
            numbers: 0,
            orders: Service::new(
                Orders { single_redis: true, ..Orders::default() },
                order_service::subscriptions(),
            ),
            stock: Service::new(stock, inventory_service::subscriptions()),
            wallets: Service::new(Wallet, account_service::subscriptions()),
            messages: Service::new(Notifications::default(), msg_service::subscriptions()),
            streams: HashMap::new(),
            readers: Vec::new(),
            ledger: Ledger::default(),
            seen: Seen::default(),
        };
        for topic in topics::ALL {
            let service = system.service(topic);
            assert_eq!(service.topic(), topic);
            for (number, stream) in service.streams().into_iter().enumerate() {
                let (waiting, had) = (Vec::new(), Vec::new());
                system.readers.push(Reader { topic, stream, number, waiting, had });
            }
        }
        system
    }

    fn service(&mut self, topic: Topic) -> &mut dyn Reads {
        match topic {
            topics::ORDER => &mut self.orders,
            topics::INVENTORY => &mut self.stock,
            topics::ACCOUNT => &mut self.wallets,
            topics::MESSAGE => &mut self.messages,
            other => unreachable!("{} is no topic of the shop", other.name()),
        }
    }

    /// The action of a step in the present state, if any.
    pub(crate) fn choose(&mut self, step: &Step) -> Option<Action> {
        // The chosen reader, or the next one with entries to read.
        let reader = |meant: usize, fits: &dyn Fn(&Reader) -> bool| {
            let readers = self.readers.len();
            let mut candidates = (0..readers).map(|distance| (meant + distance) % readers);
            candidates.find(|reader| fits(&self.readers[*reader]))
        };
        let without_requests = self.original;
        Some(match step {
            Step::Place => {
                Action::Place((self.placed < self.commands.len()).then_some(self.placed)?)
            }
            Step::PlaceAgain(number) => Action::Place(number.checked_rem(self.placed)?),
            Step::Ask(number, action) if !without_requests => {
                let id = order_id(number.checked_rem(self.placed)?);
                let act = ActionRequest { id, action: *action, request: self.new_id() };
                self.asked.push(act.clone());
                Action::Ask(act)
            }
            Step::AskAgain(number) if !without_requests => {
                Action::Ask(self.asked[number.checked_rem(self.asked.len())?].clone())
            }
            Step::ResendOverdue(number) if !without_requests => {
                Action::ResendOverdue(order_id(number.checked_rem(self.placed)?))
            }
            Step::Lose(meant) if !without_requests => {
                let reader = reader(*meant, &|reader| {
                    let asked_again = matches!(
                        (reader.topic, reader.stream),
                        (
                            topics::INVENTORY,
                            streams::ORDER_CREATED
                                | streams::ORDER_CANCELLED
                                | streams::ORDER_SHIPPED
                                | streams::ORDER_UNPAID
                                | streams::ACCOUNT_WALLET
                        ) | (topics::ACCOUNT, streams::INVENTORY_CHECK | streams::ORDER_CANCELLED)
                            | (
                                topics::ORDER,
                                streams::INVENTORY_CHECK
                                    | streams::ACCOUNT_WALLET
                                    | streams::INVENTORY_CONFIRMED
                                    | streams::ACCOUNT_CONFIRMED
                            )
                    );
                    asked_again && !reader.waiting.is_empty()
                })?;
                let stream = self.readers[reader].stream;
                let entry = self.readers[reader].waiting[0];
                self.seen.lost_steps += u32::from(stream.topic() == topics::ORDER);
                if self.is_last_word(&self.readers[reader], entry) {
                    return None;
                }
                Action::Lose { reader, entry }
            }
            Step::Ask(..) | Step::AskAgain(_) | Step::ResendOverdue(_) | Step::Lose(_) => {
                return None;
            }
            Step::Product(number, price, amount, keep) => {
                define(&product(PRODUCTS[number % PRODUCTS.len()], *price, *amount, *keep))
            }
            Step::Customer(number, balance, keep) => {
                define(&account(CUSTOMERS[number % CUSTOMERS.len()], *balance, *keep))
            }
            Step::Restock(number, amount) => {
                let product_id = PRODUCTS[number % PRODUCTS.len()].parse().unwrap();
                let id = self.new_id();
                self.bring(&Restock { id, product_id, amount: *amount })
            }
            Step::TopUp(number, amount) => {
                let customer_id = CUSTOMERS[number % CUSTOMERS.len()].parse().unwrap();
                let id = self.new_id();
                self.bring(&TopUp { id, customer_id, amount: *amount })
            }
            Step::BringAgain => {
                let (stream, json) = self.brought.clone()?;
                Action::Publish(stream, json)
            }
            Step::Deliver { reader: meant, ahead } => {
                let reader = reader(*meant, &|reader| !reader.waiting.is_empty())?;
                let waiting = &self.readers[reader].waiting;
                Action::Deliver { reader, entry: waiting[ahead % waiting.len()] }
            }
            Step::Repeat { reader: meant, entry } => {
                let reader = reader(*meant, &|reader| !reader.had.is_empty())?;
                let had = &self.readers[reader].had;
                Action::Deliver { reader, entry: had[entry % had.len()] }
            }
        })
    }

    /// Whether order_service would wait for ever without this entry: it takes the order for a backorder,
    /// which is never resent.
    fn is_last_word(&self, reader: &Reader, entry: usize) -> bool {
        if (reader.topic, reader.stream) != (topics::ORDER, streams::INVENTORY_CHECK) {
            return false;
        }
        let parse = |json: &Rc<str>| serde_json::from_str::<StockChecked>(json).unwrap();
        let checks: Vec<StockChecked> =
            self.streams[&reader.stream].iter().take(entry + 1).map(parse).collect();
        let this = &checks[entry];
        checks[..entry].iter().any(|earlier| {
            (earlier.order_id, earlier.attempt) == (this.order_id, this.attempt)
                && earlier.inventory == StockOutcome::OutOfStock
        })
    }

    fn new_id(&mut self) -> Uuid {
        self.numbers += 1;
        Uuid::from_u128(1_000 + self.numbers)
    }

    fn bring<E: common::schema::stream::Event>(&mut self, event: &E) -> Action {
        let json = serde_json::to_string(event).unwrap();
        self.brought = Some((E::STREAM, json.clone()));
        Action::Publish(E::STREAM, json)
    }

    pub(crate) fn next_waiting(&mut self) -> Option<Action> {
        self.choose(&Step::Deliver { reader: 0, ahead: 0 })
    }

    /// Resends overdue orders until none has work left.
    pub(crate) fn settle(&mut self) -> Checked {
        for _ in 0..5 {
            let orders = self.orders.all::<Order>();
            let waits = |order: &&Order| !rests(order.status) || order.awaits_confirmation();
            let stuck: Vec<OrderId> = orders.iter().filter(waits).map(|order| order.id).collect();
            if stuck.is_empty() {
                return Ok(());
            }
            for order in stuck {
                self.act(&Action::ResendOverdue(order))?;
            }
            while let Some(action) = self.next_waiting() {
                self.clock += 1;
                self.act(&action)?;
            }
        }
        Err(failed(format!("orders are stuck: {:?}", self.orders.all::<Order>())))
    }

    /// Does the action.
    pub(crate) fn act(&mut self, action: &Action) -> Checked {
        match action {
            Action::Publish(stream, json) => {
                self.append(*stream, json.clone());
                Ok(())
            }
            Action::Place(number) => self.place(*number),
            Action::Ask(act) => self.ask(act),
            Action::ResendOverdue(id) => {
                // More than the longest waiting time of an order.
                self.clock += 64 * self.resend_after() + 1;
                let answer = self.command(&Input::ResendOverdue(*id))?;
                prop_assert!(matches!(answer, Answer::Done(_) | Answer::Nothing), "{:?}", answer);
                let asks_again = matches!(&answer, Answer::Done(it) if rests(it.status));
                self.seen.asked_again += u32::from(asks_again);
                self.seen.resent += u32::from(answer != Answer::Nothing);
                Ok(())
            }
            Action::Deliver { reader, entry } => self.deliver(*reader, *entry),
            Action::Lose { reader, entry } => {
                self.readers[*reader].waiting.retain(|waiting| waiting != entry);
                self.seen.lost += 1;
                Ok(())
            }
        }
    }

    fn resend_after(&self) -> Millis {
        Orders::default().resend_after
    }

    fn command(&mut self, command: &Input) -> Checked<Answer> {
        let answer = self.orders.memory.handle(command, self.clock);
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        for append in std::mem::take(&mut self.orders.memory.published) {
            self.append(append.stream, append.json);
        }
        answer.ok_or_else(|| failed(format!("no answer to {command:?}")))
    }

    fn place(&mut self, number: usize) -> Checked {
        let first = number == self.placed;
        let answer = self.command(&Input::Place(self.commands[number].clone()))?;
        let fits = match &answer {
            Answer::Done(order) => first && order.status == OrderStatus::Pending,
            Answer::Replayed(order) => !first && Some(order) == self.granted.get(&order.id.0),
            _ => false,
        };
        prop_assert!(fits, "order {} is answered with {:?}", number, answer);
        if let Answer::Done(order) = answer {
            self.granted.insert(order.id.0, order);
        }
        self.placed += usize::from(first);
        Ok(())
    }

    fn ask(&mut self, act: &ActionRequest) -> Checked {
        let before = self.orders.all::<Order>().into_iter().find(|order| order.id == act.id);
        let before = before.ok_or_else(|| failed(format!("{act:?}: the order is not there")))?;
        let answer = self.command(&Input::Act(act.clone()))?;
        let granted = self.granted.get(&act.request);
        match &answer {
            Answer::Done(order) => {
                let fits = granted.is_none() && act.action.fits(before.status);
                let unreleased = act.action == OrderAction::Pay && !before.unconfirmed.is_empty();
                self.seen.paid_before_release += u32::from(unreleased);
                prop_assert!(fits, "{:?} was granted to {:?}", act, before);
                prop_assert_eq!(order.status, act.action.status());
                self.granted.insert(act.request, order.clone());
                *self.seen.asked.entry(act.action).or_default() += 1;
            }
            Answer::Replayed(order) => {
                prop_assert_eq!(Some(order), granted);
            }
            Answer::WrongState(status) => {
                let fits = granted.is_none() && !act.action.fits(before.status);
                prop_assert!(fits && *status == before.status, "{:?} of {:?}", answer, before);
            }
            other => return Err(failed(format!("{act:?} is answered with {other:?}"))),
        }
        Ok(())
    }

    fn deliver(&mut self, reader: usize, number: usize) -> Checked {
        let Reader { topic, stream, number: subscription, waiting, had } =
            &mut self.readers[reader];
        let (topic, stream, subscription) = (*topic, *stream, *subscription);
        let index = waiting.iter().position(|entry| *entry == number);
        self.seen.deliveries += 1;
        prop_assert!(self.seen.deliveries < 10_000, "there is no end to {}", stream);
        match index {
            Some(index) => {
                waiting.remove(index);
                had.push(number);
                self.seen.overtakes += u32::from(index > 0);
            }
            None => self.seen.repeats += 1,
        }
        let entity = self.streams.get(&stream).and_then(|entries| entries.get(number)).cloned();
        let entity = entity.ok_or_else(|| failed(format!("{stream} has no entry {number}")))?;
        match (topic, stream) {
            (topics::INVENTORY, streams::INVENTORY_CREATED) => self.note_product(number, &entity),
            (topics::INVENTORY, streams::INVENTORY_RESTOCK) => {
                let event: Restock = serde_json::from_str(&entity).unwrap();
                self.ledger.restock(event.id, &event.product_id, event.amount);
            }
            (topics::ACCOUNT, streams::ACCOUNT_CREATED) => self.note_account(number, &entity),
            (topics::ACCOUNT, streams::ACCOUNT_TOP_UP) => {
                let event: TopUp = serde_json::from_str(&entity).unwrap();
                self.ledger.top_up(event.id, &event.customer_id, event.amount);
            }
            _ => {}
        }
        let entry = StreamEntry { id: self.entry_id(number), entity: &entity, forgotten: false };
        let now = self.clock;
        let published = self.service(topic).read(subscription, &entry, now);
        let published = published.map_err(|error| failed(format!("{stream} {entity}: {error}")))?;
        for append in published {
            self.append(append.stream, append.json);
        }
        Ok(())
    }

    fn append(&mut self, stream: Stream, json: String) {
        let json = if self.original { in_original_shape(&json) } else { json };
        self.seen.fill_backorders += u32::from(stream == streams::INVENTORY_FILL);
        let entries = self.streams.entry(stream).or_default();
        for reader in self.readers.iter_mut().filter(|reader| reader.stream == stream) {
            reader.waiting.push(entries.len());
        }
        entries.push(json.into());
    }

    fn entry_id(&self, number: usize) -> EntryId {
        let number = number as u64;
        if self.original {
            EntryId { time: 1_767_225_600 + number / 3, sequence: 7 * number }
        } else {
            EntryId { time: 1_767_225_600_000 + number / 3, sequence: number % 3 }
        }
    }

    fn note_product(&mut self, number: usize, entity: &str) {
        let event: ProductCreated = serde_json::from_str(entity).unwrap();
        let known = self.stock.all::<Product>().iter().any(|product| product.id == event.id);
        let held = self.held(|_| true).get(&event.id).copied().unwrap_or(0);
        let sum = (!known || !event.keep).then_some(event.amount + held);
        self.ledger.define_product(event.id, number, sum);
    }

    fn note_account(&mut self, number: usize, entity: &str) {
        let event: AccountCreated = serde_json::from_str(entity).unwrap();
        let known = self.wallets.all::<Account>().iter().any(|account| account.id == event.id);
        let paid = self.paid().get(&event.id).copied().unwrap_or(0);
        let sum = (!known || !event.keep).then_some(event.balance + paid);
        self.ledger.define_account(event.id, number, sum);
    }

    /// The quantity of each product that these reservations hold.
    pub(crate) fn held(&self, counts: fn(&Reservation) -> bool) -> BTreeMap<ProductId, u64> {
        let mut held = BTreeMap::new();
        for reservation in self.stock.all::<Reservation>() {
            if reservation.state == ReservationState::Held && counts(&reservation) {
                for (product, quantity) in reservation.quantities {
                    *held.entry(product).or_default() += quantity;
                }
            }
        }
        held
    }

    /// The amount that each customer paid, by the payments.
    pub(crate) fn paid(&self) -> BTreeMap<CustomerId, u64> {
        let mut paid = BTreeMap::new();
        for payment in self.wallets.all::<Payment>() {
            let kept = payment.net_amount();
            *paid.entry(payment.customer_id).or_default() += kept;
        }
        paid
    }
}

pub(crate) fn order_id(number: usize) -> OrderId {
    OrderId(Uuid::from_u128(number as u128 + 1))
}

/// The event without the fields that the original does not have.
fn in_original_shape(json: &str) -> String {
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    event.remove("attempt");
    event.remove("reason");
    serde_json::to_string(&event).unwrap()
}
