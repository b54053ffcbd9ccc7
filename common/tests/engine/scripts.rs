//! The scripts alone, with handwritten arguments.

use redis::{Cmd, FromRedisValue as _, Value};

use crate::support::{Entry, Redis};
use common::contract::streams;

const COMMIT: &str = include_str!("../../src/engine/commit.lua");
const ACQUIRE_LEASE: &str = include_str!("../../src/engine/acquire_lease.lua");

pub(super) fn script(text: &str, keys: &[&str], arguments: &[&str]) -> Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg(text).arg(keys.len()).arg(keys).arg(arguments);
    eval
}

pub(super) fn set(key: &str, value: &str) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(value);
    set
}

async fn get(redis: &Redis, key: &str) -> Option<String> {
    redis.ask(&format!("GET {key}")).await
}

pub(super) fn bytes(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

const SENT: &str = "events:{message}_sent";

/// Two groups: `a` and `b`, of which `b` is only checked, and `c` and `d`, of which `d` is new.
fn two_groups() -> Cmd {
    two_groups_of("one", "")
}

fn two_groups_of(instance: &str, store: &str) -> Cmd {
    script(
        COMMIT,
        &[
            "{t}store",
            "{t}lease",
            "{t}a",
            "{t}b",
            "{t}c",
            "{t}d",
            SENT,
            "{t}list",
            "{t}before",
            "{t}after",
        ],
        &[
            &["2", "4", "1", "1", "2", store, instance, "60000"][..],
            &["2", "2"],
            &["5 ", "6 new a", "8 ", ""],
            &["3 ", "4 new c", "", "1 new d"],
            // No limits; the groups of nine items, in six runs.
            &["0", "9", "1", "2", "2", "1", "2", "1", "2", "1", "2", "6"],
            &["7", "2", "1", "event_id", "entity", "x", "1"],
            &["7", "3", "1", "event_id", "entity", "traceparent", "y", "2", "t"],
            &["7", "1", "1", "entity", "3"],
            &["8", "1", "2", "a", "d"],
            &["9", "1", "2", "a", "c"],
            &["10", "2", "2", "0", "a", "0", "c"],
        ]
        .concat(),
    )
}

async fn as_the_decisions_saw_them(redis: &Redis) {
    for (key, value) in [("{t}a", "5 old a"), ("{t}b", "8 old b"), ("{t}c", "3 old c")] {
        redis.run::<()>(&set(key, value)).await;
    }
    redis.execute("ZADD {t}before 0 a 0 c").await;
}

/// The members of the sorted sets that the groups move `a` and `c` between.
async fn sets(redis: &Redis) -> [Vec<String>; 2] {
    [redis.ask("ZRANGE {t}before 0 -1").await, redis.ask("ZRANGE {t}after 0 -1 WITHSCORES").await]
}

fn event_ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.field("entity").unwrap()).collect()
}

#[tokio::test]
async fn a_commit_writes_all_groups_with_unchanged_entities() {
    let redis = Redis::start();
    as_the_decisions_saw_them(&redis).await;
    let reply: Value = redis.run(&two_groups()).await;
    assert_eq!(reply, Value::Array(vec![Value::Int(1), Value::Int(1)]));
    assert_eq!(get(&redis, "{t}a").await.unwrap(), "6 new a");
    assert_eq!(get(&redis, "{t}b").await.unwrap(), "8 old b");
    assert_eq!(get(&redis, "{t}c").await.unwrap(), "4 new c");
    assert_eq!(get(&redis, "{t}d").await.unwrap(), "1 new d");
    let entries = redis.entries(streams::MESSAGE_SENT).await;
    assert_eq!(event_ids(&entries), ["1", "2", "3"]);
    assert_eq!(entries[0].field("event_id"), Some("x"));
    assert_eq!(entries[1].field("traceparent"), Some("t"));
    assert_eq!(entries[2].fields.len(), 1);
    assert_eq!(redis.ask::<Vec<String>>("LRANGE {t}list 0 -1").await, ["a", "d"]);
    assert_eq!(sets(&redis).await, [vec![], vec!["a", "0", "c", "0"]]);
}

