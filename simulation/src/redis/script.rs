//! EVAL, EVALSHA and SCRIPT.

use std::rc::Rc;

use super::{
    Bytes, Redis, ScriptState, Version,
    arguments::{integer, is},
    lua,
    reply::{Answer, OK, Reply, Stop, error, error_text},
};

const NO_SCRIPT: Stop = error("NOSCRIPT No matching script. Please use EVAL.");

pub(super) fn eval(redis: &mut Redis, words: &[Bytes]) -> Answer {
    let (keys, arguments) = split_keys(words)?;
    let sha = redis.load(&words[1])?;
    redis.run_script(&sha, keys, arguments)
}

pub(super) fn evalsha(redis: &mut Redis, words: &[Bytes]) -> Answer {
    if words[1].len() != 40 {
        return Err(NO_SCRIPT);
    }
    let (keys, arguments) = split_keys(words)?;
    let Ok(sha) = std::str::from_utf8(&words[1]) else { return Err(NO_SCRIPT) };
    if redis.scripts.contains_key(sha) {
        return redis.run_script(sha, keys, arguments);
    }
    let lower = sha.to_ascii_lowercase();
    if !redis.scripts.contains_key(&lower) {
        return Err(NO_SCRIPT);
    }
    redis.run_script(&lower, keys, arguments)
}

fn split_keys(words: &[Bytes]) -> Result<(&[Bytes], &[Bytes]), Stop> {
    let count = integer(&words[2])?;
    let words = &words[3..];
    match usize::try_from(count) {
        Ok(count) if count <= words.len() => Ok(words.split_at(count)),
        Ok(_) => Err(error("ERR Number of keys can't be greater than number of args")),
        Err(_) => Err(error("ERR Number of keys can't be negative")),
    }
}

pub(super) fn script(redis: &mut Redis, words: &[Bytes]) -> Answer {
    match &words[2..] {
        [source] if is(&words[1], "load") => Ok(Reply::text(redis.load(source)?)),
        shas @ [_, ..] if is(&words[1], "exists") => {
            let exists = |sha: &Bytes| {
                let sha = std::str::from_utf8(sha).unwrap_or_default().to_ascii_lowercase();
                Reply::Int(redis.scripts.contains_key(&sha).into())
            };
            Ok(Reply::Array(shas.iter().map(exists).collect()))
        }
        mode if is(&words[1], "flush") && mode.len() < 2 => {
            if mode.iter().any(|mode| !is(mode, "sync") && !is(mode, "async")) {
                return Err(error("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
            }
            redis.scripts.clear();
            Ok(OK)
        }
        _ if ["load", "exists"].iter().any(|name| is(&words[1], name)) => {
            Err(redis.wrong_subcommand_arity(words))
        }
        _ if is(&words[1], "flush") => Err(redis.subcommand_syntax(words)),
        _ => Err(redis.unknown_subcommand(words)),
    }
}

impl Redis {
    /// Compiles and stores a script, and returns its SHA-1.
    fn load(&mut self, source: &[u8]) -> Result<String, Stop> {
        // The few scripts of the services are sent again and again.
        let known = self.scripts.iter().find(|(_, known)| ***known == *source);
        if let Some((sha, _)) = known {
            return Ok(sha.clone());
        }
        let sha = sha1_smol::Sha1::from(source).hexdigest();
        if !self.scripts.contains_key(&sha) {
            lua::compile(&sha, source).map_err(|message| {
                error_text(format!("ERR Error compiling script (new function): {message}"))
            })?;
            self.scripts.insert(sha.clone(), source.into());
        }
        Ok(sha)
    }

    fn run_script(&mut self, sha: &str, keys: &[Bytes], arguments: &[Bytes]) -> Answer {
        let source: Rc<[u8]> = self.scripts.get(sha).ok_or(NO_SCRIPT)?.clone();
        self.script = ScriptState::Running;
        let answer = lua::run(self, sha, &source, keys, arguments);
        self.script = ScriptState::NotRunning;
        answer
    }

    /// The error of a script that raised an error at this place (`@user_script:1`).
    pub(super) fn script_error(&self, sha: &str, text: &str, place: Option<&str>) -> Stop {
        error_text(match (self.version, place) {
            (Version::V6_2, Some(place)) => {
                format!("ERR Error running script (call to f_{sha}): {place}: {text}")
            }
            (Version::V6_2, None) => {
                format!("ERR Error running script (call to f_{sha}): {text}")
            }
            (_, Some(place)) => format!("{text} script: {sha}, on {place}."),
            (_, None) => text.to_owned(),
        })
    }

    /// Whether scripts can ask for permissions.
    pub(super) fn scripts_can_ask_acl(&self) -> bool {
        self.answers_acl && self.version >= Version::V7_0
    }

    /// The error for a call without a command.
    pub(super) fn empty_call(&self) -> Stop {
        error(match self.version {
            Version::V6_2 => {
                "@user_script: 1: Please specify at least one argument for redis.call()"
            }
            _ => "ERR Please specify at least one argument for this redis lib call",
        })
    }

    /// The error for an argument that is neither a string nor a number.
    pub(super) fn wrong_call_argument(&self) -> Stop {
        error(match self.version {
            Version::V6_2 => {
                "@user_script: 1: Lua redis() command arguments must be strings or integers"
            }
            _ => "ERR Lua redis lib command arguments must be strings or integers",
        })
    }
}
