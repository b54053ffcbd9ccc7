//! Reads of stored values of an unexpected type.

use std::time::Duration;

use common::{
    connection::{error::ConnectionError, lag, link::Link, shared_link::SharedLink, url::RedisUrl},
    schema::json::from_object,
};
use redis::Pipeline;

use crate::support::{Redis, ledger::Counter};

/// Commands that store something else than a counter.
const GARBAGE: [&str; 7] = [
    "SET {inventory}:counter:b garbage",
    "SET {inventory}:counter:b 1",
    "SET {inventory}:counter:b 1_{}",
    "EVAL return(redis.call('SET',KEYS[1],'1\\32{}')) 1 {inventory}:counter:b",
    "EVAL return(redis.call('SET',KEYS[1],'1\\32[\"b\",5]')) 1 {inventory}:counter:b",
    "EVAL return(redis.call('SET',KEYS[1],'1\\32{\"id\":\"\\255\",\"total\":5}')) 1 {inventory}:counter:b",
    "HSET {inventory}:counter:b a hash",
];

#[tokio::test]
async fn an_unreadable_entity_is_an_error_alone_and_skipped_in_a_list() {
    let redis = Redis::start();
    for id in ["a", "c"] {
        let mut set = redis::cmd("SET");
        set.arg(format!("{{inventory}}:counter:{id}"));
        set.arg(format!("1 {{\"id\":\"{id}\",\"total\":5}}"));
        redis.run::<()>(&set).await;
    }
    let link = SharedLink::new(redis.url().parse().unwrap());
    for garbage in GARBAGE {
        redis.execute("DEL {inventory}:counter:b").await;
        redis.execute(garbage).await;
        let error = link.get::<Counter>("b").await.unwrap_err();
        let ConnectionError::Unreadable { key, .. } = &error else { panic!("{garbage}: {error}") };
        assert_eq!(key, "{inventory}:counter:b");
        assert_eq!(error.problem("", "").status, 500);
        let keys =
            ["a", "b", "c", "d"].map(|id| format!("{{inventory}}:counter:{id}").into_bytes());
        let found =
            link.read_all(keys.to_vec(), |json: &str| from_object::<Counter>(json)).await.unwrap();
        let found: Vec<Option<String>> = found.into_iter().map(|it| Some(it?.id)).collect();
        assert_eq!(found, [Some("a".to_owned()), None, Some("c".to_owned()), None], "{garbage}");
    }
}

#[tokio::test]
async fn an_index_of_another_type_is_an_error_that_names_its_key() {
    let redis = Redis::start();
    redis.execute("SET {inventory}:index text").await;
    let link = SharedLink::new(redis.url().parse().unwrap());
    for command in ["LLEN", "LRANGE", "ZLEXCOUNT"] {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("LLEN").arg("{inventory}:none");
        pipeline.cmd(command).arg("{inventory}:index");
        match command {
            "LRANGE" => drop(pipeline.arg(0).arg(1)),
            "ZLEXCOUNT" => drop(pipeline.arg("-").arg("+")),
            _ => {}
        }
        let error = link.send(&pipeline).await.unwrap_err();
        let ConnectionError::Unreadable { key, reason, .. } = &error else { panic!("{error}") };
        assert_eq!(key, "{inventory}:index");
        assert!(reason.contains(command), "{reason}");
    }
}

#[tokio::test]
async fn a_read_is_repeated_after_redis_closed_the_connection_and_a_write_is_not() {
    let redis = Redis::start();
    let url: RedisUrl = redis.url().parse().unwrap();
    let mut link = Link::new(url.clone(), Duration::from_secs(30)).primary_only();
    let shared = SharedLink::new(url);
    let commands = |lines: &[&str]| {
        let mut pipeline = Pipeline::new();
        for line in lines {
            let mut words = line.split(' ');
            let command = pipeline.cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
        }
        pipeline
    };
    redis.execute("XADD stream * field value").await;
    let mut reads = Vec::new();
    for lines in [
        &["GET key", "MGET key other"][..],
        &["INFO server", "XINFO STREAM stream", "XINFO GROUPS stream"],
        &["LLEN list", "XLEN stream"],
    ] {
        reads.push(commands(lines));
    }
    // Queries about a stream: with a script, or for a named Redis user without one.
    for user in ["default", "somebody"] {
        let mut about = Pipeline::new();
        about.cmd("INFO").arg("server");
        lag::ask_about(&mut about, user, "stream");
        reads.push(about);
    }
    for read in &reads {
        for _ in 0..2 {
            // The second time over open connections.
            link.read(read).await.unwrap_or_else(|error| panic!("{read:?}: {error}"));
            shared.send(read).await.unwrap_or_else(|error| panic!("{read:?}: {error}"));
            redis.execute("CLIENT KILL TYPE normal SKIPME yes").await;
        }
    }
    for lines in [
        &["XADD stream * field value"][..],
        &["GET key", "XADD stream * field value"],
        &["EVAL return(redis.call('XADD','stream','*','field','value')) 0"],
    ] {
        let write = commands(lines);
        link.read(&commands(&["GET key"])).await.unwrap();
        shared.send(&commands(&["GET key"])).await.unwrap();
        redis.execute("CLIENT KILL TYPE normal SKIPME yes").await;
        for failed in [link.read(&write).await, shared.answers(&write).await] {
            assert!(matches!(failed, Err(ConnectionError::Away { .. })), "{lines:?}: {failed:?}");
        }
    }
    assert_eq!(redis.ask::<u64>("XLEN stream").await, 1);
}
