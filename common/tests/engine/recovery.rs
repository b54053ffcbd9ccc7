//! What was delivered and not acknowledged: by this instance before it was restarted, or by another.

use common::events::Stream;

use crate::support::{Deposit, Ledger, Redis, Service, redis::command, service::sources, until};

const READ: Stream = Stream::OrderCreated;

/// Makes the group and has this consumer given so many entries, as if it had died then.
async fn deliver_to(redis: &Redis, consumer: &str, count: usize) {
    let group = "XGROUP CREATE events:{order}_created inventory_service 0 MKSTREAM";
    // It may be there already.
    let _ = redis.try_run::<()>(&command(group)).await;
    let read = format!(
        "XREADGROUP GROUP inventory_service {consumer} COUNT {count} STREAMS {} >",
        READ.key()
    );
    let given: Vec<redis::Value> = redis.ask(&read).await;
    assert_eq!(given.len(), 1);
}

async fn deposit(redis: &Redis, ids: std::ops::Range<usize>) {
    redis.deposit_all(ids.map(|n| Deposit::new(format!("d{n}"), "c", 1))).await;
}

#[tokio::test]
async fn what_was_pending_for_an_instance_is_handled_first_when_it_starts() {
    let redis = Redis::start();
    deposit(&redis, 0..600).await;
    deliver_to(&redis, "one", 500).await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(READ).await).await;
    assert_eq!(redis.audited().await.len(), 600);
    let ledger = service.stop().await.unwrap();
    assert!(ledger.decided().into_iter().eq((0..600).map(|n| format!("d{n}"))), "in their order");
}

#[tokio::test]
async fn what_a_dead_instance_left_pending_is_taken_over() {
    let redis = Redis::start();
    deposit(&redis, 0..300).await;
    deliver_to(&redis, "dead", 300).await;
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |life| life.claim_idle_ms = 200);
    deposit(&redis, 300..310).await;
    until("all is acknowledged", async || redis.is_through(READ).await).await;
    assert_eq!(redis.audited().await.len(), 310);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_living_instance_has_in_hand_is_left_to_it() {
    let redis = Redis::start();
    deposit(&redis, 0..10).await;
    deliver_to(&redis, "slow", 10).await;
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |life| life.claim_idle_ms = 3_600_000);
    deposit(&redis, 10..20).await;
    until("the others are handled", async || redis.total("c").await == Some(10)).await;
    service.stop().await.unwrap();
    assert_eq!(redis.pending(READ).await, Some(10));
}

#[tokio::test]
async fn entries_that_were_deleted_while_they_were_pending_block_nothing() {
    let redis = Redis::start();
    deposit(&redis, 0..4).await;
    deliver_to(&redis, "one", 2).await;
    deliver_to(&redis, "dead", 2).await;
    let ids: Vec<String> = redis.entries(READ).await.into_iter().map(|entry| entry.id).collect();
    redis.tell(&format!("XDEL {} {} {}", READ.key(), ids[0], ids[2])).await;
    let settings = sources(&redis, &redis);
    let service =
        Service::with(settings, "one", Ledger::default(), |life| life.claim_idle_ms = 200);
    until("nothing is pending", async || redis.pending(READ).await == Some(0)).await;
    assert!(redis.audited().await.keys().eq(["d1", "d3"]));
    let dead = redis.entries(Stream::Dead(common::events::Topic::Inventory)).await;
    assert!(dead.is_empty(), "{dead:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_under_traffic_and_starting_again_handles_everything_once() {
    let redis = Redis::start();
    let mut handled = 0;
    for round in 0..5 {
        deposit(&redis, round * 400..(round + 1) * 400).await;
        let service = Service::begin(&redis, "one");
        // Somewhere in the middle.
        until("some are handled", async || redis.total("c").await.unwrap_or(0) > handled).await;
        service.stop().await.unwrap();
        let receipts = redis.audited().await;
        handled = receipts.len() as u64;
        let pending = redis.pending(READ).await.unwrap();
        let delivered: Vec<redis::Value> =
            redis.ask(&format!("XPENDING {} inventory_service - + 10000", READ.key())).await;
        assert_eq!(delivered.len(), pending);
    }
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(READ).await).await;
    assert_eq!(redis.audited().await.len(), 2_000);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn streams_that_lie_in_another_redis_are_read_and_acknowledged_there() {
    let (own, others) = (Redis::start(), Redis::start());
    for n in 0..100 {
        others.deposit(&Deposit::new(format!("d{n}"), "c", 1)).await;
        others.append(Stream::AccountWallet, &Deposit::new(format!("w{n}"), "c", 1).json()).await;
    }
    let settings = sources(&own, &others);
    let service = Service::with(settings, "one", Ledger::default(), |_| {});
    until("all is acknowledged", async || {
        others.is_through(READ).await && others.is_through(Stream::AccountWallet).await
    })
    .await;
    assert_eq!(own.audited().await.len(), 200);
    let mut keys: Vec<String> = others.ask("KEYS *").await;
    keys.sort_unstable();
    assert_eq!(keys, ["events:{account}_wallet", "events:{order}_created"]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_hold_up_the_end() {
    let redis = Redis::start();
    // What keeps the first batch in the engine, so that others queue up behind it.
    redis.tell("HSET {inventory}:counter:blocked a hash").await;
    redis.deposit(&Deposit::new("blocked", "blocked", 1)).await;
    deposit(&redis, 0..1_200).await;
    let service = Service::begin(&redis, "one");
    until("they queue up", async || redis.pending(READ).await == Some(1_201)).await;
    redis.hang();
    service.stop().await.unwrap();
}
