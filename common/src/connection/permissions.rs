//! What a user has to be allowed in Redis to run a service, and the check at the start that it is.
//!
//! The lists follow from the topic that the service owns and the streams that it reads. They are held
//! against the server's ACL with `ACL DRYRUN`, which runs nothing. `deploy/redis/users.acl` grants just
//! these rights.

use redis::{Pipeline, Value, from_redis_value};
use tracing::{debug, warn};

use crate::{
    connection::link::{Link, LinkError},
    contract::{
        events::{Stream, Topic, Writer},
        keys,
    },
};

/// How many missing rights are named; the others are counted.
const NAMED: usize = 5;
/// Stands for what is of no importance to the check.
const ANY: &str = "0-0";

/// The right to run a command on some keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Right {
    /// A call that only who has the right may make; the first word is the command.
    words: Vec<String>,
    /// What the ACL calls the command, e.g. `xgroup|create`.
    command: String,
    keys: Vec<String>,
}

impl Right {
    /// The right to make such a call: the command, which may be one of two words (`XINFO GROUPS`), the
    /// key and the rest of the arguments.
    pub fn new(command: &str, key: &str, arguments: &[&str]) -> Self {
        let words = command.split(' ').chain([key]).chain(arguments.iter().copied());
        Self {
            words: words.map(str::to_owned).collect(),
            command: command.replace(' ', "|").to_lowercase(),
            keys: vec![key.to_owned()],
        }
    }

    /// The right to call a command that has no key.
    fn without_key(command: &str, arguments: &[&str]) -> Self {
        let words = command.split(' ').chain(arguments.iter().copied());
        Self {
            words: words.map(str::to_owned).collect(),
            command: command.replace(' ', "|").to_lowercase(),
            keys: Vec::new(),
        }
    }

    /// The right to read this section of the server's report about itself.
    pub fn info(section: &str) -> Self {
        Self::without_key("INFO", &[section])
    }

    /// The right to run a script that names this key.
    fn script(key: &str) -> Self {
        Self {
            words: ["EVAL", "return 0", "1", key].map(str::to_owned).to_vec(),
            command: "eval".to_owned(),
            keys: vec![key.to_owned()],
        }
    }

    /// The right to read the stream without a group.
    pub fn read(stream: Stream) -> Self {
        Self {
            words: ["XREAD", "STREAMS", stream.key(), "0"].map(str::to_owned).to_vec(),
            command: "xread".to_owned(),
            keys: vec![stream.key().to_owned()],
        }
    }

    /// The right to read all of these through a group in one call.
    fn read_group(group: &str, streams: &[Stream]) -> Self {
        let keys: Vec<String> = streams.iter().map(|it| it.key().to_owned()).collect();
        let words = ["XREADGROUP", "GROUP", group, "instance", "STREAMS"].map(str::to_owned);
        let ids = streams.iter().map(|_| ">".to_owned());
        Self {
            words: words.into_iter().chain(keys.iter().cloned()).chain(ids).collect(),
            command: "xreadgroup".to_owned(),
            keys,
        }
    }

    /// What to do in words: `XADD on events:{order}_created`.
    fn describe(&self) -> String {
        let command = self.command.replace('|', " ").to_uppercase();
        if self.keys.is_empty() { command } else { format!("{command} on {}", self.keys.join(" ")) }
    }

    /// What to add to the user's ACL.
    fn grant(&self) -> String {
        if self.keys.is_empty() {
            return format!("+{}", self.command);
        }
        let keys: String = self.keys.iter().map(|key| format!("~{key} ")).collect();
        format!("({keys}+{})", self.command)
    }
}

/// What every program needs that looks at the server before it uses it.
pub fn of_everybody() -> Vec<Right> {
    vec![Right::without_key("PING", &[]), Right::info("server")]
}

