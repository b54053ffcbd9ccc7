//! The client's address of a request that arrives through proxies.

use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use common::http::network::Network;
use http::{HeaderMap, HeaderName, header};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which proxies report the address of the client. Only one is trusted: a proxy that writes
/// one of them passes on the client's value of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ForwardedHeader {
    /// `X-Forwarded-For`, which most proxies write.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The client's address. Each trusted proxy appended the address of its peer. The last address that does not
/// belong to a trusted proxy is the client's; the client may have invented the ones before.
pub(super) fn address(
    peer: IpAddr,
    headers: &HeaderMap,
    header: ForwardedHeader,
    trusted: &[Network],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    for address in forwarded(headers, header).into_iter().rev() {
        // Addresses before an invalid one are not trusted.
        let Some(address) = address else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// The addresses in the header, in their order.
fn forwarded(headers: &HeaderMap, header: ForwardedHeader) -> Vec<Option<IpAddr>> {
    let items = |name| {
        let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
        values.flat_map(|value| value.split(',')).collect::<Vec<&str>>()
    };
    if header == ForwardedHeader::XForwardedFor {
        return items(X_FORWARDED_FOR).into_iter().map(node).collect();
    }
    let is_for = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().to_owned())
    };
    let items = items(header::FORWARDED).into_iter();
    items.map(|item| item.split(';').find_map(is_for).and_then(|value| node(&value))).collect()
}

/// An address with or without port, brackets and quotes.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = ["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        for (peer, name, value, client) in [
            ("127.0.0.1", "x-forwarded-for", "203.0.113.7", "203.0.113.7"),
            ("203.0.113.1", "x-forwarded-for", "203.0.113.7", "203.0.113.1"),
            ("127.0.0.1", "x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
            ("127.0.0.1", "x-forwarded-for", "1.1.1.1, nonsense, 10.1.2.3", "10.1.2.3"),
            ("127.0.0.1", "x-forwarded-for", "10.1.2.3, 10.1.2.4", "10.1.2.3"),
            ("127.0.0.1", "x-forwarded-for", "203.0.113.7:4711", "203.0.113.7"),
            ("127.0.0.1", "x-forwarded-for", "2001:db8::1", "2001:db8::1"),
            ("127.0.0.1", "x-forwarded-for", "", "127.0.0.1"),
            ("127.0.0.1", "forwarded", "for=1.1.1.1, for=203.0.113.7;proto=https", "203.0.113.7"),
            ("127.0.0.1", "forwarded", "proto=https;For=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("127.0.0.1", "forwarded", "for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("127.0.0.1", "forwarded", "for=unknown", "127.0.0.1"),
            ("127.0.0.1", "x-real-ip", "203.0.113.7", "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            let (header, other) = match name {
                "forwarded" => (ForwardedHeader::Forwarded, X_FORWARDED_FOR),
                _ => (ForwardedHeader::XForwardedFor, header::FORWARDED),
            };
            // The value of the other header is ignored.
            let made_up = if other == X_FORWARDED_FOR { "9.9.9.9" } else { "for=9.9.9.9" };
            headers.insert(other, made_up.parse().unwrap());
            let found = address(peer.parse().unwrap(), &headers, header, &trusted);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {name}: {value}");
        }
    }
}
