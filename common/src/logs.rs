//! Logs on stdout: text for a terminal or JSON for programs, with control characters escaped.
//! Between the log lines are the deliveries that a service prints ([`print`]).
//!
//! Lines are collected for a few milliseconds and written together, so that a burst of lines costs
//! one system call. A killed process loses the lines of those milliseconds.
//!
//! A separate thread writes the lines, so that a slow or stopped reader of stdout never blocks the
//! service. Lines that do not fit into the buffer are dropped, counted and reported once there is
//! room. `tracing_appender`'s non-blocking writer would do the same but for two things: its guard
//! prints to a blocked stdout, which then blocks the exit, and its limit counts lines, not bytes.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{MakeWriter, format},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::text::is_control;

/// The format of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A readable line.
    Text,
    /// A JSON object per line.
    Json,
}

/// How long a line waits to be written together with others.
const COLLECT_TIME: Duration = Duration::from_millis(5);
/// The maximum number of bytes that wait for the writing thread; further lines are dropped. The
/// same number may be in the middle of being written.
const BUFFER_LIMIT: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for the last lines to be written.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of lines that never reached stdout.
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The output and format for [`print`], once the logs are set up.
static PRINTER: OnceLock<(Output, LogFormat)> = OnceLock::new();

/// Sets up the logs of the process; dropping the guard writes the remaining lines.
pub fn init(format: LogFormat, filter: &str) -> Guard {
    let output = Output::start();
    // A second call, in tests, keeps the setting of the first.
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

/// The counter of dropped lines, for the operations port.
pub(crate) fn dropped_lines() -> Counter {
    DROPPED.clone()
}

/// Prints a line that is not part of the log, in sequence with the log lines: the plain line with
/// control characters escaped, or a JSON object with the only member `delivered`.
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
    // Writing to a String or to the buffer of the output cannot fail.
    let _ = written;
    let _ = output.write_all(text.as_bytes());
}

/// Waits on drop until the remaining lines are written, for at most a second: stdout may be a pipe
/// without a reader.
#[derive(Debug)]
pub struct Guard(Output);

impl Drop for Guard {
    fn drop(&mut self) {
        let buffer = self.0.buffer();
        drop(self.0.0.changed.wait_timeout_while(buffer, SHUTDOWN_TIMEOUT, Buffer::is_unwritten));
    }
}

/// Escapes control characters, so that foreign text can neither forge a line nor move a cursor.
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

/// Escapes the control characters that JSON allows: JSON escapes only those up to U+001F, but
/// terminals also obey DEL and U+0080 to U+009F. Text lines contain none of these.
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
struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// Signals that the buffer received its first line, or that its lines are written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    /// The number of lines dropped since the last report.
    dropped: u64,
    /// Whether lines taken from this buffer are being written.
    is_writing: bool,
}

impl Buffer {
    fn is_unwritten(&mut self) -> bool {
        self.is_writing || !self.lines.is_empty()
    }
}

impl Output {
    fn start() -> Self {
        let output = Self(Arc::default());
        let background = output.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || background.write_forever(&mut io::stdout()))
            .expect("a process that cannot start a thread cannot do anything");
        output
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_forever(&self, stdout: &mut impl io::Write) {
        let (mut unreported, mut works) = (0, true);
        loop {
            let (lines, dropped) = self.take();
            unreported += dropped;
            // The buffer was just emptied, so the report fits. If the last write failed, another
            // one would be lost as well.
            if unreported > 0 && works {
                tracing::warn!("{unreported} log lines were dropped: stdout was not read");
                unreported = 0;
            }
            works = stdout.write_all(&lines).and_then(|()| stdout.flush()).is_ok();
            if !works {
                let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                DROPPED.inc_by(lost);
                unreported += lost;
            }
            self.buffer().is_writing = false;
            self.0.changed.notify_all();
        }
    }

