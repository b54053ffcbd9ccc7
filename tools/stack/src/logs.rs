//! The output of child processes: forwarded to standard output line by line with a prefix, or kept
//! in a file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The destination of a process' standard output and error, in the order of writing.
#[derive(Clone, Debug)]
pub enum Output {
    /// Standard output, with a prefix for each line.
    Forward {
        /// The prefix, for example `order_service-1 | `.
        prefix: String,
    },
    /// This file, which is appended to.
    File(PathBuf),
}

/// The maximum length of a line; a longer one is split, so that a faulty service cannot exhaust the
/// memory.
const LONGEST_LINE: usize = 256 * 1024;

/// The size at which a log file is rotated, in bytes.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// Copies a log file that has become too large to the one file beside it (`….log.1`), replaces
/// that, and empties the original; `true` if it did. The file is not renamed, because the process
/// has it open and appends to it: lines that are written in between are lost. If there is no room
/// for a copy, all lines are lost.
pub(crate) fn rotate(path: &Path) -> bool {
    if !path.metadata().is_ok_and(|file| file.is_file() && file.len() > LARGEST_FILE) {
        return false;
    }
    let older = path.with_extension("log.1");
    if fs::copy(path, &older).is_err() {
        // A partial copy would take up room; it may not exist.
        let _ = fs::remove_file(&older);
    }
    // A failure is retried a moment later.
    File::options().write(true).open(path).and_then(|file| file.set_len(0)).is_ok()
}

/// Copies whole lines, each with the prefix. There is one write per chunk read: while the writer is
/// slow the chunks grow, so thousands of lines per second cost few system calls, and no line is
/// delayed once the pipe is empty.
pub(crate) fn forward(mut from: impl Read, prefix: &[u8], mut to: impl FnMut(&[u8])) {
    let mut chunk = vec![0; 64 * 1024];
    let mut pending = Vec::new();
    let mut lines = Vec::new();
    loop {
        let read = match from.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        pending.extend_from_slice(&chunk[..read]);
        if (read == 0 && !pending.is_empty()) || pending.len() > LONGEST_LINE {
            pending.push(b'\n');
        }
        if let Some(last) = pending.iter().rposition(|byte| *byte == b'\n') {
            for line in pending[..=last].split_inclusive(|byte| *byte == b'\n') {
                lines.extend_from_slice(prefix);
                lines.extend_from_slice(line);
            }
            pending.drain(..=last);
            to(&lines);
            lines.clear();
        }
        if read == 0 {
            return;
        }
    }
}

/// Writes to standard output. A closed reader must not stop the services, so errors are ignored.
pub(crate) fn to_stdout(lines: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(lines).and_then(|()| out.flush());
}

/// The last ten lines of the file after `from`, as the end of an error message; empty if there are
/// none.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        // The end of a long output is sufficient.
        let start = file.metadata()?.len().saturating_sub(16 * 1024).max(from);
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut text)
    });
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    match (read, lines.as_slice()) {
        (Err(_), _) | (_, []) => String::new(),
        (_, lines) => format!(
            "; the end of {}:\n{}",
            path.display(),
            lines[lines.len().saturating_sub(10)..].join("\n")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that returns one chunk per read, like a pipe.
    struct Chunks(Vec<&'static [u8]>);

    impl Read for Chunks {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let chunk = self.0.remove(0);
            into[..chunk.len()].copy_from_slice(chunk);
            Ok(chunk.len())
        }
    }

    #[test]
    fn lines_are_forwarded_unsplit_with_their_prefix() {
        let mut writes = Vec::new();
        let chunks = Chunks(vec![b"one\ntw", b"o", b"\nthree\nfour\n", b"no newline"]);
        forward(chunks, b"x | ", |lines| writes.push(String::from_utf8_lossy(lines).into_owned()));
        assert_eq!(writes, ["x | one\n", "x | two\nx | three\nx | four\n", "x | no newline\n"]);
    }
}
