//! The table of commands, and the checks before a command runs.

use super::{
    Bytes, Redis, ScriptState, Version, claim, collections, group_commands, keys, pending, read,
    reply::{Answer, Reply, Stop, error, error_text, shown, wrong_arity},
    script, server_commands, sorted_sets, stream_commands, stream_info, strings,
};

/// A command.
pub(super) struct Command {
    /// The name in lower case.
    name: &'static str,
    /// The number of words; negative: at least.
    arity: i32,
    flags: u8,
    run: fn(&mut Redis, &[Bytes]) -> Answer,
}

/// The command may change data.
const WRITES: u8 = 1;
/// The command may take memory, and is refused if there is none.
const GROWS: u8 = 2;
/// Scripts may not call the command.
const NOT_IN_SCRIPTS: u8 = 4;
const WRITES_AND_GROWS: u8 = WRITES | GROWS;

const fn command(
    name: &'static str,
    arity: i32,
    flags: u8,
    run: fn(&mut Redis, &[Bytes]) -> Answer,
) -> Command {
    Command { name, arity, flags, run }
}

/// Sorted by name.
static COMMANDS: &[Command] = &[
    command("acl", -2, NOT_IN_SCRIPTS, server_commands::acl),
    command("auth", -2, NOT_IN_SCRIPTS, server_commands::accept),
    command("blpop", -3, WRITES | NOT_IN_SCRIPTS, collections::blpop),
    command("client", -2, NOT_IN_SCRIPTS, server_commands::accept),
    command("dbsize", 1, 0, keys::dbsize),
    command("del", -2, WRITES, keys::del),
    command("eval", -3, NOT_IN_SCRIPTS, script::eval),
    command("evalsha", -3, NOT_IN_SCRIPTS, script::evalsha),
    command("exists", -2, 0, keys::exists),
    command("expire", 3, WRITES, keys::expire),
    command("flushall", -1, WRITES, keys::flush),
    command("flushdb", -1, WRITES, keys::flush),
    command("get", 2, 0, strings::get),
    command("hdel", -3, WRITES, collections::hdel),
    command("hello", -1, NOT_IN_SCRIPTS, server_commands::hello),
    command("hget", 3, 0, collections::hget),
    command("hgetall", 2, 0, collections::hgetall),
    command("hmget", -3, 0, collections::hmget),
    command("hset", -4, WRITES_AND_GROWS, collections::hset),
    command("hsetnx", 4, WRITES_AND_GROWS, collections::hsetnx),
    command("hvals", 2, 0, collections::hvals),
    command("info", -1, 0, server_commands::info),
    command("llen", 2, 0, collections::llen),
    command("lpop", -2, WRITES, collections::lpop),
    command("lpush", -3, WRITES_AND_GROWS, collections::lpush),
    command("lrange", 4, 0, collections::lrange),
    command("memory", -2, 0, server_commands::memory),
    command("mget", -2, 0, strings::mget),
    command("mset", -3, WRITES_AND_GROWS, strings::mset),
    command("pexpire", 3, WRITES, keys::pexpire),
    command("ping", -1, 0, server_commands::ping),
    command("pttl", 2, 0, keys::pttl),
    command("rename", 3, WRITES, keys::rename),
    command("rpush", -3, WRITES_AND_GROWS, collections::rpush),
    command("scan", -2, 0, keys::scan),
    command("script", -2, NOT_IN_SCRIPTS, script::script),
    command("select", 2, 0, server_commands::select),
    command("set", -3, WRITES_AND_GROWS, strings::set),
    command("setnx", 3, WRITES_AND_GROWS, strings::setnx),
    command("type", 2, 0, keys::type_of),
    command("xack", -4, WRITES, group_commands::xack),
    command("xadd", -5, WRITES_AND_GROWS, stream_commands::xadd),
    command("xautoclaim", -6, WRITES, claim::xautoclaim),
    command("xclaim", -6, WRITES, claim::xclaim),
    command("xdel", -3, WRITES, stream_commands::xdel),
    command("xgroup", -2, WRITES, group_commands::xgroup),
    command("xinfo", -2, 0, stream_info::xinfo),
    command("xlen", 2, 0, stream_commands::xlen),
    command("xpending", -3, 0, pending::xpending),
    command("xrange", -4, 0, stream_commands::xrange),
    command("xread", -4, 0, read::xread),
    command("xreadgroup", -7, WRITES, read::xreadgroup),
    command("xrevrange", -4, 0, stream_commands::xrevrange),
    command("xsetid", -3, WRITES_AND_GROWS, stream_commands::xsetid),
    command("xtrim", -4, WRITES, stream_commands::xtrim),
    command("zadd", -4, WRITES_AND_GROWS, sorted_sets::zadd),
    command("zcard", 2, 0, sorted_sets::zcard),
    command("zlexcount", 4, 0, sorted_sets::zlexcount),
    command("zrange", -4, 0, sorted_sets::zrange),
    command("zrangebylex", -4, 0, sorted_sets::zrangebylex),
    command("zrem", -3, WRITES, sorted_sets::zrem),
    command("zrevrangebylex", -4, 0, sorted_sets::zrevrangebylex),
    command("zscore", 3, 0, sorted_sets::zscore),
];

/// The longest name of a command.
const NAME_LENGTH: usize = 14;

pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_LENGTH];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[at])
}

