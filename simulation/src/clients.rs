//! The clients: they define products and accounts, place orders and go on with them, restock and top
//! up. A client repeats a request with the same key until it has an answer.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use common::{
    contract::{
        ids::{CustomerId, OrderId, ProductId},
        order::Order,
        order_routes::OrderAction,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::stream::{ENTITY, EVENT_ID, Stream},
};
use order_service::order::{ActionRequest, Answer, Input, NewOrder};
use tokio::{task::spawn_local, time::sleep};
use uuid::Uuid;

use crate::{
    plan::{Course, Scenario},
    processes::Processes,
    redis::Reply,
    world::{Promise, World},
};

/// The products, each with its price.
pub const PRODUCTS: [(&str, u64); 3] = [("201", 201), ("202", 7), ("203", 90)];
/// The customers.
pub const CUSTOMERS: [&str; 3] = ["101", "102", "103"];
/// How often the definitions are checked: a loss of data takes them away.
const DEFINITION_INTERVAL: Duration = Duration::from_millis(700);
/// The longest pause of a client before it repeats a request.
const RETRY_MICROS: u64 = 60_000;

/// The clients of a history, and what they gave to the system.
#[derive(Default)]
pub struct Clients {
    /// The quantity of each product as defined.
    pub stock: Cell<u64>,
    /// The balance of each customer as defined.
    pub money: Cell<u64>,
    /// The restocks and top-ups that were published.
    pub gifts: RefCell<Vec<Gift>>,
}

/// A restock or a top-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gift {
    /// The id of the delivery or deposit.
    pub id: Uuid,
    /// The product or the customer.
    pub to: String,
    /// The quantity or the amount of money.
    pub amount: u64,
}

impl Clients {
    /// Starts the clients of the plan.
    pub fn start(world: &Rc<World>, processes: &Rc<Processes>) -> Rc<Self> {
        let clients = Rc::new(Self::default());
        let plan = &world.plan;
        let orders = plan.orders as u64;
        let (stock, money) = match plan.scenario {
            Scenario::Mixed => (1 + 2 * orders / 3, 50 * orders),
            Scenario::Only(Course::Short) => (1 + orders / 3, 100_000),
            Scenario::Only(Course::UnpaidThenPaid) => (1_000, 50 * orders),
            Scenario::Only(_) => (1_000, 100_000),
        };
        clients.stock.set(stock);
        clients.money.set(money);
        spawn_local(keep_defined(Rc::clone(world), stock, money));
        for number in (0..plan.orders).filter(|it| !plan.without_orders.contains(it)) {
            world.requests.set(world.requests.get() + 1);
            let client = Client {
                world: Rc::clone(world),
                processes: Rc::clone(processes),
                clients: Rc::clone(&clients),
                number,
            };
            spawn_local(client.live());
        }
        clients
    }
}

/// Defines products and accounts whenever they are missing. A repeated definition keeps the stock and
/// the balance of an existing one.
async fn keep_defined(world: Rc<World>, stock: u64, money: u64) {
    loop {
        for (id, price) in PRODUCTS {
            if is_missing(&world, streams::INVENTORY_CREATED, &format!("{{inventory}}:entity:{id}"))
            {
                let json = format!(
                    r#"{{"id":"{id}","name":"No. {id}","price":{price},"amount":{stock},"keep":1}}"#
                );
                publish(&world, streams::INVENTORY_CREATED, &json);
            }
        }
        for id in CUSTOMERS {
            let stores = ["{account}:entity:", "{message}:customer:"];
            let is_missing =
                |prefix| is_missing(&world, streams::ACCOUNT_CREATED, &format!("{prefix}{id}"));
            if stores.into_iter().any(is_missing) {
                let json = format!(
                    r#"{{"id":"{id}","name":"C {id}","email":"c@{id}","balance":{money},"keep":1}}"#
                );
                publish(&world, streams::ACCOUNT_CREATED, &json);
            }
        }
        sleep(DEFINITION_INTERVAL).await;
    }
}

fn is_missing(world: &World, stream: Stream, key: &str) -> bool {
    let topic = key.trim_start_matches('{').split_once('}').map_or("", |(topic, _)| topic);
    let all = topics::ALL;
    let owner = all.into_iter().find(|it| it.name() == topic).unwrap_or_else(|| stream.topic());
    let server = &world.servers[world.server_of(owner)];
    server.redis.borrow().get_value(key.as_bytes()).is_none()
}

