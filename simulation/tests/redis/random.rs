//! Random commands with colliding keys, often of the wrong type, and with small ranges of ids.

use fastrand::Rng;
use simulation::redis::{Bytes, EntryId, Redis, Value, Version};

use crate::{
    client::words,
    faulty::FAULTY,
    pair::{KEYS, SCORES},
};

/// The source of random commands.
pub(crate) struct Commands {
    pub(crate) rng: Rng,
    /// Ids of entries that exist or are pending.
    known_ids: Vec<EntryId>,
    /// Grows with the ids of entries.
    next: u64,
    version: Version,
    /// The length of the values of entries, which decides how many share a node.
    value_length: usize,
}

const LARGEST_ID: &str = "18446744073709551615-18446744073709551615";

impl Commands {
    pub(crate) fn new(seed: u64, version: Version) -> Self {
        let mut rng = Rng::with_seed(seed);
        let value_length = *rng.choice(&[1, 1, 40, 300]).expect("a length");
        Self { rng, known_ids: Vec::new(), next: 1, version, value_length }
    }

    /// Learns which ids exist.
    pub(crate) fn look_at(&mut self, redis: &Redis) {
        self.known_ids.clear();
        for (_, value) in redis.keys() {
            let Value::Stream(stream) = value else { continue };
            self.known_ids.extend(stream.entries.keys());
            self.known_ids.extend(stream.groups.values().flat_map(|group| group.pending.keys()));
        }
    }

