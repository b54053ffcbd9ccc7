//! Logs on stdout: text for a terminal or JSON for programs, with control characters escaped.
//! Between the log lines are the deliveries that a service prints ([`print`]).
//!
//! A thread of tracing-appender writes the lines, so that a slow or stopped reader of stdout never
//! blocks the service. Lines that do not fit into its queue are dropped, counted and reported once
//! others were written.
//!
//! Lines are collected for a few milliseconds and written together, so that a burst of lines costs
//! one system call. A killed process loses the lines of those milliseconds.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use clap::ValueEnum;
use prometheus_client::metrics::counter::{Atomic, Counter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, field::MakeExt as _, fmt::format, layer::SubscriberExt as _,
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
/// The maximum number of lines, of any length, that wait for the writing thread; further lines are
/// dropped.
const QUEUE_LIMIT: usize = 16 * 1024;
/// The number of bytes from which collected lines are written before the end of their burst.
const WRITE_SIZE: usize = 64 * 1024;
/// How long the end of the process waits for the last lines to be written.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The output and format for [`print`], once the logs are set up.
static PRINTER: OnceLock<(NonBlocking, LogFormat)> = OnceLock::new();
/// The number of lines that did not fit into the queue.
static NOT_QUEUED: OnceLock<ErrorCounter> = OnceLock::new();
/// The number of lines that could not be written.
static NOT_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Sets up the logs of the process; dropping the guard writes the remaining lines.
pub fn init(format: LogFormat, filter: &str) -> Guard {
    let report = |lines| tracing::warn!("{lines} log lines were dropped: stdout was not read");
    let (output, guard) = start(io::stdout(), Dropped, report);
    // A second call, in tests, keeps the setting of the first.
    let _ = PRINTER.set((output.clone(), format));
    let _ = NOT_QUEUED.set(output.error_counter());
    let filter = EnvFilter::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(output);
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
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(location, "panicked: {}", text.unwrap_or("no message"));
    }));
    Guard(Some(guard))
}

/// The counter of lines that never reached stdout, for the operations port.
pub(crate) fn dropped_lines() -> Counter<u64, Dropped> {
    Counter::default()
}

/// The value of the counter of dropped lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropped;

impl Atomic<u64> for Dropped {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, lines: u64) -> u64 {
        NOT_WRITTEN.fetch_add(lines, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        let not_queued = NOT_QUEUED.get().map_or(0, ErrorCounter::dropped_lines);
        NOT_WRITTEN.load(Ordering::Relaxed) + not_queued as u64
    }
}

/// Prints a line that is not part of the log, in sequence with the log lines: the plain line with
/// control characters escaped, or a JSON object with the only member `delivered`.
pub(crate) fn print(line: &str) {
    let Some((mut output, format)) = PRINTER.get().cloned() else {
        return;
    };
    let mut text = String::with_capacity(line.len() + 1);
    let written = match format {
        LogFormat::Json => write!(text, "{}", serde_json::json!({ "delivered": line })),
        LogFormat::Text => write!(Escape(&mut text), "{line}"),
    };
    text.push('\n');
    // Writing to a String or to the queue of the output cannot fail.
    let _ = written;
    let _ = output.write_all(text.as_bytes());
}

/// Waits on drop until the remaining lines are written, for at most a second: stdout may be a pipe
/// without a reader.
#[derive(Debug)]
pub struct Guard(Option<WorkerGuard>);

impl Drop for Guard {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (done, ended) = mpsc::channel::<()>();
        // If its queue is full, tracing-appender's guard prints that to stdout, which may block.
        let dropping = thread::Builder::new().spawn(move || {
            drop(guard);
            drop(done);
        });
        if dropping.is_ok() {
            let _ = ended.recv_timeout(SHUTDOWN_TIMEOUT);
        }
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

/// A queue to a thread that writes to `stdout`. `report` gets the numbers of lines that were dropped
/// since its last call, according to `dropped`.
fn start(
    stdout: impl io::Write + Send + 'static,
    dropped: impl Atomic<u64> + Send + 'static,
    report: impl Fn(u64) + Send + 'static,
) -> (NonBlocking, WorkerGuard) {
    let writer = Collected::new(stdout, dropped, report);
    NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LIMIT)
        .thread_name("log")
        .finish(writer)
}

/// Writes lines together, at the end of a burst or when there are enough of them.
struct Collected<W, D, R> {
    stdout: W,
    lines: Vec<u8>,
    dropped: D,
    /// The number of dropped lines at the last report.
    reported: u64,
    report: R,
    /// Whether lines have arrived since the queue was empty.
    in_burst: bool,
    /// Whether the last write succeeded.
    works: bool,
}

impl<W: io::Write, D: Atomic<u64>, R> Collected<W, D, R> {
    fn new(stdout: W, dropped: D, report: R) -> Self {
        let (lines, reported, in_burst, works) = (Vec::new(), 0, false, true);
        Self { stdout, lines, dropped, reported, report, in_burst, works }
    }

    /// Never fails: lines that cannot be written are counted.
    fn write_out(&mut self) {
        let written = self.stdout.write_all(&self.lines).and_then(|()| self.stdout.flush());
        self.works = written.is_ok();
        if !self.works {
            let lost = self.lines.iter().filter(|byte| **byte == b'\n').count();
            self.dropped.inc_by(lost as u64);
        }
        self.lines.clear();
    }
}

