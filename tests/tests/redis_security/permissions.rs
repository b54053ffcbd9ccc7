//! Each user of the shipped ACL file is refused all that does not belong to its service, and allowed all
//! that its service needs.

use common::{
    connection::{
        link::Link,
        permissions::{of_owner, of_reader},
        url::RedisUrl,
    },
    contract::streams::{self, topics},
    schema::stream::{Stream, Topic, Writer},
};
use redis::aio::MultiplexedConnection;
use stack::RedisUsers;
use system_tests::SOON;

use crate::support::{Guarded, ask, enter};

/// Commands that no service may use, with any key.
const FORBIDDEN: [&str; 37] = [
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "SELECT 1",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "CONFIG GET maxmemory-policy",
    "CONFIG SET maxmemory-policy allkeys-lru",
    "CONFIG REWRITE",
    "ACL SETUSER order on nopass ~* +@all",
    "ACL DELUSER order",
    "ACL GETUSER order",
    "ACL LIST",
    "ACL USERS",
    "ACL LOAD",
    "ACL SAVE",
    "ACL LOG",
    "SHUTDOWN NOSAVE",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "REPLICAOF 127.0.0.1 1",
    "MODULE LIST",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "MONITOR",
    "SLOWLOG GET",
    "LATENCY RESET",
    "MEMORY STATS",
    "PUBLISH channel message",
    "SUBSCRIBE channel",
    "PSYNC ? -1",
    "CLUSTER INFO",
];

/// Commands that a service may use only with its own keys.
const OWNERS: [&str; 14] = [
    "GET {}",
    "MGET {}",
    "SET {} x",
    "MSET {} x",
    "SETNX {} x",
    "DEL {}",
    "EXPIRE {} 1",
    "TYPE {}",
    "EXISTS {}",
    "HGET {} x",
    "HSET {} x y",
    "RPUSH {} x",
    "ZADD {} 0 x",
    "RENAME {} {order}:x",
];

/// Commands that at most the owner of a stream may use with it, even if others read it.
const WRITERS: [&str; 11] = [
    "MEMORY USAGE {}",
    "XTRIM {} MAXLEN 0",
    "XDEL {} 0-1",
    "XSETID {} 9-9",
    "DEL {}",
    "EXPIRE {} 1",
    "SET {} x",
    "XRANGE {} - +",
    "XREVRANGE {} + -",
    "XREAD STREAMS {} 0",
    "XGROUP DESTROY {} order_service",
];

/// The commands of readers, in this group.
const READERS: [&str; 8] = [
    "XREADGROUP GROUP g i STREAMS {} >",
    "XACK {} g 0-1",
    "XCLAIM {} g i 1 0-1",
    "XPENDING {} g",
    "XINFO GROUPS {}",
    "XINFO CONSUMERS {} g",
    "XGROUP CREATE {} g 0 MKSTREAM",
    "XGROUP SETID {} g 0",
];

fn about(lines: &[&str], key: &str) -> Vec<String> {
    lines.iter().map(|line| line.replace("{}", key)).collect()
}

fn streams_read_by(reader: Topic) -> Vec<Stream> {
    streams::ALL.into_iter().filter(|it| it.readers().contains(&reader)).collect()
}

/// All stored data, to check that refused commands changed nothing.
async fn contents(operator: &mut MultiplexedConnection) -> Vec<(String, Option<Vec<u8>>)> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(operator).await.unwrap();
    keys.sort_unstable();
    let mut all = Vec::new();
    for key in keys {
        let dump = redis::cmd("DUMP").arg(&key).query_async(operator).await.unwrap();
        all.push((key, dump));
    }
    all
}

/// Stores data at every kind of key, so that no refusal has a missing key as its reason.
async fn fill(operator: &mut MultiplexedConnection) {
    for stream in streams::ALL {
        ask(operator, &format!("XADD {stream} 1-1 entity {{}}")).await.unwrap();
    }
    for topic in topics::ALL {
        for rest in ["entity:1", "reservation:1", "payment:1", "customer:1", "store"] {
            ask(operator, &format!("SET {{{}}}:{rest} secret", topic.name())).await.unwrap();
        }
        ask(operator, &format!("HSET {{{}}}:bookmarks a secret", topic.name())).await.unwrap();
    }
}