    pub(crate) fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        self.rng.choice(choices).copied().expect("a choice")
    }

    /// One of these keys, or sometimes any other.
    pub(crate) fn key<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        if self.rng.u8(..12) == 0 { self.one(&KEYS) } else { self.one(choices) }
    }

    pub(crate) fn stream(&mut self) -> &'static str {
        self.key(&["s1", "s1", "s2", "s3"])
    }

    fn group(&mut self) -> &'static str {
        self.one(&["g1", "g1", "g1", "g2"])
    }

    fn consumer(&mut self) -> &'static str {
        self.one(&["c1", "c1", "c2", "c3"])
    }

    pub(crate) fn value(&mut self) -> &'static str {
        self.one(&["a", "b", "c", "d", "17"])
    }

    /// The id of a recent or future entry.
    fn id(&mut self) -> String {
        if self.rng.u8(..60) == 0 {
            return self.one(&[LARGEST_ID, "x", "0-0", "5", "-", "1-x"]).to_owned();
        }
        if self.rng.u8(..3) > 0
            && let Some(id) = self.rng.choice(&self.known_ids)
        {
            return id.to_string();
        }
        let millis = self.next.saturating_sub(self.rng.u64(..25)) + self.rng.u64(..2);
        format!("{millis}-{}", self.rng.u8(..2))
    }

    fn ids(&mut self) -> String {
        (0..self.rng.u8(1..4)).map(|_| self.id()).collect::<Vec<_>>().join(" ")
    }

    fn count(&mut self) -> &'static str {
        self.one(&["", " COUNT 1", " COUNT 2", " COUNT 3", " COUNT 5", " COUNT 0", " COUNT x"])
    }

    /// A random command.
    pub(crate) fn command(&mut self) -> Vec<Bytes> {
        let line = match self.rng.u8(..100) {
            0..=21 => self.add(),
            22..=27 => self.group_command(),
            28..=43 => self.read(),
            44..=49 => format!("XACK {} {} {}", self.stream(), self.group(), self.ids()),
            50..=54 => self.claim(),
            55..=58 => self.auto_claim(),
            59..=63 => self.pending(),
            64..=67 => self.info(),
            68..=72 => self.trim(),
            73..=75 => format!("XDEL {} {}", self.stream(), self.ids()),
            76..=78 => self.range(),
            79..=84 => self.string(),
            85..=88 => self.hash(),
            89..=91 => self.list(),
            92..=95 => self.sorted_set(),
            96..=97 => self.rare(),
            _ => self.faulty(),
        };
        words(&line)
    }

    fn add(&mut self) -> String {
        let stream = self.stream();
        let id = match self.rng.u16(..400) {
            0 => LARGEST_ID.to_owned(),
            1..20 => self.id(),
            20..28 => "*".to_owned(),
            _ => {
                self.next += self.rng.u64(1..3);
                format!("{}-{}", self.next, self.rng.u8(..2))
            }
        };
        let stream = if id == "*" || id == LARGEST_ID { "s3" } else { stream };
        let option = match self.rng.u8(..20) {
            0 => "NOMKSTREAM ",
            1 => "MAXLEN 5 ",
            2 => "MAXLEN ~ 4 ",
            _ => "",
        };
        let value = self.value().repeat(self.value_length);
        let fields = match self.rng.u8(..30) {
            0..=3 => format!("g {value} h 1"),
            4 => "f".to_owned(),
            _ => format!("f {value}"),
        };
        format!("XADD {stream} {option}{id} {fields}")
    }

    fn group_command(&mut self) -> String {
        let (stream, group, consumer) = (self.stream(), self.group(), self.consumer());
        let id = match self.rng.u8(..3) {
            0 => "0".to_owned(),
            1 => "$".to_owned(),
            _ => self.id(),
        };
        let entries_read = self.one(&["", "", "", " ENTRIESREAD 0", " ENTRIESREAD -1"]);
        let entries_read = match self.version {
            // Later versions limit the number in different ways.
            Version::V7_0 if entries_read.ends_with('0') => " ENTRIESREAD 3",
            _ => entries_read,
        };
        match self.rng.u8(..12) {
            0..=3 => format!("XGROUP CREATE {stream} {group} {id} MKSTREAM{entries_read}"),
            4 => format!("XGROUP CREATE {stream} {group} {id}{entries_read}"),
            5..=7 => format!("XGROUP SETID {stream} {group} {id}{entries_read}"),
            8 => format!("XGROUP DESTROY {stream} {group}"),
            9 => format!("XGROUP CREATECONSUMER {stream} {group} {consumer}"),
            _ => format!("XGROUP DELCONSUMER {stream} {group} {consumer}"),
        }
    }

    fn read(&mut self) -> String {
        let (group, consumer, count) = (self.group(), self.consumer(), self.count());
        let stream = self.stream();
        let second = if self.rng.bool() { Some(self.stream()) } else { None };
        let is_plain = self.rng.u8(..6) == 0;
        let id = |this: &mut Self| match this.rng.u8(..8) {
            0 => this.id(),
            1 => "0".to_owned(),
            2 if is_plain => "$".to_owned(),
            _ if is_plain => this.id(),
            _ => ">".to_owned(),
        };
        let mut line = match is_plain {
            true => format!("XREAD{count}"),
            false => format!("XREADGROUP GROUP {group} {consumer}{count}"),
        };
        if !is_plain && self.rng.u8(..10) == 0 {
            line += " NOACK";
        }
        line += &format!(" STREAMS {stream}");
        line += &second.map_or_else(String::new, |second| format!(" {second}"));
        line += &format!(" {}", id(self));
        if second.is_some() {
            line += &format!(" {}", id(self));
        }
        line
    }

    fn claim(&mut self) -> String {
        let (stream, group, consumer) = (self.stream(), self.group(), self.consumer());
        let min_idle = self.one(&["0", "0", "0", "50000", "50000", "-1"]);
        let mut line = format!("XCLAIM {stream} {group} {consumer} {min_idle} {}", self.ids());
        for option in [
            "FORCE",
            "JUSTID",
            "IDLE 100000",
            "RETRYCOUNT 7",
            "RETRYCOUNT 0",
            "TIME 1000",
            "IDLE 20000",
            "WHAT",
        ] {
            let one_of = match option {
                "WHAT" => 40,
                "IDLE 100000" => 2,
                _ => 6,
            };
            if self.rng.u8(..one_of) == 0 {
                line += &format!(" {option}");
            }
        }
        if self.rng.u8(..20) == 0 {
            line += &format!(" LASTID {}", self.id());
        }
        line
    }

    fn auto_claim(&mut self) -> String {
        let (stream, group, consumer) = (self.stream(), self.group(), self.consumer());
        let min_idle = self.one(&["0", "0", "50000"]);
        let start = match self.rng.u8(..3) {
            0 => "0".to_owned(),
            1 => format!("({}", self.id()),
            _ => self.id(),
        };
        let count =
            self.one(&["", " COUNT 1", " COUNT 2", " COUNT 0", " COUNT 3 JUSTID", " JUSTID"]);
        format!("XAUTOCLAIM {stream} {group} {consumer} {min_idle} {start}{count}")
    }

    fn pending(&mut self) -> String {
        let (stream, group) = (self.stream(), self.group());
        if self.rng.u8(..3) == 0 {
            return format!("XPENDING {stream} {group}");
        }
        let idle = self.one(&["", "", " IDLE 50000", " IDLE 0"]);
        let (start, end) = (self.edge(), self.edge());
        let count = self.one(&["1", "3", "100", "0", "-1", "x"]);
        let consumer = match self.rng.bool() {
            true => String::new(),
            false => format!(" {}", self.consumer()),
        };
        format!("XPENDING {stream} {group}{idle} {start} {end} {count}{consumer}")
    }

    /// An end of a range of ids.
    fn edge(&mut self) -> String {
        match self.rng.u8(..6) {
            0 | 1 => "-".to_owned(),
            2 | 3 => "+".to_owned(),
            4 => format!("({}", self.id()),
            _ => self.id(),
        }
    }

    fn info(&mut self) -> String {
        let (stream, group) = (self.stream(), self.group());
        match self.rng.u8(..4) {
            0 => format!("XINFO STREAM {stream}"),
            1 | 2 => format!("XINFO GROUPS {stream}"),
            _ => format!("XINFO CONSUMERS {stream} {group}"),
        }
    }

    fn trim(&mut self) -> String {
        let operator = self.one(&["", "= ", "~ ", "~ "]);
        let limit = self.one(&["", "", "", " LIMIT 5", " LIMIT 0", " LIMIT 12"]);
        let bound = match self.rng.bool() {
            true => format!("MAXLEN {operator}{}", self.rng.u8(..30)),
            // 6.2.5 miscalculates ids that are more than 24 days apart.
            false if self.version == Version::V6_2 => format!("MINID ~ {}", self.id()),
            false => format!("MINID {operator}{}", self.id()),
        };
        format!("XTRIM {} {bound}{limit}", self.stream())
    }

    fn range(&mut self) -> String {
        let (stream, start, end) = (self.stream(), self.edge(), self.edge());
        let (name, count) = (self.one(&["XRANGE", "XREVRANGE"]), self.count());
        match self.rng.u8(..6) {
            0 => format!("XLEN {stream}"),
            _ => format!("{name} {stream} {start} {end}{count}"),
        }
    }

    fn rare(&mut self) -> String {
        let key = self.one(&KEYS);
        match self.rng.u8(..24) {
            0..=5 => format!("DEL {key}"),
            6 => self.one(&["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "FLUSHALL x"]).to_owned(),
            7 => "DBSIZE".to_owned(),
            8 => self.one(&["PING", "PING x", "PING x y"]).to_owned(),
            9 => self.one(&["SELECT 0", "SELECT 99", "SELECT x"]).to_owned(),
            10 => self.one(&["ACL WHOAMI", "ACL DRYRUN default GET x", "ACL DRYRUN"]).to_owned(),
            11 => format!("MEMORY USAGE {key}"),
            12 => "INFO server".to_owned(),
            13 => self.one(&["CLIENT SETNAME x", "SCRIPT FLUSH", "SCRIPT FLUSH x"]).to_owned(),
            14 => format!("ZADD {SCORES} {} a", self.one(&["1.5", "-3", "x", "1e3", "inf"])),
            15 => format!("XSETID s3 {LARGEST_ID}"),
            16 => format!("XSETID {} {} ENTRIESADDED 50", self.stream(), self.id()),
            17 => {
                format!("XSETID {} {} ENTRIESADDED 60 MAXDELETEDID 2-0", self.stream(), self.id())
            }
            18 => "XSETID s3 18446744073709551615-18446744073709551610".to_owned(),
            _ => format!("XSETID {} {}", self.stream(), self.id()),
        }
    }

    /// A command that no client should send.
    fn faulty(&mut self) -> String {
        self.one(&FAULTY).to_owned()
    }
}
