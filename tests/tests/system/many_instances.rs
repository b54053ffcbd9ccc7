//! Any number of instances of each service share the work without double effects.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use common::{
    contract::streams::{self, topics},
    schema::stream::Topic,
};
use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use stack::{Instance, Service, StackOptions};
use system_tests::{
    Client, SOON, System, env, eventually, order_body, place_until_accepted, run, signal,
};
use tokio::task::JoinSet;

const ORDERS: usize = 300;

#[tokio::test]
async fn three_instances_of_each_service_handle_each_order_once() {
    let instances = Service::ALL.map(|service| (service, 3)).into();
    let system = System::start_alone(StackOptions { instances, ..StackOptions::default() }).await;
    let product = json!({"id": "p", "name": "P", "price": 3, "amount": 400});
    system.publish(streams::INVENTORY_CREATED, &product).await;
    let account = json!({"id": "c", "name": "C", "email": "c@example.com", "balance": 600});
    system.publish(streams::ACCOUNT_CREATED, &account).await;
    system.quiet(SOON).await;

    let gateways = Arc::new(system.stack.gateway_urls());
    let mut clients = JoinSet::new();
    for client in 0..15 {
        let gateways = Arc::clone(&gateways);
        clients.spawn(async move {
            let http = Client::default();
            for number in 0..ORDERS / 15 {
                let key = format!("{client}-{number}");
                // Each gateway is the first one for a third of the clients.
                let mut gateways = gateways.to_vec();
                gateways.rotate_left(client % 3);
                let body = order_body(&["p"], "c");
                place_until_accepted(&http, &gateways, &key, &body, SOON).await;
            }
        });
    }
    clients.join_all().await;

    let report = system.assert_balanced(SOON).await;
    let status = |name| report.by_status.get(name).copied();
    // A balance of 600 pays for 200 units at 3; the stock suffices for all paid orders.
    assert_eq!((report.orders, report.unfinished), (ORDERS, 0), "{report}");
    assert_eq!(status("to-be-shipped"), Some(200), "{report}");

    let mut redis = system.redis().await;
    for stream in streams::ALL {
        for reader in stream.readers() {
            let words = ["XINFO", "CONSUMERS", stream.key(), reader.service()];
            let consumers: Vec<HashMap<String, redis::Value>> = run(&mut redis, &words).await;
            let names: BTreeSet<String> = consumers
                .into_iter()
                .map(|mut consumer| {
                    redis::from_redis_value(consumer.remove("name").unwrap()).unwrap()
                })
                .collect();
            let expected = (1..=3).map(|number| format!("{}-{number}", reader.service()));
            assert_eq!(names, expected.collect(), "{stream}");
        }
    }
    // Each instance has handled some of them.
    for instance in system.stack.instances() {
        if instance.service == Service::Gateway {
            continue;
        }
        let inputs = inputs(&system.client, instance).await;
        assert!(inputs > 0, "{} had no inputs", instance.name());
    }
}

#[tokio::test]
async fn none_of_two_instances_starves_under_sustained_load() {
    none_starves(2).await;
}

#[tokio::test]
async fn none_of_four_instances_starves_under_sustained_load() {
    none_starves(4).await;
}

