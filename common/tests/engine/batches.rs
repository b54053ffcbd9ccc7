//! What lies in the queue shares one read and one write.

use common::{
    engine::{BATCH_INPUTS, BATCH_KEYS, Refusal},
    events::Stream,
};

use crate::support::{Answer, Deposit, How, Redis, Service, until};

#[tokio::test]
async fn commands_sent_at_once_share_a_read_and_a_write() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    // The first commit teaches Redis the script, and makes the counter.
    service.ask(Deposit::new("first", "c", 1)).await.unwrap();
    redis.tell("CONFIG RESETSTAT").await;
    let deposits = (0..1_000).map(|n| Deposit::new(format!("d{n}"), "c", 1));
    let answers = service.ask_all(deposits).await;
    let totals: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let expected: Vec<_> = (2..=1_001).map(Answer::Done).collect();
    assert_eq!(totals, expected, "each sees what those before it did");

    let batches = redis.calls("evalsha").await;
    let least = 1_000_u64.div_ceil(BATCH_INPUTS as u64);
    assert!((least..=20).contains(&batches), "{batches} batches for 1,000 commands");
    // The engine's own read and the script's check; the receipts are fresh and not read.
    assert_eq!(redis.calls("mget").await, 2 * batches);
    assert_eq!(redis.calls("mset").await, batches);
    let announced = redis.entries(Stream::InventoryUpdated).await;
    assert_eq!(announced.len() as u64, batches, "a counter is announced once for each commit");
    assert_eq!(announced.last().unwrap().entity()["total"], 1_001);
    assert_eq!(redis.audited().await.len(), 1_001);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn entries_share_a_write_and_an_acknowledgement() {
    let redis = Redis::start();
    redis.deposit_all((0..1_000).map(|n| Deposit::new(format!("d{n}"), "c", 1))).await;
    redis.tell("CONFIG RESETSTAT").await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(Stream::OrderCreated).await).await;
    let (commits, acks) = (redis.calls("evalsha").await, redis.calls("xack").await);
    assert!(commits <= 20, "{commits} commits for 1,000 entries");
    assert!(acks <= commits, "{acks} acknowledgements after {commits} commits");
    assert_eq!(redis.audited().await.len(), 1_000);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_entity_is_listed_and_a_changed_one_is_announced() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.ask(Deposit::new("a", "c", 1)).await.unwrap();
    assert!(redis.entries(Stream::InventoryUpdated).await.is_empty());
    service.ask(Deposit::new("b", "c", 2)).await.unwrap();
    service.ask(Deposit::new("b", "c", 2)).await.unwrap();
    let announced = redis.entries(Stream::InventoryUpdated).await;
    let announced: Vec<_> = announced.iter().map(|entry| entry.entity()["total"].clone()).collect();
    assert_eq!(announced, [3]);
    let listed: Vec<String> = redis.ask("LRANGE {inventory}:counters 0 -1").await;
    assert_eq!(listed, ["c"]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_repeated_in_one_batch_finds_the_trace_of_the_first() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let answers = service.ask_all((0..3).map(|_| Deposit::new("same", "c", 5))).await;
    assert_eq!(answers, [Ok(Answer::Done(5)), Ok(Answer::Known(5)), Ok(Answer::Known(5))]);
    assert_eq!(redis.audited().await.len(), 1);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn inputs_that_name_many_entities_make_smaller_batches() {
    many_entities(How::Wide(40), 150).await;
}

#[tokio::test]
async fn inputs_that_name_many_entities_on_second_thought_make_smaller_batches() {
    many_entities(How::WideLater(40), 250).await;
}

/// Together they would write more than one script call can take (some 4,000 entities).
async fn many_entities(how: How, inputs: usize) {
    let redis = Redis::start();
    let ids: Vec<String> = (0..inputs).map(|n| format!("d{n}")).collect();
    redis.deposit_all(ids.iter().map(|id| Deposit::new(id, "c", 1).how(how))).await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(Stream::OrderCreated).await).await;
    assert!(redis.entries(Stream::Dead(common::events::Topic::Inventory)).await.is_empty());
    assert_eq!(redis.total("c").await, Some(inputs as u64));
    for id in &ids {
        assert_eq!(redis.total(&format!("{id}.39")).await, Some(1), "{id}");
    }
    // Those that had to see more were decided twice: the last time counts.
    let mut decided = service.stop().await.unwrap().decided();
    let mut last = Vec::new();
    while let Some(id) = decided.pop() {
        if !last.contains(&id) {
            last.insert(0, id);
        }
    }
    assert_eq!(last, ids, "each is decided in order");
    assert!(inputs * 40 > 2 * BATCH_KEYS);
}

#[tokio::test]
async fn a_command_that_panics_or_is_at_fault_is_told_so_and_its_neighbours_go_on() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let answers = service
        .ask_all([
            Deposit::new("a", "c", 1),
            Deposit::new("b", "c", 1).how(How::Panicking),
            Deposit::new("c", "c", 1).how(How::AtFault),
            Deposit::new("d", "c", 1).how(How::PanickingInReads),
            Deposit::new("e", "c", 1).how(How::Unnamed),
            Deposit::new("f", "c", 1),
        ])
        .await;
    let fault = |answer: &Result<Answer, Refusal>| match answer {
        Err(Refusal::Fault(fault)) => fault.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(answers[0], Ok(Answer::Done(1)));
    assert_eq!(fault(&answers[1]), "its handling panicked: told to panic");
    assert_eq!(fault(&answers[2]), "told to be at fault");
    assert!(fault(&answers[3]).contains("panicked"));
    assert!(fault(&answers[4]).contains("{inventory}:counter:unnamed"));
    assert_eq!(answers[5], Ok(Answer::Done(2)));
    assert_eq!(redis.audited().await.len(), 2);
    assert!(redis.entries(Stream::Dead(common::events::Topic::Inventory)).await.is_empty());
    service.stop().await.unwrap();
}
