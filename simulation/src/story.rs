//! Stories: commands, replies and decisions in the words of a reader.

use common::simulation::Decision;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::redis::{Bytes, Reply};

/// Whether a line of a story says more than that a process looked and found nothing.
pub fn is_telling(line: &str) -> bool {
    const IDLE: [&str; 20] = [
        " PING => ",
        " INFO",
        " XINFO ",
        " XPENDING ",
        " ACL ",
        " SCRIPT LOAD ",
        " CLIENT ",
        ":store =>",
        ":store ",
        " ZRANGEBYLEX ",
        " HMGET ",
        " EXISTS ",
        "=> nil",
        "EVAL [Shortens",
        "EVAL [Removes",
        "EVAL [The answer",
        " XGROUP CREATE ",
        " TYPE ",
        "{order}:sets",
        "auditor ",
    ];
    !IDLE.iter().any(|idle| line.contains(idle))
}

/// The longest text of one word or reply.
const WORD_MAX: usize = 160;
/// The largest number of words of a command that are shown.
const WORDS_MAX: usize = 24;

/// A command in words; a script is named instead of its text or digest.
pub fn command(words: &[Bytes]) -> String {
    let name = String::from_utf8_lossy(&words[0]).to_uppercase();
    match name.as_str() {
        "EVALSHA" => commit(words).unwrap_or_else(|| plain("EVALSHA", &words[1..])),
        "EVAL" => {
            let source = String::from_utf8_lossy(&words[1]);
            let first = source.lines().next().unwrap_or_default().trim_start_matches("-- ");
            format!("EVAL [{}] {}", cut(first), plain("", &words[2..]).trim_start())
        }
        "SCRIPT" => "SCRIPT LOAD commit.lua".to_owned(),
        _ => plain(&name, &words[1..]),
    }
}

fn plain(name: &str, words: &[Bytes]) -> String {
    let mut text = name.to_owned();
    for word in words.iter().take(WORDS_MAX) {
        text.push(' ');
        text.push_str(&cut(&String::from_utf8_lossy(word)));
    }
    if words.len() > WORDS_MAX {
        text.push_str(&format!(" … ({} words)", words.len() + 1));
    }
    text
}

/// A call of `commit.lua`: what it writes if nothing has changed.
fn commit(words: &[Bytes]) -> Option<String> {
    let text = |index: usize| words.get(index).map(|it| String::from_utf8_lossy(it));
    let number = |index: usize| text(index)?.parse::<usize>().ok();
    let keys = number(2)?;
    let key = |position: usize| text(2 + position);
    let argument = |position: usize| 2 + keys + position;
    let (groups, entities) = (number(argument(1))?, number(argument(2))?);
    let mut parts = Vec::new();
    for entity in 0..entities {
        let at = argument(8 + groups + 1 + 2 * entity);
        let (expected, new) = (text(at)?, text(at + 1)?);
        let key = key(3 + entity)?;
        let expected = if expected.is_empty() { "absent".into() } else { expected };
        match new.is_empty() {
            true => parts.push(format!("check {key} is {}", expected.trim_end())),
            false => parts.push(format!("write {key} if {} := {}", expected.trim_end(), cut(&new))),
        }
    }
    let limits = argument(9 + groups + 2 * entities);
    let owners = limits + 1 + 5 * number(limits)?;
    let runs = owners + 1 + number(owners)?;
    let mut at = runs + 1;
    for _ in 0..number(runs)? {
        let (key, width, count) = (key(number(at)?)?, number(at + 1)?, number(at + 2)?);
        let is_stream = key.starts_with("events:");
        let first = at + 3 + if is_stream { width } else { 0 };
        for item in 0..if is_stream { count } else { 0 } {
            // The event follows its id.
            parts.push(format!("publish {key} {}", cut(&text(first + item * width + 1)?)));
        }
        at = first + count * width;
    }
    Some(format!("COMMIT of {groups} groups: {}", parts.join("; ")))
}

/// A reply in words.
pub fn reply(words: &[Bytes], reply: &Reply) -> String {
    match (&words[0][..], reply) {
        (b"INFO", Reply::Bulk(_)) => "…".to_owned(),
        _ => cut(&shown(reply)),
    }
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Nil | Reply::NilArray => "nil".to_owned(),
        Reply::Int(number) => number.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Simple(text) => text.to_string(),
        Reply::Error(text) => format!("ERROR {text}"),
        Reply::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// A decision in words.
pub fn decision(decision: &Decision<'_>) -> String {
    let puts: Vec<String> =
        decision.puts.iter().map(|(key, json)| format!("{key} := {}", cut(json))).collect();
    let input = cut(&format!("{:?}", decision.input));
    match (puts.is_empty(), decision.events.is_empty()) {
        (true, true) => format!("decides about {input}: nothing to do"),
        _ => format!("decides about {input}: {}; publishes {:?}", puts.join(", "), decision.events),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WORD_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Passes log lines on to a function.
pub struct LogLines<F>(pub F);

impl<S: Subscriber, F: Fn(String) + 'static> Layer<S> for LogLines<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        (self.0)(format!("logs {}:{}", event.metadata().level(), line.0));
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.0.insert_str(0, &format!(" {value}")),
            name => self.0.push_str(&format!(" {name}={}", cut(&value))),
        }
    }
}
