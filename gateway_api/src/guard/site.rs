//! What pages of other sites may make a browser do here: nothing that changes something, and
//! nothing at all under a name that is not ours.

use std::{convert::Infallible, net::IpAddr, str::FromStr};

use common::problem::Problem;
use http::{HeaderMap, HeaderName, Method, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A name under which the gateway may be reached, without a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostName(Box<str>);

impl FromStr for HostName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_ascii_lowercase().into()))
    }
}

/// Under which names the gateway may be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hosts {
    /// Any.
    Any,
    /// Names and addresses of this machine itself.
    Local,
    /// These.
    Only(Vec<HostName>),
}

impl Hosts {
    /// Those that were told, or else what fits the address that is listened on: nobody reaches a
    /// loopback address by another name, but for a page whose name was made to point to it.
    pub(super) fn new(told: &[HostName], listens: IpAddr) -> Self {
        match told {
            [] if listens.is_loopback() => Self::Local,
            [] => Self::Any,
            [name] if &*name.0 == "*" => Self::Any,
            names => Self::Only(names.to_vec()),
        }
    }

    /// Refuses a request under another name (421). One without a name is of no browser.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(host) = host(headers) else { return Ok(()) };
        let name = name(host);
        let known = match self {
            Self::Any => true,
            Self::Local => is_local(name),
            Self::Only(names) => names.iter().any(|known| known.0.eq_ignore_ascii_case(name)),
        };
        if known {
            return Ok(());
        }
        Err(Problem::wrong_host("use a name of this host, or add this one to ALLOWED_HOSTS")
            .at("Host"))
    }
}

/// Whether a `Host` header names this machine from the inside.
pub(super) fn names_this_machine(headers: &HeaderMap) -> bool {
    host(headers).is_some_and(|host| is_local(name(host)))
}

/// Refuses what changes something and comes from a page of another site (403): browsers say so
/// (Fetch Metadata), older ones at least which page it is (`Origin`). Who says neither is no
/// browser, and nobody's cookies or place in the network are borrowed.
pub(super) fn check_origin(
    method: &Method,
    headers: &HeaderMap,
    behind_proxy: bool,
) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let refused = |field: &str| {
        let problem = Problem::cross_site("a page of another site may not change anything here");
        Err(problem.at(field))
    };
    match headers.get(SEC_FETCH_SITE).map(|value| value.as_bytes()) {
        Some(b"same-origin" | b"none") => return Ok(()),
        Some(_) => return refused("Sec-Fetch-Site"),
        None => {}
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let proxied = headers.get(X_FORWARDED_HOST).filter(|_| behind_proxy);
    let proxied = proxied.and_then(|host| host.to_str().ok());
    match (origin, proxied.or_else(|| host(headers))) {
        (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => refused("Origin"),
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    // One that is no text is no name that is known.
    headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?"))
}

/// The host without its port.
fn name(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.rfind(':').unwrap_or(host.len()),
    };
    host[..end].trim_end_matches('.')
}

fn is_local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    name == "localhost"
        || name.ends_with(".localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn what_changes_something_is_refused_to_pages_of_other_sites() {
        let home = ("host", "localhost:5000");
        for (pairs, field) in [
            (&[home][..], None),
            (&[home, ("sec-fetch-site", "same-origin")], None),
            (&[home, ("sec-fetch-site", "none")], None),
            (&[home, ("sec-fetch-site", "same-site")], Some("Sec-Fetch-Site")),
            (&[home, ("sec-fetch-site", "cross-site")], Some("Sec-Fetch-Site")),
            (&[home, ("sec-fetch-site", "?")], Some("Sec-Fetch-Site")),
            (&[home, ("origin", "http://localhost:5000")], None),
            (&[home, ("origin", "http://localhost:5001")], Some("Origin")),
            (&[home, ("origin", "http://evil.example")], Some("Origin")),
            (&[home, ("origin", "null")], Some("Origin")),
            (&[("origin", "http://localhost:5000")], Some("Origin")),
        ] {
            let headers = headers(pairs);
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let found = check_origin(&method, &headers, false).map_err(|it| it.field);
                assert_eq!(found.err().flatten().as_deref(), field, "{method} {pairs:?}");
            }
            assert_eq!(check_origin(&Method::GET, &headers, false), Ok(()));
        }
        let proxied = headers(&[
            ("host", "gateway:5000"),
            ("x-forwarded-host", "shop.example"),
            ("origin", "https://shop.example"),
        ]);
        assert!(check_origin(&Method::POST, &proxied, true).is_ok());
        assert!(check_origin(&Method::POST, &proxied, false).is_err());
    }

    #[test]
    fn a_loopback_address_is_not_reached_by_the_name_of_another_host() {
        let local = Hosts::new(&[], "127.0.0.1".parse().unwrap());
        let any = Hosts::new(&[], "0.0.0.0".parse().unwrap());
        let only = Hosts::new(&["Shop.example".parse().unwrap()], "0.0.0.0".parse().unwrap());
        for (host, locally, told) in [
            ("localhost:5000", true, false),
            ("LOCALHOST", true, false),
            ("app.localhost:5000", true, false),
            ("127.0.0.1:5000", true, false),
            ("127.1.2.3", true, false),
            ("[::1]:5000", true, false),
            ("[::1]", true, false),
            ("evil.example:5000", false, false),
            ("localhost.evil.example", false, false),
            ("192.168.1.7:5000", false, false),
            ("shop.example", false, true),
            ("shop.example.:443", false, true),
            ("", false, false),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(local.check(&headers).is_ok(), locally, "{host}");
            assert_eq!(only.check(&headers).is_ok(), told, "{host}");
            assert!(any.check(&headers).is_ok(), "{host}");
        }
        assert!(local.check(&HeaderMap::new()).is_ok());
    }
}
