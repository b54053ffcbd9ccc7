//! The admission of requests: they must be for this server, and not come from a page of another
//! site.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use super::{
    host_name::{HostName, is_authority, is_local, is_private, name},
    options::{Peer, ServerOptions},
};
use crate::http::{network::Network, problem::Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The accepted host names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Hosts {
    /// Any name.
    Any,
    /// Names and addresses of this machine.
    Local,
    /// Addresses, and names that no public page has: those of this machine, names without a dot,
    /// which containers have, and names in domains for private networks.
    Private,
    /// These names.
    Only(Vec<HostName>),
}

impl Hosts {
    /// The configured names, or the default for the address of the listener: only a page whose name
    /// was pointed to a loopback address would use another name for it. A port for a private
    /// network accepts both, because probes use the address.
    fn of(options: &ServerOptions, listens: IpAddr) -> Vec<Self> {
        let names = match options.allowed_hosts.as_slice() {
            [] => None,
            [name] if &*name.0 == "*" => Some(Self::Any),
            names => Some(Self::Only(names.to_vec())),
        };
        let usual = match (listens.is_loopback(), options.is_private) {
            (true, _) => Self::Local,
            (false, true) => Self::Private,
            (false, false) => Self::Any,
        };
        match names {
            Some(names) if options.is_private => vec![usual, names],
            Some(names) => vec![names],
            None => vec![usual],
        }
    }

    fn have(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        match self {
            Self::Any => true,
            Self::Local => is_local(name),
            Self::Private => is_private(name),
            Self::Only(names) => names.iter().any(|known| known.0.eq_ignore_ascii_case(name)),
        }
    }
}

/// The checks that every request passes first.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    hosts: Vec<Hosts>,
    trusted_proxies: Vec<Network>,
    has_pages: bool,
    is_private: bool,
}

impl Admission {
    /// The checks for a listener at this address.
    pub(super) fn new(options: &ServerOptions, listens: IpAddr) -> Self {
        Self {
            hosts: Hosts::of(options, listens),
            trusted_proxies: options.trusted_proxies.clone(),
            has_pages: options.has_pages,
            is_private: options.is_private,
        }
    }

    /// Checks a request. An absolute target (RFC 9112, section 3.2.2) takes precedence over the
    /// `Host` header, which is replaced by the target's host; the `X-Forwarded-Host` of a trusted
    /// proxy replaces the header, too.
    ///
    /// # Errors
    ///
    /// 501: the body has an unsupported coding. 400: the host is missing or malformed. 421: the
    /// request is for another host. 403: a page of another site made it.
    pub(super) fn check<B>(&self, request: &mut Request<B>, peer: Peer) -> Result<(), Problem> {
        check_coding(request.headers())?;
        let host = authority(request)?;
        let behind_proxy =
            self.trusted_proxies.iter().any(|network| network.contains(peer.address.ip()));
        // A trusted proxy has checked or set the name.
        let is_own = |host: &str| self.hosts.iter().any(|hosts| hosts.have(name(host)));
        let known = behind_proxy || host.as_deref().is_none_or(is_own);
        if !known {
            let detail = match (self.has_pages, self.is_private) {
                (true, _) => "use a name of this host, or add this one to ALLOWED_HOSTS",
                (_, true) => {
                    "use the address of this host, or add this name of it to OPS_ALLOWED_HOSTS"
                }
                _ => "use a name of this host",
            };
            return Err(Problem::wrong_host(detail).at("Host"));
        }
        check_origin(request.headers(), self.has_pages)?;
        let proxied = request.headers().get(X_FORWARDED_HOST).filter(|_| behind_proxy);
        let proxied = proxied.and_then(|host| host.to_str().ok()).filter(|host| is_authority(host));
        let target = host.filter(|_| request.uri().authority().is_some());
        if let Some(host) = proxied.or(target.as_deref()) {
            let host = HeaderValue::from_str(host).expect("an authority is plain");
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(())
    }
}

/// Whether the `Host` header of a request names this machine by a local name.
pub fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    host.is_some_and(|host| is_local(name(host).trim_end_matches('.')))
}

