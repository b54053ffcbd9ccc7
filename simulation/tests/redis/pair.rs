//! A real server and a simulated one, which get the same commands.

use simulation::redis::{Bytes, Outcome, Redis, Reply, Value, Version};
use stack::{Appendfsync, RedisOptions, RedisServer};

use crate::{
    client::{Client, words},
    compare,
};

/// All keys that the commands use.
pub(crate) const KEYS: [&str; 18] = [
    "s1", "s2", "s3", "h1", "h2", "l1", "l2", "z1", "z2", "e1", "e2", "e3", "e4", "store", "lease",
    "lease:i1", "lease:i2", "lease:i3",
];

/// A sorted set with other scores than 0; in any other, members of different scores would not be in
/// the order of Redis.
pub(crate) const SCORES: &str = "scores";

/// A real server and a simulated one.
pub(crate) struct Pair {
    pub(crate) server: RedisServer,
    pub(crate) real: Client,
    pub(crate) simulated: Redis,
    pub(crate) version: Version,
    /// The version as the server names it.
    pub(crate) name: String,
    /// The number of replies that were equal.
    pub(crate) compared: u64,
    /// The last commands, for messages.
    history: Vec<String>,
    /// The time of the last command.
    pub(crate) now: u64,
}

/// Why a sequence of commands ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The millisecond in which the real server ran a command is not known.
    ClockUnclear,
    /// The replies differ.
    Different(String),
}

impl Pair {
    pub(crate) fn start() -> Self {
        let options = RedisOptions {
            appendfsync: Appendfsync::No,
            maxmemory: Some("0".to_owned()),
            ..RedisOptions::default()
        };
        let server = RedisServer::start(options).expect("a redis-server");
        let mut real = Client::connect(&server);
        let (name, version) = version(&mut real);
        let simulated = Redis::new(version, "");
        let (compared, history, now) = (0, Vec::new(), 0);
        Self { server, real, simulated, version, name, compared, history, now }
    }

    /// Empties both servers. Nodes of streams have this number of entries; 0: the default limits.
    pub(crate) fn reset(&mut self, node_entries: usize) {
        let (entries, bytes) = if node_entries == 0 { (100, 4096) } else { (node_entries, 0) };
        for line in [
            "FLUSHALL".to_owned(),
            "SCRIPT FLUSH".to_owned(),
            format!("CONFIG SET stream-node-max-entries {entries}"),
            format!("CONFIG SET stream-node-max-bytes {bytes}"),
        ] {
            let reply = self.real.ask(&words(&line));
            assert_eq!(reply, Reply::Simple("OK".into()), "{line}");
        }
        self.simulated = Redis::new(self.version, "");
        if node_entries > 0 {
            self.simulated = self.simulated.clone().with_node_entries(node_entries);
        }
        self.history.clear();
    }

    /// Sends a command to both, and compares the replies.
    pub(crate) fn run(&mut self, command: &[Bytes]) -> Result<Reply, Stopped> {
        self.run_with(command, false)
    }

    /// The same; both servers may be out of memory.
    pub(crate) fn run_with(
        &mut self,
        command: &[Bytes],
        is_out_of_memory: bool,
    ) -> Result<Reply, Stopped> {
        self.await_short_expiry();
        if command == words("DBSIZE") {
            // A real server counts expired keys until it looks at them.
            self.real.ask(&words(&format!("EXISTS {}", KEYS.join(" "))));
        }
        let shown = compare::command_text(command);
        self.history.push(shown);
        let (reply, first, last) = self.ask_real(command, is_out_of_memory);
        self.simulated.set_out_of_memory(is_out_of_memory);
        let before = self.simulated.clone();
        let mut outcome = Outcome::Blocked { millis: 0 };
        for now in first..=last {
            self.simulated = before.clone();
            outcome = self.simulated.run(now, command);
            self.now = now;
            let is_equal = compare::is_equal(command, &reply, &outcome, self.comparison());
            if is_equal && (first == last || self.has_equal_last_ids()) {
                self.simulated.set_out_of_memory(false);
                self.compared += 1;
                return Ok(reply);
            }
        }
        if first != last {
            return Err(Stopped::ClockUnclear);
        }
        Err(Stopped::Different(self.difference(&reply, &outcome)))
    }

    /// The reply of the real server, and the milliseconds before and after.
    fn ask_real(&mut self, command: &[Bytes], is_out_of_memory: bool) -> (Reply, u64, u64) {
        let time = words("TIME");
        let (full, free) = (words("CONFIG SET maxmemory 1"), words("CONFIG SET maxmemory 0"));
        if is_out_of_memory {
            self.real.send(&[&full, &time, command, &time, &free]);
            self.real.receive();
        } else {
            self.real.send(&[&time, command, &time]);
        }
        let first = millis(&self.real.receive());
        let reply = self.real.receive();
        let last = millis(&self.real.receive());
        if is_out_of_memory {
            self.real.receive();
        }
        (reply, first, last)
    }

