//! JSON documents that have to be objects.

/// Parses a JSON object. serde takes a list for a struct, member by member; the writer of a list means
/// something else.
///
/// # Errors
///
/// It is not an object, or says what does not fit and where.
pub fn from_object<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    // The parser describes everything else that is no object.
    if json.trim_ascii_start().starts_with('[') {
        return Err("it is a list and not an object".to_owned());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}
