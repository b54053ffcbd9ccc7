//! Redis dies or is emptied while instances work.

use std::{cell::Cell, collections::BTreeSet};

use common::{
    contract::streams::{self, topics},
    engine::SubmitError,
    schema::stream::Stream,
};
use stack::{Appendfsync, RedisOptions};

use crate::support::{Answer, Deposit, Redis, Service, redis::command, until};

#[tokio::test]
async fn accepted_inputs_survive_kills_of_redis_and_are_handled_once() {
    let redis = Redis::start();
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    let decisions = || one.ledger.decided().len() + two.ledger.decided().len();
    let stop = Cell::new(false);
    let traffic = async {
        let mut accepted = BTreeSet::new();
        for wave in 0.. {
            if stop.get() {
                break;
            }
            let deposits = |kind: &str| -> Vec<Deposit> {
                let id = |n| format!("{kind}{wave}.{n}");
                (0..20).map(|n| Deposit::new(id(n), &format!("c{}", n % 3), 1)).collect()
            };
            let (asked_one, asked_two) = (deposits("a"), deposits("b"));
            let appended = async {
                let mut appended = Vec::new();
                for deposit in deposits("e") {
                    // An entry whose XADD failed may have been appended.
                    if try_append(&redis, streams::ORDER_CREATED, &deposit).await {
                        appended.push(deposit.id);
                    }
                }
                appended
            };
            let (by_one, by_two, appended) = tokio::join!(
                one.ask_all(asked_one.clone()),
                two.ask_all(asked_two.clone()),
                appended
            );
            accepted.extend(appended);
            accepted.extend(answered(asked_one, by_one).chain(answered(asked_two, by_two)));
        }
        accepted
    };
    let kills = async {
        for _ in 0..5 {
            let before = decisions();
            until("there is traffic", async || decisions() > before + 200).await;
            redis.restart().await;
        }
        stop.set(true);
    };
    let (accepted, ()) = tokio::join!(traffic, kills);
    one.ready().await;
    two.ready().await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    let receipts = redis.audited().await;
    let lost: Vec<_> = accepted.iter().filter(|id| !receipts.contains_key(*id)).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(accepted.len() > 500, "{} were accepted", accepted.len());
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn after_every_flushall_no_event_is_missed() {
    let redis = Redis::start_with(RedisOptions {
        appendfsync: Appendfsync::Everysec,
        ..RedisOptions::default()
    });
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    let stop = Cell::new(false);
    // Entries that FLUSHALL may or may not delete.
    let noise = async {
        for wave in 0.. {
            if stop.get() {
                return;
            }
            let counter = format!("noise{wave}");
            let asked = (0..10).map(|n| Deposit::new(format!("a{wave}.{n}"), &counter, 1));
            let appended = async {
                for n in 0..10 {
                    let deposit = Deposit::new(format!("n{wave}.{n}"), &counter, 1);
                    assert!(try_append(&redis, streams::ORDER_CREATED, &deposit).await);
                }
            };
            let (answers, ()) = tokio::join!(one.ask_all(asked), appended);
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        }
    };
    let flushes = async {
        for round in 0..50 {
            redis.execute("FLUSHALL").await;
            let counter = format!("round{round}");
            for n in 0..20 {
                let deposit = Deposit::new(format!("r{round}.{n}"), &counter, 1);
                let stream =
                    if n % 4 == 0 { streams::ACCOUNT_WALLET } else { streams::ORDER_CREATED };
                assert!(try_append(&redis, stream, &deposit).await);
            }
            until("all is handled that came after the FLUSHALL", async || {
                redis.total(&counter).await == Some(20)
            })
            .await;
        }
        stop.set(true);
    };
    tokio::join!(noise, flushes);
    for stream in [streams::ORDER_CREATED, streams::ACCOUNT_WALLET] {
        until("all is acknowledged", async || redis.is_through(stream).await).await;
    }
    redis.audited().await;
    let dead = redis.entries(topics::INVENTORY.dead_letters()).await;
    assert!(dead.is_empty(), "{dead:?}");
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_destroyed_group_is_created_again() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    for round in 1..=5 {
        redis.execute("XGROUP DESTROY events:{order}_created inventory_service").await;
        redis.deposit(&Deposit::new(format!("d{round}"), "c", 1)).await;
        until("it is handled", async || redis.total("c").await == Some(round)).await;
    }
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.audited().await.len(), 5);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_used_at_once() {
    let redis =
        Redis::start_with(RedisOptions { appendfsync: Appendfsync::No, ..RedisOptions::default() });
    let service = Service::start(&redis, "one").await;
    for round in 0..3 {
        redis.deposit(&Deposit::new(format!("before{round}"), "c", 1)).await;
        until("it is handled", async || redis.total("c").await == Some(1)).await;
        redis.restart().await;
        assert_eq!(redis.total("c").await, None);
        redis.deposit(&Deposit::new(format!("after{round}"), "d", 1)).await;
        until("it is handled", async || redis.total("d").await == Some(1)).await;
        redis.execute("FLUSHALL").await;
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn constantly_broken_connections_cause_no_double_effects() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let mut accepted = 0;
    for round in 0..30 {
        let deposits =
            |kind| (0..30).map(move |n| Deposit::new(format!("{kind}{round}.{n}"), "c", 1));
        redis.deposit_all(deposits("e")).await;
        // All connections but the current one.
        let cut = command("CLIENT KILL TYPE normal SKIPME yes");
        let (answers, killed) =
            tokio::join!(service.ask_all(deposits("a")), redis.run::<u64>(&cut));
        assert!(killed > 0);
        let answered: Vec<String> = answered(deposits("a").collect(), answers).collect();
        accepted += answered.len();
    }
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    let receipts = redis.audited().await;
    assert_eq!(receipts.keys().filter(|id| id.starts_with('e')).count(), 900);
    assert!(receipts.len() - 900 >= accepted);
    service.stop().await.unwrap();
}

/// The deposits that were answered.
fn answered(
    deposits: Vec<Deposit>,
    answers: Vec<Result<Answer, SubmitError>>,
) -> impl Iterator<Item = String> {
    let answered = deposits.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok());
    answered.map(|(deposit, _)| deposit.id)
}

/// Appends the deposit if Redis is available. Returns whether that is certain.
async fn try_append(redis: &Redis, stream: Stream, deposit: &Deposit) -> bool {
    let mut add = command(&format!("XADD {} * entity", stream.key()));
    add.arg(deposit.json());
    redis.try_run::<String>(&add).await.is_ok()
}
