//! Obstacles by an operator, a full memory or a wrong setting: no effect is partial, and work
//! resumes once the obstacle is gone.

use common::{
    contract::streams::{self, topics},
    engine::SubmitError,
};
use stack::RedisOptions;

use crate::support::{
    Deposit, How, Ledger, Redis, Service,
    redis::command,
    service::{Tally, sources},
    until,
};

#[tokio::test]
async fn a_flushed_script_is_loaded_again() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    for round in 0..50 {
        let flush = command("SCRIPT FLUSH");
        let deposits = (0..20).map(|n| Deposit::new(format!("d{round}.{n}"), "c", 1));
        let (answers, ()) = tokio::join!(service.ask_all(deposits), redis.run(&flush));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(service.context.health.ready().is_ok());
    }
    assert_eq!(redis.audited().await.len(), 1_000);
    assert!(redis.calls("script|load").await > 1);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_hash_at_the_key_of_an_entity_fails_only_its_own_inputs() {
    its_own_fault("HSET {inventory}:counter:bad a hash", How::Plain, "is at fault").await;
}

#[tokio::test]
async fn a_hash_at_the_list_of_one_entity_fails_only_its_own_inputs() {
    its_own_fault("HSET {inventory}:receipts-of:bad a hash", How::Listed, "cannot be written")
        .await;
}

#[tokio::test]
async fn a_hash_at_the_record_of_a_dead_letter_stops_no_instance() {
    let redis = Redis::start();
    let (poison, suspect) = ("9999999999999-0", "9999999999999-1");
    for (kind, id) in [("dead", poison), ("suspect", suspect)] {
        let key = format!("{{inventory}}:{kind}:{}:{id}", streams::ORDER_CREATED.key());
        redis.execute(&format!("HSET {key} a hash")).await;
    }
    redis.execute(&format!("XADD {} {poison} entity nope", streams::ORDER_CREATED.key())).await;
    let good = Deposit::new("good", "c", 1).json();
    let mut add = redis::cmd("XADD");
    add.arg(streams::ORDER_CREATED.key()).arg(suspect).arg("entity").arg(good);
    redis.run::<()>(&add).await;
    // The entry looks as if it had killed processes.
    let group = topics::INVENTORY.service();
    redis.execute(&format!("XGROUP CREATE {} {group} 0", streams::ORDER_CREATED.key())).await;
    for _ in 0..6 {
        let read = format!(
            "XREADGROUP GROUP {group} one COUNT 9 STREAMS {}",
            streams::ORDER_CREATED.key()
        );
        redis.execute(&format!("{read} >")).await;
        redis.execute(&format!("{read} 0")).await;
    }
    let service = Service::begin(&redis, "one");
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.total("c").await, Some(1));
    let dead = redis.entries(topics::INVENTORY.dead_letters()).await;
    // Without its record, a letter may be written again before its entry is acknowledged.
    assert!(!dead.is_empty());
    assert!(dead.iter().all(|letter| letter.entity()["entry"] == poison), "{dead:?}");
    service.ready().await;
    service.stop().await.unwrap();
}

