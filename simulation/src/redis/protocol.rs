//! Commands as bytes: arrays of strings in RESP, or words in a line.

use super::Bytes;

/// Parses one command, either an array of strings or a line of words such as `PING\r\n`. Returns
/// its words and the number of bytes used; `None` if the command is incomplete. An array without
/// items and an empty line are a command without words.
#[must_use]
pub fn parse_command(bytes: &[u8]) -> Option<(Vec<Bytes>, usize)> {
    let (line, mut used) = line(bytes)?;
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Some((words.map(<[u8]>::to_vec).collect(), used));
    };
    let count = number(count);
    let mut words = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let (header, header_length) = self::line(&bytes[used..])?;
        used += header_length;
        let end = used + number(header.strip_prefix(b"$").unwrap_or_default());
        words.push(bytes.get(used..end)?.to_vec());
        used = end + 2;
        if bytes.len() < used {
            return None;
        }
    }
    Some((words, used))
}

/// The first line, and its length with the end of the line.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

/// The number in a header; a malformed one counts as 0.
fn number(digits: &[u8]) -> usize {
    std::str::from_utf8(digits).ok().and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::parse_command;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn an_array_of_strings_is_one_command() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n";
        assert_eq!(parse_command(bytes), Some((words("GET k"), 20)));
        for end in 0..20 {
            assert_eq!(parse_command(&bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_line_of_words_is_one_command() {
        assert_eq!(parse_command(b"PING  x\r\nrest"), Some((words("PING x"), 9)));
        assert_eq!(parse_command(b"PING"), None);
    }
}
