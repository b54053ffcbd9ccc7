//! Entries that were delivered and not acknowledged, by this instance before a restart or by
//! another one.

use common::{
    contract::streams::{self, topics},
    schema::stream::Stream,
};
use stack::RedisOptions;

use crate::{
    dead_letters::letters,
    support::{Deposit, Ledger, Redis, Service, redis::command, service::sources, until},
};

const SOURCE: Stream = streams::ORDER_CREATED;

/// Creates the group and delivers this number of entries to the consumer, as if it had died then.
async fn deliver_to(redis: &Redis, consumer: &str, count: usize) {
    let group = "XGROUP CREATE events:{order}_created inventory_service 0 MKSTREAM";
    // The group may exist already.
    let _ = redis.try_run::<()>(&command(group)).await;
    let read = format!(
        "XREADGROUP GROUP inventory_service {consumer} COUNT {count} STREAMS {} >",
        SOURCE.key()
    );
    let given: Vec<redis::Value> = redis.ask(&read).await;
    assert_eq!(given.len(), 1);
}

async fn deposit(redis: &Redis, ids: std::ops::Range<usize>) {
    redis.deposit_all(ids.map(|n| Deposit::new(format!("d{n}"), "c", 1))).await;
}

#[tokio::test]
async fn pending_entries_of_an_instance_are_handled_first_at_its_start() {
    let redis = Redis::start();
    deposit(&redis, 0..600).await;
    deliver_to(&redis, "one", 500).await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert_eq!(redis.audited().await.len(), 600);
    let ledger = service.stop().await.unwrap();
    assert!(ledger.decided().into_iter().eq((0..600).map(|n| format!("d{n}"))), "in their order");
}

#[tokio::test]
async fn pending_entries_of_a_dead_instance_are_taken_over() {
    let redis = Redis::start();
    deposit(&redis, 0..300).await;
    deliver_to(&redis, "dead", 300).await;
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |context| context.claim_idle_ms = 200);
    deposit(&redis, 300..310).await;
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert_eq!(redis.audited().await.len(), 310);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn pending_entries_of_a_live_instance_are_not_taken_over() {
    let redis = Redis::start();
    deposit(&redis, 0..10).await;
    deliver_to(&redis, "slow", 10).await;
    let settings = sources(&redis, &redis);
    let service = Service::with(settings, "one", Ledger::default(), |context| {
        context.claim_idle_ms = 3_600_000
    });
    deposit(&redis, 10..20).await;
    until("the others are handled", async || redis.total("c").await == Some(10)).await;
    service.stop().await.unwrap();
    assert_eq!(redis.pending(SOURCE).await, Some(10));
}

#[tokio::test]
async fn entries_deleted_while_pending_block_nothing_and_are_dead_lettered_once() {
    let redis = Redis::start();
    deposit(&redis, 0..6).await;
    deliver_to(&redis, "one", 2).await;
    deliver_to(&redis, "dead", 4).await;
    let ids: Vec<String> = redis.entries(SOURCE).await.into_iter().map(|entry| entry.id).collect();
    redis.execute(&format!("XDEL {} {} {}", SOURCE.key(), ids[0], ids[2])).await;
    // Trimming removes the first remaining entries, among them one more that is pending for the
    // dead instance.
    redis.execute(&format!("XTRIM {} MINID {}", SOURCE.key(), ids[4])).await;
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |context| context.claim_idle_ms = 200);
    until("nothing is pending", async || redis.pending(SOURCE).await == Some(0)).await;
    assert!(redis.audited().await.keys().eq(["d4", "d5"]));
    let letters = letters(&redis).await;
    assert!(letters.keys().eq(&ids[..4]), "{letters:?}");
    for letter in letters.values() {
        assert!(letter.reason.contains("deleted while it was pending"), "{letter:?}");
        assert!(letter.fields.is_empty(), "{letter:?}");
    }
    assert!(service.metrics().contains("engine_lost_entries_total 4"), "{}", service.metrics());
    service.stop().await.unwrap();
}

/// The pending entry in the group's list: its consumer and the number of its deliveries.
async fn listed(redis: &Redis, id: &str) -> Option<(String, u64)> {
    let list = format!("XPENDING {} inventory_service {id} {id} 1", SOURCE.key());
    let rows: Vec<(String, String, u64, u64)> = redis.ask(&list).await;
    rows.into_iter().next().map(|(_, consumer, _, deliveries)| (consumer, deliveries))
}