#[tokio::test]
async fn a_group_in_conflict_writes_nothing_and_returns_the_current_values() {
    let redis = Redis::start();
    as_the_decisions_saw_them(&redis).await;
    // The group only checks this entity, and it still causes the conflict.
    redis.run::<()>(&set("{t}b", "88 other b")).await;
    let reply: Value = redis.run(&two_groups()).await;
    let conflict = Value::Array(vec![Value::Int(4), bytes("88 other b")]);
    assert_eq!(reply, Value::Array(vec![conflict, Value::Int(1)]));
    assert_eq!(get(&redis, "{t}a").await.unwrap(), "5 old a");
    assert_eq!(get(&redis, "{t}c").await.unwrap(), "4 new c");
    assert_eq!(event_ids(&redis.entries(streams::MESSAGE_SENT).await), ["2", "3"]);
    assert_eq!(redis.ask::<Vec<String>>("LRANGE {t}list 0 -1").await, ["d"]);
    assert_eq!(sets(&redis).await, [vec!["a"], vec!["c", "0"]]);
}

#[tokio::test]
async fn a_conflict_returns_all_changed_and_missing_entities() {
    let redis = Redis::start();
    as_the_decisions_saw_them(&redis).await;
    redis.execute("DEL {t}c").await;
    redis.run::<()>(&set("{t}d", "7 unexpected d")).await;
    let reply: Value = redis.run(&two_groups()).await;
    let conflict =
        Value::Array(vec![Value::Int(5), Value::Nil, Value::Int(6), bytes("7 unexpected d")]);
    assert_eq!(reply, Value::Array(vec![Value::Int(1), conflict]));
    assert_eq!(get(&redis, "{t}a").await.unwrap(), "6 new a");
    assert_eq!(get(&redis, "{t}c").await, None);
    assert_eq!(get(&redis, "{t}d").await.unwrap(), "7 unexpected d");
    assert_eq!(event_ids(&redis.entries(streams::MESSAGE_SENT).await), ["1"]);
    assert_eq!(redis.ask::<Vec<String>>("LRANGE {t}list 0 -1").await, ["a"]);
    assert_eq!(sets(&redis).await, [vec!["c"], vec!["a", "0"]]);
}

#[tokio::test]
async fn a_version_is_compared_in_all_digits() {
    let redis = Redis::start();
    as_the_decisions_saw_them(&redis).await;
    // The stored version starts with the digits of the expected one.
    redis.run::<()>(&set("{t}a", "55 other a")).await;
    let reply: Value = redis.run(&two_groups()).await;
    let conflict = Value::Array(vec![Value::Int(3), bytes("55 other a")]);
    assert_eq!(reply, Value::Array(vec![conflict, Value::Int(1)]));
}

/// Group 1 changes `e`; group 2 changes `a`, appends, joins the list and moves from set to set.
fn plain_group_and_full_group() -> Cmd {
    script(
        COMMIT,
        &["{t}store", "{t}lease", "{t}e", "{t}a", SENT, "{t}list", "{t}before", "{t}after"],
        &[
            &["2", "2", "1", "1", "2", "", "one", "60000"][..],
            &["1", "1"],
            &["", "1 new e", "5 ", "6 new a"],
            &["0", "4", "2", "2", "2", "2", "4"],
            &["5", "1", "1", "entity", "1"],
            &["6", "1", "1", "a"],
            &["7", "1", "1", "a"],
            &["8", "2", "1", "0", "a"],
        ]
        .concat(),
    )
}

/// All stored data in a comparable form.
async fn stored(redis: &Redis) -> Vec<String> {
    let dump = "local all = {} \
                for _, key in ipairs(redis.call('KEYS', '*')) do \
                  all[#all + 1] = key .. redis.sha1hex(redis.call('DUMP', key)) end \
                table.sort(all) return all";
    redis.run(&script(dump, &[], &[])).await
}

#[tokio::test]
async fn each_key_that_cannot_be_written_refuses_its_group_and_no_other() {
    let last = "18446744073709551615-18446744073709551615";
    for (put, reason) in [
        ("SET events:{message}_sent string", "WRONGTYPE events:{message}_sent is a string"),
        (&*format!("XADD {SENT} {last} entity x"), "EXHAUSTED events:{message}_sent"),
        ("SET {t}list string", "WRONGTYPE {t}list is a string"),
        ("HSET {t}list a hash", "WRONGTYPE {t}list is a hash"),
        ("SET {t}before string", "WRONGTYPE {t}before is a string"),
        ("RPUSH {t}after a-list", "WRONGTYPE {t}after is a list"),
    ] {
        let redis = Redis::start();
        redis.run::<()>(&set("{t}a", "5 old a")).await;
        redis.execute(put).await;
        let before = stored(&redis).await;
        let reply: Vec<Value> = redis.run(&plain_group_and_full_group()).await;
        assert_eq!(reply[0], Value::Int(1), "{put}");
        let Value::Array(refused) = &reply[1] else { panic!("{put}: {reply:?}") };
        let text = String::from_redis_value(refused[0].clone()).unwrap();
        assert!(text.starts_with(reason), "{text}");
        redis.execute("DEL {t}e").await;
        assert_eq!(stored(&redis).await, before, "{put}");
    }
}

