//! The Redis permissions that a service needs, and their check at the start.
//!
//! The lists follow from the topic that the service owns and the streams that it reads. `ACL
//! DRYRUN` checks them against the server's ACL without running anything. `deploy/redis/users.acl`
//! grants exactly these permissions.

use crate::schema::{
    keys,
    stream::{Stream, Topic, Writer},
};

/// How many missing permissions a message names; it counts the others.
const MAX_NAMED: usize = 5;
/// A placeholder argument without influence on the check.
const PLACEHOLDER_ID: &str = "0-0";

/// The permission to run a command on some keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permission {
    /// A sample call that requires the permission; the first word is the command.
    pub(super) words: Vec<String>,
    /// The name of the command in the ACL, e.g. `xgroup|create`.
    command: String,
    keys: Vec<String>,
}

impl Permission {
    /// The permission for such a call: the command, which may consist of two words (`XINFO
    /// GROUPS`), the key and the other arguments.
    pub fn new(command: &str, key: &str, arguments: &[&str]) -> Self {
        let words = command.split(' ').chain([key]).chain(arguments.iter().copied());
        Self {
            words: words.map(str::to_owned).collect(),
            command: command.replace(' ', "|").to_lowercase(),
            keys: vec![key.to_owned()],
        }
    }

    /// The permission for a command without a key.
    fn without_key(command: &str, arguments: &[&str]) -> Self {
        let words = command.split(' ').chain(arguments.iter().copied());
        Self {
            words: words.map(str::to_owned).collect(),
            command: command.replace(' ', "|").to_lowercase(),
            keys: Vec::new(),
        }
    }

    /// The permission to read this section of INFO.
    pub fn info(section: &str) -> Self {
        Self::without_key("INFO", &[section])
    }

    /// The permission to run a script with this key.
    fn script(key: &str) -> Self {
        Self {
            words: ["EVAL", "return 0", "1", key].map(str::to_owned).to_vec(),
            command: "eval".to_owned(),
            keys: vec![key.to_owned()],
        }
    }

    /// The permission to read the stream without a group.
    pub fn read(stream: Stream) -> Self {
        Self {
            words: ["XREAD", "STREAMS", stream.key(), "0"].map(str::to_owned).to_vec(),
            command: "xread".to_owned(),
            keys: vec![stream.key().to_owned()],
        }
    }

    /// The permission to read all of these streams through a group in one call.
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

    /// The permission in words: `XADD on events:{order}_created`.
    fn describe(&self) -> String {
        let command = self.command.replace('|', " ").to_uppercase();
        if self.keys.is_empty() { command } else { format!("{command} on {}", self.keys.join(" ")) }
    }

    /// The rule to add to the user's ACL.
    fn grant(&self) -> String {
        if self.keys.is_empty() {
            return format!("+{}", self.command);
        }
        let keys: String = self.keys.iter().map(|key| format!("~{key} ")).collect();
        format!("({keys}+{})", self.command)
    }
}

/// The permissions of every program that checks a server before it uses it.
pub fn of_every_program() -> Vec<Permission> {
    vec![Permission::without_key("PING", &[]), Permission::info("server")]
}