async fn assert_refused(redis: &mut MultiplexedConnection, user: &str, lines: &[String]) {
    for line in lines {
        let answer = ask(redis, line).await;
        let refused = answer.as_ref().is_err_and(|error| error.contains("no permissions"));
        assert!(refused, "{user}: {line}: {answer:?}");
    }
}

/// Commands on data that does not belong to this owner.
fn not_its_own(own: Topic) -> Vec<String> {
    let mut lines: Vec<String> = FORBIDDEN.map(str::to_owned).into();
    for topic in topics::ALL.into_iter().filter(|it| *it != own) {
        let tag = format!("{{{}}}", topic.name());
        for rest in ["entity:1", "checkpoints", "dead:x:1"] {
            lines.extend(about(&OWNERS, &format!("{tag}:{rest}")));
        }
        // The identity may be read but not changed.
        lines.extend(about(&OWNERS[2..], &format!("{tag}:store")));
    }
    for stream in streams::ALL {
        let key = stream.key();
        let is_read = stream.readers().contains(&own);
        if stream.topic() != own {
            lines.push(format!("XADD {key} * a b"));
            lines.extend(about(&WRITERS, key));
            // Only owners may remove consumers and run scripts, which could run for ever.
            let owners_only = ["XGROUP DELCONSUMER {} g i", "EVAL return(1) 1 {}"];
            lines.extend(about(&owners_only, key));
            if !is_read {
                lines.extend(about(&READERS, key));
            }
        }
    }
    lines
}

#[tokio::test]
async fn each_service_is_refused_each_thing_that_is_not_its_own() {
    let redis = Guarded::start();
    let mut operator = redis.connect("operator").await;
    fill(&mut operator).await;
    let before = contents(&mut operator).await;
    for topic in topics::ALL {
        let mut service = redis.connect(topic.name()).await;
        assert_refused(&mut service, topic.name(), &not_its_own(topic)).await;
    }
    assert_eq!(contents(&mut operator).await, before);
}

#[tokio::test]
async fn the_gateway_may_read_its_data_and_publish_commands_and_nothing_else() {
    let redis = Guarded::start();
    let mut operator = redis.connect("operator").await;
    fill(&mut operator).await;
    let before = contents(&mut operator).await;
    let mut gateway = redis.connect("gateway").await;
    let mut lines: Vec<String> = FORBIDDEN.map(str::to_owned).into();
    lines.extend(["SCRIPT LOAD x", "EVALSHA x 0"].map(str::to_owned));
    for topic in topics::ALL {
        let tag = format!("{{{}}}", topic.name());
        for rest in ["store", "checkpoints", "reservation:1", "payment:1", "customer:1", "dead:x:1"]
        {
            lines.extend(about(&OWNERS, &format!("{tag}:{rest}")));
        }
        lines.extend(about(&OWNERS[2..], &format!("{tag}:entity:1")));
    }
    for stream in streams::ALL {
        let key = stream.key();
        lines.extend(about(&WRITERS[..6], key));
        lines.extend(about(&READERS[..4], key));
        lines.extend(about(&READERS[5..], key));
        if stream.writer() == Writer::Owner {
            lines.push(format!("XADD {key} * a b"));
        }
    }
    assert_refused(&mut gateway, "gateway", &lines).await;
    assert_eq!(contents(&mut operator).await, before);
    for stream in streams::ALL.into_iter().filter(|it| it.writer() == Writer::Clients) {
        ask(&mut gateway, &format!("XADD {stream} * a b")).await.expect("it may");
    }
    for topic in topics::ALL {
        let key = format!("{{{}}}:entity:1", topic.name());
        ask(&mut gateway, &format!("GET {key}")).await.expect("it may");
    }
}

