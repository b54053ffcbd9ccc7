//! `trim.lua` and `forget.lua` against a real Redis.

use redis::Value;

use crate::support::{Redis, redis::command};

use super::scripts::{bytes, script};

const TRIM: &str = include_str!("../../src/consumer/trim.lua");
const FORGET: &str = include_str!("../../src/consumer/forget.lua");

/// A stream of this number of entries, in nodes of ten: a trim removes whole nodes.
async fn filled(entries: usize) -> Redis {
    let redis = Redis::start();
    redis.execute("CONFIG SET stream-node-max-entries 10").await;
    // One round trip, to save time.
    let fill = "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], n .. '-0', 'field', 'value') end";
    redis.run::<()>(&script(fill, &["s"], &[&entries.to_string()])).await;
    redis
}

async fn read(redis: &Redis, group: &str, count: usize) {
    redis.execute(&format!("XREADGROUP GROUP {group} c COUNT {count} STREAMS s >")).await;
}

async fn trim(redis: &Redis, keep: &str, groups: &[&str]) -> i64 {
    trim_to(redis, keep, u64::MAX, groups).await
}

async fn trim_to(redis: &Redis, keep: &str, bytes: u64, groups: &[&str]) -> i64 {
    let bytes = bytes.to_string();
    let arguments: Vec<&str> = [keep, &bytes].into_iter().chain(groups.iter().copied()).collect();
    redis.run(&script(TRIM, &["s"], &arguments)).await
}

/// Trims until nothing is left to remove.
async fn trim_down(redis: &Redis, bytes: u64, groups: &[&str]) {
    while trim_to(redis, "1000000", bytes, groups).await > 0 {}
}

/// Appends entries of this size to the stream.
async fn append(redis: &Redis, entries: usize, bytes: usize) {
    let fill = "local value = string.rep('x', ARGV[2])
        for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'entity', value) end";
    redis.run::<()>(&script(fill, &["s"], &[&entries.to_string(), &bytes.to_string()])).await;
}

async fn acknowledge_all(redis: &Redis, group: &str) {
    type Entries = Vec<(String, Vec<String>)>;
    let entries: Entries = redis.ask("XRANGE s - +").await;
    let mut ack = redis::cmd("XACK");
    ack.arg("s").arg(group).arg(entries.iter().map(|(id, _)| id).collect::<Vec<_>>());
    redis.run::<u64>(&ack).await;
}

async fn size(redis: &Redis) -> u64 {
    redis.ask("MEMORY USAGE s SAMPLES 0").await
}

async fn length(redis: &Redis) -> u64 {
    redis.ask("XLEN s").await
}

async fn oldest(redis: &Redis) -> String {
    type Entries = Vec<(String, Vec<String>)>;
    redis.ask::<Entries>("XRANGE s - + COUNT 1").await.remove(0).0
}

#[tokio::test]
async fn trimming_removes_the_surplus_that_all_groups_have_acknowledged() {
    let redis = filled(1_000).await;
    for group in ["one", "two"] {
        redis.execute(&format!("XGROUP CREATE s {group} 0")).await;
        read(&redis, group, 1_000).await;
    }
    assert_eq!(trim(&redis, "100", &["one", "two"]).await, 0, "nothing is acknowledged");
    let ids: Vec<String> = (1..=1_000).map(|n| format!("{n}-0")).collect();
    for group in ["one", "two"] {
        assert_eq!(
            trim(&redis, "100", &["one", "two"]).await,
            0,
            "{group} has acknowledged nothing"
        );
        let mut ack = redis::cmd("XACK");
        ack.arg("s").arg(group).arg(&ids);
        assert_eq!(redis.run::<u64>(&ack).await, 1_000);
    }
    assert_eq!(trim(&redis, "1000", &["one", "two"]).await, 0, "all are to be kept");
    assert_eq!(trim(&redis, "100", &["one", "two"]).await, 900);
    assert_eq!(oldest(&redis).await, "901-0");
    assert_eq!(trim(&redis, "100", &["one", "two"]).await, 0);
}