#[tokio::test]
async fn a_dead_instance_is_taken_over_although_the_clock_of_redis_went_back() {
    let args = ["--enable-debug-command", "yes"].map(str::to_owned).into();
    let redis = Redis::start_with(RedisOptions { args, ..RedisOptions::default() });
    deposit(&redis, 0..3).await;
    deliver_to(&redis, "dead", 3).await;
    redis.deliver_in_the_future(SOURCE).await;
    let idle = format!("XPENDING {} inventory_service IDLE 1 - + 10", SOURCE.key());
    assert!(redis.ask::<Vec<redis::Value>>(&idle).await.is_empty(), "nothing is idle");
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |context| context.claim_idle_ms = 200);
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert_eq!(redis.audited().await.len(), 3);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn entries_of_a_consumer_that_was_removed_are_delivered_again() {
    let redis = Redis::start();
    deposit(&redis, 0..3).await;
    deliver_to(&redis, "removed", 3).await;
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |context| context.claim_idle_ms = 3_000);
    service.ready().await;
    let before = redis.calls("xpending").await;
    until("a round has seen them", async || redis.calls("xpending").await > before + 1).await;
    redis.execute(&format!("XGROUP DELCONSUMER {} inventory_service removed", SOURCE.key())).await;
    until("they are handled", async || redis.total("c").await == Some(3)).await;
    assert_eq!(redis.audited().await.len(), 3);
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert!(service.context.metrics().contains("engine_lost_entries_total 3"));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_entry_that_waits_for_its_redis_is_not_blamed_for_restarts() {
    let redis = Redis::start();
    // The entry cannot be committed, and its service is restarted several times meanwhile.
    redis.execute("SET {inventory}:counters string").await;
    deposit(&redis, 0..1).await;
    for _ in 0..6 {
        let service = Service::begin(&redis, "one");
        service.in_trouble().await;
        let id = redis.entries(SOURCE).await.remove(0).id;
        until("it is not blamed", async || {
            let deaths: Option<u64> = redis.run(redis::cmd("GET").arg(suspect_key(&id))).await;
            deaths.unwrap_or(0) == 0
        })
        .await;
        delivered(&redis, &id, "one", 40).await;
        drop(service.engine);
        // As after SIGKILL: no work is finished.
        service.context.shutdown.cancel();
        let _ = service.context.stop().await;
    }
    redis.execute("DEL {inventory}:counters").await;
    let service = Service::begin(&redis, "one");
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert_eq!(redis.audited().await.len(), 1);
    assert!(redis.entries(topics::INVENTORY.dead_letters()).await.is_empty());
    service.stop().await.unwrap();
}

/// Makes an entry look as if it had been delivered this number of times.
async fn delivered(redis: &Redis, id: &str, consumer: &str, deliveries: u64) {
    let claim = format!(
        "XCLAIM {} inventory_service {consumer} 0 {id} RETRYCOUNT {deliveries} JUSTID",
        SOURCE.key()
    );
    redis.execute(&claim).await;
    assert_eq!(listed(redis, id).await, Some((consumer.to_owned(), deliveries)));
}

fn suspect_key(id: &str) -> String {
    format!("{{inventory}}:suspect:{}:{id}", SOURCE.key())
}

#[tokio::test]
async fn an_entry_that_was_delivered_often_is_handled_alone_and_before_all_others() {
    let redis = Redis::start();
    deposit(&redis, 0..20).await;
    deliver_to(&redis, "one", 10).await;
    let ids: Vec<String> = redis.entries(SOURCE).await.into_iter().map(|entry| entry.id).collect();
    delivered(&redis, &ids[7], "one", 5).await;
    delivered(&redis, &ids[3], "one", 40).await;
    delivered(&redis, &ids[4], "one", 4).await;
    let ledger = Ledger::default();
    let alone = ids[7].clone();
    let mut second = redis.blocking();
    ledger.meanwhile("d7", move || {
        let deaths: String = redis::cmd("GET").arg(suspect_key(&alone)).query(&mut second).unwrap();
        assert_eq!(deaths, "1", "a death would count");
    });
    let service = Service::with(sources(&redis, &redis), "one", ledger, |_| {});
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert_eq!(redis.audited().await.len(), 20);
    assert!(letters(&redis).await.is_empty());
    for id in [&ids[3], &ids[7]] {
        until("it is innocent", async || {
            redis.ask::<String>(&format!("GET {}", suspect_key(id))).await == "0"
        })
        .await;
        let left: i64 = redis.ask(&format!("TTL {}", suspect_key(id))).await;
        assert!((1..=24 * 3_600).contains(&left), "{left}");
    }
    assert!(redis.ask::<Option<String>>(&format!("GET {}", suspect_key(&ids[4]))).await.is_none());
    let mut decided = service.stop().await.unwrap().decided();
    decided[..2].sort();
    assert_eq!(decided[..4], ["d3", "d7", "d0", "d1"], "{decided:?}");
}

