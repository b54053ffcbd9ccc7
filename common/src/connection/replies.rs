//! Replies of Redis: errors, and the text of INFO.

use redis::{ErrorKind, ServerErrorKind, Value};

use crate::connection::{error::ConnectionError, refusals::is_about_server, url::RedisUrl};

/// The text of an answer to INFO.
pub fn info_text(answer: Value) -> String {
    match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    }
}

/// A field of the text of INFO.
pub(super) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Turns an error reply into an error.
pub(super) fn accept(
    url: &RedisUrl,
    command: &'static str,
    value: Value,
) -> Result<Value, ConnectionError> {
    let Value::ServerError(error) = value else { return Ok(value) };
    let address = url.to_string();
    let denied = |reason: String| {
        let user = url.user().to_owned();
        ConnectionError::Denied { address: address.clone(), user, command, reason }
    };
    Err(match error.code() {
        code if code == "NOPERM" || error.details().is_some_and(is_denial_within_script) => {
            denied(format!(
                "{}; docs/redis-security.md lists the permissions of each service",
                error.details().unwrap_or("it has no permission to")
            ))
        }
        "NOAUTH" => denied(
            "it requires a user name and a password: the name belongs in the URL \
             (redis://name@host:6379), the password into REDIS_PASSWORD or REDIS_PASSWORD_FILE"
                .to_owned(),
        ),
        _ => {
            let about_server = is_about_server(&error);
            let message = redis::RedisError::from(error).to_string();
            match about_server {
                true => ConnectionError::NotServing { address, command, reason: message },
                false => ConnectionError::Refused { address, command, message },
            }
        }
    })
}

/// Whether a script may be run, but not all of its commands: Redis 7.0 has no error code for that.
fn is_denial_within_script(message: &str) -> bool {
    ["The user executing the script can't", "ACL failure in script"]
        .iter()
        .any(|begin| message.starts_with(begin))
}

/// Whether an answer is this kind of error.
pub(crate) fn is_error(value: &Value, code: &str) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == code)
}

/// Whether an answer reports an unknown script.
pub(crate) fn is_noscript(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if redis::RedisError::from(error.clone()).kind()
        == ErrorKind::Server(ServerErrorKind::NoScript))
}
