//! An order service of the original beside ours, with kills.

use std::collections::BTreeSet;

use common::{
    clock::now_millis,
    contract::streams::{self, topics},
};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use system_tests::{Entry, System, publish};

use super::{Monkey, ORDERS, Seed, assert_all_ended, fill, isolated_pairs, some_order};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_stay_exact_with_entries_of_an_original_order_service_and_kills() {
    let seed = Seed::take();
    let mut random = seed.random();
    // In one Redis, our own order_service would cancel the orders that it does not know.
    let mut system = System::start_alone(isolated_pairs()).await;
    fill(&system).await;
    let mut original = Original { redis: system.redis_of(topics::ORDER).await, last: (0, 0) };
    let mut redis = system.redis_of(topics::INVENTORY).await;
    let mut choices = random.fork();
    let publisher = tokio::spawn(async move {
        for _ in 0..ORDERS {
            let (products, customer) = some_order(&mut choices);
            original.publish(&products, customer).await;
        }
    });
    let mut monkey = Monkey::new(random.fork());
    monkey
        .rage(&mut system, ORDERS, async || {
            let check = redis::cmd("XLEN").arg(streams::INVENTORY_CHECK.key()).to_owned();
            check.query_async(&mut redis).await.expect("a length")
        })
        .await;
    publisher.await.expect("all are published");
    for _ in 0..5 {
        tokio::task::block_in_place(|| monkey.act(&mut system));
    }
    monkey.recover(&mut system);
    assert!(monkey.kills > 20, "only {} kills", monkey.kills);

    let report = assert_all_ended(&system).await;
    assert_eq!((report.orders, report.foreign), (0, ORDERS), "{report}");
    let checks = system.entries(streams::INVENTORY_CHECK).await;
    let order = |it: &Entry| it.entity()["order_id"].to_string();
    let orders: BTreeSet<_> = checks.iter().map(order).collect();
    assert_eq!(orders.len(), ORDERS, "a stock check for each order");
    // A filled backorder has two results.
    let outcomes: BTreeSet<_> =
        checks.iter().map(|it| (order(it), it.entity()["inventory"].to_string())).collect();
    assert_eq!(outcomes.len(), checks.len(), "each outcome once");
    let payable = checks.iter().filter(|it| it.entity()["inventory"] == "payment-required").count();
    let wallets = system.entries(streams::ACCOUNT_WALLET).await;
    let orders: BTreeSet<_> =
        wallets.iter().map(|it| it.entity()["order_id"].to_string()).collect();
    assert_eq!((wallets.len(), orders.len()), (payable, payable), "one payment for each of those");
}

/// Writes entries in the form of the original's order service: ids of seconds and microseconds, and only the
/// fields and members of the original.
struct Original {
    redis: MultiplexedConnection,
    last: (u64, u64),
}

impl Original {
    async fn publish(&mut self, product_ids: &[&str], customer_id: &str) {
        let millis = now_millis();
        let now = (millis / 1_000, millis % 1_000 * 1_000);
        self.last = now.max((self.last.0, self.last.1 + 1));
        let (seconds, micros) = self.last;
        let order = json!({
            "id": common::random::new_id(), "product_ids": product_ids, "customer_id": customer_id,
            "status": "pending",
        });
        let id = format!("{seconds}-{micros}");
        publish(&mut self.redis, streams::ORDER_CREATED, &id, &order).await;
    }
}