#[tokio::test]
async fn an_entry_of_which_processes_died_alone_is_dead_lettered_unread() {
    let redis = Redis::start();
    deposit(&redis, 0..5).await;
    deliver_to(&redis, "one", 3).await;
    deliver_to(&redis, "dead", 2).await;
    let ids: Vec<String> = redis.entries(SOURCE).await.into_iter().map(|entry| entry.id).collect();
    for (id, consumer, deaths) in [(&ids[1], "one", 3), (&ids[2], "one", 2), (&ids[3], "dead", 3)] {
        delivered(&redis, id, consumer, 8).await;
        redis.execute(&format!("SET {} {deaths}", suspect_key(id))).await;
    }
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |context| context.claim_idle_ms = 200);
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    let receipts = redis.audited().await;
    assert!(receipts.keys().eq(["d0", "d2", "d4"]), "{receipts:?}");
    let letters = letters(&redis).await;
    assert!(letters.keys().eq([&ids[1], &ids[3]]), "{letters:?}");
    for letter in letters.values() {
        assert!(letter.reason.contains("3 processes died"), "{letter:?}");
        assert!(letter.fields.is_empty(), "{letter:?}");
    }
    let ledger = service.stop().await.unwrap();
    assert!(!ledger.decided().contains(&"d1".to_owned()), "it was read");
}

#[tokio::test]
async fn an_entry_that_the_process_survives_is_never_dead_lettered() {
    let redis = Redis::start();
    deposit(&redis, 0..1).await;
    deliver_to(&redis, "one", 1).await;
    let id = redis.entries(SOURCE).await[0].id.clone();
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |context| context.claim_idle_ms = 60);
    until("it is acknowledged", async || redis.is_through(SOURCE).await).await;
    // The process survives however often the entry becomes pending.
    for round in 0..4 {
        delivered_again(&redis, &id).await;
        until("it is handled alone", async || {
            let key = suspect_key(&id);
            redis.is_through(SOURCE).await
                && redis.ask::<Option<String>>(&format!("GET {key}")).await.as_deref() == Some("0")
        })
        .await;
        assert!(letters(&redis).await.is_empty(), "round {round}");
        redis.execute(&format!("DEL {}", suspect_key(&id))).await;
    }
    assert_eq!(redis.audited().await.len(), 1);
    service.stop().await.unwrap();
}

async fn delivered_again(redis: &Redis, id: &str) {
    let claim = format!(
        "XCLAIM {} inventory_service gone 0 {id} FORCE RETRYCOUNT 100 JUSTID",
        SOURCE.key()
    );
    redis.execute(&claim).await;
}

#[tokio::test]
async fn a_restart_under_traffic_handles_every_entry_once() {
    let redis = Redis::start();
    let mut handled = 0;
    for round in 0..5 {
        deposit(&redis, round * 400..(round + 1) * 400).await;
        let service = Service::begin(&redis, "one");
        // At some point in the middle.
        until("some are handled", async || redis.total("c").await.unwrap_or(0) > handled).await;
        service.stop().await.unwrap();
        let receipts = redis.audited().await;
        handled = receipts.len() as u64;
        let pending = redis.pending(SOURCE).await.unwrap();
        let delivered: Vec<redis::Value> =
            redis.ask(&format!("XPENDING {} inventory_service - + 10000", SOURCE.key())).await;
        assert_eq!(delivered.len(), pending);
    }
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(SOURCE).await).await;
    assert_eq!(redis.audited().await.len(), 2_000);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn streams_in_another_redis_are_read_and_acknowledged_there() {
    let (own, others) = (Redis::start(), Redis::start());
    for n in 0..100 {
        others.deposit(&Deposit::new(format!("d{n}"), "c", 1)).await;
        others.append(streams::ACCOUNT_WALLET, &Deposit::new(format!("w{n}"), "c", 1).json()).await;
    }
    let settings = sources(&own, &others);
    let service = Service::with(settings, "one", Ledger::default(), |_| {});
    until("all is acknowledged", async || {
        others.is_through(SOURCE).await && others.is_through(streams::ACCOUNT_WALLET).await
    })
    .await;
    assert_eq!(own.audited().await.len(), 200);
    let mut keys: Vec<String> = others.ask("KEYS *").await;
    keys.sort_unstable();
    assert_eq!(keys, ["events:{account}_wallet", "events:{order}_created"]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_delay_the_shutdown() {
    let redis = Redis::start();
    // Keeps the first batch in the engine, so that other entries wait behind it.
    redis.execute("SET {inventory}:counters string").await;
    redis.deposit(&Deposit::new("blocked", "blocked", 1)).await;
    deposit(&redis, 0..1_200).await;
    let service = Service::begin(&redis, "one");
    until("they queue up", async || redis.pending(SOURCE).await == Some(1_201)).await;
    redis.hang();
    service.stop().await.unwrap();
}