/// Loads a few products with orders, with this number of instances of each service: no input is decided
/// many times, and the instances share the batches.
async fn none_starves(instances: usize) {
    const CLIENTS: usize = 32;
    const EACH: usize = 60;
    let instances = Service::ALL.map(|service| (service, instances)).into();
    let system = System::start_alone(StackOptions { instances, ..StackOptions::default() }).await;
    let products: Vec<String> = (0..10).map(|number| format!("hot{number}")).collect();
    for id in &products {
        let product = json!({"id": id, "name": "P", "price": 1, "amount": 1_000_000});
        system.publish(streams::INVENTORY_CREATED, &product).await;
    }
    for number in 0..CLIENTS {
        let (id, email) = (format!("c{number}"), "c@example.com");
        let account = json!({"id": id, "name": "C", "email": email, "balance": 1_000_000});
        system.publish(streams::ACCOUNT_CREATED, &account).await;
    }
    system.quiet(SOON).await;

    let gateways = Arc::new(system.stack.gateway_urls());
    let products = Arc::new(products);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (gateways, products) = (Arc::clone(&gateways), Arc::clone(&products));
        clients.spawn(async move {
            let http = Client::default();
            for number in 0..EACH {
                let ordered = [number, number + client, number * client]
                    .map(|number| products[number % products.len()].as_str());
                let body = order_body(&ordered, &format!("c{client}"));
                place_until_accepted(&http, &gateways, &format!("{client}.{number}"), &body, SOON)
                    .await;
            }
        });
    }
    clients.join_all().await;
    let report = system.assert_balanced(SOON).await;
    assert_eq!((report.orders, report.unfinished), (CLIENTS * EACH, 0), "{report}");

    for service in [Service::Order, Service::Inventory, Service::Account, Service::Message] {
        let mut batches = Vec::new();
        for instance in system.stack.instances_of(service) {
            let of = async |metric: &str| metric_of(&system.client, instance, metric).await;
            let (within, all) =
                (of(r#"engine_tries_bucket{le="10.0"}"#).await, of("engine_tries_count").await);
            assert_eq!(within, all, "{}: an input was decided too often", instance.name());
            batches.push(of("engine_batches_total").await);
        }
        let (least, most) = (batches.iter().min().unwrap(), batches.iter().max().unwrap());
        assert!(least * 5 >= *most, "{service:?}: the instances had {batches:?} batches");
    }
}

/// The number of inputs that an instance has taken from its queue.
async fn inputs(client: &Client, instance: &Instance) -> u64 {
    metric_of(client, instance, "engine_inputs_total").await
}

async fn metric_of(client: &Client, instance: &Instance, name: &str) -> u64 {
    let metrics = client.get(&format!("http://{}/metrics", instance.ops)).await.expect("metrics");
    let text = metrics.text();
    let count = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The number of pending entries of a consumer.
async fn pending(redis: &mut MultiplexedConnection, reader: Topic, consumer: &str) -> usize {
    let mut count = 0;
    for stream in streams::ALL.into_iter().filter(|stream| stream.readers().contains(&reader)) {
        let mut ask = redis::cmd("XPENDING");
        ask.arg(stream.key()).arg(reader.service()).arg("-").arg("+").arg(1_000).arg(consumer);
        let found: Vec<redis::Value> = ask.query_async(redis).await.expect("a group");
        count += found.len();
    }
    count
}

#[tokio::test]
async fn pending_entries_of_a_hanging_instance_are_taken_over_and_applied_once() {
    const AFTER: &str = "1000";
    let system = System::start_with(StackOptions {
        instances: Service::ALL.map(|service| (service, 2)).into(),
        env: env(&[("CLAIM_IDLE_MS", AFTER)]),
        ..StackOptions::default()
    })
    .await;
    system.init_data().await;
    let mut redis = system.redis().await;
    let find = |service: Service, number: usize| {
        let mut instances = system.stack.instances_of(service);
        instances.find(|instance| instance.number == number).expect("it was started")
    };
    // Not through the gateways, which would wait for a hanging order_service.
    let urls = [format!("http://{}", find(Service::Order, 1).http.unwrap())];
    let client = system.as_gateway();
    let mut orders = 0;
    for (service, topic) in [
        (Service::Inventory, topics::INVENTORY),
        (Service::Account, topics::ACCOUNT),
        (Service::Order, topics::ORDER),
        (Service::Message, topics::MESSAGE),
    ] {
        let hanging = find(service, 2);
        let before = inputs(&system.client, hanging).await;
        signal(hanging.process.pid(), Signal::SIGSTOP);
        // Redis delivers to any waiting consumer, including hanging ones.
        eventually("the hanging instance has pending entries", SOON, async || {
            let key = format!("order {orders}");
            orders += 1;
            let body = order_body(&["204", "205"], "101");
            place_until_accepted(&client, &urls, &key, &body, SOON).await;
            match pending(&mut redis, topic, hanging.name()).await {
                0 => Err("nothing is pending".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        // The other instance applies them.
        system.assert_balanced(SOON).await;
        signal(hanging.process.pid(), Signal::SIGCONT);
        // The instance continues with its entries, which the other one has applied.
        eventually("the instance handled its pending entries", SOON, async || {
            let now = inputs(&system.client, hanging).await;
            if now > before { Ok(()) } else { Err(format!("{now} inputs")) }
        })
        .await;
        let report = system.assert_balanced(SOON).await;
        assert_eq!((report.orders, report.unfinished), (orders, 0), "{report}");
    }
}

#[tokio::test]
async fn pending_entries_of_a_dead_instance_are_taken_over() {
    let mut system = System::start_with(StackOptions {
        instances: [(Service::Inventory, 2)].into(),
        env: env(&[("CLAIM_IDLE_MS", "1000")]),
        ..StackOptions::default()
    })
    .await;
    system.init_data().await;
    let mut redis = system.redis().await;
    let dying = system.stack.instance(Service::Inventory, 2).unwrap();
    let name = dying.name().to_owned();
    signal(dying.process.pid(), Signal::SIGSTOP);
    eventually("the dead instance has pending entries", SOON, async || {
        system.place(&["204", "205"], "101").await;
        match pending(&mut redis, topics::INVENTORY, &name).await {
            0 => Err("nothing is pending".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    system.stack.instance(Service::Inventory, 2).unwrap().process.kill().unwrap();
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.unfinished, 0, "{report}");
    let log = system.stack.instance(Service::Inventory, 1).unwrap().process.logs();
    assert!(log.contains("taking over abandoned entries"), "{log}");
}
