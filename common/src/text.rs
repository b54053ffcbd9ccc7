//! Readable text from outside: names, addresses, reasons.

use std::{borrow::Cow, fmt::Write as _, ops::RangeInclusive};

use serde::{Deserialize, Deserializer};

/// The characters that break a line, control a terminal, reorder the text around them, or are
/// invisible without being blanks: the categories Cc, Cf, Zl and Zp of Unicode, fillers, and the
/// code points reserved for more of them. The joiners U+200C and U+200D, which names and composed
/// emoji need, are excluded, although they are in Cf.
const CONTROLS: [RangeInclusive<char>; 27] = [
    '\0'..='\u{1f}',
    '\u{7f}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200b}',
    '\u{200e}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e00ff}',
    '\u{e01f0}'..='\u{e0fff}',
];

/// The invisible characters that change the appearance of others: joiners and variation selectors.
const JOINERS: [RangeInclusive<char>; 7] = [
    '\u{34f}'..='\u{34f}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180d}',
    '\u{180f}'..='\u{180f}',
    '\u{200c}'..='\u{200d}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Whether a character breaks a line, controls a terminal, reorders the text around it, or is
/// invisible without being a blank.
pub fn is_control(character: char) -> bool {
    match character.is_ascii() {
        true => character.is_ascii_control(),
        false => CONTROLS.iter().any(|range| range.contains(&character)),
    }
}

/// Whether a character is visible on its own.
pub fn is_visible(character: char) -> bool {
    let joins = || JOINERS.iter().any(|range| range.contains(&character));
    !(character.is_whitespace() || is_control(character) || joins())
}

/// The characters for which [`is_control`] is true, in the syntax of a character class of a regular
/// expression (ECMA-262 with the flag `u`, Python, Rust).
pub fn controls_in_class() -> String {
    in_class(&CONTROLS)
}

/// The same for the characters that are not [`is_visible`].
pub fn unseen_in_class() -> String {
    format!("\\s{}{}", in_class(&CONTROLS), in_class(&JOINERS))
}

fn in_class(ranges: &[RangeInclusive<char>]) -> String {
    let mut class = String::new();
    let add = |class: &mut String, character: char| match u32::from(character) {
        code @ 0..=0xffff => write!(class, "\\u{code:04x}").expect("a String takes everything"),
        // The three have no common escape for it.
        _ => class.push(character),
    };
    for range in ranges {
        add(&mut class, *range.start());
        if range.start() < range.end() {
            class.push('-');
            add(&mut class, *range.end());
        }
    }
    class
}

/// The text with each control character replaced by U+FFFD.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_control, "\u{fffd}"))
}

/// Deserializes a member of an event and replaces control characters like [`plain`]. The HTTP
/// interface refuses them, but a client of Redis can append any text to a stream.
///
/// # Errors
///
/// The member is not a string.
pub fn read_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(match plain(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(plain) => plain,
    })
}

/// The same for an optional member.
///
/// # Errors
///
/// The member is present and not a string.
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
    fn only_characters_that_control_a_terminal_or_break_a_line_are_replaced() {
        for control in [
            "\0",
            "\n",
            "\r",
            "\t",
            "\u{1b}",
            "\u{7f}",
            "\u{85}",
            "\u{9b}",
            "\u{ad}",
            "\u{61c}",
            "\u{200b}",
            "\u{200e}",
            "\u{200f}",
            "\u{2028}",
            "\u{2029}",
            "\u{202a}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{3164}",
            "\u{feff}",
            "\u{fffb}",
            "\u{e0041}",
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
            "e\u{301} 👩\u{200d}🚀 ❤\u{fe0f}",
            "نمی\u{200c}دانم",
            "葛\u{e0100}城",
            "\u{fffd}",
            "\u{a0}",
        ] {
            assert!(matches!(plain(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }
}
