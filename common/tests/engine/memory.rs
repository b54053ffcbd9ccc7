//! What the engine wrote last is not read again, and what it remembers may be outdated.

use crate::support::{Answer, Deposit, How, Redis, Service};

/// Sets the total of the counter, as another instance does.
async fn overtake(redis: &Redis, total: u64) {
    overtake_counter(redis, "c", total).await;
}

async fn overtake_counter(redis: &Redis, id: &str, total: u64) {
    let key = format!("{{inventory}}:counter:{id}");
    let stored: Option<String> = redis.ask(&format!("GET {key}")).await;
    let stored = stored.expect("there is a counter");
    let version: u64 = stored.split_once(' ').expect("a version").0.parse().expect("a number");
    let counter = format!(r#"{} {{"id":"{id}","total":{total}}}"#, version + 1);
    redis.run::<()>(redis::cmd("SET").arg(key).arg(counter)).await;
}

async fn service_with_counter(redis: &Redis) -> Service {
    let service = Service::start(redis, "one").await;
    assert_eq!(service.ask(Deposit::new("first", "c", 1)).await, Ok(Answer::Done(1)));
    redis.execute("CONFIG RESETSTAT").await;
    service
}

#[tokio::test]
async fn an_entity_that_was_just_written_is_not_read() {
    let redis = Redis::start();
    let service = service_with_counter(&redis).await;
    for total in 2..=20 {
        let deposit = Deposit::new(format!("d{total}"), "c", 1);
        assert_eq!(service.ask(deposit).await, Ok(Answer::Done(total)));
    }
    // Each script reads once.
    assert_eq!(redis.calls("evalsha").await, 19);
    assert_eq!(redis.calls("mget").await, 19);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_decision_with_effects_is_repeated_if_another_instance_wrote_meanwhile() {
    let redis = Redis::start();
    let service = service_with_counter(&redis).await;
    overtake(&redis, 100).await;
    assert_eq!(service.ask(Deposit::new("second", "c", 1)).await, Ok(Answer::Done(101)));
    assert_eq!(service.ledger.decided(), ["first", "second", "second"]);
    // From now on the engine reads.
    assert_eq!(service.ask(Deposit::new("third", "c", 1)).await, Ok(Answer::Done(102)));
    overtake(&redis, 200).await;
    assert_eq!(service.ask(Deposit::new("fourth", "c", 1)).await, Ok(Answer::Done(201)));
    assert_eq!(service.ledger.decided()[3..], ["third", "fourth"]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_decision_without_effects_is_made_with_the_stored_state() {
    let redis = Redis::start();
    let service = service_with_counter(&redis).await;
    overtake(&redis, 100).await;
    let query = Deposit::new("query", "c", 0).how(How::AskingTotal);
    assert_eq!(service.ask(query).await, Ok(Answer::Done(100)));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_input_is_at_fault_only_by_the_stored_state() {
    let redis = Redis::start();
    let service = service_with_counter(&redis).await;
    overtake(&redis, 100).await;
    let deposit = Deposit::new("second", "c", 1).how(How::PanickingAt(1));
    assert_eq!(service.ask(deposit).await, Ok(Answer::Done(101)));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_lost_with_the_data_is_not_remembered() {
    let redis = Redis::start();
    let service = service_with_counter(&redis).await;
    redis.execute("FLUSHALL").await;
    assert_eq!(service.ask(Deposit::new("second", "c", 1)).await, Ok(Answer::Done(1)));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_entity_that_only_a_neighbour_names_is_checked() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    assert_eq!(service.ask(Deposit::new("first", "shared", 1)).await, Ok(Answer::Done(1)));
    overtake_counter(&redis, "shared", 100).await;
    let answers = service
        .ask_all([
            Deposit::new("naming", "shared", 1),
            Deposit::new("not naming", "c", 0).how(How::Sharing),
        ])
        .await;
    let totals: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(totals, [101, 101].map(Answer::Done));
    service.stop().await.unwrap();
}
