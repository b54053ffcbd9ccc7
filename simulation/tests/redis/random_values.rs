//! Random commands for strings, hashes, lists and sorted sets.

use crate::random::Commands;

impl Commands {
    pub(crate) fn string(&mut self) -> String {
        let (key, other) = (self.key(&["e1", "e2", "e3"]), self.key(&["e1", "e2"]));
        let value = self.value();
        let option = self.one(&[
            "",
            "",
            " NX",
            " XX",
            " PX 100000",
            " NX EX 200",
            " KEEPTTL",
            " PX 0",
            " EX x",
            " NX XX",
        ]);
        match self.rng.u8(..12) {
            0 | 1 => format!("SET {key} {value}{option}"),
            2 => format!("SETNX {key} {value}"),
            3 => format!("MSET {key} {value} {other} {value}"),
            4 => format!("MGET {key} {other} h1"),
            5 => format!("PEXPIRE {key} {}", self.one(&["0", "100000", "-5", "x", "200000"])),
            6 => format!("EXPIRE {key} {}", self.one(&["0", "1000", "9223372036854775807"])),
            7 => format!("PTTL {key}"),
            8 => format!("{} {key} {other}", self.one(&["DEL", "EXISTS"])),
            9 => format!("TYPE {key}"),
            10 if self.rng.u8(..4) == 0 => format!("RENAME {key} {other}"),
            _ => format!("GET {key}"),
        }
    }

    pub(crate) fn hash(&mut self) -> String {
        let (key, field, value) = (self.key(&["h1", "h2"]), self.value(), self.value());
        match self.rng.u8(..8) {
            0 | 1 => format!("HSET {key} {field} {value} x {value}"),
            2 => format!("HSETNX {key} {field} {value}"),
            3 => format!("HGET {key} {field}"),
            4 => format!("HMGET {key} {field} x y"),
            5 => format!("HGETALL {key}"),
            _ => format!("HDEL {key} {field}"),
        }
    }

    pub(crate) fn list(&mut self) -> String {
        let (key, value) = (self.key(&["l1", "l2"]), self.value());
        let (start, end) = (self.rng.i8(-4..4), self.rng.i8(-4..4));
        match self.rng.u8(..8) {
            0 => format!("LPUSH {key} {value} x"),
            1 | 2 => format!("RPUSH {key} {value} y"),
            3 => format!("LLEN {key}"),
            4 => format!("LRANGE {key} {start} {end}"),
            5 => format!("LPOP {key}{}", self.one(&["", " 0", " 2", " -1", " x"])),
            // It finds something, because a real server would block.
            _ => self.one(&["BLPOP", "BLPOP l1 x", "BLPOP l1 -1", "LPOP", "RPUSH l1"]).to_owned(),
        }
    }

    pub(crate) fn sorted_set(&mut self) -> String {
        let (key, member) = (self.key(&["z1", "z2"]), self.value());
        let least = self.one(&["-", "[b", "(b", "[a", "+", "b"]);
        let greatest = self.one(&["+", "[c", "(c", "(b", "-"]);
        let limit = self.one(&["", "", " LIMIT 0 2", " LIMIT 1 1", " LIMIT -1 2", " LIMIT 0 -1"]);
        match self.rng.u8(..9) {
            0..=2 => format!("ZADD {key} 0 {member} 0 {}", self.value()),
            3 => format!("ZREM {key} {member} x"),
            4 => format!("ZCARD {key}"),
            5 => format!("ZSCORE {key} {member}"),
            6 => format!("ZRANGEBYLEX {key} {least} {greatest}{limit}"),
            7 => format!("ZREVRANGEBYLEX {key} {greatest} {least}{limit}"),
            _ => format!("ZLEXCOUNT {key} {least} {greatest}"),
        }
    }
}
