//! Inputs that wait in the queue share one read and one write.

use common::{
    contract::streams::{self, topics},
    engine::{BATCH_INPUTS, BATCH_KEYS, SubmitError},
};

use crate::support::{Answer, Deposit, How, Redis, Service, until};

#[tokio::test]
async fn commands_sent_at_once_share_a_read_and_a_write() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    // The first commit loads the script and creates the counter.
    service.ask(Deposit::new("first", "c", 1)).await.unwrap();
    redis.execute("CONFIG RESETSTAT").await;
    let deposits = (0..1_000).map(|n| Deposit::new(format!("d{n}"), "c", 1));
    let answers = service.ask_all(deposits).await;
    let totals: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let expected: Vec<_> = (2..=1_001).map(Answer::Done).collect();
    assert_eq!(totals, expected, "each input sees the effects of those before it");

    let batches = redis.calls("evalsha").await;
    let least = 1_000_u64.div_ceil(BATCH_INPUTS as u64);
    assert!((least..=20).contains(&batches), "{batches} batches for 1,000 commands");
    // The script's check; the engine remembers the counter, and the receipts are fresh and not read.
    assert_eq!(redis.calls("mget").await, batches);
    assert_eq!(redis.calls("mset").await, batches);
    let announced = redis.entries(streams::INVENTORY_UPDATED).await;
    assert_eq!(announced.len() as u64, batches, "a counter is announced once for each commit");
    assert_eq!(announced.last().unwrap().entity()["total"], 1_001);
    assert_eq!(redis.audited().await.len(), 1_001);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn entries_share_a_write_and_an_acknowledgement() {
    let redis = Redis::start();
    redis.deposit_all((0..1_000).map(|n| Deposit::new(format!("d{n}"), "c", 1))).await;
    redis.execute("CONFIG RESETSTAT").await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    let (commits, acks) = (redis.calls("evalsha").await, redis.calls("xack").await);
    assert!(commits <= 20, "{commits} commits for 1,000 entries");
    assert!(acks <= commits, "{acks} acknowledgements after {commits} commits");
    assert_eq!(redis.audited().await.len(), 1_000);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_burst_of_small_entries_costs_one_read_and_one_commit() {
    const BURSTS: u64 = 40;
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.warm_up(&redis).await;
    for burst in 0..BURSTS + 3 {
        if burst == 3 {
            redis.execute("CONFIG RESETSTAT").await;
        }
        let deposits: Vec<_> =
            (0..100).map(|n| Deposit::new(format!("d{burst}.{n}"), "c", 1)).collect();
        redis.deposit_at_once(&deposits).await;
        until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    }
    let (reads, commits) = (redis.calls("xreadgroup").await, redis.calls("evalsha").await);
    assert!(reads <= BURSTS + 8, "{reads} reads for {BURSTS} bursts");
    assert!(commits <= BURSTS + 4, "{commits} commits for {BURSTS} bursts");
    service.stop().await.unwrap();
}

/// Deposits whose JSON is padded by this number of bytes.
async fn large_deposits(redis: &Redis, count: usize, bytes: usize) {
    for n in 0..count {
        let mut deposit = serde_json::to_value(Deposit::new(format!("d{n}"), "c", 1)).unwrap();
        deposit["padding"] = "x".repeat(bytes).into();
        redis.append(streams::ORDER_CREATED, &deposit.to_string()).await;
    }
}

#[tokio::test]
async fn entries_in_the_process_are_bounded_by_bytes() {
    let redis = Redis::start();
    // Keeps the engine busy while entries collect in the queue.
    redis.execute("SET {inventory}:counters string").await;
    redis.deposit(&Deposit::new("blocked", "blocked", 1)).await;
    let service = Service::begin(&redis, "one");
    service.in_trouble().await;
    large_deposits(&redis, 100, 500_000).await;
    // 8 MiB in the queue, 2 MiB that wait for it and 4 MiB that were read after these, or twice as
    // much: the reader estimates sizes from earlier entries.
    let most = 2 * 14 * 1024 * 1024 / 500_000;
    until("the queue is full", async || redis.pending(streams::ORDER_CREATED).await > Some(12))
        .await;
    for _ in 0..200 {
        let pending = redis.pending(streams::ORDER_CREATED).await.unwrap();
        assert!(pending <= most, "{pending} entries of 500 kB were taken");
        tokio::task::yield_now().await;
    }
    redis.execute("DEL {inventory}:counters").await;
    redis.execute("CONFIG RESETSTAT").await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert_eq!(redis.audited().await.len(), 101);
    let batches = redis.calls("evalsha").await;
    let least = 100 * 500_000 / (2 * 1024 * 1024);
    assert!(batches >= least, "{batches} batches for 50 MB");
    service.stop().await.unwrap();
}

/// The COUNT of each XREADGROUP for new entries, oldest first.
async fn counts(redis: &Redis) -> Vec<usize> {
    type Line = (u64, u64, u64, Vec<String>);
    let log: Vec<redis::Value> = redis.ask("SLOWLOG GET -1").await;
    let mut counts = Vec::new();
    for line in log {
        let redis::Value::Array(mut line) = line else { panic!("no line: {line:?}") };
        line.truncate(4);
        let (_, _, _, words): Line = redis::from_redis_value(redis::Value::Array(line)).unwrap();
        let at = words.iter().position(|word| word == "COUNT");
        if let ("XREADGROUP", Some(at), Some(">")) =
            (words[0].as_str(), at, words.last().map(String::as_str))
        {
            counts.push(words[at + 1].parse().unwrap());
        }
    }
    counts.reverse();
    counts
}

#[tokio::test]
async fn a_read_asks_for_as_many_entries_as_their_size_allows() {
    let redis = Redis::start();
    for setting in ["slowlog-max-len 100000", "slowlog-log-slower-than 0"] {
        redis.execute(&format!("CONFIG SET {setting}")).await;
    }
    redis.deposit_all((0..2_000).map(|n| Deposit::new(format!("s{n}"), "c", 1))).await;
    large_deposits(&redis, 1, 900_000).await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    let small = counts(&redis).await;
    let full = small.iter().position(|count| *count == BATCH_INPUTS).expect("full speed");
    assert!(small[0] == 1 && full <= 12 && small[..full].is_sorted(), "{small:?}");
    redis.execute("SLOWLOG RESET").await;
    large_deposits(&redis, 30, 900_000).await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    let large = counts(&redis).await;
    assert!(large[large.len() - 10..].iter().all(|count| *count <= 4), "{large:?}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_entity_is_listed_and_a_changed_one_is_announced() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.ask(Deposit::new("a", "c", 1)).await.unwrap();
    assert!(redis.entries(streams::INVENTORY_UPDATED).await.is_empty());
    service.ask(Deposit::new("b", "c", 2)).await.unwrap();
    service.ask(Deposit::new("b", "c", 2)).await.unwrap();
    let announced = redis.entries(streams::INVENTORY_UPDATED).await;
    let announced: Vec<_> = announced.iter().map(|entry| entry.entity()["total"].clone()).collect();
    assert_eq!(announced, [3]);
    let listed: Vec<String> = redis.ask("LRANGE {inventory}:counters 0 -1").await;
    assert_eq!(listed, ["c"]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_repeated_in_one_batch_finds_the_record_of_the_first() {
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
async fn inputs_that_read_many_unnamed_entities_make_smaller_batches() {
    many_entities(How::WideLater(40), 250).await;
}

/// Together they would write more than one script call can take (about 4,000 entities).
async fn many_entities(how: How, inputs: usize) {
    let redis = Redis::start();
    let ids: Vec<String> = (0..inputs).map(|n| format!("d{n}")).collect();
    redis.deposit_all(ids.iter().map(|id| Deposit::new(id, "c", 1).how(how))).await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || redis.is_through(streams::ORDER_CREATED).await).await;
    assert!(redis.entries(topics::INVENTORY.dead_letters()).await.is_empty());
    assert_eq!(redis.total("c").await, Some(inputs as u64));
    for id in &ids {
        assert_eq!(redis.total(&format!("{id}.39")).await, Some(1), "{id}");
    }
    // Inputs that had to read more were decided twice: the last decision counts.
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
async fn a_panic_or_fault_is_answered_and_other_commands_succeed() {
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
    let reason = |answer: &Result<Answer, SubmitError>| match answer {
        Err(SubmitError::Invalid(reason)) => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(answers[0], Ok(Answer::Done(1)));
    assert_eq!(reason(&answers[1]), "handling it panicked: panic requested");
    assert_eq!(reason(&answers[2]), "fault requested");
    assert!(reason(&answers[3]).contains("panicked"));
    assert!(reason(&answers[4]).contains("{inventory}:counter:unnamed"));
    assert_eq!(answers[5], Ok(Answer::Done(2)));
    assert_eq!(redis.audited().await.len(), 2);
    assert!(redis.entries(topics::INVENTORY.dead_letters()).await.is_empty());
    service.stop().await.unwrap();
}
