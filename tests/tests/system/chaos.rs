//! All processes are killed at random while orders are under way, and the books still balance.
//!
//! The victims and times come from a seed, which a failing test prints; `CHAOS_SEED=… cargo test` repeats its
//! choices. Times are counted in orders rather than in seconds.

mod loyalty;
mod original;
mod trouble;

use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    clock::now_millis,
    contract::{ids::OrderId, streams},
};
use fastrand::Rng;
use http::{Method, StatusCode};
use orderctl::audit::Report;
use serde_json::Value;
use serde_json::json;
use stack::{Database, Service, StackOptions};
use system_tests::{Ask, Client, SOON, System, order_body, place_until_accepted};
use tokio::task::JoinSet;

const ORDERS: usize = 2_000;
const CLIENTS: usize = 16;
/// The timeout of a whole test, which usually takes a tenth of this.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Few products for many orders, so that the orders compete. Some stock and some balances run out.
const PRODUCTS: [(&str, u64, u64); 5] = [
    ("hot-1", 3, 900),
    ("hot-2", 5, 700),
    ("hot-3", 7, 500),
    ("hot-4", 11, 5_000),
    ("hot-5", 2, 90),
];
const CUSTOMERS: [(&str, u64); 4] =
    [("rich", 1_000_000), ("fair", 4_000), ("poor", 300), ("broke", 0)];

/// Two instances of each service.
fn pairs() -> StackOptions {
    let instances = Service::ALL.map(|service| (service, 2)).into();
    StackOptions { instances, ..StackOptions::default() }
}

/// The same, with a Redis for each topic.
fn isolated_pairs() -> StackOptions {
    StackOptions { isolated: true, ..pairs() }
}

async fn fill(system: &System) {
    for (id, price, amount) in PRODUCTS {
        let product = json!({ "id": id, "name": id, "price": price, "amount": amount });
        system.publish(streams::INVENTORY_CREATED, &product).await;
    }
    for (id, balance) in CUSTOMERS {
        let email = format!("{id}@example.com");
        let account = json!({ "id": id, "name": id, "email": email, "balance": balance });
        system.publish(streams::ACCOUNT_CREATED, &account).await;
    }
    system.quiet(SOON).await;
}

/// Up to four units of up to four products, for a random customer, sometimes an unknown one.
fn some_order(random: &mut Rng) -> (Vec<&'static str>, &'static str) {
    let products = (0..random.usize(1..=4)).map(|_| match random.u8(0..100) {
        0 => "no-such-product",
        _ => random.choice(PRODUCTS).expect("some").0,
    });
    let products = products.collect();
    let customer = match random.u8(0..100) {
        0 => "unknown",
        _ => random.choice(CUSTOMERS).expect("some").0,
    };
    (products, customer)
}

/// Random numbers whose seed a failing test prints.
struct Seed(u64);

impl Seed {
    fn take() -> Self {
        let given = std::env::var("CHAOS_SEED").ok().and_then(|text| text.parse().ok());
        Self(given.unwrap_or_else(now_millis))
    }

    fn random(&self) -> Rng {
        Rng::with_seed(self.0)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "to repeat the choices: CHAOS_SEED={}", self.0);
        }
    }
}

/// Clients that place orders and repeat each with its key until it is accepted.
struct Load {
    clients: JoinSet<Vec<OrderId>>,
    accepted: Arc<AtomicUsize>,
    orders: usize,
}

