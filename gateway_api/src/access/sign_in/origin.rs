//! The gateway's own address for browsers, and the check that one of its pages made a request.

use std::str::FromStr;

use common::http::problem::Problem;
use http::{HeaderMap, header};
use url::Url;

use crate::access::tokens::fetch::{has_extras, is_loopback};

/// The address of the gateway for browsers: `https://host[:port]`, or `http` on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PublicUrl {
    origin: String,
    secure: bool,
}

impl PublicUrl {
    /// Whether cookies can be limited to TLS. Browsers drop such cookies without TLS, most of them on
    /// loopback as well.
    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The address of a path.
    pub(super) fn of(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Checks that a page of this gateway made the request.
    ///
    /// Browsers report the origin of a request in `Sec-Fetch-Site`, which no page can change; older ones
    /// report it in `Origin`. The cookie alone is no proof: `SameSite=Lax` compares sites, and all ports of
    /// a host are one site.
    ///
    /// # Errors
    ///
    /// 403: another page made the request, or its origin is unknown.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let values = |name| headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
        let mut sites = values("sec-fetch-site").peekable();
        let own = if sites.peek().is_some() {
            sites.all(|site| site == b"same-origin")
        } else {
            let mut origins = values(header::ORIGIN.as_str()).peekable();
            origins.peek().is_some() && origins.all(|origin| origin == self.origin.as_bytes())
        };
        if own {
            return Ok(());
        }
        Err(Problem::cross_site(
            "a write with the cookie of a signed-in browser must come from a page of this system; \
             programs send a bearer token instead",
        ))
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            "expected https://host or https://host:port without a path, or http://… on this machine"
                .to_owned()
        };
        let url = Url::parse(text).map_err(|_| form())?;
        let secure = match url.scheme() {
            _ if has_extras(&url) || url.path() != "/" || url.query().is_some() => Err(form()),
            "https" => Ok(true),
            "http" if is_loopback(&url) => Ok(false),
            _ => Err(form()),
        };
        // The form in which browsers write it.
        Ok(Self { secure: secure?, origin: url.origin().ascii_serialization() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_address_is_an_origin() {
        for (text, origin, secure) in [
            ("https://orders.example", "https://orders.example", true),
            ("https://Orders.Example:443/", "https://orders.example", true),
            ("https://orders.example:8443", "https://orders.example:8443", true),
            ("http://localhost:5000", "http://localhost:5000", false),
            ("http://127.0.0.1:80/", "http://127.0.0.1", false),
            ("http://[::1]:5000", "http://[::1]:5000", false),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.of(""), url.is_secure()), (origin.to_owned(), secure), "{text}");
        }
        for wrong in [
            "",
            "orders.example",
            "http://orders.example",
            "ftp://localhost",
            "https://orders.example/path",
            "https://orders.example?x",
            "https://orders.example#x",
            "https://a@orders.example",
            "/",
        ] {
            assert!(wrong.parse::<PublicUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_pages_of_the_same_origin_change_something() {
        let url: PublicUrl = "https://orders.example".parse().unwrap();
        for (headers, passes) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("origin", "https://orders.example")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")], true),
            (&[], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://orders.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "https://orders.example.evil.example")], false),
            (&[("origin", "http://orders.example")], false),
            (&[("origin", "https://orders.example:8443")], false),
            (&[("origin", "https://orders.example"), ("origin", "https://evil.example")], false),
            (&[("referer", "https://orders.example/report")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let checked = url.check(&map).map_err(|problem| (problem.status, problem.kind));
            let refused = Err((403, "urn:problem-type:orders:cross-site".into()));
            assert_eq!(checked, if passes { Ok(()) } else { refused }, "{headers:?}");
        }
    }
}