#[tokio::test]
async fn a_script_has_only_the_permissions_of_its_user() {
    let redis = Guarded::start();
    let mut operator = redis.connect("operator").await;
    fill(&mut operator).await;
    let before = contents(&mut operator).await;
    let calls = [
        "redis.call('FLUSHALL')",
        "redis.call('GET','{account}:entity:1')",
        "redis.call('SET','{account}:entity:1','mine')",
        "redis.call('XADD','events:{account}_wallet','*','a','b')",
        "redis.call('XADD','events:{inventory}_check','*','a','b')",
        "redis.call('DEL','events:{inventory}_check')",
        "redis.call('CONFIG','SET','maxmemory','1')",
        "redis.call('ACL','SETUSER','order','+@all')",
    ];
    let mut order = redis.connect("order").await;
    for call in calls {
        // With the key in KEYS and without it.
        for key in ["", "{account}:entity:1", "{order}:entity:1", "events:{inventory}_check"] {
            let mut eval = redis::cmd("EVAL");
            eval.arg(format!("return {call}")).arg(usize::from(!key.is_empty()));
            if !key.is_empty() {
                eval.arg(key);
            }
            let answer: Result<redis::Value, _> = eval.query_async(&mut order).await;
            let error = answer.expect_err(call).to_string();
            let refused = [
                "can't run this command",
                "can't access",
                "no permissions",
                "not allowed from script",
            ];
            assert!(refused.iter().any(|it| error.contains(it)), "{call} {key}: {error}");
        }
    }
    assert_eq!(contents(&mut operator).await, before);
}

#[tokio::test]
async fn connections_without_a_name_or_with_a_wrong_password_are_refused() {
    let redis = Guarded::start();
    let mut stranger = enter(&redis.server.url(), &Default::default()).await.expect("connected");
    for line in ["PING", "INFO", "GET {order}:entity:1", "FLUSHALL", "ACL WHOAMI"] {
        let error = ask(&mut stranger, line).await.expect_err(line);
        assert!(error.contains("NOAUTH") || error.contains("Authentication required"), "{error}");
    }
    for user in RedisUsers::names() {
        let other = if user == "order" { "account" } else { "order" };
        let error = enter(&redis.url_of(user), &redis.access_of(other)).await.err();
        let error = error.unwrap_or_else(|| panic!("{user} came in")).to_string();
        let expected = format!("denies AUTH to the user {user}: wrong user name or password");
        assert!(error.contains(&expected), "{error}");
    }
    let anonymous = format!("{}?user=default&pass=", redis.server.url());
    assert!(enter(&anonymous, &Default::default()).await.is_err());
    let url = format!("{}?user=health&pass=any", redis.server.url());
    let mut health = enter(&url, &Default::default()).await.expect("let in");
    assert_eq!(ask(&mut health, "PING").await, Ok(redis::Value::SimpleString("PONG".to_owned())));
    let more = ["INFO", "GET {order}:entity:1", "ACL WHOAMI"].map(str::to_owned);
    assert_refused(&mut health, "health", &more).await;
    assert_refused(&mut health, "health", &FORBIDDEN.map(str::to_owned)).await;
}

#[tokio::test]
async fn each_service_is_allowed_all_that_its_engine_and_its_readers_need() {
    let redis = Guarded::start();
    for topic in topics::ALL {
        let url: RedisUrl = redis.url_of(topic.name()).parse().unwrap();
        let access = redis.access_of(topic.name()).for_servers([&url]).unwrap();
        let mut link = Link::new(url.with(&access).unwrap(), SOON);
        link.check_permissions(&of_owner(topic, &streams::of(topic))).await.unwrap();
        // In one Redis for all topics, where one command reads all streams.
        let read = streams_read_by(topic);
        link.check_permissions(&of_reader(topic, &read)).await.unwrap();
        for stream in read {
            link.check_permissions(&of_reader(topic, &[stream])).await.unwrap();
        }
        // In a Redis for each topic.
        for other in topics::ALL {
            let redis = Guarded::start_of(other);
            let url: RedisUrl = redis.url_of(topic.name()).parse().unwrap();
            let access = redis.access_of(topic.name()).for_servers([&url]).unwrap();
            let mut link = Link::new(url.with(&access).unwrap(), SOON);
            let read: Vec<Stream> =
                streams_read_by(topic).into_iter().filter(|it| it.topic() == other).collect();
            if !read.is_empty() {
                link.check_permissions(&of_reader(topic, &read)).await.unwrap();
            }
            if other == topic {
                link.check_permissions(&of_owner(topic, &streams::of(topic))).await.unwrap();
            }
        }
        let strange = streams::ALL.into_iter().find(|it| !it.readers().contains(&topic)).unwrap();
        let error =
            link.check_permissions(&of_reader(topic, &[strange])).await.unwrap_err().to_string();
        assert!(error.contains(&format!("XREADGROUP on {strange}")), "{error}");
    }
}
