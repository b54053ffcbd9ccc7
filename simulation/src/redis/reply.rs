//! The replies of commands, and their encoding in the protocol RESP2.

use std::borrow::Cow;

use super::Bytes;

/// The reply to one command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The null string.
    Nil,
    /// A number.
    Int(i64),
    /// A string of any bytes.
    Bulk(Bytes),
    /// A status, for example `OK`.
    Simple(Cow<'static, str>),
    /// A list of replies.
    Array(Vec<Reply>),
    /// The null list.
    NilArray,
    /// An error: its code, a space and the text.
    Error(String),
}

/// The status `OK`.
pub(super) const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

impl Reply {
    /// Appends the reply in the protocol RESP2.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend_from_slice(b"$-1\r\n"),
            Self::NilArray => out.extend_from_slice(b"*-1\r\n"),
            Self::Int(number) => header(out, b':', *number),
            Self::Simple(text) => line(out, b'+', text.as_bytes()),
            Self::Error(text) => line(out, b'-', text.as_bytes()),
            Self::Bulk(bytes) => {
                header(out, b'$', length(bytes.len()));
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Array(items) => {
                header(out, b'*', length(items.len()));
                items.iter().for_each(|item| item.encode(out));
            }
        }
    }

    /// A string from a text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Bulk(text.into().into_bytes())
    }

    /// The number of something.
    pub(super) fn count(count: usize) -> Self {
        Self::Int(length(count))
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn header(out: &mut Vec<u8>, kind: u8, number: i64) {
    out.push(kind);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

/// The reason why a command has no reply.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Stop {
    /// The command failed; the text begins with the code.
    Error(Cow<'static, str>),
    /// The command waits for data, for ever if `millis` is 0.
    Blocked {
        /// The time limit.
        millis: u64,
    },
}

/// The result of a command.
pub(super) type Answer = Result<Reply, Stop>;

/// An error without variable parts.
pub(super) const fn error(text: &'static str) -> Stop {
    Stop::Error(Cow::Borrowed(text))
}

/// An error whose text was put together.
pub(super) fn error_text(text: String) -> Stop {
    Stop::Error(Cow::Owned(text))
}

/// The key holds a value of another type.
pub(super) const WRONG_TYPE: Stop =
    error("WRONGTYPE Operation against a key holding the wrong kind of value");
/// An argument is not one of the options of the command.
pub(super) const SYNTAX: Stop = error("ERR syntax error");
/// The key does not exist.
pub(super) const NO_SUCH_KEY: Stop = error("ERR no such key");

/// The command has too few or too many arguments.
pub(super) fn wrong_arity(command: &str) -> Stop {
    error_text(format!("ERR wrong number of arguments for '{command}' command"))
}

/// Bytes in the text of an error.
pub(super) fn shown(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
