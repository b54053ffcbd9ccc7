//! A service that is none of the five, `common/examples/loyalty.rs`, beside them.

use std::collections::BTreeMap;

use common::{
    connection::url::RedisUrl,
    contract::{order::Order, order_status::OrderStatus, streams::topics},
    schema::stored_form,
};
use orderctl::audit::groups;
use stack::{
    ServiceProcess,
    binaries::build_example,
    ports,
    process::{Output, ServiceCommand},
};
use system_tests::eventually;

use super::*;

const POINTS: &str = "{loyalty}:points:";

/// Two instances of the service, which read from the system's Redis.
fn start_pair(system: &System) -> Vec<ServiceProcess> {
    let program = build_example("common", "loyalty").expect("the example is built");
    let started = ["one", "two"].map(|name| {
        let log = Output::File(system.stack.dir().join(format!("loyalty-{name}.log")));
        let command = ServiceCommand::new("loyalty", &program, log)
            .env("REDIS_URL", system.stack.run_file().redis_of("account").url.clone())
            .env("OPS_ADDR", format!("127.0.0.1:{}", ports::free()))
            .env("CLAIM_IDLE_MS", "1000")
            .env("INSTANCE", name);
        ServiceProcess::spawn(command).expect("started")
    });
    started.into()
}

/// The documents at the keys with this prefix, by what follows it.
async fn stored(url: &RedisUrl, prefix: &str) -> BTreeMap<String, Value> {
    let mut redis = url.connect(SOON).await.expect("Redis answers");
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{prefix}*")).query_async(&mut redis).await.expect("keys");
    let mut found = BTreeMap::new();
    for key in keys {
        let text: String =
            redis::cmd("GET").arg(&key).query_async(&mut redis).await.expect("a text");
        let (_version, json) = stored_form::parse(&text).expect("a version and a document");
        let id = key.strip_prefix(prefix).expect("the prefix").to_owned();
        found.insert(id, serde_json::from_str(json).expect("JSON"));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sixth_service_counts_each_paid_order_once_while_all_are_killed() {
    const ORDERS: usize = 800;
    let seed = Seed::take();
    let mut random = seed.random();
    let mut system = System::start_alone(pairs()).await;
    let mut loyalty = start_pair(&system);
    fill(&system).await;
    let load = Load::start(&system, &mut random, ORDERS);
    let mut monkey = Monkey::new(random.fork());
    let (mut kills, mut next) = (0, 0);
    monkey
        .rage(&mut system, ORDERS, async || {
            if load.accepted() >= next {
                next = load.accepted() + random.usize(5..40);
                kills += 1;
                loyalty[kills % 2].restart().expect("restarted");
            }
            load.accepted()
        })
        .await;
    let placed = load.finish().await;
    assert!(kills > 10 && monkey.kills > 10, "{kills} and {} kills", monkey.kills);

    let report = assert_all_ended(&system).await;
    assert_eq!(report.orders, placed.len(), "{report}");
    let is_loyaltys = |group: &&orderctl::audit::Group| group.name == "loyalty_service";
    eventually("the sixth service is through", TIMEOUT, async || {
        let groups = groups(&system.sources).await.map_err(|error| error.to_string())?;
        let own: Vec<_> = groups.iter().filter(is_loyaltys).collect();
        let [group] = own[..] else { return Err(format!("{own:?}")) };
        if group.pending == 0 && group.at_end { Ok(()) } else { Err(format!("{group:?}")) }
    })
    .await;

    let url = system.sources.of(topics::ACCOUNT).clone();
    let orders = stored(&url, "{order}:entity:").await;
    let mut expected = BTreeMap::<String, u64>::new();
    let mut paid = BTreeSet::new();
    for order in orders.into_values() {
        let order: Order = serde_json::from_value(order).expect("an order");
        if order.status == OrderStatus::ToBeShipped {
            let total = order.order_total.expect("it was paid");
            *expected.entry(order.customer_id.to_string()).or_default() += total / 10;
            paid.insert(order.id.to_string());
        }
    }
    assert!(paid.len() > 100, "only {} orders were paid", paid.len());
    let points = stored(&url, POINTS).await;
    let points = points.into_iter().map(|(id, it)| (id, it["points"].as_u64().expect("a number")));
    assert_eq!(points.collect::<BTreeMap<_, _>>(), expected);
    let mut redis = url.connect(SOON).await.expect("Redis answers");
    let published: u64 =
        redis::cmd("XLEN").arg("events:{loyalty}_earned").query_async(&mut redis).await.unwrap();
    let dead: u64 =
        redis::cmd("XLEN").arg("events:{loyalty}_dead").query_async(&mut redis).await.unwrap();
    assert_eq!((published, dead), (paid.len() as u64, 0));
}
