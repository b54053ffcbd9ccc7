//! The whole system with users and TLS, shared and isolated: the guide's orders end as expected, despite
//! restarts and flushes, and no command is refused.

use std::collections::BTreeSet;

use common::contract::{
    order_status::OrderStatus,
    streams::{self, topics},
};
use http::StatusCode;
use orderctl::load::{Plan, load};
use redis::Value;
use serde_json::{Value as Json, json};
use stack::{Service, StackOptions};
use system_tests::{SOON, System, database, env, events::Events, eventually};

fn options(isolated: bool, tls: bool) -> StackOptions {
    let env = env(&[("CLAIM_IDLE_MS", "1000"), ("RESEND_AFTER_MS", "1000")]);
    StackOptions { isolated, tls, acl: true, env, ..StackOptions::default() }
}

/// The guide's orders, and all other requests to a gateway.
async fn make_every_request(system: &System) {
    system.guide_orders_to_the_end().await;
    for path in [
        "/report",
        "/flow",
        "/orders?customer_id=101&status=completed",
        "/orders?status=completed",
        "/orders",
        "/inventory/201",
        "/accounts/101",
        "/customers/101/messages",
    ] {
        assert_eq!(system.get(path).await.status, StatusCode::OK, "{path}");
    }
    let mut events = Events::of(system, "/events").await;
    let order = system.place(&["202"], "103").await;
    events.until(|event| event.data.to_string().contains(&order.id.to_string())).await;
    system.ended(&order).await;
    system.assert_balanced(SOON).await;
}

/// Asserts that no server has refused a command since its start.
async fn nothing_was_refused(system: &System) {
    let mut refused = BTreeSet::new();
    for topic in topics::ALL {
        let mut redis = system.redis_of(topic).await;
        let log: Vec<Value> = redis::cmd("ACL").arg("LOG").query_async(&mut redis).await.unwrap();
        refused.extend(log.iter().map(|entry| format!("{entry:?}")));
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Flushes as the operator, and waits until the system works again without help.
async fn flush_and_resume(system: &System) {
    for topic in topics::ALL {
        let mut redis = system.redis_of(topic).await;
        let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("flushed");
    }
    eventually("there is something to order again", SOON * 2, async || {
        let answer = system.post("/init-data", &Json::Null).await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(system.order(&["201", "204"], "102").await.status, OrderStatus::InsufficientFund);
    assert_eq!(system.order(&["201", "204"], "101").await.status, OrderStatus::ToBeShipped);
}

/// Kills all processes, one after the other; nothing is lost, and orders are still accepted.
async fn kill_and_resume(system: &mut System) {
    system.restock("204", 5).await;
    let before = system.assert_balanced(SOON).await;
    let placed = system.order(&["204"], "103").await;
    for service in Service::ALL {
        system.restart(service, 1).await;
    }
    for topic in topics::ALL {
        tokio::task::block_in_place(|| {
            system.stack.redis_of(database(topic)).expect("private").restart().expect("restarted");
        });
    }
    system.wait_ready().await;
    assert_eq!(system.order_now(&placed).await, placed);
    let order = eventually("orders are taken again", SOON, async || {
        let body = system_tests::order_body(&["204"], "103");
        let answer = system.post("/order", &body).await;
        if answer.status == StatusCode::OK { Ok(answer.parse()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(system.ended(&order).await.status, OrderStatus::ToBeShipped);
    let after = system.assert_balanced(SOON * 2).await;
    assert_eq!(after.orders, before.orders + 2, "{after}");
}

/// Unreadable entries become dead letters, which the users permit as well.
async fn bury_a_letter(system: &System) {
    system.publish(streams::INVENTORY_CHECK, &json!({"no": "stock check"})).await;
    for reader in streams::INVENTORY_CHECK.readers() {
        eventually("it is a dead letter", SOON, async || {
            let found = system.entries(reader.dead_letters()).await.len();
            if found == 1 { Ok(()) } else { Err(format!("{found} of {reader:?}")) }
        })
        .await;
    }
}

async fn works(isolated: bool, tls: bool) {
    let mut system = System::start_alone(options(isolated, tls)).await;
    make_every_request(&system).await;
    bury_a_letter(&system).await;
    // Long enough for all periodic work.
    for service in Service::ALL {
        system.restart(service, 1).await;
    }
    nothing_was_refused(&system).await;
    flush_and_resume(&system).await;
    nothing_was_refused(&system).await;
    kill_and_resume(&mut system).await;
    nothing_was_refused(&system).await;
    for service in Service::ALL {
        let log = system.logs(service);
        assert!(!log.contains("NOPERM") && !log.contains("denies"), "{service}: {log}");
        assert!(!log.contains("cannot be checked"), "{service}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_users_and_one_redis_all_works_and_no_command_is_refused() {
    works(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_users_four_redis_and_tls_all_works_and_no_command_is_refused() {
    works(true, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_alone_all_works_and_redis_has_no_plain_port() {
    let options = StackOptions { acl: false, ..options(false, true) };
    let mut system = System::start_alone(options).await;
    make_every_request(&system).await;
    kill_and_resume(&mut system).await;
    let url = system.stack.redis_url();
    assert!(url.starts_with("rediss://"), "{url}");
    let mut redis = system.redis().await;
    let (_, port): (String, String) =
        redis::cmd("CONFIG").arg("GET").arg("port").query_async(&mut redis).await.unwrap();
    assert_eq!(port, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_tools_connect_with_the_run_file() {
    let system = System::start_alone(options(true, true)).await;
    system.stack.write_run_file().expect("run.json is written");
    let plan = Plan { orders: 100, clients: 4, products: 5, customers: 20 };
    let measured = load(system.stack.dir(), plan).await.expect("it is measured").to_string();
    assert!(measured.starts_with("100 orders by 4 clients: "), "{measured}");
    let report = system.assert_balanced(SOON).await;
    assert_eq!((report.orders, report.unfinished), (100, 0), "{report}");
}