/// Refuses a body in another transfer coding than `chunked` alone (RFC 9112, section 6.1). hyper
/// itself refuses a body that is not framed by `chunked` at all.
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter().peekable();
    if codings.peek().is_none() {
        return Ok(());
    }
    let codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let codings: Vec<&[u8]> =
        codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()).collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if !codings.iter().all(is_chunked) {
        let detail = "send the body as it is: the only transfer coding here is chunked";
        return Err(Problem::unknown_coding(detail).at("Transfer-Encoding"));
    }
    if codings.len() > 1 {
        let detail = "a body is chunked once";
        return Err(Problem::bad_request(detail).at("Transfer-Encoding"));
    }
    Ok(())
}

/// The host, with its port, of the request (RFC 9112, section 3.2); `None` in HTTP/1.0.
fn authority<B>(request: &Request<B>) -> Result<Option<String>, Problem> {
    let refused = |detail: &str| Err(Problem::bad_request(detail).at("Host"));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return refused("send one Host header, not several");
    }
    if host.is_none() && request.version() >= Version::HTTP_11 {
        return refused("send the header Host");
    }
    let host = match host.map(HeaderValue::to_str) {
        None => None,
        Some(Ok(host)) if is_authority(host) => Some(host),
        Some(_) => return refused("a Host is a name or an address, and a port after a colon"),
    };
    match target(request.method(), request.uri()) {
        Ok(target) => Ok(target.or(host).map(str::to_owned)),
        Err(detail) => Err(Problem::bad_request(detail).at("(the request target)")),
    }
}

/// The host of an absolute target.
fn target<'a>(method: &Method, uri: &'a Uri) -> Result<Option<&'a str>, &'static str> {
    let Some(authority) = uri.authority() else { return Ok(None) };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err("only http and https are served here"),
        None if *method == Method::CONNECT => {}
        None => return Err("begin the path with a slash"),
    }
    if !is_authority(authority.as_str()) {
        return Err("its host is a name or an address, and a port after a colon");
    }
    Ok(Some(authority.as_str()))
}