/// Publishes an event as the gateway does.
fn publish(world: &World, stream: Stream, json: &str) -> bool {
    world.published.set(world.published.get() + 1);
    let id = Uuid::from_u128(u128::from(world.published.get()));
    let (server, id) = (world.server_of(stream.topic()), id.to_string());
    let reply = world.operate(server, &["XADD", stream.key(), "*", EVENT_ID, &id, ENTITY, json]);
    matches!(reply, Reply::Bulk(_))
}

struct Client {
    world: Rc<World>,
    processes: Rc<Processes>,
    clients: Rc<Clients>,
    number: usize,
}

impl Client {
    async fn live(self) {
        let world = Rc::clone(&self.world);
        let course = match world.plan.scenario {
            Scenario::Only(course) => course,
            Scenario::Mixed => Course::ALL[world.pick(Course::ALL.len())],
        };
        // The first orders come after the definitions, and the last ones before the faults stop.
        let latest = world.plan.millis * 700;
        sleep(Duration::from_millis(300) + world.micros(0..latest)).await;
        let order = OrderId(Uuid::from_u128(0x1_0000 + self.number as u128));
        let products = match course {
            Course::UnpaidThenPaid => vec![PRODUCTS[0].0; 4],
            _ => (0..=world.pick(3)).map(|_| PRODUCTS[world.pick(PRODUCTS.len())].0).collect(),
        };
        // Some orders name a product or a customer that does not exist.
        let is_mixed = world.plan.scenario == Scenario::Mixed;
        let unknown = |one_in: usize| is_mixed && world.pick(one_in) == 0;
        let products = if unknown(20) { vec!["none"] } else { products };
        let customer = if unknown(20) { "nobody" } else { CUSTOMERS[world.pick(3)] };
        let new = NewOrder {
            id: order,
            product_ids: products
                .iter()
                .map(|id| id.parse::<ProductId>().expect("an id"))
                .collect(),
            customer_id: customer.parse::<CustomerId>().expect("an id"),
        };
        let placed = self.submit(Input::Place(new.clone())).await;
        // Some clients repeat a request that was answered.
        if world.pick(4) == 0 {
            self.place_again(new.clone(), &placed).await;
        }
        match course {
            Course::Paid => {}
            Course::Short => self.restock(&products).await,
            Course::UnpaidThenPaid => self.top_up_and_pay(order).await,
            Course::Cancelled => {
                sleep(world.micros(0..1_200_000)).await;
                self.act(order, OrderAction::Cancel, 1).await;
            }
            Course::Shipped => self.ship(order).await,
            Course::Restless => {
                for number in 0..=world.pick(4) {
                    sleep(world.micros(1_000..800_000)).await;
                    let action = OrderAction::ALL[world.pick(OrderAction::ALL.len())];
                    self.act(order, action, 40 + number as u128).await;
                }
                self.place_again(new, &placed).await;
            }
        }
        world.requests.set(world.requests.get() - 1);
    }

    /// A contradiction between answers; after a loss of data there may be some.
    fn complain(&self, what: &str) {
        if !self.world.has_lost(topics::ORDER) {
            self.world.fail(format!("client of order {}: {what}", self.number));
        }
    }

    /// Submits an input until it is answered.
    async fn submit(&self, input: Input) -> Answer {
        let (world, asked) = (&self.world, self.world.now());
        loop {
            if let Some(handle) = self.processes.order_service()
                && let Ok(answer) = handle.submit(input.clone(), None).await
            {
                if let Answer::Done(order) | Answer::Replayed(order) = &answer {
                    let promise = Promise { answer: order.clone(), asked, at: world.now() };
                    world.promises.borrow_mut().push(promise);
                }
                world.tell("client", || format!("order {}: {input:?} => {answer:?}", self.number));
                return answer;
            }
            sleep(world.micros(5_000..RETRY_MICROS)).await;
        }
    }

