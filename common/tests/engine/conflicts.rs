//! Several instances that change the same entities.

use common::contract::streams;

use crate::support::{Answer, Deposit, How, Redis, Service, ledger::LIMITED};

#[tokio::test]
async fn two_instances_that_hammer_one_counter_lose_no_update() {
    let redis = Redis::start();
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    let deposits =
        |name: &'static str| (0..600).map(move |n| Deposit::new(format!("{name}{n}"), "c", 1));
    let (first, second) = tokio::join!(one.ask_all(deposits("a")), two.ask_all(deposits("b")));
    let mut totals: Vec<u64> = first
        .into_iter()
        .chain(second)
        .map(|answer| match answer {
            Ok(Answer::Done(total)) => total,
            other => panic!("{other:?}"),
        })
        .collect();
    totals.sort_unstable();
    assert!(totals.into_iter().eq(1..=1_200), "each caller got a different total");
    assert_eq!(redis.total("c").await, Some(1_200));
    assert_eq!(redis.audited().await.len(), 1_200);
    let decisions = one.ledger.decided().len() + two.ledger.decided().len();
    assert!(decisions > 1_200, "there was no conflict");
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_limit_holds_in_a_batch_and_between_instances_and_not_for_old_members() {
    const LIMIT: u64 = 10;
    let redis = Redis::start();
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    let limited = |name: &str, n: usize| {
        // Some share a counter, and therefore a group; the others form separate groups.
        let counter = format!("{name}{}", n % 3);
        Deposit::new(format!("{name}{n}"), &counter, 1).how(How::Limited(LIMIT))
    };
    let ask = async |service: &Service, name: &str| {
        service.ask_all((0..20).map(|n| limited(name, n))).await
    };
    let (first, second) = tokio::join!(ask(&one, "a"), ask(&two, "b"));
    let mut answers = first.into_iter().chain(second).map(|it| it.expect("an answer"));
    let (done, full): (Vec<_>, Vec<_>) =
        answers.by_ref().partition(|answer| matches!(answer, Answer::Done(_)));
    assert!(full.iter().all(|answer| *answer == Answer::Full), "{full:?}");
    assert_eq!(done.len() as u64, LIMIT);
    let members: Vec<String> = redis.ask(&format!("ZRANGE {LIMITED} 0 -1")).await;
    let receipts = redis.audited().await;
    assert!(receipts.keys().map(String::as_str).eq(members.iter().map(String::as_str)));
    // A repeated request gets its first answer although the set is full; other sets are not limited.
    let (name, number) = members[0].split_at(1);
    let again = one.ask(limited(name, number.parse().unwrap())).await;
    assert!(matches!(again, Ok(Answer::Known(_))), "{again:?}");
    assert_eq!(two.ask(limited("c", 0)).await, Ok(Answer::Full));
    assert_eq!(two.ask(Deposit::new("d", "d", 1)).await, Ok(Answer::Done(1)));
    redis.execute(&format!("ZREM {LIMITED} {}", members[0])).await;
    assert_eq!(two.ask(limited("c", 0)).await, Ok(Answer::Done(1)));
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_never_expires_delays_others_only_briefly() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    assert!(service.ask(Deposit::new("a", "c", 1)).await.is_ok());
    // The state after the clock of Redis was set back while the holder died.
    let mut set = redis::cmd("SET");
    set.arg("{inventory}:lease").arg(r#"[["gone","{inventory}:counter:c"]]"#);
    redis.run::<()>(&set).await;
    assert_eq!(service.ask(Deposit::new("b", "c", 1)).await, Ok(Answer::Done(2)));
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_with_slow_batches_is_not_starved_by_a_fast_one() {
    const ROUNDS: usize = 10;
    const SLOW_DEPOSITS: usize = 20;
    let redis = Redis::start();
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    let done = tokio_util::sync::CancellationToken::new();
    let quick = async |task: usize| {
        let mut count = 0u64;
        while !done.is_cancelled() {
            let deposit = Deposit::new(format!("quick{task}.{count}"), "c", 1);
            two.ask(deposit).await.expect("it is counted");
            count += 1;
        }
        count
    };
    let slow = async {
        for round in 0..ROUNDS {
            let deposit = |n| Deposit::new(format!("slow{round}.{n}"), "c", 1).how(How::Slow);
            for answer in one.ask_all((0..SLOW_DEPOSITS).map(deposit)).await {
                answer.expect("it is counted");
            }
        }
        done.cancel();
    };
    let (a, b, c, d, ()) = tokio::join!(quick(0), quick(1), quick(2), quick(3), slow);
    let quick = a + b + c + d;
    assert_eq!(redis.total("c").await, Some(quick + (ROUNDS * SLOW_DEPOSITS) as u64));
    for service in [&one, &two] {
        let mut tries = std::collections::HashMap::<String, u32>::new();
        for id in service.ledger.decided() {
            *tries.entry(id).or_default() += 1;
        }
        let most = tries.values().max().copied();
        assert!(most.is_some_and(|most| most <= 10), "an input was decided {most:?} times");
    }
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn instances_share_the_entries_and_none_is_handled_twice() {
    let redis = Redis::start();
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    let three = Service::start(&redis, "three").await;
    for round in 0..30 {
        let deposit = |n| Deposit::new(format!("d{round}.{n}"), &format!("c{}", n % 7), 1);
        redis.deposit_all((0..20).map(deposit)).await;
    }
    crate::support::until("all is acknowledged", async || {
        redis.is_through(streams::ORDER_CREATED).await
    })
    .await;
    assert_eq!(redis.audited().await.len(), 600);
    let mut decided = Vec::new();
    for service in [one, two, three] {
        let mut by_one = service.stop().await.unwrap().decided();
        by_one.sort_unstable();
        // Repeated after a conflict, but never by two instances.
        by_one.dedup();
        decided.extend(by_one);
    }
    assert_eq!(decided.len(), 600);
}

#[tokio::test]
async fn a_conflict_does_not_affect_other_groups_of_the_batch() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.ask(Deposit::new("before", "b", 1)).await.unwrap();
    redis.execute("CONFIG RESETSTAT").await;
    let version: String = redis.ask("GET {inventory}:counter:b").await;
    let version: u64 = version.split_once(' ').unwrap().0.parse().unwrap();
    let mut other = redis.blocking();
    service.ledger.meanwhile("y", move || {
        let overtaken = format!(r#"{} {{"id":"b","total":100}}"#, version + 1);
        redis::cmd("SET").arg("{inventory}:counter:b").arg(overtaken).exec(&mut other).unwrap();
    });
    let answers = service
        .ask_all([
            Deposit::new("x", "a", 1),
            Deposit::new("y", "b", 1),
            Deposit::new("y2", "b", 1),
            Deposit::new("z", "c", 1),
        ])
        .await;
    let totals: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(totals, [1, 101, 102, 1].map(Answer::Done));
    assert_eq!(
        service.ledger.decided(),
        ["before", "x", "y", "y2", "z", "y", "y2"],
        "only the group that lost is decided again"
    );
    assert_eq!(redis.calls("evalsha").await, 2);
    // One read by the engine itself, because the reply of the conflict contained the current value.
    assert_eq!(redis.calls("mget").await, 1 + 2);
    assert_eq!(redis.entries(streams::INVENTORY_CHECK).await.len(), 5);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_unexpected_entity_is_read_by_the_second_decision() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let receipt = r#"{"id":"d","counter":"c","amount":7,"total":77}"#;
    let mut set = redis::cmd("SET");
    set.arg("{inventory}:receipt:d").arg(format!("1 {receipt}"));
    redis.run::<()>(&set).await;
    assert_eq!(service.ask(Deposit::new("d", "c", 7)).await, Ok(Answer::Known(77)));
    assert_eq!(service.ledger.saw_receipt("d"), [false, true]);
    assert_eq!(redis.total("c").await, None);
    assert!(redis.entries(streams::INVENTORY_CHECK).await.is_empty());
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_entity_deleted_meanwhile_is_absent_for_the_second_decision() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    service.ask(Deposit::new("a", "c", 5)).await.unwrap();
    let mut other = redis.blocking();
    service.ledger.meanwhile("b", move || redis::cmd("FLUSHALL").exec(&mut other).unwrap());
    assert_eq!(service.ask(Deposit::new("b", "c", 1)).await, Ok(Answer::Done(1)));
    assert_eq!(redis.audited().await.len(), 1);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_entity_that_two_instances_create_at_once_is_created_once() {
    let redis = Redis::start();
    let one = Service::start(&redis, "one").await;
    let two = Service::start(&redis, "two").await;
    for n in 0..50 {
        let deposit = Deposit::new(format!("d{n}"), &format!("c{n}"), 1);
        let answers = tokio::join!(one.ask(deposit.clone()), two.ask(deposit));
        let mut answers = [answers.0.unwrap(), answers.1.unwrap()];
        answers.sort_unstable_by_key(|answer| matches!(answer, Answer::Known(_)));
        assert_eq!(answers, [Answer::Done(1), Answer::Known(1)]);
    }
    assert_eq!(redis.audited().await.len(), 50);
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_query_is_answered_without_writing() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let question = Deposit::new("d", "c", 0).how(How::Asking);
    assert_eq!(service.ask(question).await, Ok(Answer::Unknown));
    assert_eq!(redis.calls("evalsha").await, 0);
    service.stop().await.unwrap();
}
