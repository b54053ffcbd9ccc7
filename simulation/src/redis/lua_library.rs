//! The Lua library `redis`, and the changes of the standard library that Redis makes.

use std::fmt;

use mlua::{Function, Lua, MultiValue, Table};

use super::{
    Reply, Version, commands,
    lua::SERVER,
    lua_values::{to_lua, words},
    reply::Stop,
};

/// Installs the library. Returns its table, and the function that calls a script: it returns true
/// and the result, or false and the error with its place.
pub(super) fn install(lua: &Lua) -> mlua::Result<(Table, Function)> {
    let redis = lua.create_table()?;
    redis.raw_set("call", lua.create_function(call)?)?;
    redis.raw_set("pcall", lua.create_function(protected_call)?)?;
    redis.raw_set("error_reply", lua.create_function(error_reply)?)?;
    redis.raw_set("sha1hex", lua.create_function(sha1hex)?)?;
    lua.globals().raw_set("redis", &redis)?;
    let prelude = lua.load(PRELUDE).set_name("@prelude").into_function()?;
    let functions = (
        lua.create_function(caught)?,
        lua.create_function(raised)?,
        lua.create_function(global_refusal)?,
        lua.create_function(locate)?,
    );
    let runner = prelude.call(functions)?;
    Ok((redis, runner))
}

/// Makes the standard library that of Redis, and returns the function that runs a script.
const PRELUDE: &str = r"
local caught, raised, global_refusal, locate = ...
local pcall, xpcall = pcall, xpcall

-- Errors of functions in Rust are userdata, which scripts do not see.
local function readable(done, ...)
  if done then return done, ... end
  return false, caught((...))
end
function _G.pcall(...) return readable(pcall(...)) end
function _G.xpcall(f, handler) return xpcall(f, function(e) return handler(raised(e)) end) end

local decode = cjson.decode
cjson.decode = function(text)
  local value, message = decode(text)
  if message then error(message, 2) end
  return value
end

redis.status_reply = function(text) return {ok = text} end
redis.log = function() end
redis.replicate_commands = function() return true end
redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING = 0, 1, 2, 3

-- Neither files nor randomness.
for _, name in ipairs({'dofile', 'loadfile', 'print', 'require', 'module', 'package'}) do
  _G[name] = nil
end
math.random, math.randomseed = nil, nil

setmetatable(_G, {
  __index = function(_, name)
    error('Script attempted to access nonexistent global variable \'' .. tostring(name) .. '\'', 2)
  end,
  __newindex = function(_, name) error(global_refusal(name), 2) end,
})

return function(script) return xpcall(script, locate) end
";

/// An error text that is raised in a script.
#[derive(Debug)]
struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScriptError {}

fn version() -> Version {
    SERVER.with_borrow(|server| server.version)
}

/// `redis.call`: raises errors.
fn call(lua: &Lua, arguments: MultiValue) -> mlua::Result<mlua::Value> {
    match execute(lua, &arguments) {
        Ok(reply) => to_lua(lua, reply),
        Err(text) => Err(mlua::Error::external(ScriptError(text))),
    }
}

/// `redis.pcall`: returns errors as tables.
fn protected_call(lua: &Lua, arguments: MultiValue) -> mlua::Result<mlua::Value> {
    to_lua(lua, execute(lua, &arguments).unwrap_or_else(Reply::Error))
}

fn execute(lua: &Lua, arguments: &MultiValue) -> Result<Reply, String> {
    SERVER.with_borrow_mut(|server| {
        let answer = match words(arguments) {
            _ if arguments.is_empty() => Err(server.empty_call()),
            None => Err(server.wrong_call_argument()),
            Some(words) => server.execute(&words),
        };
        match answer {
            Ok(reply) => Ok(reply),
            Err(Stop::Blocked { .. }) => Ok(Reply::NilArray),
            Err(Stop::Error(text)) => Err(with_line(lua, text.into_owned())),
        }
    })
}

