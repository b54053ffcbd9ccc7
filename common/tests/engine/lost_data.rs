//! Entries that an instance has read but not decided when their data is lost.

use common::contract::streams;

use crate::support::{
    Answer, Deposit, Ledger, Redis, Service,
    redis::{command, copy},
    service::sources,
    until,
};

/// Makes the instance read and decide `lost`, and calls `act` before the commit.
async fn meanwhile(redis: &Redis, service: &Service, act: impl FnOnce() + Send + 'static) {
    service.ledger.meanwhile("lost", act);
    redis.deposit(&Deposit::new("lost", "c", 100)).await;
    until("it was decided", async || !service.ledger.saw_receipt("lost").is_empty()).await;
}

async fn only_the_later_deposit_counts(redis: &Redis, service: &Service) {
    redis.deposit(&Deposit::new("later", "c", 1)).await;
    until("the later one is counted", async || redis.total("c").await.is_some()).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.total("c").await, Some(1));
    assert_eq!(service.ledger.saw_receipt("lost").len(), 1, "it is dropped, not decided again");
    assert_eq!(redis.audited().await.len(), 1);
}

#[tokio::test]
async fn an_entry_that_was_flushed_after_it_was_read_has_no_effect() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let mut other = redis.blocking();
    meanwhile(&redis, &service, move || redis::cmd("FLUSHALL").exec(&mut other).unwrap()).await;
    only_the_later_deposit_counts(&redis, &service).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_flushed_entry_has_no_effect_even_if_the_groups_exist_again() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let mut other = redis.blocking();
    meanwhile(&redis, &service, move || {
        redis::cmd("FLUSHALL").exec(&mut other).unwrap();
        for stream in ["events:{order}_created", "events:{account}_wallet"] {
            let create = format!("XGROUP CREATE {stream} inventory_service 0 MKSTREAM");
            command(&create).exec(&mut other).unwrap();
        }
        let store = "SET {inventory}:store another";
        command(store).exec(&mut other).unwrap();
    })
    .await;
    only_the_later_deposit_counts(&redis, &service).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_entry_lost_in_a_power_loss_has_no_effect() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let saved = redis.data_dir().join("saved");
    copy(&redis.data_dir().join("appendonlydir"), &saved);
    service.ledger.meanwhile("lost", redis.power_loss(saved));
    redis.deposit(&Deposit::new("lost", "c", 100)).await;
    until("it was decided", async || !service.ledger.saw_receipt("lost").is_empty()).await;
    redis.reconnect();
    only_the_later_deposit_counts(&redis, &service).await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_entry_that_joins_a_batch_waiting_for_the_lease_has_no_effect() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.ask(Deposit::new("first", "c", 1)).await.unwrap();
    let mut lease = redis::cmd("SET");
    lease.arg("{inventory}:lease").arg(r#"[["gone","{inventory}:counter:c"]]"#);
    redis.run::<()>(&lease).await;
    let saved = redis.data_dir().join("saved");
    copy(&redis.data_dir().join("appendonlydir"), &saved);
    let power_loss = redis.power_loss(saved);
    let mut other = redis.blocking();
    // During this decision another entry arrives, and is lost.
    service.ledger.meanwhile("asked", move || {
        let key = streams::ORDER_CREATED.key();
        let mut add = redis::cmd("XADD");
        add.arg(key).arg("*").arg("entity").arg(Deposit::new("lost", "c", 100).json());
        add.exec(&mut other).unwrap();
        let pending = command(&format!("XPENDING {key} inventory_service - + 1"));
        while pending.query::<Vec<redis::Value>>(&mut other).unwrap().is_empty() {}
        power_loss();
    });
    let asked = service.ask(Deposit::new("asked", "c", 10)).await;
    assert_eq!(asked, Ok(Answer::Done(11)));
    redis.reconnect();
    redis.deposit(&Deposit::new("later", "c", 1)).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.total("c").await, Some(12));
    assert_eq!(service.ledger.saw_receipt("lost").len(), 0, "it is dropped, not decided");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_effect_lost_in_a_power_loss_is_not_acknowledged() {
    let redis = Redis::start();
    let service = Service::with(sources(&redis, &redis), "one", Ledger::default(), |context| {
        context.claim_idle_ms = 1_000;
    });
    service.ready().await;
    let (data, saved) = (redis.data_dir().join("appendonlydir"), redis.data_dir().join("saved"));
    let power_loss = redis.power_loss(saved.clone());
    let mut other = redis.blocking();
    // The append-only file contains the entry as pending for another consumer, because this
    // instance would find its own at once. The server ends as soon as the effect is written, some
    // milliseconds before the acknowledgement.
    service.ledger.meanwhile("a", move || {
        let claim = "local found = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1)[1] \
                     redis.call('XCLAIM', KEYS[1], ARGV[1], 'gone', 0, found[1])";
        let mut claim = redis::cmd("EVAL").arg(claim).arg(1).to_owned();
        claim.arg(streams::ORDER_CREATED.key()).arg("inventory_service");
        claim.exec(&mut other).expect("it is claimed");
        copy(&data, &saved);
    });
    redis.deposit(&Deposit::new("a", "c", 1)).await;
    until("its effect is written", async || redis.total("c").await.is_some()).await;
    // The engine runs on this thread as well, so it does nothing meanwhile.
    power_loss();
    redis.reconnect();
    until("it is decided again", async || service.ledger.saw_receipt("a").len() == 2).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.total("c").await, Some(1));
    assert_eq!(redis.audited().await.len(), 1);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn entries_of_another_server_are_dropped_when_that_server_loses_its_data() {
    let (own, upstream) = (Redis::start(), Redis::start());
    let store = |number: u8| {
        let mut set = redis::cmd("SET");
        set.arg("{order}:store").arg(format!("00000000-0000-0000-0000-00000000000{number} 1"));
        set
    };
    upstream.run::<()>(&store(1)).await;
    let service = Service::with(sources(&own, &upstream), "one", Ledger::default(), |_| {});
    service.ready().await;
    // The engine cannot commit, so the entry waits while its server is flushed.
    own.execute("SET {inventory}:counters string").await;
    upstream.deposit(&Deposit::new("lost", "c", 100)).await;
    service.in_trouble().await;
    upstream.execute("FLUSHALL").await;
    upstream.run::<()>(&store(2)).await;
    upstream.deposit(&Deposit::new("later", "c", 1)).await;
    until("it is delivered", async || upstream.pending(streams::ORDER_CREATED).await == Some(1))
        .await;
    own.execute("DEL {inventory}:counters").await;
    until("all is acknowledged", async || upstream.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(own.total("c").await, Some(1));
    assert_eq!(own.audited().await.len(), 1);
    service.stop().await.unwrap();
}