#[tokio::test]
async fn each_missing_permission_refuses_its_group_and_no_other() {
    for command in ["xadd", "rpush", "zadd", "zrem"] {
        let redis = Redis::start();
        redis.run::<()>(&set("{t}a", "5 old a")).await;
        redis.execute("ZADD {t}before 0 a").await;
        let before = stored(&redis).await;
        redis.execute(&format!("ACL SETUSER limited on >pw ~* +@all -{command}")).await;
        let reply: Vec<Value> = redis.run_as("limited", "pw", &plain_group_and_full_group()).await;
        assert_eq!(reply[0], Value::Int(1), "{command}");
        let Value::Array(refused) = &reply[1] else { panic!("{command}: {reply:?}") };
        let text = String::from_redis_value(refused[0].clone()).unwrap();
        let expected = format!("NOPERM it has no permission to {}", command.to_uppercase());
        assert!(text.starts_with(&expected), "{text}");
        redis.execute("DEL {t}e").await;
        assert_eq!(stored(&redis).await, before, "{command}");
    }
}

#[tokio::test]
async fn a_read_only_server_refuses_all_groups_of_a_commit() {
    for (setting, back, code) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
        ("ACL SETUSER default -mset", "ACL SETUSER default +mset", "can't run this command"),
    ] {
        let redis = Redis::start();
        redis.run::<()>(&set("{t}a", "5 old a")).await;
        redis.execute("ZADD {t}before 0 a").await;
        let before = stored(&redis).await;
        redis.execute(setting).await;
        let error = redis.try_run::<Value>(&plain_group_and_full_group()).await.unwrap_err();
        assert!(format!("{:?} {error}", error.code()).contains(code), "{error:?}");
        redis.execute(back).await;
        assert_eq!(stored(&redis).await, before, "{setting}");
    }
}

#[tokio::test]
async fn an_entity_of_another_type_conflicts_and_its_type_is_named() {
    let redis = Redis::start();
    as_the_decisions_saw_them(&redis).await;
    redis.execute("HSET {t}d a hash").await;
    let reply: Value = redis.run(&two_groups()).await;
    let conflict = Value::Array(vec![Value::Int(-6), bytes("hash")]);
    assert_eq!(reply, Value::Array(vec![Value::Int(1), conflict]));
    assert_eq!(get(&redis, "{t}c").await.unwrap(), "3 old c");
}

#[tokio::test]
async fn a_store_with_another_identity_accepts_nothing() {
    let redis = Redis::start();
    as_the_decisions_saw_them(&redis).await;
    for found in [None, Some("another")] {
        if let Some(found) = found {
            redis.run::<()>(&set("{t}store", found)).await;
        }
        let before = stored(&redis).await;
        let error = redis.try_run::<Value>(&two_groups_of("one", "mine")).await.unwrap_err();
        assert_eq!(error.code(), Some("FENCED"), "{error}");
        assert_eq!(stored(&redis).await, before);
    }
    redis.run::<()>(&set("{t}store", "mine")).await;
    let reply: Value = redis.run(&two_groups_of("one", "mine")).await;
    assert_eq!(reply, Value::Array(vec![Value::Int(1), Value::Int(1)]));
}

/// Queues for the lease on these entities, and returns whether the instance holds it.
async fn acquire_lease(redis: &Redis, instance: &str, entities: &[&str]) -> bool {
    let keys = ["{t}lease", &format!("{{t}}lease:{instance}")];
    let arguments = [&[instance, "60000"], entities].concat();
    redis.run::<i64>(&script(ACQUIRE_LEASE, &keys, &arguments)).await == 1
}

