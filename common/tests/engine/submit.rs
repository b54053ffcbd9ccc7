//! Commands: waiting callers, disconnected callers, and the answers while Redis is away.

use common::engine::SubmitError;

use crate::support::{Answer, Deposit, Redis, Service, service::Tally, until};

/// Makes Redis block every write from the decision about the deposit until `CLIENT UNPAUSE`.
fn hold_the_commit_of(id: &str, service: &Service, redis: &Redis) -> Tally {
    let tally = Tally::default();
    let mut other = redis.blocking();
    let inner = tally.clone();
    service.ledger.meanwhile(id, move || {
        redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").exec(&mut other).unwrap();
        inner.add();
    });
    tally
}

#[tokio::test]
async fn a_command_whose_caller_left_before_the_engine_took_it_is_dropped() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let held = hold_the_commit_of("first", &service, &redis);
    let first = service.ask_aside(Deposit::new("first", "c", 1));
    until("the first is being committed", async || held.get() == 1).await;
    let gone = service.ask_aside(Deposit::new("gone", "c", 1));
    let stays = service.ask_aside(Deposit::new("stays", "c", 1));
    // Both are in the queue once each task has run to its first wait.
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    redis.execute("CLIENT UNPAUSE").await;
    assert_eq!(first.await.unwrap(), Ok(Answer::Done(1)));
    assert_eq!(stays.await.unwrap(), Ok(Answer::Done(2)));
    assert_eq!(service.stop().await.unwrap().decided(), ["first", "stays"]);
    assert_eq!(redis.audited().await.len(), 2);
}

#[tokio::test]
async fn a_command_takes_effect_if_its_caller_leaves_during_the_commit() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let held = hold_the_commit_of("d", &service, &redis);
    let gone = service.ask_aside(Deposit::new("d", "c", 1));
    until("it is being committed", async || held.get() == 1).await;
    gone.abort();
    redis.execute("CLIENT UNPAUSE").await;
    assert_eq!(service.ask(Deposit::new("d", "c", 1)).await, Ok(Answer::Known(1)));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn commands_are_refused_while_redis_is_away_and_work_again_afterwards() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.ask(Deposit::new("a", "c", 1)).await.unwrap();
    redis.kill();
    let refused = service.ask(Deposit::new("b", "c", 1)).await;
    assert_eq!(refused, Err(SubmitError::Unavailable));
    assert!(service.context.health.ready().is_err());
    let again = service.ask(Deposit::new("c", "c", 1)).await;
    assert_eq!(again, Err(SubmitError::Unavailable));
    redis.restart().await;
    service.ready().await;
    until("commands work again", async || service.ask(Deposit::new("d", "c", 1)).await.is_ok())
        .await;
    let receipts = redis.audited().await;
    assert!(
        receipts.keys().eq(["a", "d"]),
        "commands refused before the engine took them: {receipts:?}"
    );
    service.stop().await.unwrap();
}

#[tokio::test]
async fn after_the_end_of_the_engine_commands_are_refused() {
    let redis = Redis::start();
    let service = Service::begin(&redis, "one");
    let engine = service.engine.clone();
    drop(redis);
    service.context.shutdown.cancel();
    assert_eq!(engine.submit(Deposit::new("a", "c", 1), None).await, Err(SubmitError::Unavailable));
    drop(engine);
    service.stop().await.unwrap();
}
