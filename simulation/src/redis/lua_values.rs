//! Conversions between replies and values of Lua, as in Redis.

use mlua::{Lua, MultiValue, Table};

use super::{Bytes, Reply, arguments::float_text};

fn word(value: &mlua::Value) -> Option<Bytes> {
    match value {
        mlua::Value::String(text) => Some(text.as_bytes().to_vec()),
        mlua::Value::Integer(number) => Some(number.to_string().into_bytes()),
        mlua::Value::Number(number) => Some(float_text(*number).into_bytes()),
        _ => None,
    }
}

/// The arguments of a call as the words of a command; `None` if one is neither a string nor a number.
pub(super) fn words(arguments: &MultiValue) -> Option<Vec<Bytes>> {
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        words.push(word(argument)?);
    }
    Some(words)
}

/// A list of strings.
pub(super) fn list(lua: &Lua, words: &[Bytes]) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(words.len(), 0)?;
    for (at, word) in words.iter().enumerate() {
        set_string(lua, &table, at + 1, word)?;
    }
    Ok(table)
}

/// Sets a string in a list. A text is faster than other bytes, because it needs no handle.
fn set_string(lua: &Lua, table: &Table, at: usize, bytes: &[u8]) -> mlua::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => table.raw_seti(at, text),
        Err(_) => table.raw_seti(at, lua.create_string(bytes)?),
    }
}

/// A reply as the value that a script gets.
pub(super) fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<mlua::Value> {
    let field = |name: &str, text: &str| {
        let table = lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, text)?;
        mlua::Result::Ok(mlua::Value::Table(table))
    };
    Ok(match reply {
        Reply::Nil | Reply::NilArray => mlua::Value::Boolean(false),
        Reply::Int(number) => mlua::Value::Number(number as f64),
        Reply::Bulk(bytes) => mlua::Value::String(lua.create_string(bytes)?),
        Reply::Simple(text) => field("ok", &text)?,
        Reply::Error(text) => field("err", &text)?,
        Reply::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in items.into_iter().enumerate() {
                match item {
                    Reply::Bulk(bytes) => set_string(lua, &table, at + 1, &bytes)?,
                    item => table.raw_seti(at + 1, to_lua(lua, item)?)?,
                }
            }
            mlua::Value::Table(table)
        }
    })
}

/// The reply for the value that a script returns.
pub(super) fn from_lua(value: mlua::Value) -> mlua::Result<Reply> {
    Ok(match value {
        mlua::Value::Number(number) => Reply::Int(number as i64),
        mlua::Value::Integer(number) => Reply::Int(number),
        mlua::Value::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        mlua::Value::Boolean(true) => Reply::Int(1),
        mlua::Value::Table(table) => table_from_lua(&table)?,
        _ => Reply::Nil,
    })
}

fn table_from_lua(table: &Table) -> mlua::Result<Reply> {
    if let mlua::Value::String(text) = table.raw_get("err")? {
        return Ok(Reply::Error(text.to_string_lossy()));
    }
    if let mlua::Value::String(text) = table.raw_get("ok")? {
        return Ok(Reply::Simple(text.to_string_lossy().into()));
    }
    let mut items = Vec::with_capacity(table.raw_len());
    for at in 1.. {
        match table.raw_get(at)? {
            mlua::Value::Nil => break,
            item => items.push(from_lua(item)?),
        }
    }
    Ok(Reply::Array(items))
}
