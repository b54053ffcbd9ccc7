//! Compares a reply of a real server with that of the simulated one.

use simulation::redis::{Bytes, Outcome, Reply, Version};

/// The real server.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    /// The version that is simulated.
    pub(crate) version: Version,
    /// Whether it is a Valkey, which counts entries that were trimmed before they were read in its
    /// own way.
    pub(crate) is_valkey: bool,
}

/// The difference of times that is allowed, because each server reads the clock when it runs a
/// command.
const TOLERANCE_MILLIS: i64 = 500;

/// Whether the replies to a command are equal, apart from what the simulation does not know.
pub(crate) fn is_equal(
    command: &[Bytes],
    real: &Reply,
    simulated: &Outcome,
    server: Server,
) -> bool {
    let Outcome::Reply(simulated) = simulated else { return false };
    let words: Vec<String> =
        command.iter().take(2).map(|word| String::from_utf8_lossy(word).to_uppercase()).collect();
    let subcommand = words.get(1).map_or("", |word| word);
    match (words[0].as_str(), real, simulated) {
        ("PTTL", Reply::Int(real), Reply::Int(simulated)) => is_near(*real, *simulated),
        ("INFO", Reply::Bulk(_), Reply::Bulk(_)) => true,
        ("MEMORY", Reply::Int(_), Reply::Int(_)) => true,
        ("HGETALL", Reply::Array(real), Reply::Array(simulated)) => pairs(real) == pairs(simulated),
        ("XPENDING", Reply::Array(real), Reply::Array(simulated)) if command.len() > 3 => {
            have_equal_rows(real, simulated, |row, at| at == 2 && row.len() == 4)
        }
        ("XINFO", Reply::Array(real), Reply::Array(simulated)) if subcommand == "CONSUMERS" => {
            have_equal_rows(real, simulated, |row, at| {
                at > 0 && (row[at - 1] == text("idle") || row[at - 1] == text("inactive"))
            })
        }
        ("XINFO", Reply::Array(real), Reply::Array(simulated)) if subcommand == "GROUPS" => {
            is_equal_groups(real, simulated, server)
        }
        ("XINFO", Reply::Array(real), Reply::Array(simulated)) if subcommand == "STREAM" => {
            is_equal_stream(real, simulated)
        }
        (_, Reply::Error(real), Reply::Error(simulated)) => {
            real == simulated || is_equal_error(real, simulated, server.version)
        }
        (_, real, simulated) => real == simulated,
    }
}

fn text(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn is_equal_groups(real: &[Reply], simulated: &[Reply], server: Server) -> bool {
    let without_counts = |groups: &[Reply]| {
        let group = |group: &Reply| match group {
            Reply::Array(items) => items[..8].to_vec(),
            other => panic!("a group: {other:?}"),
        };
        groups.iter().map(group).collect::<Vec<_>>()
    };
    real == simulated || server.is_valkey && without_counts(real) == without_counts(simulated)
}

/// Both servers have the time or none of them, for example -1 for never.
fn is_near(real: i64, simulated: i64) -> bool {
    if real < 0 || simulated < 0 {
        return real == simulated;
    }
    (real - simulated).abs() <= TOLERANCE_MILLIS
}

fn pairs(items: &[Reply]) -> Vec<Vec<String>> {
    let mut pairs: Vec<Vec<String>> =
        items.chunks(2).map(|pair| pair.iter().map(reply_text).collect()).collect();
    pairs.sort();
    pairs
}

fn have_equal_rows(
    real: &[Reply],
    simulated: &[Reply],
    is_time: impl Fn(&[Reply], usize) -> bool,
) -> bool {
    let is_equal_row = |(real, simulated): (&Reply, &Reply)| {
        let (Reply::Array(real), Reply::Array(simulated)) = (real, simulated) else {
            return real == simulated;
        };
        let is_equal_item = |at: usize| match (&real[at], &simulated[at]) {
            (Reply::Int(there), Reply::Int(here)) if is_time(real, at) => is_near(*there, *here),
            (there, here) => there == here,
        };
        real.len() == simulated.len() && (0..real.len()).all(is_equal_item)
    };
    real.len() == simulated.len() && real.iter().zip(simulated).all(is_equal_row)
}

/// The number of nodes of the index is an internal of Redis.
fn is_equal_stream(real: &[Reply], simulated: &[Reply]) -> bool {
    let is_equal_item =
        |at: usize| real[at] == simulated[at] || at > 0 && real[at - 1] == text("radix-tree-nodes");
    real.len() == simulated.len() && (0..real.len()).all(is_equal_item)
}

/// Texts in which servers of one simulated version differ from each other, and the place of errors
/// in scripts that names a script of the server.
fn is_equal_error(real: &str, simulated: &str, version: Version) -> bool {
    let both_begin = |text: &str| real.starts_with(text) && simulated.starts_with(text);
    let both_end = |part: &str| match (real.split_once(part), simulated.split_once(part)) {
        (Some((_, real)), Some((_, simulated))) => real == simulated,
        _ => false,
    };
    // Valkey does not name Redis, nor the script.
    let cause = |text: &str| {
        text.split(" script: ").next().map(|text| text.replace("Redis ", "").replace("Valkey ", ""))
    };
    match version {
        Version::V6_2 if real.contains("@enable_strict_lua:") => both_end(": user_script:"),
        // The handler of errors in 6.2 fails if the error is a table.
        Version::V6_2 if real.contains("@err_handler_def:") => true,
        // The source is the body of a function there.
        Version::V6_2 => both_begin("ERR Error compiling script (new function): user_script:"),
        Version::V7_0 => false,
        Version::V7_2 => {
            let texts = [
                "ERR Unbalanced 'xread",
                "NOSCRIPT No matching script.",
                "ERR Please specify at least one argument for this ",
            ];
            let arguments = " arguments must be strings or integers";
            texts.into_iter().any(both_begin)
                || real.contains(arguments) && simulated.contains(arguments)
                || cause(real) == cause(simulated)
        }
    }
}

/// The last id in a reply to XINFO STREAM.
pub(crate) fn last_id(info: &Reply) -> Option<Reply> {
    let Reply::Array(items) = info else { return None };
    let at = items.iter().position(|item| *item == text("last-generated-id"))?;
    items.get(at + 1).cloned()
}

/// A command for messages.
pub(crate) fn command_text(command: &[Bytes]) -> String {
    let word = |word: &Bytes| {
        let text = String::from_utf8_lossy(word);
        let line = text.lines().next().unwrap_or("").to_owned();
        if line.is_empty() || line.contains(' ') { format!("{line:?}") } else { line }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A reply for messages.
pub(crate) fn reply_text(reply: &Reply) -> String {
    match reply {
        Reply::Nil => "nil".to_owned(),
        Reply::NilArray => "nil array".to_owned(),
        Reply::Int(number) => number.to_string(),
        Reply::Bulk(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Reply::Simple(text) => format!("+{text}"),
        Reply::Error(text) => format!("-{text}"),
        Reply::Array(items) => {
            format!("[{}]", items.iter().map(reply_text).collect::<Vec<_>>().join(", "))
        }
    }
}