#[tokio::test]
async fn trimming_stops_at_the_first_pending_entry() {
    let redis = filled(1_000).await;
    redis.execute("XGROUP CREATE s one 0").await;
    redis.execute("XGROUP CREATE s two 0").await;
    read(&redis, "one", 1_000).await;
    read(&redis, "two", 1_000).await;
    let mut ack = redis::cmd("XACK");
    ack.arg("s").arg("one").arg((1..=1_000).map(|n| format!("{n}-0")).collect::<Vec<_>>());
    redis.run::<u64>(&ack).await;
    let mut ack = redis::cmd("XACK");
    // All entries except the 96th.
    let others = (1..=1_000).filter(|n| *n != 96).map(|n| format!("{n}-0"));
    ack.arg("s").arg("two").arg(others.collect::<Vec<_>>());
    redis.run::<u64>(&ack).await;
    trim(&redis, "10", &["one", "two"]).await;
    assert_eq!(oldest(&redis).await, "91-0", "the node of the 96th stays whole");
}

#[tokio::test]
async fn trimming_stops_at_the_first_unread_entry() {
    let redis = filled(1_000).await;
    redis.execute("XGROUP CREATE s one 0").await;
    redis.execute("XGROUP CREATE s stranger 0").await;
    read(&redis, "one", 1_000).await;
    let mut ack = redis::cmd("XACK");
    ack.arg("s").arg("one").arg((1..=1_000).map(|n| format!("{n}-0")).collect::<Vec<_>>());
    redis.run::<u64>(&ack).await;
    assert_eq!(trim(&redis, "10", &["one"]).await, 0, "an unknown group counts as well");
    read(&redis, "stranger", 200).await;
    let mut ack = redis::cmd("XACK");
    ack.arg("s").arg("stranger").arg((1..=200).map(|n| format!("{n}-0")).collect::<Vec<_>>());
    redis.run::<u64>(&ack).await;
    trim(&redis, "10", &["one"]).await;
    assert_eq!(oldest(&redis).await, "191-0");
}

#[tokio::test]
async fn trimming_waits_for_the_groups_that_must_exist() {
    let redis = filled(1_000).await;
    redis.execute("XGROUP CREATE s one $").await;
    assert_eq!(trim(&redis, "10", &["one", "two"]).await, 0);
    assert_eq!(trim(&redis, "10", &["one"]).await, 990);
}

#[tokio::test]
async fn a_stream_without_groups_is_bounded_by_its_length() {
    let redis = filled(1_000).await;
    assert_eq!(trim(&redis, "100", &[]).await, 900);
    assert_eq!(oldest(&redis).await, "901-0");
    redis.execute("DEL s").await;
    assert_eq!(trim(&redis, "100", &[]).await, 0);
    redis.execute("SET s string").await;
    assert_eq!(trim(&redis, "100", &[]).await, 0);
}

#[tokio::test]
async fn one_call_removes_a_limited_number_and_repeated_calls_remove_the_rest() {
    let redis = filled(5_000).await;
    let first = trim(&redis, "100", &[]).await;
    assert!((1..4_900).contains(&first), "one call took {first}");
    while trim(&redis, "100", &[]).await > 0 {}
    assert_eq!(oldest(&redis).await, "4901-0");
}