/// Refuses requests by pages of other sites to a server without pages (403). Browsers report the origin of a
/// request in `Sec-Fetch-Site` (Fetch Metadata), older ones at least in `Origin`. A server with pages checks
/// requests with effects itself (tower-http's `csrf`), by the first of these headers: here it refuses a
/// second one.
fn check_origin(headers: &HeaderMap, has_pages: bool) -> Result<(), Problem> {
    let values = |name: &HeaderName| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let foreign = |site: &[u8]| !matches!(site, b"same-origin" | b"none");
    let is_browser = !has_pages && headers.contains_key(header::ORIGIN);
    let field = if values(&SEC_FETCH_SITE).any(|site| !has_pages && foreign(site)) {
        "Sec-Fetch-Site"
    } else if is_browser {
        "Origin"
    } else if values(&SEC_FETCH_SITE).count() > 1 || values(&header::ORIGIN).count() > 1 {
        let detail = "send Origin and Sec-Fetch-Site once";
        return Err(Problem::cross_site(detail));
    } else {
        return Ok(());
    };
    Err(Problem::cross_site("pages are not served here").at(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENS: [&str; 2] = ["127.0.0.1", "0.0.0.0"];

    fn admission(allowed: &[&str], listens: &str, has_pages: bool) -> Admission {
        let allowed: Vec<HostName> = allowed.iter().map(|name| name.parse().unwrap()).collect();
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let options = ServerOptions {
            allowed_hosts: allowed,
            trusted_proxies,
            has_pages,
            ..ServerOptions::default()
        };
        Admission::new(&options, listens.parse().unwrap())
    }

    fn peer(address: &str) -> Peer {
        Peer { address: (address.parse::<IpAddr>().unwrap(), 1).into(), tls: false }
    }

    fn request(
        method: Method,
        target: &str,
        version: Version,
        headers: &[(&'static str, &str)],
    ) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().unwrap();
        *request.version_mut() = version;
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        request
    }

    fn status(admission: &Admission, mut request: Request<()>) -> u16 {
        admission
            .check(&mut request, peer("192.0.2.1"))
            .map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn a_server_without_pages_refuses_requests_of_pages() {
        let site = |value| ("sec-fetch-site", value);
        for (pairs, field) in [
            (&[][..], None),
            (&[site("same-origin")], None),
            (&[site("none")], None),
            (&[site("same-site")], Some("Sec-Fetch-Site")),
            (&[site("cross-site")], Some("Sec-Fetch-Site")),
            (&[site("?")], Some("Sec-Fetch-Site")),
            (&[site("none"), site("cross-site")], Some("Sec-Fetch-Site")),
            (&[("origin", "http://localhost:5001")], Some("Origin")),
            (&[("origin", "http://evil.example")], Some("Origin")),
            (&[("origin", "null")], Some("Origin")),
        ] {
            let check = |method: &Method, has_pages| {
                let mut request = request(method.clone(), "/", Version::HTTP_10, pairs);
                let admission = admission(&[], "127.0.0.1", has_pages);
                let checked = admission.check(&mut request, peer("127.0.0.1"));
                checked.map_err(|it| (it.status, it.field.unwrap_or_default().into_string()))
            };
            let refused = match field {
                Some(field) => Err((403, field.to_owned())),
                None => Ok(()),
            };
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                assert_eq!(check(&method, false), refused, "{method} {pairs:?}");
                // tower-http checks one value of each.
                let passes = pairs.len() < 2;
                assert_eq!(check(&method, true).is_ok(), passes, "{method} {pairs:?}");
            }
        }
    }

    #[test]
    fn the_host_is_the_one_that_a_trusted_proxy_forwards() {
        let proxied = [("host", "gateway:5000"), ("x-forwarded-host", "shop.example")];
        for (from, host) in [("10.1.2.3", "shop.example"), ("192.0.2.1", "gateway:5000")] {
            let mut request = request(Method::POST, "/", Version::HTTP_11, &proxied);
            admission(&[], "0.0.0.0", true).check(&mut request, peer(from)).unwrap();
            assert_eq!(request.headers()[header::HOST], host, "{from}");
        }
    }

    #[test]
    fn an_operations_port_accepts_addresses_and_names_of_private_networks() {
        let options = |allowed: &[&str]| ServerOptions {
            allowed_hosts: allowed.iter().map(|name| name.parse().unwrap()).collect(),
            is_private: true,
            ..ServerOptions::default()
        };
        let [loopback, all] = LISTENS.map(|it| Admission::new(&options(&[]), it.parse().unwrap()));
        let named = Admission::new(&options(&["orders.example"]), "0.0.0.0".parse().unwrap());
        let any = Admission::new(&options(&["*"]), "0.0.0.0".parse().unwrap());
        for (host, on_loopback, on_all, by_name) in [
            ("localhost:9101", 200, 200, 200),
            ("127.0.0.1:9101", 200, 200, 200),
            ("10.1.2.3:9101", 421, 200, 200),
            ("[fd00::1]:9101", 421, 200, 200),
            ("order_service:9101", 421, 200, 200),
            ("orders.default.svc.cluster.local", 421, 200, 200),
            ("Orders.INTERNAL.", 421, 200, 200),
            ("orders.example:9101", 421, 421, 200),
            ("evil.example", 421, 421, 421),
            ("10.1.2.3.evil.example", 421, 421, 421),
            ("local.evil.example", 421, 421, 421),
        ] {
            let of = |admission| {
                status(admission, request(Method::GET, "/", Version::HTTP_11, &[("host", host)]))
            };
            let found = (of(&loopback), of(&all), of(&named), of(&any));
            assert_eq!(found, (on_loopback, on_all, by_name, 200), "{host}");
        }
    }

    #[test]
    fn a_loopback_address_is_not_reached_by_the_name_of_another_host() {
        let [local, any] = LISTENS.map(|listens| admission(&[], listens, true));
        let only = admission(&["Shop.example"], "0.0.0.0", true);
        for (host, locally, configured) in [
            ("localhost:5000", 200, 421),
            ("LOCALHOST", 200, 421),
            ("localhost:", 200, 421),
            ("app.localhost:5000", 200, 421),
            ("127.0.0.1:5000", 200, 421),
            ("127.1.2.3", 200, 421),
            ("[::1]:5000", 200, 421),
            ("[::1]", 200, 421),
            ("evil.example:5000", 421, 421),
            ("localhost.evil.example", 421, 421),
            ("192.168.1.7:5000", 421, 421),
            ("shop.example", 421, 200),
            ("shop.example.:443", 421, 200),
        ] {
            let with = |target: &str, host: &str| {
                request(Method::GET, target, Version::HTTP_11, &[("host", host)])
            };
            assert_eq!(status(&local, with("/", host)), locally, "{host}");
            assert_eq!(status(&only, with("/", host)), configured, "{host}");
            assert_eq!(status(&any, with("/", host)), 200, "{host}");
            // The host of an absolute target takes precedence over the header.
            let target = format!("http://{host}/");
            assert_eq!(status(&local, with(&target, "localhost")), locally, "{target}");
            assert_eq!(status(&local, with(&target, "evil.example")), locally, "{target}");
        }
        // A request from a trusted proxy was addressed to the proxy's name.
        let mut proxied = request(Method::GET, "/", Version::HTTP_11, &[("host", "evil.example")]);
        assert_eq!(local.check(&mut proxied, peer("10.1.2.3")), Ok(()));
        let mut absolute = request(
            Method::GET,
            "http://localhost:1/x",
            Version::HTTP_11,
            &[("host", "a.example")],
        );
        assert_eq!(local.check(&mut absolute, peer("127.0.0.1")), Ok(()));
        assert_eq!(absolute.headers()[header::HOST], "localhost:1");
    }

    #[test]
    fn a_malformed_missing_or_repeated_host_is_a_400_at_any_address() {
        for listens in LISTENS {
            let admission = admission(&[], listens, true);
            let of = |version, target: &str, headers: &[(&'static str, &str)]| {
                status(&admission, request(Method::GET, target, version, headers))
            };
            assert_eq!(of(Version::HTTP_11, "/", &[]), 400);
            assert_eq!(of(Version::HTTP_11, "http://localhost/", &[]), 400);
            assert_eq!(of(Version::HTTP_10, "/", &[]), 200);
            let twice = [("host", "localhost"), ("host", "localhost")];
            assert_eq!(of(Version::HTTP_11, "/", &twice), 400);
            for host in [
                "",
                " ",
                ":5000",
                "localhost:x",
                "localhost:-1",
                "localhost:+80",
                "localhost:65536",
                "localhost:80:80",
                "a@localhost",
                "localhost/",
                "http://localhost",
                "localhost?x",
                "localhost#x",
                "local host",
                "[::1",
                "::1",
                "[localhost]",
                "[::1]x",
                "[::1%25lo]",
                "localhost%0",
                "localhost%zz",
                "localhost\\",
                "<localhost>",
                "ü.localhost",
            ] {
                assert_eq!(of(Version::HTTP_11, "/", &[("host", host)]), 400, "{host:?}");
                assert_eq!(of(Version::HTTP_10, "/", &[("host", host)]), 400, "{host:?}");
            }
            for target in [
                "http://a@localhost/",
                "http://localhost:65536/",
                "ftp://localhost/",
                "localhost:80",
            ] {
                assert_eq!(of(Version::HTTP_11, target, &[("host", "localhost")]), 400, "{target}");
            }
        }
    }

    #[test]
    fn a_body_is_chunked_once_and_not_encoded_otherwise() {
        let admission = admission(&[], "127.0.0.1", true);
        for (codings, wanted) in [
            (&[][..], 200),
            (&["chunked"], 200),
            (&["Chunked"], 200),
            (&[", chunked ,"], 200),
            (&["gzip, chunked"], 501),
            (&["gzip", "chunked"], 501),
            (&["chunked, gzip"], 501),
            (&["identity, chunked"], 501),
            (&["chunked;x=y"], 501),
            (&["x"], 501),
            (&["chunked, chunked"], 400),
            (&["chunked", "chunked"], 400),
        ] {
            let mut headers = vec![("host", "localhost")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            let request = request(Method::POST, "/", Version::HTTP_11, &headers);
            assert_eq!(status(&admission, request), wanted, "{codings:?}");
        }
    }
}
