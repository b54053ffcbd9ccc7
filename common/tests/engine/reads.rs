//! Reads of what is stored, where something else lies at the key.

use common::{
    json::from_object,
    redis_link::{LinkError, SharedLink},
};
use redis::Pipeline;

use crate::support::{Redis, ledger::Counter};

/// All that is no counter.
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
async fn an_unreadable_entity_is_an_error_alone_and_left_out_among_others() {
    let redis = Redis::start();
    for id in ["a", "c"] {
        let mut set = redis::cmd("SET");
        set.arg(format!("{{inventory}}:counter:{id}"));
        set.arg(format!("1 {{\"id\":\"{id}\",\"total\":5}}"));
        redis.run::<()>(&set).await;
    }
    let link = SharedLink::new(redis.url().parse().unwrap());
    for garbage in GARBAGE {
        redis.tell("DEL {inventory}:counter:b").await;
        redis.tell(garbage).await;
        let error = link.get::<Counter>("b").await.unwrap_err();
        let LinkError::Unreadable { key, .. } = &error else { panic!("{garbage}: {error}") };
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
    redis.tell("SET {inventory}:index text").await;
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
        let LinkError::Unreadable { key, reason, .. } = &error else { panic!("{error}") };
        assert_eq!(key, "{inventory}:index");
        assert!(reason.contains(command), "{reason}");
    }
}
