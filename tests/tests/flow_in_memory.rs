//! The order flow as properties: the four services in memory, wired by their events, with every
//! delivery repeated, late or overtaken by others as it comes. What must not depend on that, does
//! not.
//!
//! `PROPTEST_CASES` sets how many histories are tried. A failure prints the smallest one found.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    rc::Rc,
};

use account_service::wallet::{Payment, Wallet};
use common::{
    consumer::{StreamEntry, Subscription},
    decision::{Append, Decider, Entity, Millis},
    entities::{Account, Order, OrderStatus, Product},
    events::{
        AccountCreated, Event, MessageKind, MessageSent, OrderCreated, ProductCreated,
        StockChecked, StockOutcome, Stream, Topic, WalletChecked, WalletOutcome,
    },
    ids::{CustomerId, EntryId, OrderId, ProductId},
    memory::Memory,
};
use inventory_service::stock::{Holding, Reservation, Stock};
use msg_service::notification::{Customer, Notifications};
use order_service::order::{Answer, Input, Orders, Place};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestCaseError, TestError, TestRunner},
};
use uuid::Uuid;

type Checked<T = ()> = Result<T, TestCaseError>;

/// Histories that are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 1_000;
/// Always the same time, so that orders can be compared whole.
const NOW: Millis = 1;
/// How many entries may be overtaken by a delivery: other instances of the service have them.
const IN_FLIGHT: usize = 4;

const PRODUCTS: [&str; 3] = ["201", "202", "203"];
const UNKNOWN_PRODUCT: &str = "999";
const CUSTOMERS: [&str; 2] = ["101", "102"];
const UNKNOWN_CUSTOMER: &str = "998";

#[test]
fn stock_and_money_add_up_and_every_order_ends_however_events_are_delivered() {
    let seen = RefCell::new(Seen::default());
    for_all(|history| {
        let (system, _) = play(history)?;
        system.check_books()?;
        system.check_orders(history, &mut seen.borrow_mut().ends)?;
        system.check_messages()?;
        let mut seen = seen.borrow_mut();
        seen.repeats += system.seen.repeats;
        seen.overtakes += system.seen.overtakes;
        seen.early_payments += system.seen.early_payments;
        Ok(())
    });
    seen.borrow().check_variety();
}

#[test]
fn repetitions_and_the_order_of_news_leave_no_trace() {
    for_all(|history| {
        let (system, firsts) = play(history)?;
        let plain = play_plainly(history, &firsts)?;
        prop_assert_eq!(system.stock.all::<Product>(), plain.stock.all());
        prop_assert_eq!(system.stock.all::<Reservation>(), plain.stock.all());
        prop_assert_eq!(system.wallets.all::<Account>(), plain.wallets.all());
        prop_assert_eq!(system.wallets.all::<Payment>(), plain.wallets.all());
        prop_assert_eq!(system.orders.all::<Order>(), plain.orders.all());
        prop_assert_eq!(system.messages.all::<Customer>(), plain.messages.all());
        // How a customer is addressed depends on what was known of them, and may.
        let told = |system: &System| -> Vec<_> {
            let messages = system.messages.all::<MessageSent>().into_iter();
            messages.map(|it| (it.id, it.customer, it.order, it.kind, it.subject)).collect()
        };
        prop_assert_eq!(told(&system), told(&plain));
        Ok(())
    });
}

fn cases() -> u32 {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default().cases } else { CASES }
}