/// Deposits into `bad` fail, and those into other counters of the same batch succeed.
async fn its_own_fault(put: &str, how: How, what: &str) {
    let redis = Redis::start();
    redis.execute(put).await;
    let counter = |n| if n % 3 == 0 { "bad" } else { "good" };
    let deposits = (0..9).map(|n| Deposit::new(format!("d{n}"), counter(n), 1).how(how));
    redis.deposit_all(deposits).await;
    let service = Service::begin(&redis, "one");
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.total("good").await, Some(6), "{what}");
    let dead = redis.entries(topics::INVENTORY.dead_letters()).await;
    let reasons: Vec<String> =
        dead.iter().map(|it| it.entity()["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.iter().all(|it| it.contains("bad") && it.contains("hash")), "{reasons:?}");
    let asked = service.ask(Deposit::new("asked", "bad", 1).how(how)).await;
    assert!(
        matches!(&asked, Err(SubmitError::Invalid(reason)) if reason.contains("hash")),
        "{asked:?}"
    );
    assert!(service.context.health.ready().is_ok());
    assert_eq!(redis.total("good").await, Some(6));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_hash_is_also_detected_by_a_decision_without_changes() {
    let redis = Redis::start();
    redis.execute("HSET {inventory}:receipt:a a hash").await;
    let service = Service::start(&redis, "one").await;
    let asked = service.ask(Deposit::new("a", "c", 0).how(How::Asking)).await;
    assert!(
        matches!(&asked, Err(SubmitError::Invalid(reason)) if reason.contains("hash")),
        "{asked:?}"
    );
    service.stop().await.unwrap();
}

#[tokio::test]
async fn inputs_that_do_not_need_the_unwritable_key_succeed() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    assert!(service.ask(Deposit::new("first", "old", 1)).await.is_ok());
    // A new counter joins the list, and an existing one does not.
    redis.execute("RENAME {inventory}:counters aside").await;
    redis.execute("SET {inventory}:counters string").await;
    redis.deposit(&Deposit::new("parked", "new", 1)).await;
    service.in_trouble().await;
    redis.deposit_all((0..20).map(|n| Deposit::new(format!("d{n}"), "old", 1))).await;
    until("they are counted", async || redis.total("old").await == Some(21)).await;
    assert!(service.context.health.ready().is_err());
    assert_eq!(redis.pending(streams::ORDER_CREATED).await.map(|it| it > 0), Some(true));
    redis.execute("DEL {inventory}:counters").await;
    redis.execute("RENAME aside {inventory}:counters").await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    service.ready().await;
    assert_eq!(redis.audited().await.len(), 22);
    service.stop().await.unwrap();
}

const LAST_ID: &str = "18446744073709551615-18446744073709551615";

#[tokio::test]
async fn a_stream_with_exhausted_ids_stops_its_inputs_until_it_is_repaired() {
    let add = format!("XADD events:{{inventory}}_check {LAST_ID} entity x");
    something_else_at(&add, "events:{inventory}_check").await;
}

#[tokio::test]
async fn readiness_reports_an_unwritable_key_until_it_is_repaired() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    redis.execute(&format!("XADD events:{{inventory}}_check {LAST_ID} entity x")).await;
    let asked = service.ask(Deposit::new("a", "c", 1)).await;
    assert_eq!(asked, Err(SubmitError::Unavailable));
    // No input arrives now, and other answers of Redis do not count as a recovery.
    let probes = redis.calls("set").await;
    until("it was looked at again", async || {
        assert!(service.context.health.ready().is_err());
        redis.calls("set").await > probes + 5
    })
    .await;
    assert!(written(&redis).await.iter().all(|key| key.starts_with("events:")));
    redis.execute(&format!("XDEL events:{{inventory}}_check {LAST_ID}")).await;
    redis.execute("XSETID events:{inventory}_check 1-0").await;
    service.ready().await;
    assert!(service.ask(Deposit::new("a", "c", 1)).await.is_ok());
    assert_eq!(redis.audited().await.len(), 1);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_string_at_the_key_of_a_stream_stops_all_until_it_is_removed() {
    something_else_at("SET events:{inventory}_check string", "events:{inventory}_check").await;
}

#[tokio::test]
async fn a_string_at_the_key_of_the_list_stops_all_until_it_is_removed() {
    something_else_at("SET {inventory}:counters string", "{inventory}:counters").await;
}

/// All keys except the store's identity, which the engine does not write.
async fn written(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = redis.ask("KEYS *").await;
    keys.retain(|name| !["{inventory}:store", "{inventory}:probe"].contains(&name.as_str()));
    keys.sort_unstable();
    keys
}

async fn something_else_at(put: &str, key: &str) {
    let redis = Redis::start();
    redis.execute(put).await;
    let counter = |n| format!("c{}", n % 3);
    redis.deposit_all((0..10).map(|n| Deposit::new(format!("d{n}"), &counter(n), 1))).await;
    let service = Service::begin(&redis, "one");
    service.in_trouble().await;
    assert_eq!(service.context.health.ready(), Err("Redis is failing, see the log"));
    // The engine keeps trying, and leaves nothing behind.
    let tried = redis.calls("evalsha").await;
    until("it was tried again", async || redis.calls("evalsha").await > tried + 2).await;
    let mut keys = written(&redis).await;
    keys.retain(|name| name != key);
    assert_eq!(keys, ["events:{account}_wallet", "events:{order}_created"], "nothing is written");
    until("all are read and none is acknowledged", async || {
        redis.pending(streams::ORDER_CREATED).await == Some(10)
    })
    .await;

    redis.run::<()>(&redis::cmd("DEL").arg(key).to_owned()).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.audited().await.len(), 10);
    service.ready().await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_reader_waits_while_a_string_is_at_the_key_of_its_stream() {
    let redis = Redis::start();
    redis.execute("SET events:{order}_created string").await;
    let service = Service::begin(&redis, "one");
    service.in_trouble().await;
    redis.execute("DEL events:{order}_created").await;
    redis.deposit(&Deposit::new("a", "c", 1)).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.total("c").await, Some(1));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn without_memory_nothing_is_partially_written_and_later_all_succeeds() {
    let redis = Redis::start();
    let counter = |n| format!("c{}", n % 3);
    redis.deposit_all((0..10).map(|n| Deposit::new(format!("d{n}"), &counter(n), 1))).await;
    let service = Service::begin(&redis, "one");
    let mut other = redis.blocking();
    // Between its read and its commit.
    service.ledger.meanwhile("d0", move || {
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec(&mut other).unwrap();
    });
    service.in_trouble().await;
    let tried = redis.calls("evalsha").await;
    until("it was tried again", async || redis.calls("evalsha").await > tried + 2).await;
    let keys = written(&redis).await;
    assert_eq!(keys, ["events:{account}_wallet", "events:{order}_created"], "nothing is written");
    until("all are read and none is acknowledged", async || {
        redis.pending(streams::ORDER_CREATED).await == Some(10)
    })
    .await;

    redis.execute("CONFIG SET maxmemory 0").await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.audited().await.len(), 10);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_entry_is_acknowledged_only_after_its_effect_is_written() {
    // Two servers, so that an acknowledgement could succeed while the commit does not.
    let (own, others) = (Redis::start(), Redis::start());
    let service = Service::with(sources(&own, &others), "one", Ledger::default(), |_| {});
    let held = Tally::default();
    let (mut blocking, tally) = (own.blocking(), held.clone());
    service.ledger.meanwhile("a", move || {
        redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").exec(&mut blocking).unwrap();
        tally.add();
    });
    others.deposit(&Deposit::new("a", "c", 1)).await;
    until("it is being committed", async || held.get() == 1).await;
    for n in 0..20 {
        others.deposit(&Deposit::new(format!("later{n}"), "c", 1)).await;
        until("it is read", async || others.pending(streams::ORDER_CREATED).await == Some(n + 2))
            .await;
    }
    own.execute("CLIENT UNPAUSE").await;
    until("all is acknowledged", async || others.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(own.audited().await.len(), 21);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_redis_with_an_eviction_policy_is_refused() {
    let policy = "allkeys-lru".to_owned();
    let redis =
        Redis::start_with(RedisOptions { maxmemory_policy: policy, ..RedisOptions::default() });
    let service = Service::begin(&redis, "one");
    let error = format!("{:#}", service.stop().await.unwrap_err());
    assert!(error.contains("its maxmemory-policy is allkeys-lru"), "{error}");
    assert!(error.contains("noeviction"), "{error}");
    let keys: Vec<String> = redis.ask("KEYS *").await;
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn a_redis_that_gets_an_eviction_policy_gets_no_new_groups() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    redis.execute("CONFIG SET maxmemory-policy allkeys-lru").await;
    redis.execute("FLUSHALL").await;
    service.in_trouble().await;
    redis.execute("CONFIG SET maxmemory-policy noeviction").await;
    redis.deposit(&Deposit::new("a", "c", 1)).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    let dead = redis.entries(topics::INVENTORY.dead_letters()).await;
    assert!(dead.is_empty(), "{dead:?}");
    service.stop().await.unwrap();
}
