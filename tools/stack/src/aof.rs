//! Ends an append-only file before a transaction that a crash cut off.
//!
//! Redis writes what a script has changed between `MULTI` and `EXEC`. If a crash cuts the file off in the
//! middle of a command between them, Redis (seen: 6.2.5, 7.0.15, 8.2.3) removes that command only, and keeps
//! the commands before it. After the next start they are executed together with the next transaction,
//! although they were not there in between. Valkey 9.1.2 removes them all:
//! <https://github.com/valkey-io/valkey/pull/4342>.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Repairs the newest append-only file of a data directory, if there is one. The server must not be running.
pub(crate) fn end_before_incomplete_transaction(data_dir: &Path) -> io::Result<()> {
    let Some(path) = newest(&data_dir.join("appendonlydir"))? else { return Ok(()) };
    let content = fs::read(&path)?;
    let complete = complete_length(&content);
    if complete < content.len() {
        OpenOptions::new().write(true).open(&path)?.set_len(complete as u64)?;
    }
    Ok(())
}

/// The incremental file with the highest number: `appendonly.aof.<number>.incr.aof`.
fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut found: Option<(u64, PathBuf)> = None;
    for file in files {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(".incr.aof").and_then(|rest| rest.rsplit('.').next());
        let Some(number) = number.and_then(|number| number.parse().ok()) else { continue };
        if found.as_ref().is_none_or(|(highest, _)| number > *highest) {
            found = Some((number, path));
        }
    }
    Ok(found.map(|(_, path)| path))
}

/// The bytes up to the end of the last command that is complete and in no incomplete transaction. All of
/// them, if something is not of the expected form: that is for Redis to judge.
fn complete_length(content: &[u8]) -> usize {
    let (mut position, mut before_multi) = (0, None);
    while position < content.len() {
        let (name, end) = match next_command(&content[position..]) {
            Next::Command { name, length } => (name, position + length),
            Next::CutOff => return before_multi.unwrap_or(position),
            Next::Strange => return content.len(),
        };
        match name {
            b"MULTI" if before_multi.is_none() => before_multi = Some(position),
            b"EXEC" => before_multi = None,
            _ => {}
        }
        position = end;
    }
    before_multi.unwrap_or(position)
}

enum Next<'a> {
    /// The name and the length of the whole command.
    Command { name: &'a [u8], length: usize },
    /// The file ends before the command does.
    CutOff,
    /// It is no command.
    Strange,
}

fn next_command(content: &[u8]) -> Next<'_> {
    // An annotation, e.g. a timestamp: one line.
    if content.first() == Some(&b'#') {
        return match line(content) {
            Some((_, length)) => Next::Command { name: b"#", length },
            None => Next::CutOff,
        };
    }
    let Some((count, mut position)) = number(content, b'*') else {
        return if line(content).is_some() { Next::Strange } else { Next::CutOff };
    };
    let mut name: &[u8] = b"";
    for argument in 0..count {
        let rest = &content[position..];
        let Some((length, start)) = number(rest, b'$') else {
            return if line(rest).is_some() { Next::Strange } else { Next::CutOff };
        };
        let Some(value) = rest.get(start..start + length) else { return Next::CutOff };
        if rest.len() < start + length + 2 {
            return Next::CutOff;
        }
        if argument == 0 {
            name = value;
        }
        position += start + length + 2;
    }
    Next::Command { name, length: position }
}

/// The first line without its end, and its length with it.
fn line(content: &[u8]) -> Option<(&[u8], usize)> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    Some((content[..end].strip_suffix(b"\r").unwrap_or(&content[..end]), end + 1))
}

/// The number on the first line, which begins with this character, and the length of the line.
fn number(content: &[u8], begins: u8) -> Option<(usize, usize)> {
    let (text, length) = line(content)?;
    let digits = text.strip_prefix(&[begins])?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> String {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let words: Vec<String> = words.collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    }

    #[test]
    fn a_repaired_file_ends_before_a_truncated_transaction() {
        let set = command(&["SET", "a", "1"]);
        let whole = [&command(&["SELECT", "0"]), "#TS:1795958034\r\n", &set].concat();
        let commands = [&*command(&["MULTI"]), &set, &command(&["RPUSH", "b", "*1\r\n"])].concat();
        let transaction = [&commands, &*command(&["EXEC"])].concat();
        let complete = [&*whole, &transaction].concat();
        assert_eq!(complete_length(complete.as_bytes()), complete.len());
        for cut in 1..transaction.len() {
            let file = [&*complete, &transaction[..cut]].concat();
            assert_eq!(complete_length(file.as_bytes()), complete.len(), "{cut}");
        }
        for cut in 1..set.len() {
            let file = [&*complete, &set[..cut]].concat();
            assert_eq!(complete_length(file.as_bytes()), complete.len(), "{cut}");
        }
        let strange = [&*complete, "what is this\r\n"].concat();
        assert_eq!(complete_length(strange.as_bytes()), strange.len());
    }
}