fn for_all(property: impl Fn(&History) -> Checked) {
    let config =
        ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&histories(), |history| property(&history));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("{why}\nin this history: {history:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// What is to happen.
#[derive(Clone, Debug)]
struct History {
    /// Price and amount of each product.
    products: Vec<(u64, u64)>,
    /// Balance of each customer.
    balances: Vec<u64>,
    /// Whether all of these are known everywhere before the first order.
    known_first: bool,
    /// Whether events are in the original's shape: fields and entry ids.
    original: bool,
    /// Who orders what.
    orders: Vec<(&'static str, Vec<&'static str>)>,
    /// What happens; once it is over, what is left to do is done in order.
    steps: Vec<Step>,
}

/// Numbers stand for whatever there is to choose from at the time, modulo its count.
#[derive(Clone, Debug)]
enum Step {
    /// The next order is placed.
    Place,
    /// A client repeats an order, having lost the answer.
    PlaceAgain(usize),
    /// A product is defined again.
    Product(usize, u64, u64),
    /// A customer's account is defined again.
    Customer(usize, u64),
    /// A reader with entries waiting gets one of the first ones.
    Deliver { reader: usize, ahead: usize },
    /// A reader gets an entry that it had before.
    Repeat { reader: usize, entry: usize },
}

fn histories() -> impl Strategy<Value = History> {
    let price = || prop_oneof![20 => 1..=5_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    let amount = || 0..=8_u64;
    let balance = || 0..=30_u64;
    let product = prop_oneof![
        10 => Just(PRODUCTS[0]),
        6 => Just(PRODUCTS[1]),
        4 => Just(PRODUCTS[2]),
        1 => Just(UNKNOWN_PRODUCT),
    ];
    let customer = prop_oneof![
        8 => Just(CUSTOMERS[0]),
        4 => Just(CUSTOMERS[1]),
        1 => Just(UNKNOWN_CUSTOMER),
    ];
    let number = || any::<u8>().prop_map(usize::from);
    let step = prop_oneof![
        4 => Just(Step::Place),
        1 => number().prop_map(Step::PlaceAgain),
        1 => (number(), price(), amount())
            .prop_map(|(id, price, amount)| Step::Product(id, price, amount)),
        1 => (number(), balance()).prop_map(|(id, balance)| Step::Customer(id, balance)),
        20 => (number(), 0..IN_FLIGHT).prop_map(|(reader, ahead)| Step::Deliver { reader, ahead }),
        8 => (number(), number()).prop_map(|(reader, entry)| Step::Repeat { reader, entry }),
    ];
    (
        vec((price(), amount()), PRODUCTS.len()),
        vec(balance(), CUSTOMERS.len()),
        prop::bool::weighted(0.8),
        any::<bool>(),
        vec((customer, vec(product, 1..=4)), 1..=6),
        vec(step, 0..100),
    )
        .prop_map(|(products, balances, known_first, original, orders, steps)| History {
            products,
            balances,
            known_first,
            original,
            orders,
            steps,
        })
}

/// What was done: of a [`Step`], that which came of it.
#[derive(Clone, Debug)]
enum Action {
    Place(usize),
    Define(Stream, String),
    Deliver { reader: usize, entry: usize },
}

/// Plays the history until there is nothing left to do; gives also what was done for the first
/// time.
fn play(history: &History) -> Checked<(System, Vec<Action>)> {
    let mut system = System::new(history);
    let mut firsts = Vec::new();
    let mut act = |system: &mut System, action: Action| -> Checked {
        if system.act(&action)? {
            firsts.push(action);
        }
        Ok(())
    };
    for (id, (price, amount)) in PRODUCTS.iter().zip(&history.products) {
        act(&mut system, define(&product(id, *price, *amount)))?;
    }
    for (id, balance) in CUSTOMERS.iter().zip(&history.balances) {
        act(&mut system, define(&account(id, *balance)))?;
    }
    if history.known_first {
        while let Some(action) = system.next_waiting() {
            act(&mut system, action)?;
        }
    }
    for step in &history.steps {
        if let Some(action) = system.choose(step) {
            act(&mut system, action)?;
        }
    }
    while let Some(action) = system.choose(&Step::Place) {
        act(&mut system, action)?;
    }
    while let Some(action) = system.next_waiting() {
        act(&mut system, action)?;
    }
    Ok((system, firsts))
}

/// The same for stock and wallets, without any repetition; orders and customers learn of it all at
/// the end, the newest first.
fn play_plainly(history: &History, firsts: &[Action]) -> Checked<System> {
    let mut system = System::new(history);
    for action in firsts {
        let now = match action {
            Action::Deliver { reader, .. } => {
                [Topic::Inventory, Topic::Account].contains(&system.readers[*reader].topic)
            }
            Action::Place(_) | Action::Define(..) => true,
        };
        if now {
            system.act(action)?;
        }
    }
    for reader in (0..system.readers.len()).rev() {
        while let Some(entry) = system.readers[reader].waiting.last().copied() {
            system.act(&Action::Deliver { reader, entry })?;
        }
    }
    Ok(system)
}

fn define<E: Event>(event: &E) -> Action {
    Action::Define(E::STREAM, serde_json::to_string(event).unwrap())
}

fn product(id: &str, price: u64, amount: u64) -> ProductCreated {
    ProductCreated { id: id.parse().unwrap(), name: format!("No. {id}"), price, amount }
}

fn account(id: &str, balance: u64) -> AccountCreated {
    let (name, email) = (format!("Customer {id}"), format!("{id}@server.com"));
    AccountCreated { id: id.parse().unwrap(), name, email, balance }
}

fn order_id(number: usize) -> OrderId {
    OrderId(Uuid::from_u128(number as u128 + 1))
}

/// A service and what it reads.
struct Service<D: Decider> {
    memory: Memory<D>,
    subscriptions: Vec<Subscription<D::Input>>,
}

impl<D: Decider> Service<D> {
    fn new(decider: D, subscriptions: Vec<Subscription<D::Input>>) -> Self {
        Self { memory: Memory::new(decider), subscriptions }
    }

    fn all<E: Entity>(&self) -> Vec<E> {
        self.memory.all()
    }
}

/// Any of the services.
trait Reads {
    fn topic(&self) -> Topic;
    fn streams(&self) -> Vec<Stream>;
    /// Handles an entry of the stream with this number, and gives what is published then.
    fn read(&mut self, number: usize, entry: &StreamEntry<'_>) -> Result<VecDeque<Append>, String>;
}

impl<D: Decider> Reads for Service<D> {
    fn topic(&self) -> Topic {
        D::TOPIC
    }

    fn streams(&self) -> Vec<Stream> {
        self.subscriptions.iter().map(|subscription| subscription.stream).collect()
    }

    fn read(&mut self, number: usize, entry: &StreamEntry<'_>) -> Result<VecDeque<Append>, String> {
        if let Some(input) = (self.subscriptions[number].parse)(entry)? {
            self.memory.handle(&input, NOW).map_err(|halt| halt.to_string())?;
        }
        Ok(std::mem::take(&mut self.memory.published))
    }
}

/// A service's group on one stream.
struct Reader {
    topic: Topic,
    stream: Stream,
    number: usize,
    waiting: Vec<usize>,
    had: Vec<usize>,
}

/// All that came in, as a bookkeeper beside the services would note it.
#[derive(Default)]
struct Ledger {
    /// The last definition that counts, and the pieces received with it.
    products: BTreeMap<ProductId, (usize, u64)>,
    /// The last definition that counts, and the money deposited with it.
    accounts: BTreeMap<CustomerId, (usize, u64)>,
}

/// What the histories had in them, to know that they are worth something.
#[derive(Default)]
struct Seen {
    ends: HashMap<OrderStatus, u32>,
    repeats: u32,
    overtakes: u32,
    early_payments: u32,
}

impl Seen {
    fn check_variety(&self) {
        if cases() < CASES {
            return;
        }
        let ends = [
            OrderStatus::OutOfStock,
            OrderStatus::InsufficientFund,
            OrderStatus::ToBeShipped,
            OrderStatus::Rejected,
        ];
        for status in ends {
            let times = self.ends.get(&status).copied().unwrap_or(0);
            assert!(times > 100, "only {times} orders ended as {status:?}");
        }
        let counts = [self.repeats, self.overtakes, self.early_payments];
        assert!(counts.iter().all(|count| *count > 100), "too little happened: {counts:?}");
    }
}

struct System {
    original: bool,
    commands: Vec<Place>,
    placed: usize,
    orders: Service<Orders>,
    stock: Service<Stock>,
    wallets: Service<Wallet>,
    messages: Service<Notifications>,
    streams: HashMap<Stream, Vec<Rc<str>>>,
    readers: Vec<Reader>,
    ledger: Ledger,
    seen: Seen,
}

impl System {
    fn new(history: &History) -> Self {
        let orders = history.orders.iter().enumerate();
        let commands = orders.map(|(number, (customer, products))| Place {
            id: order_id(number),
            product_ids: products.iter().map(|id| id.parse().unwrap()).collect(),
            customer_id: customer.parse().unwrap(),
        });
        let mut system = Self {
            original: history.original,
            commands: commands.collect(),
            placed: 0,
            orders: Service::new(Orders, order_service::subscriptions()),
            stock: Service::new(Stock, inventory_service::subscriptions()),
            wallets: Service::new(Wallet, account_service::subscriptions()),
            messages: Service::new(Notifications, msg_service::subscriptions()),
            streams: HashMap::new(),
            readers: Vec::new(),
            ledger: Ledger::default(),
            seen: Seen::default(),
        };
        for topic in Topic::ALL {
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
            Topic::Order => &mut self.orders,
            Topic::Inventory => &mut self.stock,
            Topic::Account => &mut self.wallets,
            Topic::Message => &mut self.messages,
        }
    }

    /// What a step comes to as things stand, if anything.
    fn choose(&self, step: &Step) -> Option<Action> {
        // The reader meant, or the next one with something to read.
        let reader = |meant: usize, entries: fn(&Reader) -> &Vec<usize>| {
            let readers = self.readers.len();
            let mut candidates = (0..readers).map(|distance| (meant + distance) % readers);
            candidates.find(|reader| !entries(&self.readers[*reader]).is_empty())
        };
        Some(match step {
            Step::Place => {
                Action::Place((self.placed < self.commands.len()).then_some(self.placed)?)
            }
            Step::PlaceAgain(number) => Action::Place(number.checked_rem(self.placed)?),
            Step::Product(number, price, amount) => {
                define(&product(PRODUCTS[number % PRODUCTS.len()], *price, *amount))
            }
            Step::Customer(number, balance) => {
                define(&account(CUSTOMERS[number % CUSTOMERS.len()], *balance))
            }
            Step::Deliver { reader: meant, ahead } => {
                let reader = reader(*meant, |reader| &reader.waiting)?;
                let waiting = &self.readers[reader].waiting;
                Action::Deliver { reader, entry: waiting[ahead % waiting.len()] }
            }
            Step::Repeat { reader: meant, entry } => {
                let reader = reader(*meant, |reader| &reader.had)?;
                let had = &self.readers[reader].had;
                Action::Deliver { reader, entry: had[entry % had.len()] }
            }
        })
    }

    fn next_waiting(&self) -> Option<Action> {
        self.choose(&Step::Deliver { reader: 0, ahead: 0 })
    }

    /// Does it; tells whether it was done for the first time.
    fn act(&mut self, action: &Action) -> Checked<bool> {
        match action {
            Action::Define(stream, json) => {
                self.append(*stream, json.clone());
                Ok(true)
            }
            Action::Place(number) => self.place(*number),
            Action::Deliver { reader, entry } => self.deliver(*reader, *entry),
        }
    }

    fn place(&mut self, number: usize) -> Checked<bool> {
        let command = Input::Place(self.commands[number].clone());
        let first = number == self.placed;
        let answer =
            self.orders.memory.handle(&command, NOW).map_err(|halt| failed(halt.to_string()))?;
        let fits = match &answer {
            Some(Answer::Placed(order)) => first && order.status == OrderStatus::Pending,
            Some(Answer::Replayed(order)) => !first && order.id == order_id(number),
            Some(Answer::KeyReused) | None => false,
        };
        prop_assert!(fits, "order {number} is answered with {answer:?}");
        self.placed += usize::from(first);
        for append in std::mem::take(&mut self.orders.memory.published) {
            self.append(append.stream, append.json);
        }
        Ok(first)
    }

    fn deliver(&mut self, reader: usize, number: usize) -> Checked<bool> {
        let Reader { topic, stream, number: subscription, waiting, had } =
            &mut self.readers[reader];
        let (topic, stream, subscription) = (*topic, *stream, *subscription);
        let place = waiting.iter().position(|entry| *entry == number);
        match place {
            Some(place) => {
                waiting.remove(place);
                had.push(number);
                self.seen.overtakes += u32::from(place > 0);
            }
            None => self.seen.repeats += 1,
        }
        // Played without repetitions, there may be less if something was published twice.
        let entity = self.streams.get(&stream).and_then(|entries| entries.get(number)).cloned();
        let entity = entity.ok_or_else(|| failed(format!("{stream} has no entry {number}")))?;
        let entry = StreamEntry { id: self.entry_id(number), entity: &entity };
        let published = self.service(topic).read(subscription, &entry);
        let published = published.map_err(|fault| failed(format!("{stream} {entity}: {fault}")))?;
        for append in published {
            self.append(append.stream, append.json);
        }
        match (topic, stream) {
            (Topic::Inventory, Stream::InventoryCreated) => self.note_product(number, &entity),
            (Topic::Account, Stream::AccountCreated) => self.note_account(number, &entity),
            (Topic::Order, Stream::AccountWallet) if place.is_some() => self.note_payment(&entity),
            _ => {}
        }
        Ok(place.is_some())
    }

    fn append(&mut self, stream: Stream, json: String) {
        let json = if self.original { in_original_shape(&json) } else { json };
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
        let held = self.held().get(&event.id).copied().unwrap_or(0);
        let counts = (number, event.amount + held);
        let noted = self.ledger.products.entry(event.id).or_insert(counts);
        if noted.0 < number {
            *noted = counts;
        }
    }

    fn note_account(&mut self, number: usize, entity: &str) {
        let event: AccountCreated = serde_json::from_str(entity).unwrap();
        let paid = self.paid().get(&event.id).copied().unwrap_or(0);
        let counts = (number, event.balance + paid);
        let noted = self.ledger.accounts.entry(event.id).or_insert(counts);
        if noted.0 < number {
            *noted = counts;
        }
    }

    fn note_payment(&mut self, entity: &str) {
        let event: WalletChecked = serde_json::from_str(entity).unwrap();
        let stock = |reader: &&Reader| {
            (reader.topic, reader.stream) == (Topic::Order, Stream::InventoryCheck)
        };
        let stock = self.readers.iter().find(stock).unwrap();
        let checks = &self.streams[&Stream::InventoryCheck];
        let id = event.order_id.to_string();
        let early = stock.waiting.iter().any(|entry| checks[*entry].contains(&id));
        self.seen.early_payments += u32::from(early);
    }

    /// The pieces of each product that orders hold, by the reservations.
    fn held(&self) -> BTreeMap<ProductId, u64> {
        let mut held = BTreeMap::new();
        for reservation in self.stock.all::<Reservation>() {
            if reservation.state == Holding::Held {
                for (product, pieces) in reservation.pieces {
                    *held.entry(product).or_default() += pieces;
                }
            }
        }
        held
    }

    /// The money that each customer paid, by the payments.
    fn paid(&self) -> BTreeMap<CustomerId, u64> {
        let mut paid = BTreeMap::new();
        for payment in self.wallets.all::<Payment>() {
            if payment.outcome == WalletOutcome::ToBeShipped {
                *paid.entry(payment.customer_id).or_default() += payment.total;
            }
        }
        paid
    }

    /// What is published on a stream.
    fn events<E: Event + serde::de::DeserializeOwned>(&self) -> Vec<E> {
        let entries = self.streams.get(&E::STREAM).map_or(&[][..], Vec::as_slice);
        entries.iter().map(|entity| serde_json::from_str(entity).unwrap()).collect()
    }

    fn check_books(&self) -> Checked {
        let mut held = self.held();
        for product in self.stock.all::<Product>() {
            let held = held.remove(&product.id).unwrap_or(0);
            let (_, received) = self.ledger.products[&product.id];
            prop_assert_eq!(product.reserved, held, "what orders hold of {:?}", product);
            prop_assert_eq!(product.received, received, "what came in of {:?}", product);
            prop_assert_eq!(product.amount + held, received, "the stock of {:?}", product);
        }
        prop_assert!(held.is_empty(), "held of products that do not exist: {:?}", held);
        let mut paid = self.paid();
        for account in self.wallets.all::<Account>() {
            let paid = paid.remove(&account.id).unwrap_or(0);
            let (_, deposited) = self.ledger.accounts[&account.id];
            prop_assert_eq!(account.paid, paid, "what was paid by {:?}", account);
            prop_assert_eq!(account.deposited, deposited, "what came in from {:?}", account);
            prop_assert_eq!(account.balance + paid, deposited, "the money of {:?}", account);
        }
        prop_assert!(paid.is_empty(), "paid by customers that do not exist: {:?}", paid);
        Ok(())
    }

    /// Every order stands where its reservation and its payment say, and got there step by step.
    fn check_orders(&self, history: &History, ends: &mut HashMap<OrderStatus, u32>) -> Checked {
        let reservations = by_order(self.stock.all::<Reservation>())?;
        let payments = by_order(self.wallets.all::<Payment>())?;
        let orders = self.orders.all::<Order>();
        prop_assert_eq!(orders.len(), self.commands.len());
        prop_assert_eq!(reservations.len(), orders.len());
        for (order, command) in orders.iter().zip(&self.commands) {
            prop_assert_eq!(order.id, command.id);
            prop_assert_eq!(&order.product_ids, &command.product_ids);
            prop_assert_eq!(&order.customer_id, &command.customer_id);
            let reservation = &reservations[&order.id];
            let payment = payments.get(&order.id);
            let outcome = payment.map(|payment| payment.outcome);
            let expected = match (reservation.state, outcome) {
                (Holding::Short, None) => &[OrderStatus::OutOfStock][..],
                (Holding::Rejected, None) => &[OrderStatus::Rejected],
                (Holding::Held, Some(WalletOutcome::ToBeShipped)) => {
                    &[OrderStatus::PaymentRequired, OrderStatus::ToBeShipped]
                }
                (Holding::Released, Some(WalletOutcome::InsufficientFund)) => {
                    &[OrderStatus::PaymentRequired, OrderStatus::InsufficientFund]
                }
                (Holding::Released, Some(WalletOutcome::Rejected)) => {
                    &[OrderStatus::PaymentRequired, OrderStatus::Rejected]
                }
                other => {
                    return Err(failed(format!(
                        "stock and payment do not fit: {other:?}, {order:?}"
                    )));
                }
            };
            let steps: Vec<OrderStatus> = order.history.iter().map(|step| step.status).collect();
            prop_assert_eq!(steps.first(), Some(&OrderStatus::Pending));
            prop_assert_eq!(&steps[1..], expected, "the history of {:?}", order);
            prop_assert_eq!(Some(&order.status), expected.last(), "{:?}", order);
            prop_assert_eq!(order.order_total, payment.map(|payment| payment.total));
            let told = matches!(order.status, OrderStatus::OutOfStock | OrderStatus::Rejected);
            prop_assert_eq!(order.reason.is_some(), told && !self.original, "{:?}", order);
            *ends.entry(order.status).or_default() += 1;

            let unknown = order.product_ids.iter().any(|id| id.as_str() == UNKNOWN_PRODUCT);
            let stranger = order.customer_id.as_str() == UNKNOWN_CUSTOMER;
            prop_assert!(!unknown || reservation.state == Holding::Rejected, "{:?}", order);
            prop_assert!(!stranger || order.status != OrderStatus::ToBeShipped, "{:?}", order);
            let may_be_rejected = !history.known_first || unknown || stranger || {
                let prices = history.products.iter().map(|(price, _)| *price);
                let rising = history
                    .steps
                    .iter()
                    .any(|step| matches!(step, Step::Product(_, price, _) if *price == u64::MAX));
                rising || prices.max() == Some(u64::MAX)
            };
            prop_assert!(order.status != OrderStatus::Rejected || may_be_rejected, "{:?}", order);
        }
        let mut created: Vec<OrderId> =
            self.events::<OrderCreated>().iter().map(|event| event.id).collect();
        created.sort_unstable();
        let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
        prop_assert_eq!(created, ids, "each order is announced once");
        Ok(())
    }

    /// Each outcome was published once, and of each the customer was told once.
    fn check_messages(&self) -> Checked {
        let mut expected = BTreeMap::<(OrderId, &str), CustomerId>::new();
        let mut expect = |order: OrderId, kind: MessageKind, customer: CustomerId| {
            let another = expected.insert((order, kind.name()), customer);
            prop_assert!(another.is_none(), "{:?} of {} came about twice", kind, order);
            Ok(())
        };
        for event in self.events::<OrderCreated>() {
            expect(event.id, MessageKind::OrderReceived, event.customer_id)?;
        }
        let mut checked = BTreeSet::new();
        for event in self.events::<StockChecked>() {
            prop_assert!(checked.insert(event.order_id), "checked twice: {:?}", event);
            let kind = match event.inventory {
                StockOutcome::PaymentRequired => MessageKind::StockReserved,
                StockOutcome::OutOfStock => MessageKind::OutOfStock,
                StockOutcome::Rejected => MessageKind::Rejected,
            };
            expect(event.order_id, kind, event.customer_id)?;
        }
        let mut charged = BTreeSet::new();
        for event in self.events::<WalletChecked>() {
            prop_assert!(charged.insert(event.order_id), "charged twice: {:?}", event);
            let kind = match event.account {
                WalletOutcome::ToBeShipped => MessageKind::OnItsWay,
                WalletOutcome::InsufficientFund => MessageKind::InsufficientFund,
                WalletOutcome::Rejected => MessageKind::Rejected,
            };
            expect(event.order_id, kind, event.customer_id)?;
        }
        for sent in [self.events::<MessageSent>(), self.messages.all::<MessageSent>()] {
            let told: Vec<_> =
                sent.iter().map(|it| ((it.order, it.kind.name()), it.customer.clone())).collect();
            let once: BTreeMap<_, _> = told.iter().cloned().collect();
            prop_assert_eq!(told.len(), once.len(), "told twice: {:?}", told);
            prop_assert_eq!(&once, &expected);
        }
        Ok(())
    }
}

fn failed(why: String) -> TestCaseError {
    TestCaseError::fail(why)
}

fn by_order<E: Entity<Id = OrderId>>(entities: Vec<E>) -> Checked<BTreeMap<OrderId, E>> {
    let count = entities.len();
    let map: BTreeMap<OrderId, E> =
        entities.into_iter().map(|entity| (*entity.id(), entity)).collect();
    prop_assert_eq!(map.len(), count);
    Ok(map)
}

/// Without the fields that the original does not know.
fn in_original_shape(json: &str) -> String {
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    event.remove("attempt");
    event.remove("reason");
    serde_json::to_string(&event).unwrap()
}