/// What the owner of a topic needs under its own tag.
pub fn of_owner(topic: Topic) -> Vec<Right> {
    let key = |rest: &str| format!("{{{}}}:{rest}", topic.name());
    let (entity, list, set) = (key("entity:0"), key("index"), key("status:pending"));
    let mut rights = of_everybody();
    rights.push(Right::without_key("SCRIPT LOAD", &["return 0"]));
    rights.push(Right {
        words: ["EVALSHA", "0", "1", &entity].map(str::to_owned).to_vec(),
        command: "evalsha".to_owned(),
        keys: vec![entity.clone()],
    });
    rights.extend([
        Right::new("GET", &entity, &[]),
        Right::new("MGET", &entity, &[]),
        Right::new("MSET", &entity, &[ANY]),
        Right::new("EXISTS", &entity, &[]),
        Right::new("TYPE", &entity, &[]),
        Right::new("RPUSH", &list, &[ANY]),
        Right::new("ZADD", &set, &["0", ANY]),
        Right::new("ZREM", &set, &[ANY]),
        Right::new("ZLEXCOUNT", &set, &["-", "+"]),
        Right::new("SET", &keys::lease(topic), &[ANY, "PX", "1"]),
        Right::script(&keys::lease(topic)),
        Right::new("BLPOP", &keys::lease_turn(topic, "0"), &["1"]),
        Right::new("PEXPIRE", &keys::lease_turn(topic, "0"), &["1"]),
        Right::new("SETNX", &keys::store(topic), &[ANY]),
        Right::new("GET", &key("suspect:0"), &[]),
        Right::new("SET", &key("suspect:0"), &[ANY, "EX", "1"]),
    ]);
    let bookmarks = keys::bookmarks(topic);
    rights.extend([
        Right::new("HSET", &bookmarks, &[ANY, ANY]),
        Right::new("HSETNX", &bookmarks, &[ANY, ANY]),
        Right::new("HGET", &bookmarks, &[ANY]),
        Right::new("HMGET", &bookmarks, &[ANY]),
    ]);
    let own = Stream::ALL.into_iter().filter(|it| it.topic() == topic);
    for stream in own.clone().filter(|it| it.writer() == Writer::Owner) {
        rights.push(Right::new("XADD", stream.key(), &["*", ANY, ANY]));
        rights.push(Right::new("XINFO STREAM", stream.key(), &[]));
    }
    for stream in own {
        let stream_key = stream.key();
        // Dead letters are not trimmed.
        if !matches!(stream, Stream::Dead(_)) {
            rights.extend([
                Right::script(stream_key),
                Right::new("XLEN", stream_key, &[]),
                Right::new("MEMORY USAGE", stream_key, &[]),
                Right::new("XINFO GROUPS", stream_key, &[]),
                Right::new("XINFO CONSUMERS", stream_key, &[ANY]),
                Right::new("XGROUP DELCONSUMER", stream_key, &[ANY, ANY]),
                Right::new("XPENDING", stream_key, &[ANY]),
                Right::new("XTRIM", stream_key, &["MAXLEN", "1"]),
            ]);
        }
    }
    rights
}

/// What the owner of a topic needs to read these streams, which lie in one Redis, through its group: no
/// script, for one could keep another owner's Redis busy for ever.
pub fn of_reader(reader: Topic, streams: &[Stream]) -> Vec<Right> {
    let group = reader.service();
    let mut rights = of_everybody();
    rights.push(Right::read_group(group, streams));
    for stream in streams.iter().map(|it| it.key()) {
        rights.extend([
            Right::new("XACK", stream, &[group, ANY]),
            Right::new("XCLAIM", stream, &[group, ANY, "0", ANY]),
            Right::new("XPENDING", stream, &[group]),
            Right::new("XGROUP CREATE", stream, &[group, "0", "MKSTREAM"]),
            Right::new("XGROUP SETID", stream, &[group, "0"]),
            Right::new("XINFO GROUPS", stream, &[]),
            Right::new("XINFO CONSUMERS", stream, &[group]),
        ]);
    }
    let topics = Topic::ALL.into_iter().filter(|it| streams.iter().any(|of| of.topic() == *it));
    rights.extend(topics.map(|topic| Right::new("GET", &keys::store(topic), &[])));
    rights
}

