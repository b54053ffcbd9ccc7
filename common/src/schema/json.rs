//! JSON documents that must be objects.

/// Parses a JSON object. serde also accepts a list as a struct, member by member, but a list has
/// another meaning.
///
/// # Errors
///
/// The document is not an object, or the reason and the position of the mismatch.
pub fn from_object<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    // The parser describes all other values that are not objects.
    if json.trim_ascii_start().starts_with('[') {
        return Err("it is a list and not an object".to_owned());
    }
    serde_json::from_str(json).map_err(|error| without_text(error.to_string()))
}

/// The JSON object of a value whose members have string keys.
pub fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("members have string keys")
}

/// Removes the unexpected text from an error description: descriptions are logged, and the text may
/// be a name or an address.
fn without_text(mut description: String) -> String {
    let begin = ["invalid type: string", "invalid value: string"];
    if let Some(begin) = begin.into_iter().find(|begin| description.starts_with(begin))
        && let Some(end) = description.rfind("\", expected")
    {
        description.replace_range(begin.len()..=end, "");
    }
    description
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_is_described_without_its_text() {
        #[derive(serde::Deserialize, Debug)]
        #[expect(dead_code, reason = "it is only parsed")]
        struct Account {
            balance: u64,
        }
        for text in ["anthony@server.com", "\\", "\\\", expected nothing"] {
            let json = serde_json::json!({ "balance": text });
            let error = from_object::<Account>(&json.to_string()).unwrap_err();
            let expected = "invalid type: string, expected u64 at line 1 column ";
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let error = from_object::<Account>(r#"{"balance":-5}"#).unwrap_err();
        assert!(error.contains("integer `-5`, expected u64"), "{error}");
    }
}
