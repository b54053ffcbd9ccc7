//! The form in which entities are stored: `"<version> <JSON document>"`.

use std::fmt;

/// The stored text of a document with this version.
pub fn write(version: u64, document: impl fmt::Display) -> String {
    format!("{version} {document}")
}

/// The beginning of the stored text of every document with this version, and of no other one.
pub(crate) fn prefix(version: u64) -> String {
    write(version, "")
}

/// The version and the document of a stored entity; `None` if the text has another form.
pub fn parse(text: &str) -> Option<(u64, &str)> {
    let (version, document) = text.split_once(' ')?;
    Some((version.parse().ok()?, document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_entity_is_parsed_to_its_version_and_document() {
        let document = r#"{"name":"two words"}"#;
        let text = write(12, document);
        assert_eq!(text, r#"12 {"name":"two words"}"#);
        assert_eq!(parse(&text), Some((12, document)));
        assert!(text.starts_with(&prefix(12)) && !text.starts_with(&prefix(1)));
        assert!(parse("12").is_none() && parse(document).is_none());
    }
}
