//! Refusals that concern the server and not the command: the same command succeeds on another
//! server, so the connection is no longer usable.

use redis::{ServerError, Value};

/// The error codes of such refusals.
///
/// - `READONLY`, `MASTERDOWN`, `MOVED`: the server is a replica, or became one.
/// - `NOREPLICAS`, `CLUSTERDOWN`: a primary that is cut off from its replicas or its cluster, where
///   another server may have been promoted.
/// - `LOADING`: the server is loading its data set, like a replica that copies its primary.
/// - `NOAUTH`: the password was changed; a new connection authenticates again.
///
/// `OOM`, `MISCONF` and `BUSY` are absent on purpose: the service waits for memory, disk or a
/// script on the same connection.
const SERVER_REFUSAL_CODES: [&str; 7] =
    ["READONLY", "MASTERDOWN", "MOVED", "NOREPLICAS", "CLUSTERDOWN", "LOADING", "NOAUTH"];

/// Whether the refusal concerns the server.
pub(crate) fn is_about_server(error: &ServerError) -> bool {
    let details = error.details().unwrap_or_default();
    match error.code() {
        // A blocked client of a demoted primary. The same code also reports a deleted stream.
        "UNBLOCKED" => details.contains("instance state changed"),
        // Redis 6.2 hides the code of a failed command within the text of the script's error.
        "ERR" => {
            details.contains("user_script")
                && details
                    .split_whitespace()
                    .any(|it| SERVER_REFUSAL_CODES.contains(&it.trim_start_matches('-')))
        }
        code => SERVER_REFUSAL_CODES.contains(&code),
    }
}

/// Whether any of these answers, nested ones included, is such a refusal.
pub(crate) fn has_refusal_by_server(answers: &[Value]) -> bool {
    answers.iter().any(|answer| match answer {
        Value::ServerError(error) => is_about_server(error),
        Value::Array(inner) | Value::Set(inner) => has_refusal_by_server(inner),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str) -> Value {
        redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn refusals_by_the_server_are_recognized_in_every_redis_version() {
        for line in [
            "-READONLY You can't write against a read only replica.",
            // Within a script: 7.0 and Valkey, 6.2 by redis.call, 6.2 by redis.pcall.
            "-READONLY You can't write against a read only replica. script: 5ab1c2, on @user_script:1.",
            "-ERR Error running script (call to f_5ab1c2): @user_script:98: -READONLY You can't write \
             against a read only replica.",
            "-ERR Error running script (call to f_5ab1c2): @user_script:98: @user_script: 98: -READONLY \
             You can't write against a read only replica.",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "-LOADING Redis is loading the dataset in memory",
            "-NOAUTH Authentication required.",
            "-NOREPLICAS Not enough good replicas to write.",
            "-CLUSTERDOWN The cluster is down",
            "-MOVED 3999 127.0.0.1:6381",
            "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            "-UNBLOCKED force unblock from blocking operation, instance state changed (primary -> replica?)",
        ] {
            assert!(has_refusal_by_server(&[answer(line)]), "{line}");
        }
    }

    #[test]
    fn refusals_of_a_command_keep_the_connection() {
        for line in [
            "-UNBLOCKED the stream key no longer exists",
            "-NOGROUP No such key 'READONLY' or consumer group 'g'",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
            "-NOPERM this user has no permissions to run the 'xadd' command",
            "-OOM command not allowed when used memory > 'maxmemory'.",
            "-MISCONF Errors writing to the AOF file: No space left on device",
            "-BUSY Redis is busy running a script.",
            "-NOSCRIPT No matching script.",
            "-ERR unknown command 'READONLY', with args beginning with: 'NOAUTH'",
            "-ERR Error running script (call to f_5ab1c2): @user_script:9: user_script:9: attempt to \
             index a nil value",
            "+READONLY",
        ] {
            assert!(!has_refusal_by_server(&[answer(line)]), "{line}");
        }
    }

    #[test]
    fn a_refusal_is_found_at_any_position_of_the_answers() {
        let refusal = answer("-READONLY You can't write against a read only replica.");
        let nested = Value::Array(vec![Value::Int(1), Value::Array(vec![refusal.clone()])]);
        assert!(has_refusal_by_server(&[Value::Nil, nested]));
        assert!(has_refusal_by_server(&[Value::Okay, refusal, Value::Okay]));
        assert!(!has_refusal_by_server(&[Value::Okay, Value::Array(vec![Value::Nil])]));
    }
}
