//! Commands about the server and the connection.

use super::{
    Bytes, Redis, Version,
    arguments::{integer, is},
    reply::{Answer, OK, Reply, SYNTAX, error, wrong_arity},
};

pub(super) fn ping(_: &mut Redis, words: &[Bytes]) -> Answer {
    match &words[1..] {
        [] => Ok(Reply::Simple("PONG".into())),
        [text] => Ok(Reply::Bulk(text.clone())),
        _ => Err(wrong_arity("ping")),
    }
}

/// CLIENT and AUTH: the state of the connection does not matter here.
pub(super) fn accept(_: &mut Redis, _: &[Bytes]) -> Answer {
    Ok(OK)
}

/// Only RESP2 is spoken.
pub(super) fn hello(_: &mut Redis, _: &[Bytes]) -> Answer {
    Err(error("NOPROTO unsupported protocol version"))
}

pub(super) fn select(_: &mut Redis, words: &[Bytes]) -> Answer {
    match integer(&words[1]) {
        Ok(0..=15) => Ok(OK),
        Ok(_) => Err(error("ERR DB index is out of range")),
        Err(stop) => Err(stop),
    }
}

/// ACL: the user may do everything.
pub(super) fn acl(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if is(&words[1], "whoami") {
        return Ok(Reply::text("default"));
    }
    if !is(&words[1], "dryrun") || redis.version == Version::V6_2 {
        return Err(redis.unknown_subcommand(words));
    }
    if words.len() < 4 { Err(redis.wrong_subcommand_arity(words)) } else { Ok(OK) }
}

pub(super) fn memory(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if !is(&words[1], "usage") {
        return Err(redis.unknown_subcommand(words));
    }
    let key = match &words[2..] {
        [key] => key,
        [key, option, number] if is(option, "samples") => {
            integer(number)?;
            key
        }
        [] => return Err(redis.wrong_subcommand_arity(words)),
        _ => return Err(SYNTAX),
    };
    Ok(redis.data.get(key).map_or(Reply::Nil, |value| Reply::count(value.memory() + key.len())))
}

/// The memory of a server without data.
const BASE_MEMORY: usize = 1_000_000;

pub(super) fn info(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let wants = |section: &str| {
        let is_wanted = |word: &Bytes| {
            is(word, section) || ["default", "all", "everything"].iter().any(|all| is(word, all))
        };
        words.len() == 1 || words[1..].iter().any(is_wanted)
    };
    let mut text = String::new();
    if wants("server") {
        text += &redis.server_info();
    }
    if wants("memory") {
        let values = redis.data.iter().map(|(key, value)| key.len() + value.memory());
        let used = BASE_MEMORY + values.sum::<usize>();
        text += &format!(
            "# Memory\r\nused_memory:{used}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\
             mem_not_counted_for_evict:0\r\n\r\n"
        );
    }
    if wants("replication") {
        text += "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n";
    }
    Ok(Reply::text(text))
}

impl Redis {
    fn server_info(&self) -> String {
        let version = match self.version {
            Version::V6_2 => "6.2.14",
            Version::V7_0 => "7.0.15",
            Version::V7_2 => "7.2.5",
        };
        let uptime = self.now.saturating_sub(self.started.unwrap_or(self.now)) / 1000;
        format!(
            "# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\nrun_id:{}\r\n\
             server_time_usec:{}\r\nuptime_in_seconds:{uptime}\r\n\r\n",
            self.run_id,
            self.now * 1000
        )
    }
}
