//! Backlogs that Redis no longer counts.

use common::contract::streams::{self, topics};
use orderctl::audit::audit;
use serde_json::{Value, json};
use stack::Service;
use system_tests::{SOON, System, eventually};

/// The lag of every group at `/flow`, and whether it is an estimate.
async fn lags(system: &System) -> Vec<(String, Value, Value)> {
    let answer = system.get("/flow").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let flow = answer.json();
    let streams = flow["streams"].as_array().unwrap().iter();
    let groups = streams.flat_map(|stream| {
        stream["groups"].as_array().unwrap().iter().map(|group| {
            let name = format!("{} of {}", group["group"], stream["stream"]);
            (name, group["lag"].clone(), group["lag_is_estimate"].clone())
        })
    });
    groups.collect()
}

async fn assert_nothing_waits(system: &System) {
    eventually("nothing waits", SOON, async || {
        let lags = lags(system).await;
        let wait: Vec<_> =
            lags.iter().filter(|it| (&it.1, &it.2) != (&json!(0), &json!(false))).collect();
        if wait.is_empty() { Ok(()) } else { Err(format!("{wait:?}")) }
    })
    .await;
    let report = audit(&system.sources).await.expect("Redis can be read");
    assert!(report.is_quiet() && report.notes.is_empty(), "{report}");
    assert!(report.groups.iter().all(|it| it.lag.entries() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_backlog_is_shown_after_a_restart_from_a_rewritten_file_or_a_deletion() {
    let mut system = System::start().await;
    system.init_data().await;
    system.order(&["204"], "101").await;
    let mut redis = system.redis().await;
    let () = redis::cmd("BGREWRITEAOF").query_async(&mut redis).await.expect("it begins");
    eventually("the file is rewritten", SOON, async || {
        let info: String =
            redis::cmd("INFO").arg("persistence").query_async(&mut redis).await.expect("INFO");
        let done = info.contains("aof_rewrite_in_progress:0");
        if done && info.contains("aof_rewrite_scheduled:0") { Ok(()) } else { Err(info) }
    })
    .await;
    system.order(&["204"], "101").await;
    system.quiet(SOON).await;
    tokio::task::block_in_place(|| system.stack.redis().expect("a private one").restart())
        .expect("restarted");
    system.wait_ready().await;
    system.quiet(SOON).await;
    assert_nothing_waits(&system).await;

    // A service is stopped, and the only entry of its backlog is deleted.
    system.first(Service::Message).process.kill().expect("killed");
    let order = system.order(&["204"], "101").await;
    assert_eq!(order.status, common::contract::order_status::OrderStatus::ToBeShipped);
    let mut redis = system.redis_of(topics::ORDER).await;
    for stream in streams::ALL.into_iter().filter(|it| it.readers().contains(&topics::MESSAGE)) {
        if let Some(last) = system.entries(stream).await.last() {
            let mut delete = redis::cmd("XDEL");
            delete.arg(stream.key()).arg(&last.id);
            let _: u64 = delete.query_async(&mut redis).await.expect("deleted");
        }
    }
    eventually("no backlog of the stopped service", SOON, async || {
        let waiting = lags(&system).await.into_iter();
        let waiting: Vec<_> = waiting.filter(|it| it.1 != json!(0)).collect();
        if waiting.is_empty() { Ok(()) } else { Err(format!("{waiting:?}")) }
    })
    .await;
    system.quiet(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_for_the_flow_after_a_restart_of_redis_is_answered() {
    let mut system = System::start().await;
    let look = system.get("/flow").await;
    assert_eq!(look.status, 200, "{}", look.text());
    // Samples are taken for another five seconds. Afterwards the connection is idle.
    let mut redis = system.redis().await;
    eventually("samples are no longer taken", SOON, async || {
        let clients: String =
            redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.expect("a list");
        // All other connections with this last command are used several times per second.
        let is_idle = clients.lines().any(|client| {
            let field = |name| client.split(' ').find_map(|it| it.strip_prefix(name));
            let idle = field("idle=").and_then(|it| it.parse::<u64>().ok());
            field("cmd=") == Some("xinfo|groups") && idle >= Some(2)
        });
        if is_idle { Ok(()) } else { Err(clients) }
    })
    .await;
    tokio::task::block_in_place(|| system.stack.redis().expect("a private one").restart())
        .expect("restarted");
    let look = system.get("/flow").await;
    assert_eq!(look.status, 200, "{}", look.text());
}
