//! Numbers and options in the arguments of commands.

use super::reply::{Stop, error};

const NOT_AN_INTEGER: Stop = error("ERR value is not an integer or out of range");
const NOT_A_FLOAT: Stop = error("ERR value is not a valid float");

/// Whether the argument is this word, which is in lower case.
pub(super) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// A whole number in its only notation: no plus sign, no leading zero.
pub(super) fn integer(argument: &[u8]) -> Result<i64, Stop> {
    parse_integer(argument).ok_or(NOT_AN_INTEGER)
}

/// A whole number, with another error.
pub(super) fn integer_or(argument: &[u8], message: &'static str) -> Result<i64, Stop> {
    parse_integer(argument).ok_or(error(message))
}

pub(super) fn parse_integer(argument: &[u8]) -> Option<i64> {
    let digits = argument.strip_prefix(b"-").unwrap_or(argument);
    let is_canonical = match digits {
        b"0" => digits.len() == argument.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(argument).ok()?.parse().ok()
}

/// A score.
pub(super) fn float(argument: &[u8]) -> Result<f64, Stop> {
    parse_float(argument).ok_or(NOT_A_FLOAT)
}

/// A time limit in seconds, as milliseconds.
pub(super) fn timeout_in_seconds(argument: &[u8]) -> Result<u64, Stop> {
    let seconds =
        parse_float(argument).ok_or(error("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(error("ERR timeout is negative"));
    }
    let millis = (seconds * 1000.0).ceil();
    if millis > 9e18 {
        return Err(error("ERR timeout is out of range"));
    }
    Ok(millis as u64)
}

/// A time limit in milliseconds.
pub(super) fn timeout_in_millis(argument: &[u8]) -> Result<u64, Stop> {
    let millis = integer_or(argument, "ERR timeout is not an integer or out of range")?;
    u64::try_from(millis).map_err(|_| error("ERR timeout is negative"))
}

fn parse_float(argument: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(argument).ok()?;
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

/// A number as Redis prints it.
pub(super) fn float_text(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if number.fract() == 0.0 && number.abs() < 1e17 {
        return format!("{}", number as i64);
    }
    format!("{number}")
}
