//! Text that others wrote and people read: names, addresses, reasons.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

/// Whether a character breaks a line, drives a terminal, or reorders the text around it: the control
/// characters of Unicode (C0, DEL, C1), its line and paragraph separators, and the bidirectional
/// embeddings, overrides and isolates.
pub fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with U+FFFD in the place of each control character.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_control, "\u{fffd}"))
}

/// Deserializes a member of an event and replaces control characters as [`plain`] does. The HTTP interface
/// refuses them, but a client of Redis can append any text to a stream.
///
/// # Errors
///
/// It is no text.
pub fn read_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(match plain(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(plain) => plain,
    })
}

/// The same for a member that may be missing.
///
/// # Errors
///
/// It is there and no text.
pub fn read_plain_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Plain(#[serde(deserialize_with = "read_plain")] String);
    Ok(Option::<Plain>::deserialize(deserializer)?.map(|Plain(text)| text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_or_breaks_a_line_is_replaced_and_nothing_else() {
        for control in [
            "\0", "\n", "\r", "\t", "\u{1b}", "\u{7f}", "\u{85}", "\u{9b}", "\u{2028}", "\u{202e}",
            "\u{2066}",
        ] {
            assert_eq!(plain(&format!("a{control}b")), "a\u{fffd}b", "{control:?}");
        }
        for text in [
            "",
            "Anthony",
            "Zoë O'Neil-Śmith",
            "李小龍",
            "אנתוני",
            "نسيم",
            "e\u{301} 👩\u{200d}🚀",
            "\u{a0}",
        ] {
            assert!(matches!(plain(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }
}
