//! Logs to stdout: lines for people on a terminal, JSON for programs, control characters escaped.
//! Between them stands what a service delivers by printing it ([`print`]).
//!
//! Lines are gathered for a few milliseconds and written together, so that a burst of them costs one
//! system call. A killed process loses those milliseconds.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{MakeWriter, format},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{config::LogFormat, text::is_control};

/// How long a line waits for company.
const GATHER: Duration = Duration::from_millis(5);
/// With so many bytes waiting, whoever logs writes them itself.
const FULL: usize = 256 * 1024;

/// What lines are printed through, and how, once the logs are set up.
static PRINTER: OnceLock<(Output, LogFormat)> = OnceLock::new();

/// Sets up the logs of the process; they are written out when the guard is dropped.
pub fn init(format: LogFormat, filter: &str) -> Guard {
    let output = Output::start();
    // A second call, in tests, keeps the first one's setting.
    let _ = PRINTER.set((output.clone(), format));
    let filter = EnvFilter::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(output.clone());
    let _ = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => {
            let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let fields = format::debug_fn(|writer, field, value| {
                if field.name() != "message" {
                    write!(writer, "{}=", field.name())?;
                }
                write!(Escape(writer), "{value:?}")
            })
            .delimited(" ");
            registry.with(lines.with_ansi(colours).fmt_fields(fields)).try_init()
        }
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, "panicked: {}", text.unwrap_or("no message"));
    }));
    Guard(output)
}

/// Prints a line that is no part of the log, in sequence with the lines that are: as it is, but for
/// control characters, or as the only member `delivered` of a JSON object.
pub(crate) fn print(line: &str) {
    let Some((mut output, format)) = PRINTER.get().map(|(output, format)| (output, format)) else {
        return;
    };
    let mut text = String::with_capacity(line.len() + 1);
    let written = match format {
        LogFormat::Json => write!(text, "{}", serde_json::json!({ "delivered": line })),
        LogFormat::Text => write!(Escape(&mut text), "{line}"),
    };
    text.push('\n');
    // A String and the buffer of the output take everything.
    let _ = written;
    let _ = output.write_all(text.as_bytes());
}

/// Writes out the remaining lines when dropped.
#[derive(Debug)]
pub struct Guard(Output);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.write_out();
    }
}

/// Escapes control characters, so that no text from outside can forge a line or move a cursor.
struct Escape<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escape<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(is_control) {
            return self.0.write_str(text);
        }
        for c in text.chars() {
            if is_control(c) {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// JSON escapes control characters up to U+001F only; terminals obey DEL and U+0080 to U+009F, too.
/// Lines for people have none of these left.
fn extend_escaped(lines: &mut Vec<u8>, line: &[u8]) {
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0x7f | 0xc2)) {
        let (code, length) = match rest[at..] {
            [0x7f, ..] => (0x7f, 1),
            [0xc2, code @ 0x80..=0x9f, ..] => (code, 2),
            _ => {
                lines.extend_from_slice(&rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            }
        };
        lines.extend_from_slice(&rest[..at]);
        lines.extend_from_slice(format!("\\u{code:04x}").as_bytes());
        rest = &rest[at + length..];
    }
    lines.extend_from_slice(rest);
}

/// Lines on their way to stdout.
#[derive(Clone, Debug)]
struct Output(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Output {
    fn start() -> Self {
        let output = Self(Arc::new((Mutex::new(Vec::new()), Condvar::new())));
        let background = output.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                loop {
                    let (_, filled) = &*background.0;
                    let mut lines = background.lines();
                    while lines.is_empty() {
                        lines = filled.wait(lines).unwrap_or_else(PoisonError::into_inner);
                    }
                    drop(lines);
                    std::thread::sleep(GATHER);
                    background.write_out();
                }
            })
            .expect("a process that cannot start a thread cannot do anything");
        output
    }

    fn lines(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_out(&self) {
        // Stdout's lock comes first, so that lines keep their order.
        let mut stdout = io::stdout().lock();
        let lines = std::mem::take(&mut *self.lines());
        // Nobody is left to tell if stdout is gone.
        let _ = stdout.write_all(&lines).and_then(|()| stdout.flush());
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl io::Write for &Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.lines();
        let first = lines.is_empty();
        extend_escaped(&mut lines, line);
        let full = lines.len() > FULL;
        drop(lines);
        if full {
            self.write_out();
        } else if first {
            self.0.1.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let mut text = String::new();
        write!(Escape(&mut text), "a\nb\u{1b}[31mé\u{202e}").unwrap();
        assert_eq!(text, "a\\nb\\u{1b}[31mé\\u{202e}");
    }
    #[test]
    fn control_characters_that_json_leaves_are_escaped_too() {
        let mut lines = b"before ".to_vec();
        extend_escaped(&mut lines, "a\u{9b}31m\u{7f}\u{a0}é\u{80}".as_bytes());
        assert_eq!(lines, "before a\\u009b31m\\u007f\u{a0}é\\u0080".as_bytes());
    }
}