impl Redis {
    /// Runs a command of a client or of a script.
    pub(super) fn execute(&mut self, words: &[Bytes]) -> Answer {
        let Some(name) = words.first() else { return Err(error("ERR empty command")) };
        let is_in_script = self.script != ScriptState::NotRunning;
        let command = match find(name) {
            Some(it) if self.answers_acl || it.name != "acl" => it,
            _ if is_in_script => return Err(self.unknown_in_script()),
            _ => return Err(self.unknown_command(words)),
        };
        if !command.accepts(words.len(), self.version) {
            return Err(match is_in_script {
                true => self.wrong_arity_in_script(),
                false => wrong_arity(command.name),
            });
        }
        let flags = command.flags | self.flags_of_subcommand(command, words);
        if is_in_script && flags & NOT_IN_SCRIPTS != 0 {
            return Err(self.not_allowed_in_script());
        }
        if flags & GROWS != 0 && self.out_of_memory && self.script != ScriptState::RunningAfterWrite
        {
            return Err(match self.version {
                Version::V6_2 if is_in_script => OUT_OF_MEMORY_IN_OLD_SCRIPT,
                _ => OUT_OF_MEMORY,
            });
        }
        if is_in_script && flags & WRITES != 0 {
            self.script = ScriptState::RunningAfterWrite;
        }
        let touches = self.data.touches();
        let answer = (command.run)(self, words);
        let is_change = !matches!(answer, Err(_) | Ok(Reply::Nil | Reply::NilArray));
        if flags & WRITES != 0 && !is_change {
            self.data.untouch(touches);
        }
        answer
    }

    fn flags_of_subcommand(&self, command: &Command, words: &[Bytes]) -> u8 {
        if command.name != "xgroup" {
            return 0;
        }
        let is = |name: &str| words[1].eq_ignore_ascii_case(name.as_bytes());
        // Since 7.0, a wrong number of arguments is found first.
        let grows = is("create") && words.len() >= 5 || is("createconsumer") && words.len() == 5;
        if self.version == Version::V6_2 || grows { GROWS } else { 0 }
    }

    fn unknown_command(&self, words: &[Bytes]) -> Stop {
        let name = shown(&words[0]);
        let mut arguments = String::new();
        for word in words[1..].iter().map(|word| shown(word)) {
            if arguments.len() >= 128 {
                break;
            }
            arguments += &match self.version {
                Version::V6_2 => format!("`{word}`, "),
                _ => format!("'{word}' "),
            };
        }
        error_text(match self.version {
            Version::V6_2 => {
                format!("ERR unknown command `{name}`, with args beginning with: {arguments}")
            }
            _ => format!("ERR unknown command '{name}', with args beginning with: {arguments}"),
        })
    }

    fn unknown_in_script(&self) -> Stop {
        error(match self.version {
            Version::V6_2 => "@user_script: 1: Unknown Redis command called from Lua script",
            _ => "ERR Unknown Redis command called from script",
        })
    }

    fn wrong_arity_in_script(&self) -> Stop {
        error(match self.version {
            Version::V6_2 => {
                "@user_script: 1: Wrong number of args calling Redis command From Lua script"
            }
            _ => "ERR Wrong number of args calling Redis command from script",
        })
    }

    fn not_allowed_in_script(&self) -> Stop {
        error(match self.version {
            Version::V6_2 => "@user_script: 1: This Redis command is not allowed from scripts",
            _ => "ERR This Redis command is not allowed from script",
        })
    }

    /// The error for a subcommand that is unknown, or in 6.2 has a wrong number of arguments.
    pub(super) fn unknown_subcommand(&self, words: &[Bytes]) -> Stop {
        let (command, word) = (shown(&words[0]).to_uppercase(), shown(&words[1]));
        error_text(match self.version {
            Version::V6_2 => format!(
                "ERR Unknown subcommand or wrong number of arguments for '{word}'. \
                 Try {command} HELP."
            ),
            _ => format!("ERR unknown subcommand '{word}'. Try {command} HELP."),
        })
    }

    /// The error for a wrong number of arguments of a known subcommand.
    pub(super) fn wrong_subcommand_arity(&self, words: &[Bytes]) -> Stop {
        if self.version == Version::V6_2 {
            return self.unknown_subcommand(words);
        }
        let name = [&words[0][..], &words[1][..]].map(|word| shown(word).to_lowercase());
        wrong_arity(&name.join("|"))
    }

    /// The error for unknown options of a subcommand.
    pub(super) fn subcommand_syntax(&self, words: &[Bytes]) -> Stop {
        if self.version == Version::V6_2 {
            return self.unknown_subcommand(words);
        }
        let (command, word) = (shown(&words[0]).to_uppercase(), shown(&words[1]));
        error_text(format!(
            "ERR unknown subcommand or wrong number of arguments for '{word}'. Try {command} HELP."
        ))
    }
}

const OUT_OF_MEMORY: Stop = error("OOM command not allowed when used memory > 'maxmemory'.");

const OUT_OF_MEMORY_IN_OLD_SCRIPT: Stop =
    error("@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.");

impl Command {
    fn accepts(&self, words: usize, version: Version) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        let is_exact = self.arity > 0 || (self.name == "xsetid" && version == Version::V6_2);
        if is_exact { words == least } else { words >= least }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, NAME_LENGTH};

    #[test]
    fn commands_are_sorted_by_name() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        assert!(COMMANDS.iter().all(|command| command.name.len() <= NAME_LENGTH));
    }
}
