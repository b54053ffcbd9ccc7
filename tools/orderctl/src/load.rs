//! Places many orders through the gateway of a running `cargo stack` and measures: orders per
//! second until the last one has its final status, the time of each order, the CPU time of every
//! process, the commands sent to Redis.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use common::{
    connection::{link::Link, topology::Sources, url::RedisUrl},
    contract::{
        events::{AccountCreated, ProductCreated},
        ids::OrderId,
        keys,
        order::{Order, OrderUpdated},
        order_status::OrderStatus,
        streams::{self, topics},
    },
    schema::{
        keys::Key,
        stream::{ENTITY, EVENT_ID, Event, Stream, Topic},
    },
};
use http::{HeaderValue, Request, StatusCode, header, request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::ProgressBar;
use redis::{Pipeline, Value};
use stack::{run_file::RunFile, token_key::TokenKey};
use tokio::sync::mpsc;

use crate::{sources, token};

/// The stock of every product and the balance of every customer: the load measures the system.
const AMPLE_AMOUNT: u64 = 1_000_000_000;
/// The time without progress after which the run counts as stuck.
const STUCK_TIMEOUT: Duration = Duration::from_secs(20);
/// The validity of the load's token in seconds, longer than any load runs: a day.
const TOKEN_TTL_SECONDS: u64 = 24 * 3_600;

/// The plan of a load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The number of orders.
    pub orders: usize,
    /// The number of clients, each of which places one order at a time.
    pub clients: usize,
    /// The number of products they choose from, two units an order: the fewer, the more contention.
    pub products: usize,
    /// The number of customers who pay.
    pub customers: usize,
}

/// The measurements of a load.
#[derive(Debug)]
pub struct Measured {
    plan: Plan,
    seconds: f64,
    posted: f64,
    latencies: Vec<Duration>,
    cpu: Vec<(String, Duration)>,
    resident: Vec<(String, u64)>,
    commands: BTreeMap<String, (u64, u64)>,
}

