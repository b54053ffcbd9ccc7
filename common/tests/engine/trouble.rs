//! Readiness, and the refusal of commands, while a Redis fails.

use std::time::{Duration, Instant};

use common::{contract::streams, engine::SubmitError};

use crate::support::{Answer, Deposit, Ledger, Redis, Service, service::sources, until};

/// Whether a command is refused without an attempt.
async fn is_refused_at_once(service: &Service, id: &str) -> bool {
    let asked = Instant::now();
    let answer = service.ask(Deposit::new(id, "c", 1)).await;
    answer == Err(SubmitError::Unavailable) && asked.elapsed() < Duration::from_millis(500)
}

#[tokio::test]
async fn commands_are_taken_while_the_redis_of_another_owner_is_away() {
    let (own, others) = (Redis::start(), Redis::start());
    let service = Service::with(sources(&own, &others), "one", Ledger::default(), |_| {});
    service.ready().await;
    service.ask(Deposit::new("a", "c", 1)).await.unwrap();
    others.kill();
    service.in_trouble().await;
    assert_eq!(service.ask(Deposit::new("b", "c", 1)).await, Ok(Answer::Done(2)));
    assert_eq!(service.context.health.ready(), Err("Redis is failing, see the log"));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn commands_are_answered_while_acknowledgements_hang_in_anothers_redis() {
    let (own, others) = (Redis::start(), Redis::start());
    let service = Service::with(sources(&own, &others), "one", Ledger::default(), |_| {});
    service.ready().await;
    // The server hangs from the decision on, which is before the acknowledgement.
    let mut other = others.blocking();
    service.ledger.meanwhile("entry", move || {
        redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("ALL").exec(&mut other).unwrap();
    });
    others.append(streams::ACCOUNT_WALLET, &Deposit::new("entry", "c", 1).json()).await;
    until("the entry has its effect", async || own.total("c").await == Some(1)).await;
    for number in 2..5 {
        let answer = service.ask(Deposit::new(format!("a{number}"), "c", 1)).await;
        assert_eq!(
            answer,
            Ok(Answer::Done(number)),
            "the engine does not wait for the other Redis"
        );
    }
    drop(others);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_outage_of_the_own_redis_shows_and_ends_without_the_other_redis() {
    let (own, others) = (Redis::start(), Redis::start());
    let service = Service::with(sources(&own, &others), "one", Ledger::default(), |_| {});
    service.ready().await;
    own.kill();
    until("commands are refused at once", async || is_refused_at_once(&service, "b").await).await;
    for number in 0..5 {
        assert!(is_refused_at_once(&service, &format!("c{number}")).await);
        assert!(service.context.health.ready().is_err());
    }
    own.restart().await;
    until("commands work again", async || service.ask(Deposit::new("d", "c", 1)).await.is_ok())
        .await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn readiness_reports_a_blocked_engine_although_the_reader_gets_answers() {
    let redis = Redis::start();
    redis.execute("SET {inventory}:counters string").await;
    redis.deposit(&Deposit::new("a", "c", 1)).await;
    let service = Service::begin(&redis, "one");
    service.in_trouble().await;
    for number in 0..20 {
        redis.deposit(&Deposit::new(format!("b{number}"), "c", 1)).await;
        until("it is delivered", async || {
            redis.pending(streams::ORDER_CREATED).await == Some(number + 2)
        })
        .await;
        assert_eq!(service.context.health.ready(), Err("Redis is failing, see the log"));
    }
    redis.execute("DEL {inventory}:counters").await;
    service.ready().await;
    service.stop().await.unwrap();
}
