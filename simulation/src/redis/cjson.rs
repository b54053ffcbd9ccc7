//! The Lua library `cjson`: JSON as Redis reads and writes it.

use mlua::{Lua, Table, Value};

/// The library. `decode` returns nothing and a message if the text is not JSON; the prelude of
/// `lua_library.rs` turns that into an error, because an error that is raised in Rust costs more.
pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("encode", lua.create_function(encode)?)?;
    library.raw_set("decode", lua.create_function(decode)?)?;
    library.raw_set("null", Value::NULL)?;
    Ok(library)
}

fn failure(text: impl Into<String>) -> mlua::Error {
    mlua::Error::runtime(text.into())
}

fn decode(lua: &Lua, text: mlua::String) -> mlua::Result<(Option<Value>, Option<String>)> {
    match serde_json::from_slice(&text.as_bytes()) {
        Ok(parsed) => Ok((Some(to_lua(lua, parsed)?), None)),
        Err(error) => Ok((None, Some(format!("Expected value but found invalid token: {error}")))),
    }
}

fn to_lua(lua: &Lua, json: serde_json::Value) -> mlua::Result<Value> {
    Ok(match json {
        serde_json::Value::Null => Value::NULL,
        serde_json::Value::Bool(yes) => Value::Boolean(yes),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in items.into_iter().enumerate() {
                table.raw_set(at + 1, to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (name, member) in members {
                table.raw_set(name, to_lua(lua, member)?)?;
            }
            Value::Table(table)
        }
    })
}

fn encode(lua: &Lua, value: Value) -> mlua::Result<mlua::String> {
    let mut out = Vec::new();
    write(&mut out, &value)?;
    lua.create_string(out)
}

fn write(out: &mut Vec<u8>, value: &Value) -> mlua::Result<()> {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        value if value.is_null() => out.extend_from_slice(b"null"),
        Value::Boolean(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Number(number) => write_number(out, *number)?,
        Value::String(text) => write_string(out, &text.as_bytes()),
        Value::Table(table) => match array_length(table)? {
            Some(length) => write_array(out, table, length)?,
            None => write_object(out, table)?,
        },
        other => {
            let name = other.type_name();
            return Err(failure(format!("Cannot serialise {name}: type not supported")));
        }
    }
    Ok(())
}

fn write_number(out: &mut Vec<u8>, number: f64) -> mlua::Result<()> {
    if !number.is_finite() {
        return Err(failure("Cannot serialise number: must not be NaN or Inf"));
    }
    if number.fract() == 0.0 && number.abs() < 1e14 {
        out.extend_from_slice((number as i64).to_string().as_bytes());
    } else {
        out.extend_from_slice(number.to_string().as_bytes());
    }
    Ok(())
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// The largest index of a table whose keys are all indexes; `None` for an object, and for a table
/// without entries.
fn array_length(table: &Table) -> mlua::Result<Option<usize>> {
    let (mut length, mut count) = (0.0_f64, 0.0);
    for pair in table.pairs::<Value, Value>() {
        let index = match pair?.0 {
            Value::Integer(index) => index as f64,
            Value::Number(index) => index,
            _ => return Ok(None),
        };
        if index < 1.0 || index.fract() != 0.0 {
            return Ok(None);
        }
        length = length.max(index);
        count += 1.0;
    }
    // The limits of the library for arrays with gaps.
    if length > 10.0 && length > count * 2.0 {
        return Err(failure("Cannot serialise table: excessively sparse array"));
    }
    Ok((count > 0.0).then_some(length as usize))
}

fn write_array(out: &mut Vec<u8>, table: &Table, length: usize) -> mlua::Result<()> {
    out.push(b'[');
    for at in 1..=length {
        if at > 1 {
            out.push(b',');
        }
        write(out, &table.raw_get(at)?)?;
    }
    out.push(b']');
    Ok(())
}

fn write_object(out: &mut Vec<u8>, table: &Table) -> mlua::Result<()> {
    out.push(b'{');
    let mut is_first = true;
    for pair in table.pairs::<Value, Value>() {
        let (name, member) = pair?;
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        match name {
            Value::String(name) => write_string(out, &name.as_bytes()),
            Value::Integer(_) | Value::Number(_) => {
                out.push(b'"');
                write(out, &name)?;
                out.push(b'"');
            }
            _ => {
                return Err(failure(
                    "Cannot serialise table: table key must be a number or string",
                ));
            }
        }
        out.push(b':');
        write(out, &member)?;
    }
    out.push(b'}');
    Ok(())
}
