//! Queries and forms (`application/x-www-form-urlencoded`).

use std::fmt::Write as _;

/// Text as part of a query, a form or HTTP Basic credentials (RFC 6749, appendix B).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // A write to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// `name=value&…`.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    fields.join("&")
}

/// An address with these parameters added.
pub(super) fn with_query(address: &str, fields: &[(&str, &str)]) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{}", form(fields))
}

/// `scheme://host:port` of an address.
pub(super) fn origin(address: &str) -> Option<&str> {
    let host = address.find("://")? + 3;
    let end = address[host..].find(['/', '?', '#']).map_or(address.len(), |end| host + end);
    Some(&address[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_added_to_what_an_address_has() {
        let fields = [("scope", "openid orders:read"), ("state", "a&b=ü")];
        let query = "scope=openid%20orders%3Aread&state=a%26b%3D%C3%BC";
        assert_eq!(with_query("https://a/auth", &fields), format!("https://a/auth?{query}"));
        assert_eq!(
            with_query("https://a/auth?x=1", &fields),
            format!("https://a/auth?x=1&{query}")
        );
    }

    #[test]
    fn an_origin_ends_where_the_path_begins() {
        assert_eq!(origin("https://a:8443/realms/x?y"), Some("https://a:8443"));
        assert_eq!(origin("https://a"), Some("https://a"));
        assert_eq!(origin("https://a?b=//c"), Some("https://a"));
        assert_eq!(origin("a/b"), None);
    }
}
