//! The lag of a group in all cases in which Redis miscounts it.

use common::connection::lag::{GroupFacts, Lag, LagMeter, ServerFacts, StreamFacts};

use crate::support::{Redis, until};

async fn lag(redis: &Redis, meter: &mut LagMeter) -> Lag {
    let server = ServerFacts::from_reply(redis.ask("INFO server").await);
    let stream = StreamFacts::from_reply(redis.ask("XINFO STREAM s").await);
    let groups = GroupFacts::from_reply(redis.ask("XINFO GROUPS s").await);
    meter.lag(&server, "s", &stream, &groups[0])
}

async fn add(redis: &Redis, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(redis.ask("XADD s * a 1").await);
    }
    ids
}

async fn read(redis: &Redis, count: usize) {
    redis.execute(&format!("XREADGROUP GROUP g c COUNT {count} STREAMS s >")).await;
}

async fn rewrite(redis: &Redis) {
    redis.execute("BGREWRITEAOF").await;
    until("the file is rewritten", async || {
        let info: String = redis.ask("INFO persistence").await;
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    })
    .await;
}

#[tokio::test]
async fn the_lag_is_right_after_a_restart_from_a_rewritten_append_only_file() {
    let redis = Redis::start();
    redis.execute("XGROUP CREATE s g 0 MKSTREAM").await;
    let mut meter = LagMeter::default();
    add(&redis, 20).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(20));
    read(&redis, 10).await;
    rewrite(&redis).await;
    read(&redis, 10).await;
    redis.restart().await;
    // Redis reports 10.
    assert_eq!(lag(&redis, &mut LagMeter::default()).await, Lag::Exact(0));
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(0));
    add(&redis, 5).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(5));
    read(&redis, 3).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(2));
    // The error of the counter is unknown before the group was at the end.
    let unknown = lag(&redis, &mut LagMeter::default()).await;
    assert!(unknown.is_estimate() && unknown.entries() >= 2, "{unknown:?}");
    redis.restart().await;
    let unknown = lag(&redis, &mut meter).await;
    assert!(unknown.is_estimate() && unknown.entries() >= 2, "{unknown:?}");
    read(&redis, 3).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(0));
}

#[tokio::test]
async fn deleted_entries_are_no_backlog() {
    let redis = Redis::start();
    redis.execute("XGROUP CREATE s g 0 MKSTREAM").await;
    let mut meter = LagMeter::default();
    add(&redis, 5).await;
    read(&redis, 5).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(0));
    let added = add(&redis, 6).await;
    redis.execute(&format!("XDEL s {} {}", added[1], added[5])).await;
    // Redis reports no lag.
    let left = lag(&redis, &mut meter).await;
    assert!(left.is_estimate() && (1..=6).contains(&left.entries()), "{left:?}");
    read(&redis, 9).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(0));
    let added = add(&redis, 2).await;
    redis.execute(&format!("XDEL s {}", added.join(" "))).await;
    assert_eq!(lag(&redis, &mut meter).await, Lag::Exact(0));
    redis.execute("XTRIM s MAXLEN 0").await;
    assert_eq!(lag(&redis, &mut LagMeter::default()).await, Lag::Exact(0));
}
