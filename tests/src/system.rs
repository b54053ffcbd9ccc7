//! A running system.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
    time::Duration,
};

use common::{
    connection::{topology::Sources, url::RedisUrl},
    contract::{
        entities::{Account, Product},
        ids::OrderId,
        messages::MessageSent,
        order::Order,
        order_status::OrderStatus,
        streams::topics,
    },
    http::request::GATEWAY_SECRET,
    schema::{
        entity::Entity as _,
        stream::{Stream, Topic},
    },
};
use http::{Method, StatusCode};
use orderctl::audit::{Report, audit, groups, is_quiet};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stack::{Instance, Service, Stack, StackOptions};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    SOON,
    client::{Answer, Ask, Client, order_body},
    eventually,
    process::env,
    streams::{Entry, publish, run},
};

/// Limits the number of concurrent systems: each is six processes or more.
static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(all_permits() as usize));

fn all_permits() -> u32 {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    u32::try_from(cores).unwrap_or(2).max(2)
}

/// A running system.
#[derive(Debug)]
pub struct System {
    /// The processes, to kill and restart them.
    pub stack: Stack,
    /// An HTTP client for any server.
    pub client: Client,
    /// The Redis of each topic: that of the stack, unless the test uses another one.
    pub sources: Sources,
    /// Whether the gateway loads the demo data.
    seeded: bool,
    _permit: SemaphorePermit<'static>,
}

impl System {
    /// One instance of each service, ready, without any data.
    pub async fn start() -> Self {
        Self::start_with(StackOptions::default()).await
    }

    /// A ready system with these options.
    pub async fn start_with(options: StackOptions) -> Self {
        let mut system = Self::begin(options, 1).await;
        system.wait_ready().await;
        system
    }

    /// A ready system whose services have these environment variables.
    pub async fn start_with_env(variables: &[(&str, &str)]) -> Self {
        Self::start_with(StackOptions { env: env(variables), ..StackOptions::default() }).await
    }

    /// A ready system whose gateway has these environment variables.
    pub async fn start_with_gateway_env(variables: &[(&str, &str)]) -> Self {
        let service_env = [(Service::Gateway, env(variables))].into();
        Self::start_with(StackOptions { service_env, ..StackOptions::default() }).await
    }

    /// The same for tests that use all cores: no other system runs at the same time.
    pub async fn start_alone(options: StackOptions) -> Self {
        let mut system = Self::begin(options, all_permits()).await;
        system.wait_ready().await;
        system
    }

    /// The same without waiting until it is ready.
    pub async fn start_unready(options: StackOptions) -> Self {
        Self::begin(options, 1).await
    }

    async fn begin(options: StackOptions, permits: u32) -> Self {
        let permit = PERMITS.acquire_many(permits).await.expect("never closed");
        let seeded = options.seed_demo_data;
        let stack = tokio::task::spawn_blocking(move || Stack::start(&options)).await;
        let stack = stack.expect("no panic").unwrap_or_else(|error| panic!("{error:?}"));
        let sources = orderctl::sources(&stack.run_file()).expect("URLs");
        Self { stack, client: Client::default(), sources, seeded, _permit: permit }
    }

    /// Waits until all instances are ready and, if requested, the demo data is loaded: the gateway is ready
    /// as soon as it has published the demo data.
    pub async fn wait_ready(&mut self) {
        let instances = self.stack.instances_mut();
        eventually("every service is ready", SOON * 2, async || {
            for instance in instances.iter_mut() {
                let name = instance.name().to_owned();
                if let Some(status) = instance.process.exit_status() {
                    panic!("{name} ended with {status}:\n{}", instance.process.logs());
                }
                if !instance.is_ready() {
                    return Err(format!("{name} is not:\n{}", instance.process.logs()));
                }
            }
            Ok(())
        })
        .await;
        if self.seeded {
            self.demo_data_is_there().await;
        }
    }

    /// Waits until inventory_service and account_service have applied the demo data.
    async fn demo_data_is_there(&self) {
        for (topic, kind, count) in
            [(topics::ACCOUNT, Account::KIND, 3), (topics::INVENTORY, Product::KIND, 5)]
        {
            let mut redis = self.redis_of(topic).await;
            eventually("the demo data", SOON, async || {
                let mut length = redis::cmd("LLEN");
                length.arg(kind.index.expect("it is listed"));
                let found: i64 = length.query_async(&mut redis).await.expect("a length");
                if found >= count { Ok(()) } else { Err(format!("{topic:?}: {found} of {count}")) }
            })
            .await;
        }
    }

    /// The first instance of a service.
    pub fn first(&mut self, service: Service) -> &mut Instance {
        self.stack.instance(service, 1).expect("it was started")
    }

    /// Kills an instance with SIGKILL, starts it again and waits until it is ready.
    pub async fn restart(&mut self, service: Service, number: usize) {
        let instance = self.stack.instance(service, number).expect("it was started");
        instance.process.restart().unwrap_or_else(|error| panic!("{error}"));
        self.wait_ready().await;
        // The connections to the killed instance are useless.
        self.client = Client::default();
    }