/// The permissions of the owner of a topic with these streams.
pub fn of_owner(topic: Topic, own: &[Stream]) -> Vec<Permission> {
    let key = |rest: &str| format!("{{{}}}:{rest}", topic.name());
    let (entity, list, set) = (key("entity:0"), key("index"), key("status:pending"));
    let mut permissions = of_every_program();
    permissions.push(Permission::without_key("SCRIPT LOAD", &["return 0"]));
    permissions.push(Permission {
        words: ["EVALSHA", "0", "1", &entity].map(str::to_owned).to_vec(),
        command: "evalsha".to_owned(),
        keys: vec![entity.clone()],
    });
    permissions.extend([
        Permission::new("GET", &entity, &[]),
        Permission::new("MGET", &entity, &[]),
        Permission::new("MSET", &entity, &[PLACEHOLDER_ID]),
        Permission::new("EXISTS", &entity, &[]),
        Permission::new("TYPE", &entity, &[]),
        Permission::new("RPUSH", &list, &[PLACEHOLDER_ID]),
        Permission::new("ZADD", &set, &["0", PLACEHOLDER_ID]),
        Permission::new("ZREM", &set, &[PLACEHOLDER_ID]),
        Permission::new("ZLEXCOUNT", &set, &["-", "+"]),
        Permission::new("SET", &keys::lease(topic), &[PLACEHOLDER_ID, "PX", "1"]),
        Permission::script(&keys::lease(topic)),
        Permission::new("BLPOP", &keys::lease_queue(topic, "0"), &["1"]),
        Permission::new("PEXPIRE", &keys::lease_queue(topic, "0"), &["1"]),
        Permission::new("SETNX", &keys::store(topic), &[PLACEHOLDER_ID]),
        Permission::new("GET", &key("suspect:0"), &[]),
        Permission::new("SET", &key("suspect:0"), &[PLACEHOLDER_ID, "EX", "1"]),
    ]);
    let checkpoints = keys::checkpoints(topic);
    permissions.extend([
        Permission::new("HSET", &checkpoints, &[PLACEHOLDER_ID, PLACEHOLDER_ID]),
        Permission::new("HSETNX", &checkpoints, &[PLACEHOLDER_ID, PLACEHOLDER_ID]),
        Permission::new("HGET", &checkpoints, &[PLACEHOLDER_ID]),
        Permission::new("HMGET", &checkpoints, &[PLACEHOLDER_ID]),
    ]);
    let owners = own.iter().copied().filter(|it| it.writer() == Writer::Owner);
    for stream in owners.chain([topic.dead_letters()]) {
        permissions.push(Permission::new(
            "XADD",
            stream.key(),
            &["*", PLACEHOLDER_ID, PLACEHOLDER_ID],
        ));
        permissions.push(Permission::new("XINFO STREAM", stream.key(), &[]));
    }
    // Dead letters are not trimmed.
    for stream in own.iter().map(|it| it.key()) {
        permissions.extend([
            Permission::script(stream),
            Permission::new("XLEN", stream, &[]),
            Permission::new("MEMORY USAGE", stream, &[]),
            Permission::new("XINFO GROUPS", stream, &[]),
            Permission::new("XINFO CONSUMERS", stream, &[PLACEHOLDER_ID]),
            Permission::new("XGROUP DELCONSUMER", stream, &[PLACEHOLDER_ID, PLACEHOLDER_ID]),
            Permission::new("XPENDING", stream, &[PLACEHOLDER_ID]),
            Permission::new("XTRIM", stream, &["MAXLEN", "1"]),
        ]);
    }
    permissions
}

/// The permissions of a service that reads these streams of one Redis through its group. They
/// include no script: a script could block another owner's Redis for ever.
pub fn of_reader(reader: Topic, streams: &[Stream]) -> Vec<Permission> {
    let group = reader.service();
    let mut permissions = of_every_program();
    permissions.push(Permission::read_group(group, streams));
    for stream in streams.iter().map(|it| it.key()) {
        permissions.extend([
            Permission::new("XACK", stream, &[group, PLACEHOLDER_ID]),
            Permission::new("XCLAIM", stream, &[group, PLACEHOLDER_ID, "0", PLACEHOLDER_ID]),
            Permission::new("XPENDING", stream, &[group]),
            Permission::new("XGROUP CREATE", stream, &[group, "0", "MKSTREAM"]),
            Permission::new("XGROUP SETID", stream, &[group, "0"]),
            Permission::new("XINFO GROUPS", stream, &[]),
            Permission::new("XINFO CONSUMERS", stream, &[group]),
        ]);
    }
    let mut topics: Vec<Topic> = Vec::new();
    for topic in streams.iter().map(|it| it.topic()) {
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    let stores = topics.into_iter().map(|topic| Permission::new("GET", &keys::store(topic), &[]));
    permissions.extend(stores);
    permissions
}

pub(super) fn describe_missing(user: &str, missing: &[&Permission]) -> String {
    let shown = &missing[..missing.len().min(MAX_NAMED)];
    let named: Vec<String> = shown.iter().map(|it| it.describe()).collect();
    let grants: Vec<String> = shown.iter().map(|it| it.grant()).collect();
    let more = match missing.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "its user {user} lacks permissions: {}{more}; add to the user's ACL: {}{more}; \
         docs/redis-security.md says more",
        named.join(", "),
        grants.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::streams::{self, topics};

    #[test]
    fn missing_permissions_are_named_in_words_and_as_acl_rules() {
        let read = of_reader(topics::ORDER, &[streams::INVENTORY_CHECK, streams::ACCOUNT_WALLET]);
        let create = Permission::new("XGROUP CREATE", "events:{inventory}_check", &["g", "0"]);
        let info = Permission::without_key("INFO", &[]);
        let text = describe_missing("order", &[&read[2], &create, &info]);
        assert_eq!(
            text,
            "its user order lacks permissions: XREADGROUP on events:{inventory}_check \
             events:{account}_wallet, XGROUP CREATE on events:{inventory}_check, INFO; add to the \
             user's ACL: (~events:{inventory}_check ~events:{account}_wallet +xreadgroup) \
             (~events:{inventory}_check +xgroup|create) +info; docs/redis-security.md says more"
        );
        let many: Vec<&Permission> = read.iter().collect();
        assert!(
            describe_missing("order", &many)
                .contains(&format!(" and {} more;", many.len() - MAX_NAMED))
        );
    }
}