/// Errors of calls in 6.2 begin with the place of the call.
fn with_line(lua: &Lua, text: String) -> String {
    match text.strip_prefix("@user_script: 1:") {
        Some(rest) => format!("@user_script: {}:{rest}", script_line(lua).unwrap_or(1)),
        None => text,
    }
}

/// The line in the script that runs.
fn script_line(lua: &Lua) -> Option<usize> {
    (0..16).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let is_script = frame.source().source.is_some_and(|source| source == "@user_script");
            if is_script { frame.current_line() } else { None }
        })?
    })
}

/// The error as the handler of `xpcall` sees it: a table, or a text in 6.2.
fn raised(lua: &Lua, error: mlua::Value) -> mlua::Result<mlua::Value> {
    if !matches!(error, mlua::Value::Error(_)) {
        return Ok(error);
    }
    let text = error_text(&error)?;
    match version() {
        Version::V6_2 => Ok(mlua::Value::String(lua.create_string(text)?)),
        _ => to_lua(lua, Reply::Error(text)),
    }
}

/// The error as `pcall` returns it: since 7.0, the text of a table with an error.
fn caught(lua: &Lua, error: mlua::Value) -> mlua::Result<mlua::Value> {
    let error = raised(lua, error)?;
    if let mlua::Value::Table(table) = &error
        && version() >= Version::V7_0
        && let text @ mlua::Value::String(_) = table.raw_get("err")?
    {
        return Ok(text);
    }
    Ok(error)
}

/// The text of the error for a global variable that a script wants to create.
fn global_refusal(_: &Lua, name: mlua::Value) -> mlua::Result<String> {
    Ok(match version() {
        Version::V6_2 => {
            format!("Script attempted to create global variable '{}'", name.to_string()?)
        }
        _ => "Attempt to modify a readonly table".to_owned(),
    })
}

fn error_text(error: &mlua::Value) -> mlua::Result<String> {
    let mlua::Value::Error(error) = error else { return error.to_string() };
    let mut error = &**error;
    while let mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } =
        error
    {
        error = cause;
    }
    Ok(error.downcast_ref::<ScriptError>().map_or_else(|| error.to_string(), ToString::to_string))
}

/// The handler of errors that a script does not catch: adds the place.
fn locate(lua: &Lua, error: mlua::Value) -> mlua::Result<Table> {
    let is_old = version() == Version::V6_2;
    let text = match &error {
        mlua::Value::Table(table) => match table.raw_get::<mlua::Value>("err")? {
            mlua::Value::String(text) => text.to_string_lossy(),
            _ => "ERR unknown error".to_owned(),
        },
        mlua::Value::Error(_) => error_text(&error)?,
        other if is_old => other.to_string()?,
        other => format!("ERR {}", other.to_string()?),
    };
    let table = lua.create_table()?;
    table.raw_set("err", text)?;
    table.raw_set("place", script_line(lua).map(|line| format!("@user_script:{line}")))?;
    Ok(table)
}

/// `redis.error_reply`: since 7.0 a text without a code gets one.
fn error_reply(lua: &Lua, text: mlua::String) -> mlua::Result<mlua::Value> {
    let text = text.to_string_lossy();
    let text = text.strip_prefix('-').filter(|_| version() >= Version::V7_0).unwrap_or(&text);
    let has_code = text.contains(' ') || version() == Version::V6_2;
    to_lua(lua, Reply::Error(if has_code { text.to_owned() } else { format!("ERR {text}") }))
}

fn sha1hex(_: &Lua, text: mlua::String) -> mlua::Result<String> {
    Ok(sha1_smol::Sha1::from(&*text.as_bytes()).hexdigest())
}

/// `redis.acl_check_cmd`: the user may do everything.
pub(super) fn acl_check(_: &Lua, arguments: MultiValue) -> mlua::Result<bool> {
    if words(&arguments)
        .unwrap_or_default()
        .first()
        .is_some_and(|name| commands::find(name).is_some())
    {
        return Ok(true);
    }
    let text = "ERR Invalid command passed to redis.acl_check_cmd()".to_owned();
    Err(mlua::Error::external(ScriptError(text)))
}