/// Runs the plan against the stack that runs in the directory.
///
/// # Errors
///
/// There is no stack, a request failed, or orders stopped moving.
pub async fn load(directory: &Path, plan: Plan) -> anyhow::Result<Measured> {
    let run = RunFile::read(directory).with_context(|| {
        format!("no stack runs in {}: start `cargo stack`", directory.display())
    })?;
    let gateways = gateways(&run)?;
    // A load without access must change nothing.
    for gateway in &gateways {
        gateway.probe(&run).await?;
    }
    let sources = sources(&run)?;
    let mut links = links(&sources);
    seed(&mut links, &sources, plan).await?;

    let (finished, mut watcher) = mpsc::channel(1_024);
    let start_at = last_entry(&mut links[sources.index(topics::ORDER)]).await?;
    let watch = tokio::spawn(watch(sources.of(topics::ORDER).clone(), start_at, finished));
    let before = (cpu(&run)?, commands(&mut links).await?);
    let begun = Instant::now();
    let (sent, mut received) = mpsc::channel(1_024);
    let next = Arc::new(AtomicUsize::new(0));
    let posting_ended = Arc::new(AtomicU64::new(0));
    for number in 0..plan.clients {
        let gateway = gateways[number % gateways.len()].clone();
        let (sent, next) = (sent.clone(), Arc::clone(&next));
        let posting_ended = Arc::clone(&posting_ended);
        tokio::spawn(async move {
            let client = client();
            while next.fetch_add(1, Ordering::Relaxed) < plan.orders {
                let posted = Instant::now();
                let order = gateway.post(&client, plan).await;
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                posting_ended.fetch_max(micros, Ordering::Relaxed);
                if sent.send(order.map(|id| (id, posted))).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sent);

    let mut posted: HashMap<OrderId, Instant> = HashMap::new();
    let mut ended: HashMap<OrderId, Instant> = HashMap::new();
    let mut latencies = Vec::with_capacity(plan.orders);
    // Shown on a terminal only.
    let progress = ProgressBar::new(plan.orders as u64);
    while latencies.len() < plan.orders {
        progress.set_position(latencies.len() as u64);
        tokio::select! {
            Some(order) = received.recv() => {
                let (id, at) = order?;
                match ended.remove(&id) {
                    Some(end) => latencies.push(end - at),
                    None => { posted.insert(id, at); }
                }
            }
            Some((id, at)) = watcher.recv() => match posted.remove(&id) {
                Some(start) => latencies.push(at - start),
                None => { ended.insert(id, at); }
            },
            () = tokio::time::sleep(STUCK_TIMEOUT) => {
                bail!("nothing moves: {} of {} orders are final", latencies.len(), plan.orders)
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    progress.finish_and_clear();
    watch.abort();
    let after = (cpu(&run)?, commands(&mut links).await?);
    latencies.sort_unstable();
    let cpu = after.0.into_iter().zip(before.0);
    let mut spent = after.1;
    for (name, (calls, micros)) in &mut spent {
        let (calls_before, micros_before) = before.1.get(name).copied().unwrap_or_default();
        *calls -= calls_before;
        *micros -= micros_before;
    }
    spent.retain(|_, (calls, _)| *calls > 0);
    Ok(Measured {
        plan,
        seconds,
        posted: Duration::from_micros(posting_ended.load(Ordering::Relaxed)).as_secs_f64(),
        latencies,
        cpu: cpu.map(|((name, after), (_, before))| (name, after - before)).collect(),
        resident: resident(&run),
        commands: spent,
    })
}

/// The name of this process among those of the system.
const GENERATOR: &str = "orderctl load";

type HttpClient = Client<HttpConnector, Full<Bytes>>;

fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// A gateway and the token for it.
#[derive(Clone, Debug)]
struct Gateway {
    url: String,
    /// The token, if the stack requires one.
    authorization: Option<HeaderValue>,
}

/// The gateways of the stack.
fn gateways(run: &RunFile) -> anyhow::Result<Vec<Gateway>> {
    let authorization = run.token_key.as_deref().map(authorization).transpose()?;
    let services = run.services.iter().filter(|it| it.service == "gateway_api");
    let gateways: Vec<Gateway> = services
        .filter_map(|service| service.http)
        .map(|it| Gateway { url: format!("http://{it}"), authorization: authorization.clone() })
        .collect();
    anyhow::ensure!(!gateways.is_empty(), "the stack has no gateway_api to send orders to");
    Ok(gateways)
}

/// An operator's token, signed with the stack's key.
fn authorization(key: &Path) -> anyhow::Result<HeaderValue> {
    let wanted = token::TokenRequest {
        ttl: TOKEN_TTL_SECONDS,
        ..token::TokenRequest::with_scopes(&["admin"])
    };
    let token = token::signed(&wanted, &TokenKey::read(key)?)?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Gateway {
    /// Sends a request that needs a scope, to find out whether the load may place orders.
    async fn probe(&self, run: &RunFile) -> anyhow::Result<()> {
        let path = "/orders?limit=1";
        let request = Request::get(format!("{}{path}", self.url));
        let (status, text) = self.send(&client(), request, Bytes::new()).await?;
        match (status, &run.token_key) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(key)) => bail!(
                "{} does not take a token of {}: GET {path} answered {status}: {}. Start `cargo stack` again",
                self.url,
                key.display(),
                String::from_utf8_lossy(&text),
            ),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => bail!(
                "{} requires tokens of a key that load does not have: GET {path} answered {status}. Start \
                 `cargo stack --auth`, which publishes its key, or with AUTH_MODE=off",
                self.url,
            ),
            _ => check(&format!("GET {path}"), status, &text),
        }
    }

    /// Places an order.
    async fn post(&self, client: &HttpClient, plan: Plan) -> anyhow::Result<OrderId> {
        let (one, two) = (fastrand::usize(..plan.products), fastrand::usize(..plan.products));
        let customer = fastrand::usize(..plan.customers);
        let body = format!(
            r#"{{"product_ids":["load-{one}","load-{two}"],"customer_id":"load-{customer}"}}"#
        );
        let request = Request::post(format!("{}/order", self.url))
            .header(header::CONTENT_TYPE, "application/json");
        let (status, answer) = self.send(client, request, Bytes::from(body)).await?;
        check("POST /order", status, &answer)?;
        Ok(serde_json::from_slice::<Order>(&answer)?.id)
    }

    async fn send(
        &self,
        client: &HttpClient,
        request: request::Builder,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = request.body(Full::new(body))?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        let response = client.request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

/// Checks the answer to a call.
fn check(call: &str, status: StatusCode, answer: &[u8]) -> anyhow::Result<()> {
    if status == StatusCode::TOO_MANY_REQUESTS {
        bail!(
            "{call} answered {status}: the load is one caller and exceeds the rate of a caller. Start the \
             stack with RATE_PER_SUBJECT=off to measure it"
        );
    }
    if status == StatusCode::CONFLICT {
        bail!(
            "{call} answered {status}: {}. Take more --customers, or start the stack with --fresh or with \
             MAX_OPEN_ORDERS=0",
            String::from_utf8_lossy(answer)
        );
    }
    let text = String::from_utf8_lossy(answer);
    anyhow::ensure!(status.is_success(), "{call} answered {status}: {text}");
    Ok(())
}

/// Reports every order that reaches a final status.
async fn watch(
    url: RedisUrl,
    mut after: String,
    finished: mpsc::Sender<(OrderId, Instant)>,
) -> anyhow::Result<()> {
    let mut link = Link::new(url, Duration::from_secs(10));
    loop {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1_000).arg("BLOCK").arg(1_000);
        read.arg("STREAMS").arg(streams::ORDER_UPDATED.key()).arg(&after);
        let reply = link.ask("XREAD", read).await?;
        let now = Instant::now();
        let reply: redis::streams::StreamReadReply = redis::from_redis_value(reply)?;
        for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
            after = entry.id.clone();
            let Some(json) = entry.get::<String>(ENTITY) else { continue };
            let order: OrderUpdated = serde_json::from_str(&json)?;
            let underway =
                matches!(order.status, OrderStatus::Pending | OrderStatus::PaymentRequired);
            if !underway && finished.send((order.id, now)).await.is_err() {
                return Ok(());
            }
        }
        // A pause keeps the measurement from disturbing the measured system.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn last_entry(link: &mut Link) -> anyhow::Result<String> {
    let mut last = redis::cmd("XREVRANGE");
    last.arg(streams::ORDER_UPDATED.key()).arg("+").arg("-").arg("COUNT").arg(1);
    let reply: redis::streams::StreamRangeReply =
        redis::from_redis_value(link.ask("XREVRANGE", last).await?)?;
    Ok(reply.ids.first().map_or_else(|| "0".to_owned(), |entry| entry.id.clone()))
}

fn links(sources: &Sources) -> Vec<Link> {
    let link = |url: &RedisUrl| Link::new(url.clone(), Duration::from_secs(10));
    sources.servers().iter().map(link).collect()
}

async fn seed(links: &mut [Link], sources: &Sources, plan: Plan) -> anyhow::Result<()> {
    let mut commands: HashMap<Topic, Pipeline> = HashMap::new();
    let mut add = |stream: Stream, json: String| {
        let commands = commands.entry(stream.topic()).or_default();
        commands.cmd("XADD").arg(stream.key()).arg("*");
        commands.arg(EVENT_ID).arg(common::random::new_id().to_string()).arg(ENTITY).arg(json);
    };
    for number in 0..plan.products {
        let id = format!("load-{number}").parse()?;
        let product = ProductCreated {
            id,
            name: "Load".to_owned(),
            price: 1,
            amount: AMPLE_AMOUNT,
            keep: false,
            request: None,
        };
        add(ProductCreated::STREAM, serde_json::to_string(&product)?);
    }
    for number in 0..plan.customers {
        let id = format!("load-{number}").parse()?;
        let (name, email) = ("Load".to_owned(), "load@localhost".to_owned());
        let account =
            AccountCreated { id, name, email, balance: AMPLE_AMOUNT, keep: false, request: None };
        add(AccountCreated::STREAM, serde_json::to_string(&account)?);
    }
    for (topic, commands) in commands {
        links[sources.index(topic)].send(&commands).await?;
    }
    // Once the last product and the last account can be read, all of them exist.
    let begun = Instant::now();
    for (topic, kind, count) in [
        (topics::INVENTORY, &keys::PRODUCT, plan.products),
        (topics::ACCOUNT, &keys::ACCOUNT, plan.customers),
        (topics::MESSAGE, &keys::CUSTOMER, plan.customers),
    ] {
        let mut look = Pipeline::new();
        look.cmd("EXISTS").arg(Key::new(kind, &format!("load-{}", count - 1)).as_str());
        while links[sources.index(topic)].send(&look).await? != [Value::Int(1)] {
            if begun.elapsed() > STUCK_TIMEOUT {
                bail!("the services did not create the load's products and customers");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

fn processes(run: &RunFile) -> Vec<(String, u32)> {
    let services = run.services.iter().map(|service| (service.instance.clone(), service.pid));
    let servers = run.servers().into_iter();
    let redis = servers.filter_map(|(name, redis)| Some((name, redis.pid?)));
    services.chain(redis).collect()
}

/// User and system time of each process so far; that of the children of Redis, which write its
/// files, once they have ended; and that of this process, last.
fn cpu(run: &RunFile) -> anyhow::Result<Vec<(String, Duration)>> {
    let mut all = Vec::new();
    for (name, pid) in processes(run) {
        let [own, children] = times(&pid.to_string())
            .with_context(|| format!("{name} ({pid}) does not run any more"))?;
        let is_redis = name.starts_with("redis");
        all.push((name.clone(), own));
        all.extend(is_redis.then(|| (format!("{name}, children"), children)));
    }
    all.push((GENERATOR.to_owned(), times("self")?[0]));
    Ok(all)
}

/// User and system time of a process, and of its children that have ended.
fn times(pid: &str) -> anyhow::Result<[Duration; 2]> {
    // Linux counts in hundredths of a second for every program (proc(5), USER_HZ).
    const CPU_TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain anything; the fields after it are numbers.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| anyhow::Ok(fields[at].parse::<u32>()? + fields[at + 1].parse::<u32>()?);
    Ok([CPU_TICK * ticks(11)?, CPU_TICK * ticks(13)?])
}

/// Resident memory of each process in KiB.
fn resident(run: &RunFile) -> Vec<(String, u64)> {
    let of = |(name, pid): (String, u32)| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some((name, line.trim().trim_end_matches(" kB").trim().parse().ok()?))
    };
    processes(run).into_iter().filter_map(of).collect()
}

/// Calls and microseconds of each Redis command so far, in all servers together.
async fn commands(links: &mut [Link]) -> anyhow::Result<BTreeMap<String, (u64, u64)>> {
    let mut all = BTreeMap::new();
    for link in links {
        for (name, (calls, micros)) in commands_of(link).await? {
            let sum: &mut (u64, u64) = all.entry(name).or_default();
            *sum = (sum.0 + calls, sum.1 + micros);
        }
    }
    Ok(all)
}

async fn commands_of(link: &mut Link) -> anyhow::Result<Vec<(String, (u64, u64))>> {
    let mut info = redis::cmd("INFO");
    info.arg("commandstats");
    let text: String = redis::from_redis_value(link.ask("INFO", info).await?)?;
    let line = |line: &str| {
        let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.strip_prefix(name)?.parse::<u64>().ok())
        };
        Some((name.to_owned(), (field("calls=")?, field("usec=")?)))
    };
    Ok(text.lines().filter_map(line).collect())
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orders = self.plan.orders as f64;
        let quantile = |part: f64| {
            let at = ((self.latencies.len() - 1) as f64 * part) as usize;
            self.latencies[at].as_secs_f64() * 1e3
        };
        writeln!(
            f,
            "{} orders by {} clients: {:.0} orders/s end to end (posted in {:.2} s, final in {:.2} s)",
            self.plan.orders,
            self.plan.clients,
            orders / self.seconds,
            self.posted,
            self.seconds,
        )?;
        writeln!(
            f,
            "until the final status: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            quantile(0.5),
            quantile(0.99),
            quantile(1.0),
        )?;
        let per_order = |time: &Duration| time.as_secs_f64() * 1e6 / orders;
        let services = self.cpu.iter().filter(|(name, _)| name != GENERATOR);
        let all: f64 = services.map(|(_, time)| per_order(time)).sum();
        writeln!(f, "CPU per order, without {GENERATOR}: {all:.0} µs")?;
        for (name, time) in &self.cpu {
            write!(f, "  {name:<24} {:>6.1} µs", per_order(time))?;
            match self.resident.iter().find(|(other, _)| other == name) {
                Some((_, kib)) => writeln!(f, "  {:>6.1} MiB resident", *kib as f64 / 1024.0)?,
                None => writeln!(f)?,
            }
        }
        // INFO also counts the commands of scripts, and every commit calls MGET once.
        let calls = |name| self.commands.get(name).map_or(0, |(calls, _)| *calls);
        let commits = calls("evalsha");
        let reads = calls("mget").saturating_sub(commits);
        let sent = (reads + commits + calls("xreadgroup") + calls("xack")) as f64 / orders;
        writeln!(f, "Redis: {sent:.2} reads, commits and acknowledgements per order")?;
        for (name, (calls, micros)) in &self.commands {
            let (calls, micros) = (*calls as f64 / orders, *micros as f64 / orders);
            writeln!(f, "  {name:<24} {calls:>6.2} calls  {micros:>6.1} µs")?;
        }
        Ok(())
    }
}