/// Holds the rights against what the server says; where it cannot be asked, says so.
///
/// # Errors
///
/// [`LinkError::Unsuitable`] names what is missing; the server is away, or does not let us in.
pub(crate) async fn check(link: &mut Link, rights: &[Right]) -> Result<(), LinkError> {
    if rights.is_empty() {
        return Ok(());
    }
    let mut ask = Pipeline::with_capacity(1);
    ask.cmd("ACL").arg("WHOAMI");
    let user = link.send(&ask).await?.pop().unwrap_or(Value::Nil);
    if cannot_be_asked(&user) {
        tell_unchecked(link, user);
        return Ok(());
    }
    let user = link.accept("ACL WHOAMI", user)?;
    let user = from_redis_value::<String>(user).unwrap_or_default();
    let mut commands = Pipeline::with_capacity(rights.len());
    for right in rights {
        commands.cmd("ACL").arg("DRYRUN").arg(&user).arg(&right.words);
    }
    let mut answers = link.send(&commands).await?;
    if let Some(place) = answers.iter().position(cannot_be_asked) {
        tell_unchecked(link, answers.swap_remove(place));
        return Ok(());
    }
    let missing: Vec<&Right> = rights
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| is_refusal(answer))
        .map(|(it, _)| it)
        .collect();
    if missing.is_empty() {
        debug!(
            user,
            rights = rights.len(),
            "the Redis at {} grants all that is needed",
            link.address()
        );
        return Ok(());
    }
    Err(LinkError::Unsuitable { address: link.address(), reason: complaint(&user, &missing) })
}

/// Whether the server does not know the command, or does not let this user ask about rights. Any other
/// error says nothing about that: who is not let in asks again.
fn cannot_be_asked(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    match error.code() {
        "NOPERM" => true,
        "ERR" => error.details().is_some_and(|it| it.to_lowercase().contains("unknown")),
        _ => false,
    }
}

fn tell_unchecked(link: &Link, answer: Value) {
    let Value::ServerError(error) = answer else { return };
    let reason = redis::RedisError::from(error).to_string();
    warn!(
        user = link.user(),
        reason,
        "the rights at the Redis at {} cannot be checked; what is missing will show when it is needed (it takes \
         Redis 7.0 and +acl|whoami +acl|dryrun)",
        link.address()
    );
}

/// Whether a dry run would have been refused. An error is about the call and not about the right.
fn is_refusal(answer: &Value) -> bool {
    match answer {
        Value::BulkString(text) => text != b"OK",
        Value::SimpleString(text) => text != "OK",
        _ => false,
    }
}

fn complaint(user: &str, missing: &[&Right]) -> String {
    let shown = &missing[..missing.len().min(NAMED)];
    let named: Vec<String> = shown.iter().map(|it| it.describe()).collect();
    let grants: Vec<String> = shown.iter().map(|it| it.grant()).collect();
    let more = match missing.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "its user {user} may not do what this service has to: {}{more}; add to the user's ACL: {}{more}; \
         deploy/redis/users.acl has it all",
        named.join(", "),
        grants.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_words_and_as_the_acl_has_it() {
        let read = of_reader(Topic::Order, &[Stream::InventoryCheck, Stream::AccountWallet]);
        let create = Right::new("XGROUP CREATE", "events:{inventory}_check", &["g", "0"]);
        let info = Right::without_key("INFO", &[]);
        let text = complaint("order", &[&read[2], &create, &info]);
        assert_eq!(
            text,
            "its user order may not do what this service has to: XREADGROUP on events:{inventory}_check \
             events:{account}_wallet, XGROUP CREATE on events:{inventory}_check, INFO; add to the user's ACL: \
             (~events:{inventory}_check ~events:{account}_wallet +xreadgroup) (~events:{inventory}_check \
             +xgroup|create) +info; deploy/redis/users.acl has it all"
        );
        let many: Vec<&Right> = read.iter().collect();
        assert!(complaint("order", &many).contains(&format!(" and {} more;", many.len() - NAMED)));
    }

    #[test]
    fn only_where_there_is_no_asking_about_rights_are_they_left_unchecked() {
        let error = |line: &[u8]| redis::parse_redis_value(line).unwrap();
        for unknown in [
            &b"-NOPERM User order has no permissions to run the 'acl|dryrun' command\r\n"[..],
            b"-ERR unknown command 'ACL', with args beginning with: 'WHOAMI'\r\n",
            b"-ERR Unknown subcommand or wrong number of arguments for 'DRYRUN'. Try ACL HELP.\r\n",
        ] {
            assert!(cannot_be_asked(&error(unknown)), "{}", String::from_utf8_lossy(unknown));
        }
        for other in [
            &b"-NOAUTH Authentication required.\r\n"[..],
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-ERR User 'order' not found\r\n",
            b"+OK\r\n",
        ] {
            assert!(!cannot_be_asked(&error(other)), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn only_an_answer_other_than_ok_is_a_refusal() {
        assert!(!is_refusal(&Value::Okay));
        assert!(!is_refusal(&Value::SimpleString("OK".to_owned())));
        assert!(is_refusal(&Value::BulkString(b"This user has no permissions".to_vec())));
    }
}