impl Load {
    fn start(system: &System, random: &mut Rng, orders: usize) -> Self {
        let (mut clients, accepted) = (JoinSet::new(), Arc::<AtomicUsize>::default());
        for client in 0..CLIENTS {
            let mut urls = system.stack.gateway_urls();
            let (mut random, accepted) = (random.fork(), Arc::clone(&accepted));
            clients.spawn(async move {
                let http = Client::default();
                random.shuffle(&mut urls);
                let mut placed = Vec::new();
                for number in 0..orders / CLIENTS {
                    let (products, customer) = some_order(&mut random);
                    let key = format!("{client}-{number}");
                    let body = order_body(&products, customer);
                    let order = place_until_accepted(&http, &urls, &key, &body, TIMEOUT).await;
                    assert_eq!(order.id, OrderId::for_key("anonymous", &key));
                    assert_eq!(json!(order.product_ids), body["product_ids"]);
                    placed.push(order.id);
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
                placed
            });
        }
        Self { clients, accepted, orders }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The ids of the orders, each accepted once.
    async fn finish(self) -> BTreeSet<OrderId> {
        let placed: Vec<OrderId> = self.clients.join_all().await.into_iter().flatten().collect();
        let ids: BTreeSet<OrderId> = placed.iter().copied().collect();
        let orders = self.orders;
        assert_eq!((placed.len(), ids.len()), (orders, orders), "each key has an order of its own");
        ids
    }
}

/// Kills instances with SIGKILL, one or all, and starts them again, some at once and some later.
struct Monkey {
    random: Rng,
    kills: usize,
    down: BTreeSet<usize>,
}

impl Monkey {
    fn new(random: Rng) -> Self {
        Self { random, kills: 0, down: BTreeSet::new() }
    }

    fn act(&mut self, system: &mut System) {
        let count = system.stack.instances().len();
        if self.random.u8(0..10) == 0 {
            (0..count).for_each(|victim| self.kill(system, victim));
            self.recover(system);
            return;
        }
        let victim = self.random.usize(0..count);
        if self.down.remove(&victim) {
            restart(system, victim);
            return;
        }
        self.kill(system, victim);
        // At least one instance of each service runs, or nothing would happen until the next kill.
        let twin = victim ^ 1;
        if self.random.bool() || self.down.contains(&twin) {
            self.down.remove(&victim);
            restart(system, victim);
        }
    }

    fn kill(&mut self, system: &mut System, victim: usize) {
        let process = &mut system.stack.instances_mut()[victim].process;
        self.kills += usize::from(process.is_running());
        process.kill().expect("killed");
        self.down.insert(victim);
    }

    fn recover(&mut self, system: &mut System) {
        while let Some(victim) = self.down.pop_first() {
            restart(system, victim);
        }
    }

    /// Acts after random numbers of orders, until `progress` reaches the end. If progress jumps, the skipped
    /// acts are made up for.
    async fn rage(
        &mut self,
        system: &mut System,
        end: usize,
        mut progress: impl AsyncFnMut() -> usize,
    ) {
        let deadline = Instant::now() + TIMEOUT;
        let mut moment = 0;
        while moment < end {
            tokio::task::block_in_place(|| self.act(system));
            moment = (moment + self.random.usize(5..60)).min(end);
            while progress().await < moment {
                assert!(Instant::now() < deadline, "stuck at {} of {end}", progress().await);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tokio::task::block_in_place(|| self.recover(system));
    }
}

fn restart(system: &mut System, victim: usize) {
    system.stack.instances_mut()[victim].process.restart().expect("restarted");
}

/// Asserts that every order ended exactly once.
async fn assert_all_ended(system: &System) -> Report {
    let report = system.assert_balanced(TIMEOUT).await;
    assert_eq!((report.unfinished, report.dead_letters.len()), (0, 0), "{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_stay_exact_when_every_service_is_killed_at_random() {
    let seed = Seed::take();
    let mut random = seed.random();
    let mut system = System::start_alone(pairs()).await;
    fill(&system).await;
    let load = Load::start(&system, &mut random, ORDERS);
    let mut monkey = Monkey::new(random.fork());
    monkey.rage(&mut system, ORDERS, async || load.accepted()).await;
    let placed = load.finish().await;
    // Orders that are still under way are interrupted a few more times.
    for _ in 0..5 {
        tokio::task::block_in_place(|| monkey.act(&mut system));
    }
    monkey.recover(&mut system);
    assert!(monkey.kills > 20, "only {} kills", monkey.kills);

    let report = assert_all_ended(&system).await;
    assert_eq!(report.orders, placed.len(), "{report}");
    for status in ["to-be-shipped", "insufficient-fund", "out-of-stock", "rejected"] {
        assert!(report.by_status.contains_key(status), "no order is {status}: {report}");
    }
    for created in system.entries(streams::ORDER_CREATED).await {
        let id = created.entity()["id"].as_str().unwrap().parse().unwrap();
        assert!(placed.contains(&id), "{id} was never accepted");
    }
}

/// The number of orders with whole lives.
const LIVES: usize = 500;

/// A random step of an order, restock or top-up, sometimes twice with one key.
async fn some_request(
    random: &mut Rng,
    mine: &[OrderId],
    key: &str,
    http: &Client,
    gateways: &[String],
) {
    let order = random.choice(mine).expect("some");
    let amount = json!({ "amount": random.u64(1..200) });
    let (method, path, body): (Method, String, Option<&Value>) = match random.u8(0..12) {
        0..=3 => (Method::POST, format!("/order/{order}/pay"), None),
        4..=5 => (Method::DELETE, format!("/order/{order}"), None),
        6..=7 => (Method::POST, format!("/order/{order}/ship"), None),
        8 => (Method::POST, format!("/order/{order}/complete"), None),
        9..=10 => {
            let product = random.choice(PRODUCTS).expect("some").0;
            (Method::POST, format!("/inventory/{product}/restock"), Some(&amount))
        }
        _ => {
            let customer = random.choice(CUSTOMERS).expect("some").0;
            (Method::POST, format!("/accounts/{customer}/top-up"), Some(&amount))
        }
    };
    let ask = Ask { method, path: &path, key, body };
    let first = ask.until_answered(http, gateways, TIMEOUT).await;
    let refused = first.status == StatusCode::CONFLICT;
    assert!(first.status == StatusCode::OK || refused, "{path}: {}", first.text());
    if random.u8(0..4) == 0 {
        let again = ask.until_answered(http, gateways, TIMEOUT).await;
        let same = again.status == StatusCode::OK && again.json() == first.json();
        assert!(same || refused, "{path}: {} and then {}", first.text(), again.text());
    }
}

// Isolated: the events of the owners go from server to server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_stay_exact_over_complete_order_lifecycles_under_random_kills() {
    let seed = Seed::take();
    let mut random = seed.random();
    let mut system = System::start_alone(isolated_pairs()).await;
    fill(&system).await;
    let requests = Arc::<AtomicUsize>::default();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut urls = system.stack.gateway_urls();
        let (mut random, requests) = (random.fork(), Arc::clone(&requests));
        clients.spawn(async move {
            let http = Client::default();
            random.shuffle(&mut urls);
            let mut mine = Vec::new();
            let orders = LIVES / CLIENTS + usize::from(client < LIVES % CLIENTS);
            for number in 0..orders {
                let (products, customer) = some_order(&mut random);
                let key = format!("{client}-{number}");
                let body = order_body(&products, customer);
                mine.push(place_until_accepted(&http, &urls, &key, &body, TIMEOUT).await.id);
                requests.fetch_add(1, Ordering::Relaxed);
                for request in 0..3 {
                    let key = format!("{client}-{number}-{request}");
                    some_request(&mut random, &mine, &key, &http, &urls).await;
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let mut monkey = Monkey::new(random.fork());
    monkey.rage(&mut system, LIVES * 4, async || requests.load(Ordering::Relaxed)).await;
    clients.join_all().await;
    for _ in 0..5 {
        tokio::task::block_in_place(|| monkey.act(&mut system));
    }
    monkey.recover(&mut system);
    assert!(monkey.kills > 20, "only {} kills", monkey.kills);

    let report = assert_all_ended(&system).await;
    assert_eq!(report.orders, LIVES, "{report}");
    for status in ["to-be-shipped", "shipped", "completed", "cancelled"] {
        assert!(report.by_status.contains_key(status), "no order is {status}: {report}");
    }
    // Backorders are filled despite the kills: no order waits that can be filled.
    let products: Vec<(&str, u64)> = PRODUCTS.iter().map(|(id, _, _)| (*id, 10_000)).collect();
    for (product, amount) in products {
        system.client = Client::default();
        system.restock(product, amount).await;
    }
    let report = assert_all_ended(&system).await;
    assert!(!report.by_status.contains_key("out-of-stock"), "{report}");
}

/// Redis is killed eight times; if there are four, each of them twice.
async fn redis_is_killed(options: StackOptions) {
    const ORDERS: usize = 1_200;
    let seed = Seed::take();
    let mut random = seed.random();
    let mut system = System::start_alone(options).await;
    fill(&system).await;
    let load = Load::start(&system, &mut random, ORDERS);
    for kill in 1..=8 {
        let next = ORDERS * kill / 10 + random.usize(0..60);
        let deadline = Instant::now() + TIMEOUT;
        while load.accepted() < next {
            assert!(Instant::now() < deadline, "stuck at {} of {next}", load.accepted());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::block_in_place(|| {
            let database = Database::ALL[kill % 4];
            let redis = system.stack.redis_of(database).expect("a private one");
            redis.kill().and_then(|()| redis.restart()).expect("restarted");
        });
    }
    let placed = load.finish().await;
    let report = assert_all_ended(&system).await;
    assert_eq!(report.orders, placed.len(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_orders_survive_a_kill_of_redis() {
    redis_is_killed(pairs()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_orders_survive_kills_of_each_of_four_redis() {
    redis_is_killed(isolated_pairs()).await;
}