#[tokio::test]
async fn instances_queue_for_the_lease_and_a_commit_wakes_the_next() {
    let redis = Redis::start();
    let reply = async |instance| -> Vec<Value> {
        as_the_decisions_saw_them(&redis).await;
        redis.execute("DEL {t}d").await;
        redis.run(&two_groups_of(instance, "")).await
    };
    let lease = async || get(&redis, "{t}lease").await.unwrap();
    let woken =
        async |instance| -> usize { redis.ask(&format!("LLEN {{t}}lease:{instance}")).await };
    assert!(acquire_lease(&redis, "one", &["{t}a"]).await);
    assert!(!acquire_lease(&redis, "two", &["{t}a"]).await);
    assert!(!acquire_lease(&redis, "three", &["{t}a"]).await);
    assert!(!acquire_lease(&redis, "two", &["{t}a", "{t}b"]).await, "it queues once");
    assert_eq!(lease().await, r#"[["one","{t}a"],["two","{t}a","{t}b"],["three","{t}a"]]"#);
    // The second group does not concern the lease.
    assert_eq!(reply("two").await, [Value::Int(0), Value::Int(1)]);
    assert_eq!((woken("one").await, woken("two").await), (1, 0));

    assert_eq!(reply("one").await, [Value::Int(1), Value::Int(1)]);
    assert_eq!(lease().await, r#"[["two","{t}a","{t}b"],["three","{t}a"]]"#);
    assert_eq!((woken("two").await, woken("three").await), (1, 0));
    // The next instance has lost a conflict: it keeps the lease, now on the entity of the conflict.
    redis.run::<()>(&set("{t}a", "4 older a")).await;
    let late: Vec<Value> = redis.run(&two_groups_of("two", "")).await;
    assert!(matches!(late[0], Value::Array(_)));
    assert_eq!(lease().await, r#"[["two","{t}a","{t}b","{t}c","{t}d"],["three","{t}a"]]"#);
    assert!(acquire_lease(&redis, "two", &["{t}a"]).await, "it still holds it");
    assert_eq!(woken("two").await, 1, "a wake-up that was not waited for is void");

    assert_eq!(reply("two").await, [Value::Int(1), Value::Int(1)]);
    assert_eq!(woken("three").await, 1);
    assert_eq!(reply("three").await, [Value::Int(1), Value::Int(1)]);
    crate::support::until("the lease is free", async || get(&redis, "{t}lease").await.is_none())
        .await;
}

#[tokio::test]
async fn foreign_values_at_the_lease_keys_stop_no_commit() {
    let redis = Redis::start();
    for lease in ["", "x", "1", "[]", "[1]", "{}", r#"{"1":2}"#, "[[]]", r#"[["one"],1]"#] {
        redis.run::<()>(&set("{t}lease", lease)).await;
        as_the_decisions_saw_them(&redis).await;
        redis.execute("DEL {t}d").await;
        let reply: Vec<Value> = redis.run(&two_groups()).await;
        assert_eq!(reply, [Value::Int(1), Value::Int(1)], "{lease}");
        redis.run::<()>(&set("{t}lease", lease)).await;
        if lease != "[[]]" {
            assert!(acquire_lease(&redis, "one", &["{t}a"]).await, "{lease}");
        }
    }
    redis.execute("DEL {t}lease {t}lease:one").await;
    redis.execute("RPUSH {t}lease x").await;
    redis.execute("SET {t}lease:one x").await;
    assert!(acquire_lease(&redis, "one", &["{t}a"]).await);
}

#[tokio::test]
async fn a_commit_of_events_alone_has_no_entities() {
    let redis = Redis::start();
    let arguments = [
        &["1", "0", "1", "0", "0", "", "one", "50", "0"][..],
        &["0", "1", "1", "1"],
        &["3", "1", "1", "entity", "1"],
    ]
    .concat();
    let reply: Value =
        redis.run(&script(COMMIT, &["{t}store", "{t}lease", SENT], &arguments)).await;
    assert_eq!(reply, Value::Array(vec![Value::Int(1)]));
    assert_eq!(event_ids(&redis.entries(streams::MESSAGE_SENT).await), ["1"]);
}

#[tokio::test]
async fn a_limit_counts_old_members_and_those_of_earlier_committed_groups() {
    let redis = Redis::start();
    // Members with a longer or different prefix do not count.
    redis.execute("ZADD {t}set 0 j/z 0 k 0 k0 0 kk/z 0 l/z").await;
    // Groups of one new entity each, which joins the set under the prefixes in its name; each
    // prefix may have three members in the set.
    let add = |names: &[&str]| {
        let groups = names.len();
        let (set, count) = ((3 + groups).to_string(), groups.to_string());
        let mut keys = vec!["{t}store".to_owned(), "{t}lease".to_owned()];
        keys.extend(names.iter().map(|name| format!("{{t}}{name}")));
        keys.push("{t}set".to_owned());
        let mut arguments =
            [&count, &count, "0", "0", "1", "", "one", "50"].map(str::to_owned).to_vec();
        arguments.extend(names.iter().map(|_| "1".to_owned()));
        arguments.extend(names.iter().flat_map(|name| [String::new(), format!("1 {name}")]));
        let joins = names.iter().enumerate().flat_map(|(group, name)| {
            let (prefixes, name) = name.split_once('/').unwrap();
            prefixes.chars().map(move |prefix| ((group + 1).to_string(), prefix, name))
        });
        let joins: Vec<(String, char, &str)> = joins.collect();
        let count = joins.len().to_string();
        arguments.push(count.clone());
        for (group, prefix, _) in &joins {
            let (least, greatest) = (format!("[{prefix}/"), format!("({prefix}0"));
            arguments.extend([group, &*set, "3", &least, &greatest].map(str::to_owned));
        }
        arguments.push(count.clone());
        arguments.extend(joins.iter().map(|(group, ..)| group.clone()));
        arguments.extend(["1", &*set, "2", &count].map(str::to_owned));
        for (_, prefix, name) in &joins {
            arguments.extend(["0".to_owned(), format!("{prefix}/{name}")]);
        }
        script(
            COMMIT,
            &keys.iter().map(String::as_str).collect::<Vec<_>>(),
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    let full = |limit| Value::Array(vec![Value::Int(limit)]);
    let members = async |prefix: &str| -> Vec<String> {
        redis.ask(&format!("ZRANGEBYLEX {{t}}set [{prefix}/ ({prefix}0")).await
    };
    let reply: Vec<Value> = redis.run(&add(&["k/a", "k/b"])).await;
    assert_eq!(reply, [Value::Int(1), Value::Int(1)]);
    // A group in conflict adds nothing: the reply has the current value, and there is room for the
    // next group.
    let reply: Vec<Value> = redis.run(&add(&["k/a", "k/c", "k/d"])).await;
    let conflict = Value::Array(vec![Value::Int(3), bytes("1 k/a")]);
    assert_eq!(reply, [conflict, Value::Int(1), full(1)]);
    assert_eq!(members("k").await, ["k/a", "k/b", "k/c"]);
    assert_eq!(get(&redis, "{t}k/d").await, None);
    let reply: Vec<Value> = redis.run(&add(&["k/d", "m/d"])).await;
    assert_eq!(reply, [full(1), Value::Int(1)]);
    redis.execute("ZREM {t}set k/a").await;
    let reply: Vec<Value> = redis.run(&add(&["k/d", "k/e"])).await;
    assert_eq!(reply, [Value::Int(1), full(1)]);
    // A group that reaches one of its limits uses no room under the others.
    let reply: Vec<Value> = redis.run(&add(&["mk/f", "mk/g", "m/h", "m/i", "m/j"])).await;
    assert_eq!(reply, [full(2), full(2), Value::Int(1), Value::Int(1), full(1)]);
    assert_eq!(members("m").await, ["m/d", "m/h", "m/i"]);
}

#[tokio::test]
async fn a_limit_in_a_set_of_another_type_refuses_its_group_and_no_other() {
    let redis = Redis::start();
    redis.execute("SET {t}set string").await;
    let keys = ["{t}store", "{t}lease", "{t}a", "{t}b", "{t}set"];
    // The first group has a limit and no item.
    let arguments = [
        &["2", "2", "0", "0", "1", "", "one", "50", "1", "1"][..],
        &["", "1 new a", "", "1 new b"],
        &["1", "1", "5", "3", "[k/", "(k0"],
        &["0", "0"],
    ]
    .concat();
    let reply: Vec<Value> = redis.run(&script(COMMIT, &keys, &arguments)).await;
    let refused = bytes("WRONGTYPE {t}set is a string and should be a zset");
    assert_eq!(reply, [Value::Array(vec![refused, Value::Int(5)]), Value::Int(1)]);
    assert_eq!((get(&redis, "{t}a").await, get(&redis, "{t}b").await.is_some()), (None, true));
}
