//! Entries that cannot be handled, next to others that can.

use std::collections::BTreeMap;

use common::{
    clock::now_millis,
    contract::streams::{self, topics},
    schema::stream::{DeadLetter, Stream},
};
use stack::RedisOptions;

use crate::support::{Deposit, How, Redis, Service, until};

/// The fields of an entry.
type Fields<'a> = &'a [(&'a str, &'a [u8])];

const DEAD: Stream = topics::INVENTORY.dead_letters();

/// The dead letters by the id of their entry; no entry has two.
pub(crate) async fn letters(redis: &Redis) -> BTreeMap<String, DeadLetter> {
    let mut letters = BTreeMap::new();
    for entry in redis.entries(DEAD).await {
        let letter: DeadLetter = serde_json::from_value(entry.entity()).expect("a dead letter");
        let twice = letters.insert(letter.entry.clone(), letter);
        assert!(twice.is_none(), "{twice:?} was written twice");
    }
    letters
}

async fn is_through(redis: &Redis) -> bool {
    redis.is_through(streams::ORDER_CREATED).await
}

#[tokio::test]
async fn poison_beside_good_entries_goes_to_the_dead_letters_once() {
    let redis = Redis::start();
    let at_fault = Deposit::new("f", "c", 1).how(How::AtFault).json();
    let unnamed = Deposit::new("u", "c", 1).how(How::Unnamed).json();
    let wide = Deposit::new("w", "c", 1).how(How::Wide(9_000)).json();
    let wide_later = Deposit::new("l", "c", 1).how(How::WideLater(9_000)).json();
    let poison: [(Fields<'_>, &str); 9] = [
        (&[("event_id", b"1"), ("entity", b"{nope")], "field `entity`"),
        (&[("event_id", b"2"), ("thing", b"{}")], "no field `entity`"),
        (&[("event_id", b"3"), ("entity", br#"{"id":1,"counter":"c"}"#)], "field `entity`"),
        (&[("event_id", b"4"), ("entity", b"\xff\xfe")], "not UTF-8"),
        (&[("event_id", b"5"), ("entity", at_fault.as_bytes())], "fault requested"),
        (&[("event_id", b"6"), ("entity", unnamed.as_bytes())], "not named by reads"),
        (&[("event_id", b"7"), ("entity", wide.as_bytes())], "the limit is 2000"),
        // serde would accept it as a deposit, member by member.
        (&[("event_id", b"9"), ("entity", br#" ["listed","c",1]"#)], "a list and not an object"),
        (&[("event_id", b"8"), ("entity", wide_later.as_bytes())], "the limit is 2000"),
    ];
    let mut expected = Vec::new();
    redis.deposit(&Deposit::new("good", "c", 1)).await;
    for (number, (fields, reason)) in poison.iter().enumerate() {
        let id = redis.append_fields(streams::ORDER_CREATED, fields).await;
        expected.push((id, fields, reason));
        redis.deposit(&Deposit::new(format!("good{number}"), "c", 1)).await;
    }
    let before = now_millis();
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || is_through(&redis).await).await;
    assert_eq!(redis.audited().await.len(), 10, "the good ones are handled");

    let found = letters(&redis).await;
    assert_eq!(found.len(), poison.len());
    let after = now_millis();
    for (id, fields, reason) in &expected {
        let letter = &found[id];
        assert_eq!(letter.stream, streams::ORDER_CREATED.key());
        assert_eq!(letter.group, "inventory_service");
        assert!(letter.reason.contains(**reason), "{letter:?}");
        assert!((before..=after).contains(&letter.at), "{letter:?}");
        let as_it_was = fields.iter().map(|(name, value)| {
            ((*name).to_owned(), String::from_utf8_lossy(value).into_owned().into())
        });
        assert_eq!(letter.fields, as_it_was.collect());
    }

    // All entries once more: they are new for the group.
    redis.execute("XGROUP SETID events:{order}_created inventory_service 0").await;
    redis.deposit(&Deposit::new("last", "c", 1)).await;
    until("all is acknowledged again", async || is_through(&redis).await).await;
    assert_eq!(letters(&redis).await, found);
    assert_eq!(redis.audited().await.len(), 11);
    let ledger = service.stop().await.unwrap();
    assert!(ledger.saw_receipt("good").len() > 1, "it was delivered again");
    assert!(ledger.saw_receipt("f").len() > 1, "it was delivered again");
}

#[tokio::test]
async fn a_dead_letter_keeps_64_kib_and_fits_into_one_redis_string() {
    let args = ["--proto-max-bulk-len", "2mb"].map(str::to_owned).into();
    let redis = Redis::start_with(RedisOptions { args, ..RedisOptions::default() });
    let control = "\u{1}".repeat(400_000);
    let quoted = serde_json::to_string(&"\u{1}".repeat(60_000)).unwrap();
    let huge = vec![b'x'; 1_900_000];
    let mut ids = Vec::new();
    for value in [control.as_bytes(), quoted.as_bytes(), &huge] {
        let fields = [("event_id", &b"1"[..]), ("entity", value)];
        ids.push(redis.append_fields(streams::ORDER_CREATED, &fields).await);
        redis.deposit(&Deposit::new(format!("good{}", ids.len()), "c", 1)).await;
    }
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || is_through(&redis).await).await;
    assert_eq!(redis.audited().await.len(), 3);
    let found = letters(&redis).await;
    assert!(found.keys().eq(&ids), "{:?}", found.keys());
    for (id, value) in ids.iter().zip([control.as_bytes(), quoted.as_bytes(), &huge]) {
        let letter = &found[id];
        let kept = letter.fields["entity"].as_str().unwrap();
        assert!((60_000..=64 * 1024).contains(&kept.len()), "{}", kept.len());
        assert!(value.starts_with(kept.as_bytes()));
        assert_eq!(letter.fields["event_id"], "1");
        assert_eq!(letter.whole_bytes, Some(15 + value.len() as u64));
        let whole = [&b"event_id1entity"[..], value].concat();
        let digest = sha1_smol::Sha1::from(whole).hexdigest();
        assert_eq!(letter.whole_digest, Some(format!("sha1:{digest}")));
        assert!(letter.reason.len() < 1_100, "{}", letter.reason.len());
    }
    assert!(found[&ids[2]].reason.contains("the limit is 1048576"), "{}", found[&ids[2]].reason);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn poison_that_two_instances_hold_is_written_once() {
    let redis = Redis::start();
    let start = |instance: &str| {
        let sources = crate::support::service::sources(&redis, &redis);
        let ledger = crate::support::Ledger::default();
        Service::with(sources, instance, ledger, |context| context.claim_idle_ms = 50)
    };
    let (one, two) = (start("one"), start("two"));
    one.ready().await;
    two.ready().await;
    // The letter cannot be written, so the other instance takes the entry over as well.
    redis.execute("SET events:{inventory}_dead string").await;
    let poison = redis.append(streams::ORDER_CREATED, "{nope").await;
    one.in_trouble().await;
    two.in_trouble().await;
    redis.execute("DEL events:{inventory}_dead").await;
    until("all is acknowledged", async || is_through(&redis).await).await;
    one.ready().await;
    two.ready().await;
    let letters = letters(&redis).await;
    assert_eq!(letters.keys().collect::<Vec<_>>(), [&poison]);
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn an_input_that_panics_is_tried_alone_and_others_succeed() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let before = service.warm_up(&redis).await;
    let ids = redis
        .deposit_at_once(&[
            Deposit::new("a", "c", 1),
            Deposit::new("b", "c", 1).how(How::Panicking),
            Deposit::new("c", "c", 1).how(How::PanickingInReads),
            Deposit::new("d", "c", 1),
        ])
        .await;
    let (panicking, in_reads) = (&ids[1], &ids[2]);
    until("all is acknowledged", async || is_through(&redis).await).await;
    assert_eq!(redis.audited().await.len(), before + 2);
    let letters = letters(&redis).await;
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[panicking].reason, "handling it panicked: panic requested");
    assert!(letters[in_reads].reason.contains("panicked"), "{letters:?}");
    let ledger = service.stop().await.unwrap();
    assert_eq!(
        ledger.decided()[before..],
        ["a", "b", "d", "b"],
        "the one that panicked is tried alone"
    );
}

#[tokio::test]
async fn an_input_that_panics_only_in_a_batch_succeeds_alone() {
    let redis = Redis::start();
    let service = Service::start(&redis, "one").await;
    let before = service.warm_up(&redis).await;
    redis
        .deposit_at_once(&[
            Deposit::new("a", "c", 13),
            Deposit::new("b", "c", 1).how(How::PanickingAt(13)),
            Deposit::new("c", "c", 7),
        ])
        .await;
    until("all is acknowledged", async || is_through(&redis).await).await;
    assert_eq!(redis.total("c").await, Some(21));
    assert_eq!(redis.audited().await.len(), before + 3);
    assert!(letters(&redis).await.is_empty());
    assert_eq!(service.stop().await.unwrap().decided()[before..], ["a", "b", "c", "b"]);
}

#[tokio::test]
async fn a_dead_letter_names_the_unreadable_entity() {
    let redis = Redis::start();
    redis.execute("SET {inventory}:counter:c gibberish").await;
    let id = redis.deposit(&Deposit::new("a", "c", 1)).await;
    redis.deposit(&Deposit::new("b", "other", 1)).await;
    let service = Service::start(&redis, "one").await;
    until("all is acknowledged", async || is_through(&redis).await).await;
    assert!(letters(&redis).await[&id].reason.contains("{inventory}:counter:c"));
    assert_eq!(redis.total("other").await, Some(1));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn events_carry_the_traceparent_of_their_input() {
    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let redis = Redis::start();
    let deposit_traced = async |id: &str, how, traceparent: &str| {
        let entity = Deposit::new(id, "c", 1).how(how).json();
        let fields = [("entity", entity.as_bytes()), ("traceparent", traceparent.as_bytes())];
        redis.append_fields(streams::ORDER_CREATED, &fields).await
    };
    deposit_traced("traced", How::Plain, TRACEPARENT).await;
    deposit_traced("dead", How::AtFault, TRACEPARENT).await;
    deposit_traced("mistraced", How::Plain, "00-short-01").await;
    redis.deposit(&Deposit::new("plain", "c", 1)).await;
    let service = Service::start(&redis, "one").await;
    service.engine.submit(Deposit::new("asked", "c", 1), Some(TRACEPARENT.into())).await.unwrap();
    until("all is acknowledged", async || is_through(&redis).await).await;
    let mut traceparents = BTreeMap::new();
    for entry in redis.entries(streams::INVENTORY_CHECK).await {
        assert!(entry.field("event_id").is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()));
        let id = entry.entity()["id"].as_str().unwrap().to_owned();
        traceparents.insert(id, entry.field("traceparent").map(str::to_owned));
    }
    let traceparent = || Some(TRACEPARENT.to_owned());
    let expected =
        [("asked", traceparent()), ("mistraced", None), ("plain", None), ("traced", traceparent())];
    assert_eq!(traceparents, expected.map(|(id, it)| (id.to_owned(), it)).into());
    let dead = redis.entries(DEAD).await;
    assert_eq!(
        dead.iter().map(|entry| entry.field("traceparent")).collect::<Vec<_>>(),
        [Some(TRACEPARENT)]
    );
    service.stop().await.unwrap();
}
