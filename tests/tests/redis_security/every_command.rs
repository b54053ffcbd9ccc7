//! The exact list of commands, of all that Redis has, that each user may use on data of another service.

use std::collections::BTreeSet;

use common::contract::streams::{self, topics};
use redis::{Value, aio::MultiplexedConnection};

use crate::support::{Guarded, ask};

/// Commands without a key. Redis permits AUTH, HELLO, QUIT and RESET to all clients.
const ABOUT_NOTHING: [&str; 9] =
    ["acl|dryrun", "acl|whoami", "auth", "hello", "info", "ping", "quit", "reset", "script|load"];
/// Commands that a service uses on another's stream that it reads.
const READERS: [&str; 8] = [
    "xack",
    "xclaim",
    "xgroup|create",
    "xgroup|setid",
    "xinfo|consumers",
    "xinfo|groups",
    "xpending",
    "xreadgroup",
];

/// Those of them that need no script, in a Redis without data of the user.
const ABOUT_NOTHING_ELSEWHERE: [&str; 8] =
    ["acl|dryrun", "acl|whoami", "auth", "hello", "info", "ping", "quit", "reset"];

/// A command: its name, with that of a subcommand after a bar, and its number of words; a negative number
/// is a minimum.
struct Command {
    name: String,
    arity: i64,
}

/// All commands and subcommands of this Redis.
async fn all_commands(operator: &mut MultiplexedConnection) -> Vec<Command> {
    fn add(entry: &Value, all: &mut Vec<Command>) {
        let Value::Array(entry) = entry else { panic!("no command: {entry:?}") };
        let name: String = redis::from_redis_value_ref(&entry[0]).expect("a name");
        let arity: i64 = redis::from_redis_value_ref(&entry[1]).expect("a number");
        match entry.get(9) {
            Some(Value::Array(below)) if !below.is_empty() => {
                below.iter().for_each(|entry| add(entry, all));
            }
            _ => all.push(Command { name, arity }),
        }
    }
    let answer: Value = redis::cmd("COMMAND").query_async(operator).await.expect("commands");
    let Value::Array(entries) = answer else { panic!("no list: {answer:?}") };
    let mut all = Vec::new();
    entries.iter().for_each(|entry| add(entry, &mut all));
    assert!(all.len() > 300, "{}", all.len());
    all
}

impl Command {
    /// The command with this key in each position of a key.
    fn about(&self, key: &str) -> Vec<String> {
        let text = match self.name.as_str() {
            "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro" => "x 1 {}",
            "xread" => "STREAMS {} 0",
            "xreadgroup" => "GROUP g i STREAMS {} >",
            "acl|dryrun" => "order PING",
            _ => "",
        };
        let mut words: Vec<String> = self.name.split('|').map(str::to_owned).collect();
        words.extend(text.split_whitespace().map(|word| word.replace("{}", key)));
        let least = if self.arity > 0 { self.arity } else { self.arity.abs().max(2) };
        let missing = usize::try_from(least).expect("small").saturating_sub(words.len());
        words.extend(std::iter::repeat_n(key.to_owned(), missing));
        words
    }
}

/// The commands that are permitted to this user on this key.
async fn allowed(
    operator: &mut MultiplexedConnection,
    commands: &[Command],
    user: &str,
    key: &str,
) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for command in commands {
        let mut ask = redis::cmd("ACL");
        ask.arg("DRYRUN").arg(user).arg(command.about(key));
        let answer: Result<String, _> = ask.query_async(operator).await;
        match answer.as_deref() {
            Ok("OK") => {
                allowed.insert(command.name.clone());
            }
            Ok(refused) => assert!(refused.contains("permission"), "{}: {refused}", command.name),
            Err(error) => panic!("{}: {error}", command.name),
        }
    }
    allowed
}

fn these(names: &[&[&str]]) -> BTreeSet<String> {
    names.iter().flat_map(|names| names.iter()).map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn on_data_of_another_each_service_may_use_exactly_these_commands() {
    let redis = Guarded::start();
    let mut operator = redis.connect("operator").await;
    let commands = all_commands(&mut operator).await;
    for own in topics::ALL {
        let user = own.name();
        for topic in topics::ALL.into_iter().filter(|it| *it != own) {
            let key = format!("{{{}}}:entity:1", topic.name());
            let found = allowed(&mut operator, &commands, user, &key).await;
            assert_eq!(found, these(&[&ABOUT_NOTHING]), "{user} on {key}");
            let key = format!("{{{}}}:store", topic.name());
            let mut found = allowed(&mut operator, &commands, user, &key).await;
            // A service that reads no stream of another needs no access to its store id either.
            found.remove("get");
            assert_eq!(found, these(&[&ABOUT_NOTHING]), "{user} on {key}");
        }
        for stream in streams::ALL.into_iter().filter(|it| it.topic() != own) {
            let is_reader = stream.readers().contains(&own);
            let readers: &[&str] = if is_reader { &READERS } else { &[] };
            // order_service reads the progress of the services whose answers it expects.
            let ends: &[&str] =
                if is_reader && own == topics::ORDER { &["xinfo|stream"] } else { &[] };
            let found = allowed(&mut operator, &commands, user, stream.key()).await;
            assert_eq!(found, these(&[&ABOUT_NOTHING, readers, ends]), "{user} on {stream}");
        }
    }
}

#[tokio::test]
async fn in_the_redis_of_another_topic_a_service_owns_nothing_and_runs_no_script() {
    for topic in topics::ALL {
        let redis = Guarded::start_of(topic);
        let mut operator = redis.connect("operator").await;
        let commands = all_commands(&mut operator).await;
        for user in topics::ALL.into_iter().filter(|it| *it != topic) {
            let name = user.name();
            for key in [format!("{{{name}}}:filler"), format!("events:{{{name}}}_x")] {
                let found = allowed(&mut operator, &commands, name, &key).await;
                assert_eq!(
                    found,
                    these(&[&ABOUT_NOTHING_ELSEWHERE]),
                    "{name} on {key} at {topic:?}"
                );
            }
            for stream in streams::ALL {
                let there = stream.topic() == topic && stream.readers().contains(&user);
                let readers: &[&str] = if there { &READERS } else { &[] };
                let ends: &[&str] =
                    if there && user == topics::ORDER { &["xinfo|stream"] } else { &[] };
                let expected = these(&[&ABOUT_NOTHING_ELSEWHERE, readers, ends]);
                let found = allowed(&mut operator, &commands, name, stream.key()).await;
                assert_eq!(found, expected, "{name} on {stream} at {topic:?}");
            }
            let mut service = redis.connect(name).await;
            for script in ["EVAL return(1) 0", "SCRIPT LOAD return(1)", "EVALSHA x 0"] {
                let answer = ask(&mut service, script).await;
                let refused = answer.as_ref().is_err_and(|it| it.contains("no permissions"));
                assert!(refused, "{name} at {topic:?}: {script}: {answer:?}");
            }
        }
        let mut owner = redis.connect(topic.name()).await;
        ask(&mut owner, "EVAL return(1) 0").await.expect("its own");
        ask(&mut owner, &format!("SET {{{}}}:x y", topic.name())).await.expect("its own");
    }
}