    /// The server as the comparison of replies sees it.
    pub(crate) fn comparison(&self) -> compare::Server {
        compare::Server { version: self.version, is_valkey: self.name.starts_with("Valkey") }
    }

    /// The time of the real server.
    pub(crate) fn time(&mut self) -> u64 {
        millis(&self.real.ask(&words("TIME")))
    }

    /// Waits for the expiry of a key that is due within milliseconds, because the clocks of the two
    /// may differ by one.
    fn await_short_expiry(&mut self) {
        let ask = words("PTTL lease");
        if matches!(self.simulated.run(self.now, &ask), Outcome::Reply(Reply::Int(0..=2))) {
            while matches!(self.real.ask(&ask), Reply::Int(0..)) {}
            self.now = self.now.max(self.time());
        }
    }

    fn has_equal_last_ids(&mut self) -> bool {
        let keys = KEYS.map(str::as_bytes);
        let is_stream =
            |key: &&[u8]| matches!(self.simulated.get_value(key), Some(Value::Stream(_)));
        let streams: Vec<&[u8]> = keys.into_iter().filter(is_stream).collect();
        streams.into_iter().all(|key| {
            let ask = [b"XINFO".to_vec(), b"STREAM".to_vec(), key.to_vec()];
            let real = compare::last_id(&self.real.ask(&ask));
            let Outcome::Reply(simulated) = self.simulated.run(self.now, &ask) else {
                return false;
            };
            real == compare::last_id(&simulated)
        })
    }

    /// Compares all data, by commands that show it.
    pub(crate) fn compare_data(&mut self) -> Result<(), Stopped> {
        self.run(&words("DBSIZE"))?;
        for key in KEYS.into_iter().chain([SCORES]) {
            self.run(&words(&format!("TYPE {key}")))?;
            self.run(&words(&format!("PTTL {key}")))?;
            let Some(value) = self.simulated.get_value(key.as_bytes()) else { continue };
            let lines = match value {
                Value::String(_) => vec![format!("GET {key}")],
                Value::Hash(_) => vec![format!("HGETALL {key}")],
                Value::List(_) => vec![format!("LRANGE {key} 0 -1")],
                Value::SortedSet(set) => {
                    let scores = set
                        .keys()
                        .map(|member| format!("ZSCORE {key} {}", String::from_utf8_lossy(member)));
                    scores.chain([format!("ZRANGEBYLEX {key} - +")]).collect()
                }
                Value::Stream(stream) => {
                    let mut lines =
                        vec![format!("XRANGE {key} - +"), format!("XINFO STREAM {key}")];
                    lines.push(format!("XINFO GROUPS {key}"));
                    for group in stream.groups.keys().map(|group| String::from_utf8_lossy(group)) {
                        lines.push(format!("XINFO CONSUMERS {key} {group}"));
                        lines.push(format!("XPENDING {key} {group}"));
                        lines.push(format!("XPENDING {key} {group} - + 1000"));
                    }
                    lines
                }
            };
            for line in lines {
                self.run(&words(&line))?;
            }
        }
        Ok(())
    }

    /// The message for replies that differ.
    pub(crate) fn difference(&self, real: &Reply, simulated: &Outcome) -> String {
        let recent = self.history.len().saturating_sub(25);
        format!(
            "{}\n  real:      {}\n  simulated: {}",
            self.history[recent..].join("\n"),
            compare::reply_text(real),
            match simulated {
                Outcome::Reply(reply) => compare::reply_text(reply),
                blocked => format!("{blocked:?}"),
            }
        )
    }

    /// Adds a line to the history for messages.
    pub(crate) fn note(&mut self, line: String) {
        self.history.push(line);
    }
}

/// The milliseconds of a reply to TIME.
fn millis(time: &Reply) -> u64 {
    let Reply::Array(parts) = time else { panic!("a time: {time:?}") };
    let number = |part: &Reply| match part {
        Reply::Bulk(digits) => String::from_utf8_lossy(digits).parse::<u64>().expect("a number"),
        other => panic!("a number: {other:?}"),
    };
    number(&parts[0]) * 1000 + number(&parts[1]) / 1000
}

/// The name of the server's version, and the version to simulate.
fn version(real: &mut Client) -> (String, Version) {
    let Reply::Bulk(info) = real.ask(&words("INFO server")) else { panic!("no INFO") };
    let info = String::from_utf8_lossy(&info).into_owned();
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let redis = field("redis_version:").expect("a version");
    let name = match field("valkey_version:") {
        Some(valkey) => format!("Valkey {valkey}"),
        None => format!("Redis {redis}"),
    };
    let mut numbers = redis.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = match (numbers.next(), numbers.next()) {
        (Some(6), _) => Version::V6_2,
        (Some(7), Some(0)) => Version::V7_0,
        _ => Version::V7_2,
    };
    (name, version)
}