impl<W: io::Write, D: Atomic<u64>, R: Fn(u64)> io::Write for Collected<W, D, R> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.in_burst {
            // Lines of the same burst reach the queue meanwhile.
            thread::sleep(COLLECT_TIME);
            self.in_burst = true;
        }
        extend_escaped(&mut self.lines, line);
        if self.lines.len() >= WRITE_SIZE {
            self.write_out();
        }
        Ok(line.len())
    }

    /// tracing-appender calls this when its queue is empty; so the report fits into it.
    fn flush(&mut self) -> io::Result<()> {
        self.write_out();
        self.in_burst = false;
        let dropped = self.dropped.get();
        // A report would be lost as well after a failure.
        if self.works && dropped > self.reported {
            (self.report)(dropped - self.reported);
            self.reported = dropped;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let mut text = String::new();
        write!(Escape(&mut text), "a\nb\u{1b}[31mé\u{202e}").unwrap();
        assert_eq!(text, "a\\nb\\u{1b}[31mé\\u{202e}");
    }

    /// The dropped lines of one output.
    #[derive(Clone, Default)]
    struct Count(Arc<AtomicU64>, Arc<OnceLock<ErrorCounter>>);

    impl Atomic<u64> for Count {
        fn inc(&self) -> u64 {
            self.inc_by(1)
        }

        fn inc_by(&self, lines: u64) -> u64 {
            self.0.fetch_add(lines, Ordering::Relaxed)
        }

        fn get(&self) -> u64 {
            let not_queued = self.1.get().map_or(0, ErrorCounter::dropped_lines);
            self.0.load(Ordering::Relaxed) + not_queued as u64
        }
    }

    /// An output of its own, and its reports.
    fn start_on(
        stdout: impl io::Write + Send + 'static,
    ) -> (NonBlocking, Guard, Count, mpsc::Receiver<u64>) {
        let (sender, reports) = mpsc::channel();
        let count = Count::default();
        let own: Arc<OnceLock<NonBlocking>> = Arc::default();
        let reported = Arc::clone(&own);
        let report = move |lines| {
            // As the service does it: the report is a line as well.
            let mut output = reported.get().unwrap().clone();
            output.write_all(format!("{lines} dropped\n").as_bytes()).unwrap();
            sender.send(lines).unwrap();
        };
        let (output, guard) = start(stdout, count.clone(), report);
        count.1.set(output.error_counter()).unwrap();
        own.set(output.clone()).unwrap();
        (output, Guard(Some(guard)), count, reports)
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_counted_and_reported_later() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut output, guard, count, reports) = start_on(writer);
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let written = 3 * QUEUE_LIMIT;
        for _ in 0..written {
            output.write_all(&line).unwrap();
        }
        assert!(count.get() >= QUEUE_LIMIT as u64, "{}", count.get());
        let reading = thread::spawn(|| {
            let lines = io::BufRead::lines(io::BufReader::new(reader)).map(Result::unwrap);
            lines.partition::<Vec<String>, _>(|line| line.starts_with('x'))
        });
        let reported = reports.recv().unwrap();
        // Later lines arrive again.
        output.write_all(b"another\n").unwrap();
        drop(guard);
        drop(output);
        drop(count.1);
        let (arrived, others) = reading.join().unwrap();
        assert_eq!(arrived.len() as u64, written as u64 - reported);
        assert_eq!(others, [format!("{reported} dropped"), "another".to_owned()]);
    }

    #[test]
    fn the_end_waits_for_the_last_lines_but_not_for_ever() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut output, guard, ..) = start_on(writer);
        output.write_all(b"last\n").unwrap();
        drop((guard, output));
        let mut lines = io::BufRead::lines(io::BufReader::new(reader));
        assert_eq!(lines.next().unwrap().unwrap(), "last");

        // More than a pipe holds, and more than the queue holds as well.
        for (lines, length) in [(1, 128 * 1024), (2 * QUEUE_LIMIT, 1_024)] {
            let (_reader, writer) = io::pipe().unwrap();
            let (mut output, guard, ..) = start_on(writer);
            for _ in 0..lines {
                output.write_all(&b"x".repeat(length)).unwrap();
            }
            let (ended, end) = mpsc::channel();
            thread::spawn(move || {
                drop(guard);
                ended.send(()).unwrap();
            });
            end.recv_timeout(10 * SHUTDOWN_TIMEOUT).expect("the guard does not wait for ever");
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_reported_once_others_were() {
        /// A disk that is full at first.
        struct Disk(usize, mpsc::Sender<String>);
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
        let (sender, written) = mpsc::channel();
        let count = Count::default();
        let (sent, reports) = mpsc::channel();
        let report = move |lines| sent.send(lines).unwrap();
        let mut output = Collected::new(Disk(1, sender), count.clone(), report);
        for burst in ["one\ntwo\n", "three\n", "four\n"] {
            output.write_all(burst.as_bytes()).unwrap();
            output.flush().unwrap();
        }
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["three\n", "four\n"]);
        assert_eq!((reports.try_iter().collect(), count.get()), (vec![2], 2));
    }

    #[test]
    fn control_characters_that_json_leaves_are_escaped_too() {
        let mut lines = b"before ".to_vec();
        extend_escaped(&mut lines, "a\u{9b}31m\u{7f}\u{a0}é\u{80}".as_bytes());
        assert_eq!(lines, "before a\\u009b31m\\u007f\u{a0}é\\u0080".as_bytes());
    }
}