#[tokio::test]
async fn a_stream_of_large_entries_is_bounded_by_its_bytes() {
    const LIMIT_BYTES: u64 = 1_000_000;
    /// Nodes are removed whole.
    const NODE_BYTES: u64 = 5_000;
    // Small then large, large then small, and all the same size.
    for rounds in [
        &[(3_000, 50), (300, 20_000)][..],
        &[(100, 40_000), (10_000, 50)],
        &[(150, 10), (100, 10_000), (150, 10)],
        &[(5_000, 1_000)],
    ] {
        let redis = Redis::start();
        redis.execute("XGROUP CREATE s one 0 MKSTREAM").await;
        for (entries, bytes) in rounds {
            append(&redis, *entries, *bytes).await;
        }
        let before = length(&redis).await;
        read(&redis, "one", 20_000).await;
        trim_down(&redis, LIMIT_BYTES, &["one"]).await;
        assert_eq!(length(&redis).await, before, "{rounds:?}: nothing is acknowledged");
        acknowledge_all(&redis, "one").await;
        trim_down(&redis, LIMIT_BYTES, &["one", "two"]).await;
        assert_eq!(length(&redis).await, before, "{rounds:?}: a group does not exist yet");
        let large = size(&redis).await;
        trim_down(&redis, large, &["one"]).await;
        assert_eq!(length(&redis).await, before, "{rounds:?}: it is as large as it may be");
        trim_down(&redis, LIMIT_BYTES, &["one"]).await;
        let after = size(&redis).await;
        assert!(after <= LIMIT_BYTES + NODE_BYTES, "{rounds:?}: {after} bytes of {large}");
        assert!(after > LIMIT_BYTES / 2, "{rounds:?}: {after} bytes of {large} are left");
    }
}

#[tokio::test]
async fn trimming_by_bytes_keeps_unhandled_entries_and_the_newest_entry() {
    let redis = Redis::start();
    redis.execute("XGROUP CREATE s one 0 MKSTREAM").await;
    append(&redis, 100, 10_000).await;
    read(&redis, "one", 60).await;
    acknowledge_all(&redis, "one").await;
    trim_down(&redis, 1, &["one"]).await;
    let left = length(&redis).await;
    assert!((40..=41).contains(&left), "{left} entries are left, 40 of them unread");
    read(&redis, "one", 100).await;
    acknowledge_all(&redis, "one").await;
    trim_down(&redis, 1, &["one"]).await;
    assert_eq!(length(&redis).await, 1, "the newest stays");
}

#[tokio::test]
async fn a_stream_without_groups_is_bounded_by_its_bytes() {
    let redis = Redis::start();
    append(&redis, 500, 10_000).await;
    trim_down(&redis, 1_000_000, &[]).await;
    let left = length(&redis).await;
    assert!((80..=100).contains(&left), "{left} entries of 10 kB in 1 MB");
    trim_down(&redis, 1, &[]).await;
    assert_eq!(length(&redis).await, 1, "the newest stays");
}

#[tokio::test]
async fn only_consumers_without_pending_entries_are_removed() {
    let redis = filled(20).await;
    for group in ["g", "other"] {
        redis.execute(&format!("XGROUP CREATE s {group} 0")).await;
        redis.execute(&format!("XGROUP CREATECONSUMER s {group} idle")).await;
        redis.execute(&format!("XREADGROUP GROUP {group} busy COUNT 5 STREAMS s >")).await;
    }
    let forget = async |stream: &str, idle: &str| -> u64 {
        redis.run(&script(FORGET, &[stream], &[idle])).await
    };
    assert_eq!(forget("s", "3600000").await, 0, "all were seen lately");
    crate::support::until("the idle ones are forgotten", async || {
        forget("s", "0").await;
        let mut names = Vec::new();
        for group in ["g", "other"] {
            let left: Vec<std::collections::BTreeMap<String, Value>> =
                redis.ask(&format!("XINFO CONSUMERS s {group}")).await;
            names.extend(left.into_iter().map(|consumer| consumer["name"].clone()));
        }
        names == [bytes("busy"), bytes("busy")]
    })
    .await;
    for group in ["g", "other"] {
        let pending: (u64, Value, Value, Value) =
            redis.run(&command(&format!("XPENDING s {group}"))).await;
        assert_eq!(pending.0, 5);
    }
    assert_eq!(forget("nothing", "0").await, 0);
}
