//! Scripts in Lua 5.1, with the libraries of Redis that the services use: `redis` and `cjson`.
//!
//! One Lua state per thread runs the scripts of all simulated servers. Compiled scripts are cached
//! by their SHA-1.

use std::{cell::RefCell, collections::BTreeMap};

use mlua::{Function, Lua, Table};

use super::{
    Bytes, Redis, Reply, Version, cjson, lua_library,
    lua_values::{from_lua, list},
    reply::{Answer, Stop},
};

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    /// The server whose script runs.
    pub(super) static SERVER: RefCell<Redis> = RefCell::new(Redis::new(Version::V7_2, ""));
    static PATCHES: RefCell<Vec<Patch>> = const { RefCell::new(Vec::new()) };
}

/// A replacement in the source of scripts.
struct Patch {
    pattern: String,
    replacement: String,
    has_matched: bool,
}

/// Sets replacements (pattern, replacement) in the source of each script that this thread runs from
/// now on. The SHA-1 of a script remains that of the original. With patches, tests plant bugs.
pub fn patch_scripts(patches: Vec<(String, String)>) {
    if patches.is_empty() && PATCHES.with_borrow(Vec::is_empty) {
        return;
    }
    let patch = |(pattern, replacement)| Patch { pattern, replacement, has_matched: false };
    PATCHES.set(patches.into_iter().map(patch).collect());
    ENGINE.with_borrow_mut(|engine| {
        if let Some(engine) = engine {
            engine.functions.clear();
        }
    });
}

/// The patterns that occurred in no script that ran since they were set.
#[must_use]
pub fn unmatched_patches() -> Vec<String> {
    PATCHES.with_borrow(|patches| {
        let unmatched = patches.iter().filter(|patch| !patch.has_matched);
        unmatched.map(|patch| patch.pattern.clone()).collect()
    })
}

fn patched(source: &[u8]) -> Bytes {
    PATCHES.with_borrow_mut(|patches| {
        let Ok(text) = std::str::from_utf8(source) else { return source.to_vec() };
        let mut text = text.to_owned();
        for patch in patches {
            if text.contains(&patch.pattern) {
                patch.has_matched = true;
                text = text.replace(&patch.pattern, &patch.replacement);
            }
        }
        text.into_bytes()
    })
}

/// The Lua state of a thread.
struct Engine {
    lua: Lua,
    globals: Table,
    redis: Table,
    /// Calls a function, and returns true and its result, or false and the error with its place.
    runner: Function,
    acl_check: Function,
    has_acl_check: bool,
    functions: BTreeMap<String, Function>,
}

/// Compiles a script; the error is the message of Lua.
pub(super) fn compile(sha: &str, source: &[u8]) -> Result<(), String> {
    with_engine(|engine| engine.function(sha, source).map(drop)).map_err(|error| match error {
        mlua::Error::SyntaxError { message, .. } => message,
        other => other.to_string(),
    })
}

/// Runs a script on a server.
pub(super) fn run(
    redis: &mut Redis,
    sha: &str,
    source: &[u8],
    keys: &[Bytes],
    arguments: &[Bytes],
) -> Answer {
    let has_acl_check = redis.scripts_can_ask_acl();
    SERVER.with_borrow_mut(|server| std::mem::swap(server, redis));
    let result = with_engine(|engine| {
        let function = engine.function(sha, source)?;
        engine.set_acl_check(has_acl_check)?;
        engine.call(&function, keys, arguments)
    });
    SERVER.with_borrow_mut(|server| std::mem::swap(server, redis));
    match result {
        Ok(Ok(Reply::Error(text))) => Err(Stop::Error(text.into())),
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(raised)) => Err(redis.script_error(sha, &raised.text, raised.place.as_deref())),
        Err(error) => Err(redis.script_error(sha, &format!("ERR {error}"), None)),
    }
}

fn with_engine<T>(work: impl FnOnce(&mut Engine) -> mlua::Result<T>) -> mlua::Result<T> {
    ENGINE.with_borrow_mut(|engine| match engine {
        Some(engine) => work(engine),
        None => work(engine.insert(Engine::new()?)),
    })
}

/// An error that a script raised and did not catch.
struct Raised {
    text: String,
    /// The source and the line.
    place: Option<String>,
}

impl Engine {
    fn new() -> mlua::Result<Self> {
        let libraries = mlua::StdLib::TABLE | mlua::StdLib::STRING | mlua::StdLib::MATH;
        let lua = Lua::new_with(libraries, mlua::LuaOptions::default())?;
        let globals = lua.globals();
        globals.raw_set("cjson", cjson::library(&lua)?)?;
        let (redis, runner) = lua_library::install(&lua)?;
        let acl_check = lua.create_function(lua_library::acl_check)?;
        let functions = BTreeMap::new();
        Ok(Self { lua, globals, redis, runner, acl_check, has_acl_check: false, functions })
    }

    fn function(&mut self, sha: &str, source: &[u8]) -> mlua::Result<Function> {
        if let Some(function) = self.functions.get(sha) {
            return Ok(function.clone());
        }
        let function = self.lua.load(patched(source)).set_name("@user_script").into_function()?;
        self.functions.insert(sha.to_owned(), function.clone());
        Ok(function)
    }

    fn set_acl_check(&mut self, is_there: bool) -> mlua::Result<()> {
        if self.has_acl_check != is_there {
            self.has_acl_check = is_there;
            let function = is_there.then_some(&self.acl_check);
            self.redis.raw_set("acl_check_cmd", function)?;
        }
        Ok(())
    }

    fn call(
        &self,
        function: &Function,
        keys: &[Bytes],
        arguments: &[Bytes],
    ) -> mlua::Result<Result<Reply, Raised>> {
        self.globals.raw_set("KEYS", list(&self.lua, keys)?)?;
        self.globals.raw_set("ARGV", list(&self.lua, arguments)?)?;
        let (is_done, value): (bool, mlua::Value) = self.runner.call(function)?;
        if is_done {
            return Ok(Ok(from_lua(value)?));
        }
        let mlua::Value::Table(error) = value else {
            return Ok(Err(Raised { text: "ERR execution failure".to_owned(), place: None }));
        };
        let text: mlua::Value = error.raw_get("err")?;
        let text = text.as_string().map_or_else(String::new, mlua::String::to_string_lossy);
        Ok(Err(Raised { text, place: error.raw_get("place")? }))
    }
}