    async fn act(&self, id: OrderId, action: OrderAction, number: u128) -> Answer {
        let request = Uuid::from_u128((self.number as u128) << 32 | number | 0xa << 64);
        let request = ActionRequest { id, action, request };
        let answer = self.submit(Input::Act(request.clone())).await;
        if self.world.pick(4) == 0 && matches!(answer, Answer::Done(_)) {
            let again = self.submit(Input::Act(request)).await;
            if !repeats(&answer, &again) {
                self.complain(&format!("{action:?}: {answer:?}, then {again:?}"));
            }
        }
        answer
    }

    /// Repeats the order, which must be known.
    async fn place_again(&self, new: NewOrder, placed: &Answer) {
        let again = self.submit(Input::Place(new)).await;
        if !repeats(placed, &again) {
            self.complain(&format!("placed twice: {placed:?}, then {again:?}"));
        }
    }

    /// Ships and completes the order. It cannot be cancelled in between.
    async fn ship(&self, order: OrderId) {
        if !self.act_when_possible(order, OrderAction::Ship, 10).await {
            return;
        }
        if self.world.pick(3) == 0 {
            let answer = self.act(order, OrderAction::Cancel, 12).await;
            if !matches!(answer, Answer::WrongState(_)) {
                self.complain(&format!("it was shipped, then cancelled: {answer:?}"));
            }
        }
        self.act_when_possible(order, OrderAction::Complete, 11).await;
    }

    /// Repeats an action with new keys until the status of the order allows it, for a while. Returns
    /// whether it was done.
    async fn act_when_possible(&self, id: OrderId, action: OrderAction, number: u128) -> bool {
        for attempt in 0..8_u128 {
            sleep(self.world.micros(30_000..400_000)).await;
            match self.act(id, action, number << 8 | attempt).await {
                Answer::WrongState(status) if status.is_open() => {}
                answer => return matches!(answer, Answer::Done(_) | Answer::Replayed(_)),
            }
        }
        false
    }

    async fn restock(&self, products: &[&str]) {
        let world = &self.world;
        sleep(world.micros(1_000..[50_000, 1_500_000][world.pick(2)])).await;
        let product = products[world.pick(products.len())];
        let id = Uuid::from_u128(0xb << 64 | self.number as u128);
        let amount = 1 + world.pick(5) as u64;
        let json = format!(r#"{{"id":"{id}","product_id":"{product}","amount":{amount}}}"#);
        self.publish_often(streams::INVENTORY_RESTOCK, &json).await;
        self.clients.gifts.borrow_mut().push(Gift { id, to: product.to_owned(), amount });
    }

    async fn top_up_and_pay(&self, order: OrderId) {
        let world = &self.world;
        sleep(world.micros(100_000..1_200_000)).await;
        let (Answer::Done(known) | Answer::Replayed(known)) =
            self.act(order, OrderAction::Pay, 20).await
        else {
            // Most often it is not unpaid yet, or not at all.
            let customer = CUSTOMERS[world.pick(3)];
            self.top_up(customer).await;
            self.act_when_possible(order, OrderAction::Pay, 21).await;
            return;
        };
        self.top_up(known.customer_id.as_str()).await;
        if known.status == OrderStatus::Pending {
            self.act_when_possible(order, OrderAction::Pay, 22).await;
        }
    }

    async fn top_up(&self, customer: &str) {
        let world = &self.world;
        let (id, amount) = (Uuid::from_u128(0xc << 64 | self.number as u128), 700);
        let json = format!(r#"{{"id":"{id}","customer_id":"{customer}","amount":{amount}}}"#);
        self.publish_often(streams::ACCOUNT_TOP_UP, &json).await;
        self.clients.gifts.borrow_mut().push(Gift { id, to: customer.to_owned(), amount });
        sleep(world.micros(10_000..500_000)).await;
    }

    /// Publishes an event until it is stored, and sometimes once more: its id is the same.
    async fn publish_often(&self, stream: Stream, json: &str) {
        while !publish(&self.world, stream, json) {
            sleep(self.world.micros(5_000..RETRY_MICROS)).await;
        }
        if self.world.pick(4) == 0 {
            publish(&self.world, stream, json);
        }
    }
}

/// Whether the second answer to a request is the first one again.
fn repeats(first: &Answer, second: &Answer) -> bool {
    let (Answer::Done(first) | Answer::Replayed(first), Answer::Replayed(second)) = (first, second)
    else {
        return false;
    };
    let content = |it: &Order| (it.id, it.status, it.attempt, it.order_total, it.history.clone());
    content(first) == content(second)
}
