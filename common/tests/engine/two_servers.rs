//! The service's own store in one Redis and its source streams in another; either of them loses its
//! data or goes back in time.

use std::{collections::BTreeSet, fs};

use common::{consumer::Subscription, contract::streams, process::service::ServiceContext};

use crate::support::{Deposit, Ledger, Redis, Service, redis::copy, service::sources, until};

/// A short interval, so that checkpoints are saved while a test waits for them.
const CLAIM_IDLE: u64 = 200;

async fn start(own: &Redis, upstream: &Redis, instance: &str) -> Service {
    let service = Service::with(sources(own, upstream), instance, Ledger::default(), |context| {
        context.claim_idle_ms = CLAIM_IDLE;
    });
    service.ready().await;
    service
}

/// Deposits of 1 each, handled and acknowledged.
async fn deposit(own: &Redis, upstream: &Redis, kind: &str, count: usize, total: u64) {
    let deposits = (0..count).map(|n| Deposit::new(format!("{kind}{n}"), "c", 1));
    upstream.deposit_all(deposits).await;
    until("they are counted", async || own.total("c").await == Some(total)).await;
    until("they are acknowledged", async || upstream.is_through(streams::ORDER_CREATED).await)
        .await;
}

/// The group's checkpoint in the own store.
async fn checkpoint(own: &Redis) -> Option<String> {
    let checkpoint: Option<String> =
        own.ask("HGET {inventory}:bookmarks events:{order}_created").await;
    checkpoint.and_then(|text| text.split(' ').nth(2).map(str::to_owned))
}

async fn last_entry(upstream: &Redis) -> Option<String> {
    upstream.entries(streams::ORDER_CREATED).await.pop().map(|entry| entry.id)
}

async fn checkpoint_is_at_the_end(own: &Redis, upstream: &Redis) {
    until("the checkpoint is at the end", async || {
        checkpoint(own).await == last_entry(upstream).await
    })
    .await;
}

#[tokio::test]
async fn entries_are_read_again_from_the_start_after_the_store_was_emptied() {
    let (own, upstream) = (Redis::start(), Redis::start());
    let one = start(&own, &upstream, "one").await;
    let two = start(&own, &upstream, "two").await;
    deposit(&own, &upstream, "a", 300, 300).await;
    own.execute("FLUSHALL").await;
    until("all are counted again", async || own.total("c").await == Some(300)).await;
    // The same while no instance runs, and with another Redis in place of the old one.
    one.stop().await.unwrap();
    two.stop().await.unwrap();
    let own = Redis::start();
    let three = start(&own, &upstream, "three").await;
    until("all are counted again", async || own.total("c").await == Some(300)).await;
    deposit(&own, &upstream, "b", 10, 310).await;
    assert_eq!(own.audited().await.len(), 310);
    three.stop().await.unwrap();
}

#[tokio::test]
async fn entries_that_a_lost_store_knew_are_marked_and_later_ones_are_not() {
    let (own, upstream) = (Redis::start(), Redis::start());
    let start = async |instance: &str| {
        let mut context = ServiceContext::new(sources(&own, &upstream), instance);
        context.claim_idle_ms = CLAIM_IDLE;
        let subscription = Subscription {
            stream: streams::ORDER_CREATED,
            parse: |entry| match entry.forgotten {
                true => Ok(None),
                false => entry.parse().map(Some),
            },
        };
        let engine = context.start_engine(Ledger::default(), vec![subscription]);
        until("it is ready", async || context.health.ready().is_ok()).await;
        (context, engine)
    };
    let one = start("one").await;
    let two = start("two").await;
    deposit(&own, &upstream, "a", 50, 50).await;
    for round in 1..=3 {
        own.execute("FLUSHALL").await;
        until("there is a checkpoint again", async || checkpoint(&own).await.is_some()).await;
        // Entries of former rounds are not counted by any instance, and all new ones are.
        deposit(&own, &upstream, &format!("round{round}."), 20, 20).await;
    }
    for (context, engine) in [one, two] {
        drop(engine);
        context.stop().await.unwrap();
    }
    assert_eq!(own.audited().await.len(), 20);
}

#[tokio::test]
async fn another_upstream_store_is_read_from_the_start_without_double_effects() {
    let (own, upstream) = (Redis::start(), Redis::start());
    let set = async |number: u8| {
        let mut set = redis::cmd("SET");
        set.arg("{order}:store").arg(format!("00000000-0000-0000-0000-00000000000{number} 1"));
        upstream.run::<()>(&set).await;
    };
    let service = start(&own, &upstream, "one").await;
    // The transition from an unknown store is not a change.
    deposit(&own, &upstream, "a", 20, 20).await;
    set(1).await;
    until("the store is known", async || {
        let found: String = own.ask("HGET {inventory}:bookmarks events:{order}_created").await;
        found.starts_with("00000000-0000-0000-0000-000000000001 ") && !found.contains(" - ")
    })
    .await;
    assert_eq!(service.ledger.decided().len(), 20);
    set(2).await;
    let traces = |n: usize| service.ledger.saw_receipt(&format!("a{n}"));
    until("each is found done", async || (0..20).all(|n| traces(n).contains(&true))).await;
    assert_eq!(own.audited().await.len(), 20);
    // An emptied store has no groups: they are created at the start of the stream.
    upstream.execute("FLUSHALL").await;
    deposit(&own, &upstream, "b", 20, 40).await;
    assert_eq!(own.audited().await.len(), 40);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_comes_back_older_gets_the_missed_entries_only() {
    let (own, upstream) = (Redis::start(), Redis::start());
    let (data, backup) = (own.data_dir().join("appendonlydir"), own.data_dir().join("backup"));
    let service = start(&own, &upstream, "one").await;
    deposit(&own, &upstream, "a", 50, 50).await;
    checkpoint_is_at_the_end(&own, &upstream).await;
    own.kill();
    copy(&data, &backup);
    own.restart().await;
    deposit(&own, &upstream, "b", 30, 80).await;
    checkpoint_is_at_the_end(&own, &upstream).await;
    let decided = service.ledger.decided().len();

    own.kill();
    fs::remove_dir_all(&data).expect("removed");
    copy(&backup, &data);
    own.restart().await;
    until("they are counted again", async || own.total("c").await == Some(80)).await;
    assert_eq!(own.audited().await.len(), 80);
    let again: BTreeSet<String> = service.ledger.decided().drain(decided..).collect();
    assert_eq!(again.len(), 30, "{again:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_without_loss_repeats_almost_nothing() {
    let (own, upstream) = (Redis::start(), Redis::start());
    let service = start(&own, &upstream, "one").await;
    deposit(&own, &upstream, "a", 200, 200).await;
    checkpoint_is_at_the_end(&own, &upstream).await;
    let decided = service.ledger.decided().len();
    upstream.restart().await;
    service.ready().await;
    deposit(&own, &upstream, "b", 1, 201).await;
    own.restart().await;
    deposit(&own, &upstream, "c", 1, 202).await;
    let again: BTreeSet<String> = service.ledger.decided().drain(decided..).collect();
    // The new entries, and those after the last checkpoint.
    assert_eq!(again, ["b0", "c0"].map(str::to_owned).into());
    service.stop().await.unwrap();
    let service = start(&own, &upstream, "one").await;
    deposit(&own, &upstream, "d", 1, 203).await;
    let decided: BTreeSet<String> = service.ledger.decided().into_iter().collect();
    assert!(!decided.contains("a0"), "{decided:?}");
    service.stop().await.unwrap();
}