    /// The logs of all instances of a service.
    pub fn logs(&self, service: Service) -> String {
        self.stack.instances_of(service).map(|instance| instance.process.logs()).collect()
    }

    /// A client with the gateway's secret for order_service.
    pub fn as_gateway(&self) -> Client {
        let secret = self.stack.run_file().gateway_secret.expect("the stack makes one");
        let secret = std::fs::read_to_string(secret).expect("it can be read");
        Client::with_header(GATEWAY_SECRET, &secret)
    }

    /// The URL of the first gateway, e.g. `http://127.0.0.1:5000`.
    pub fn url(&self) -> String {
        self.stack.gateway_urls().swap_remove(0)
    }

    /// `GET` at the first gateway.
    pub async fn get(&self, path: &str) -> Answer {
        self.client.get(&format!("{}{path}", self.url())).await.expect("the gateway answers")
    }

    /// `POST` of a JSON body at the first gateway.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.client
            .post(&format!("{}{path}", self.url()), body, &[])
            .await
            .expect("the gateway answers")
    }

    /// Loads the demo data.
    pub async fn init_data(&self) {
        let answer = self.post("/init-data", &Value::Null).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({"result": "success"})));
    }

    /// Places an order.
    pub async fn place(&self, product_ids: &[&str], customer_id: &str) -> Order {
        let answer = self.post("/order", &order_body(product_ids, customer_id)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.parse()
    }

    /// Waits until no service has work for the order, and returns it.
    pub async fn ended(&self, order: &Order) -> Order {
        let path = format!("/order/{}", order.id);
        eventually("the end of the order", SOON, async || {
            let answer = self.get(&path).await;
            let text = answer.text();
            match answer.status {
                StatusCode::OK => {
                    Some(answer.parse::<Order>()).filter(|order| is_final(order.status)).ok_or(text)
                }
                _ => Err(text),
            }
        })
        .await
    }

    /// Places an order and waits for its end.
    pub async fn order(&self, product_ids: &[&str], customer_id: &str) -> Order {
        let placed = self.place(product_ids, customer_id).await;
        self.ended(&placed).await
    }

    /// Waits until an order is accepted, and returns it.
    pub async fn accepts_orders_again(&self, product_ids: &[&str], customer_id: &str) -> Order {
        let body = order_body(product_ids, customer_id);
        eventually("orders are accepted again", SOON, async || {
            let answer = self.post("/order", &body).await;
            if answer.status == StatusCode::OK { Ok(answer.parse()) } else { Err(answer.text()) }
        })
        .await
    }

    /// Loads the demo data and places the guide's three orders, each after the end of the previous one. They
    /// end as the guide describes.
    pub async fn guide_orders(&self) -> [Order; 3] {
        self.init_data().await;
        let good = self.order(&["201", "204"], "101").await;
        let dear = self.order(&["201", "204", "205"], "101").await;
        // The stock of an unpaid order is released a moment after the message to its customer.
        self.quiet(SOON).await;
        let many = self.order(&["201"; 6], "101").await;
        self.quiet(SOON).await;
        // The release is confirmed by now.
        let orders = [good, self.ended(&dear).await, many];
        let statuses = orders.each_ref().map(|order| order.status.name());
        assert_eq!(statuses, ["to-be-shipped", "insufficient-fund", "out-of-stock"]);
        orders
    }

    /// The guide's orders, of which one is rejected, and all further requests that change something: the
    /// unpaid order is paid, the backorder filled and cancelled, and the first order completed.
    pub async fn guide_orders_to_the_end(&self) {
        let [paid, dear, many] = self.guide_orders().await;
        assert_eq!(self.order(&["999"], "101").await.status, OrderStatus::Rejected);
        self.top_up("101", 20_000).await;
        self.step(&dear, "pay").await.with_status(StatusCode::OK);
        self.reaches(&dear, OrderStatus::ToBeShipped).await;
        self.restock("201", 9).await;
        self.reaches(&many, OrderStatus::ToBeShipped).await;
        self.cancel(&many).await.with_status(StatusCode::OK);
        for step in ["ship", "complete"] {
            self.step(&paid, step).await.with_status(StatusCode::OK);
        }
    }

    /// The report.
    pub async fn report(&self) -> Value {
        let answer = self.get("/report").await.with_status(StatusCode::OK);
        answer.json()
    }

    /// A connection to Redis; to that of orders if each topic has its own.
    pub async fn redis(&self) -> MultiplexedConnection {
        self.redis_of(topics::ORDER).await
    }

    /// A connection to the topic's Redis.
    pub async fn redis_of(&self, topic: Topic) -> MultiplexedConnection {
        let url: RedisUrl =
            orderctl::sources(&self.stack.run_file()).expect("URLs").of(topic).clone();
        // Redis may be waiting for a busy disk.
        url.connect(SOON).await.expect("Redis answers")
    }

    /// Sends a request with a new key to the first gateway.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let key = common::random::new_id().to_string();
        let ask = Ask { method, path, key: &key, body };
        ask.once(&self.client, &self.url()).await.expect("the gateway answers")
    }

    /// Defines a product or an account, and returns it.
    pub async fn define(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask(Method::PUT, path, Some(body)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer.json()
    }

    /// The product.
    pub async fn product(&self, id: &str) -> Product {
        self.get(&format!("/inventory/{id}")).await.parse()
    }

    /// The available and the reserved quantity of a product.
    pub async fn available_and_reserved(&self, product: &str) -> (u64, u64) {
        let product = self.product(product).await;
        (product.amount, product.reserved)
    }

    /// The balance of a customer.
    pub async fn balance(&self, customer: &str) -> u64 {
        self.get(&format!("/accounts/{customer}")).await.parse::<Account>().balance
    }

    /// The messages to a customer as soon as no event is in flight, the oldest first.
    pub async fn messages_to(&self, customer: &str) -> Vec<MessageSent> {
        self.quiet(SOON).await;
        let path = format!("/customers/{customer}/messages?limit=1000");
        let mut page = self.get(&path).await.json();
        let messages = serde_json::from_value(page["messages"].take());
        let mut messages: Vec<MessageSent> = messages.expect("messages");
        messages.reverse();
        messages
    }

    /// The number of messages of each kind to a customer about an order, as soon as no event is in flight.
    pub async fn messages_about(
        &self,
        customer: &str,
        order: OrderId,
    ) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for message in self.messages_to(customer).await {
            if message.order == Some(order) {
                *kinds.entry(message.kind.name()).or_default() += 1;
            }
        }
        kinds
    }

    /// Restocks a product.
    pub async fn restock(&self, product: &str, amount: u64) {
        let body = json!({ "amount": amount });
        let path = format!("/inventory/{product}/restock");
        self.ask(Method::POST, &path, Some(&body)).await.with_status(StatusCode::OK);
    }

    /// Tops up an account.
    pub async fn top_up(&self, customer: &str, amount: u64) {
        let body = json!({ "amount": amount });
        let path = format!("/accounts/{customer}/top-up");
        self.ask(Method::POST, &path, Some(&body)).await.with_status(StatusCode::OK);
    }

    /// Requests an order's next step: `pay`, `ship`, `complete`.
    pub async fn step(&self, order: &Order, step: &str) -> Answer {
        self.ask(Method::POST, &format!("/order/{}/{step}", order.id), None).await
    }

    /// Cancels an order.
    pub async fn cancel(&self, order: &Order) -> Answer {
        self.ask(Method::DELETE, &format!("/order/{}", order.id), None).await
    }

    /// The present state of the order.
    pub async fn order_now(&self, order: &Order) -> Order {
        let answer = self.get(&format!("/order/{}", order.id)).await.with_status(StatusCode::OK);
        answer.parse()
    }

    /// Waits until the order has this status, and returns it.
    pub async fn reaches(&self, order: &Order, status: OrderStatus) -> Order {
        eventually("the order's status", SOON, async || {
            let order = self.order_now(order).await;
            if order.status == status { Ok(order) } else { Err(format!("{order:?}")) }
        })
        .await
    }

    /// All entries of a stream.
    pub async fn entries(&self, stream: Stream) -> Vec<Entry> {
        let mut redis = self.redis_of(stream.topic()).await;
        let words = ["XRANGE", stream.key(), "-", "+"];
        let entries: Vec<(String, HashMap<String, String>)> = run(&mut redis, &words).await;
        entries.into_iter().map(|(id, fields)| Entry { id, fields }).collect()
    }

    /// Publishes an event, with an id from Redis.
    pub async fn publish(&self, stream: Stream, entity: &Value) {
        let mut redis = self.redis_of(stream.topic()).await;
        publish(&mut redis, stream, "*", entity).await;
    }

    /// Waits until no event is in flight.
    pub async fn quiet(&self, within: Duration) {
        eventually("no event in flight", within, async || {
            let groups = groups(&self.sources).await.map_err(|error| format!("{error:#}"))?;
            if is_quiet(&groups) { Ok(()) } else { Err(format!("{groups:#?}")) }
        })
        .await;
    }

    /// The report of the auditor as soon as no event is in flight.
    pub async fn audit(&self, within: Duration) -> Report {
        self.quiet(within).await;
        audit(&self.sources).await.expect("Redis can be read")
    }

    /// Asserts that the auditor finds nothing as soon as no event is in flight.
    pub async fn assert_balanced(&self, within: Duration) -> Report {
        let report = self.audit(within).await;
        assert!(report.findings.is_empty() && report.is_quiet(), "{report}");
        report
    }
}

/// Whether no service has work for an order with this status: only a client or a restock can change it.
pub fn is_final(status: OrderStatus) -> bool {
    !status.is_underway()
}
