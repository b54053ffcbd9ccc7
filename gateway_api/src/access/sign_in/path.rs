//! The target of a browser after sign-in: always a path of this gateway.

use url::form_urlencoded::byte_serialize;

/// The path for browsers that requested none.
pub(super) const DEFAULT_PATH: &str = "/report";
/// The maximum length of a path, which is stored in a cookie.
const PATH_LIMIT: usize = 1_000;

/// A path, with or without a query, that no browser interprets as another host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LocalPath(String);

impl LocalPath {
    /// The requested path, or [`DEFAULT_PATH`] if it is not valid.
    ///
    /// Browsers interpret `//host` and `/\host` as another host, and ignore tabs and line breaks; so a
    /// second slash, backslashes and all characters except printable ASCII are invalid.
    pub(super) fn or_home(wanted: Option<&str>) -> Self {
        let fits = |path: &&str| {
            path.len() <= PATH_LIMIT
                && path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
                // Sign-in must not lead to sign-in again.
                && !["/sign-in", "/sign-out", "/signed-out"].iter().any(|it| path.starts_with(it))
        };
        Self(wanted.filter(fits).unwrap_or(DEFAULT_PATH).to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The path of the sign-in page that leads to this path.
pub(crate) fn sign_in_path(wanted: &str) -> String {
    let wanted = LocalPath::or_home(Some(wanted));
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    format!("/sign-in?then={}", encode(wanted.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_only_to_paths_of_this_host() {
        for path in ["/", "/report", "/report?customer_id=101&status=", "/order/1?a=//b", "/a@b:1"]
        {
            assert_eq!(LocalPath::or_home(Some(path)).as_str(), path);
        }
        for elsewhere in [
            "",
            "report",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/report\\x",
            "https://evil.example/",
            "https:evil.example",
            "javascript:alert(1)",
            "@evil.example",
            ".evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " /report",
            "/re port",
            "/r\u{0}",
            "/r\r\nSet-Cookie: a=b",
            "/ü",
            "/sign-in?then=/sign-in",
            "/sign-out",
        ] {
            assert_eq!(LocalPath::or_home(Some(elsewhere)).as_str(), DEFAULT_PATH, "{elsewhere:?}");
        }
        let long = format!("/{}", "x".repeat(PATH_LIMIT));
        assert_eq!(LocalPath::or_home(Some(&long)).as_str(), DEFAULT_PATH);
        assert_eq!(LocalPath::or_home(None).as_str(), DEFAULT_PATH);
    }

    #[test]
    fn the_wanted_path_survives_the_way_to_sign_in() {
        let url = sign_in_path("/report?customer_id=101&status=");
        assert_eq!(url, "/sign-in?then=%2Freport%3Fcustomer_id%3D101%26status%3D");
    }
}