    /// Waits for lines, and returns them with the number of lines dropped after them.
    fn take(&self) -> (Vec<u8>, u64) {
        let first = self.0.changed.wait_while(self.buffer(), |buffer| buffer.lines.is_empty());
        drop(first);
        std::thread::sleep(COLLECT_TIME);
        let mut buffer = self.buffer();
        buffer.is_writing = true;
        (std::mem::take(&mut buffer.lines), std::mem::take(&mut buffer.dropped))
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
        let mut buffer = self.buffer();
        if buffer.lines.len() + line.len() > BUFFER_LIMIT {
            buffer.dropped += 1;
            DROPPED.inc();
            return Ok(line.len());
        }
        let first = buffer.lines.is_empty();
        extend_escaped(&mut buffer.lines, line);
        drop(buffer);
        if first {
            self.0.changed.notify_all();
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

    /// A separate output whose reports become lines of it.
    fn start_on(mut stdout: impl io::Write + Send + 'static) -> Output {
        let output = Output(Arc::default());
        let background = output.clone();
        std::thread::spawn(move || {
            let lines = tracing_subscriber::fmt::layer().with_writer(background.clone());
            let registry = tracing_subscriber::registry().with(lines.with_ansi(false));
            tracing::subscriber::with_default(registry, || background.write_forever(&mut stdout));
        });
        output
    }

    /// An output to a pipe that is not read until the reader is used.
    fn unread() -> (Output, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (start_on(writer), reader)
    }

    #[test]
    fn lines_beyond_the_buffer_are_dropped_counted_and_reported_later() {
        let (output, reader) = unread();
        let before = DROPPED.get();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let written = 3 * BUFFER_LIMIT / line.len();
        for _ in 0..written {
            (&output).write_all(&line).unwrap();
        }
        assert!(output.buffer().lines.len() <= BUFFER_LIMIT);
        let mut lines = io::BufRead::lines(io::BufReader::new(reader)).map(Result::unwrap);
        let (mut arrived, mut report) = (0, String::new());
        for line in lines.by_ref() {
            if line.contains("log lines were dropped") {
                report = line;
                break;
            }
            arrived += 1;
        }
        let dropped = written - arrived;
        assert!(dropped >= BUFFER_LIMIT / line.len(), "{dropped}");
        assert!(report.contains(&format!(" {dropped} log lines were dropped")), "{report}");
        assert!(DROPPED.get() >= before + dropped as u64);
        // Later lines arrive again.
        (&output).write_all(b"another\n").unwrap();
        assert_eq!(lines.next().unwrap(), "another");
    }

    #[test]
    fn the_end_waits_for_the_last_lines_but_not_for_ever() {
        let (output, reader) = unread();
        (&output).write_all(b"last\n").unwrap();
        drop(Guard(output));
        let mut lines = io::BufRead::lines(io::BufReader::new(reader));
        assert_eq!(lines.next().unwrap().unwrap(), "last");

        let (output, _reader) = unread();
        (&output).write_all(&b"x".repeat(BUFFER_LIMIT)).unwrap();
        let begun = std::time::Instant::now();
        drop(Guard(output));
        assert!(begun.elapsed() >= SHUTDOWN_TIMEOUT);
    }

    #[test]
    fn lines_that_cannot_be_written_are_reported_once_others_were() {
        /// A disk that is full at first.
        struct Disk(usize, std::sync::mpsc::Sender<String>);
        impl io::Write for Disk {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                if self.0 > 0 {
                    self.0 -= 1;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.1.send(String::from_utf8_lossy(text).into_owned()).unwrap();
                Ok(text.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, written) = std::sync::mpsc::channel();
        let output = start_on(Disk(1, sender));
        let before = DROPPED.get();
        for line in ["one\ntwo\n", "three\n", "four\n"] {
            (&output).write_all(line.as_bytes()).unwrap();
            // Waits until the line is written, or has failed.
            drop(output.0.changed.wait_while(output.buffer(), Buffer::is_unwritten));
        }
        assert_eq!(written.recv().unwrap(), "three\n");
        assert_eq!(written.recv().unwrap(), "four\n");
        let report = written.recv().unwrap();
        assert!(report.contains("2 log lines were dropped"), "{report}");
        assert!(DROPPED.get() >= before + 2);
    }

    #[test]
    fn control_characters_that_json_leaves_are_escaped_too() {
        let mut lines = b"before ".to_vec();
        extend_escaped(&mut lines, "a\u{9b}31m\u{7f}\u{a0}é\u{80}".as_bytes());
        assert_eq!(lines, "before a\\u009b31m\\u007f\u{a0}é\\u0080".as_bytes());
    }
}
