//! The form in which entities are stored: `"<version> <JSON document>"`.

/// The version and the document of a stored entity; `None` if the text has another form.
pub fn parse(text: &str) -> Option<(u64, &str)> {
    let (version, document) = text.split_once(' ')?;
    Some((version.parse().ok()?, document))
}
