//! Host names and addresses in the `Host` header.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// A host name of a server, without a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostName(pub(super) Box<str>);

impl FromStr for HostName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_ascii_lowercase().into()))
    }
}

/// Whether a text is a host with or without a port (RFC 9110, section 7.2; RFC 3986, section
/// 3.2.2). Empty hosts are rejected, as in http URLs.
pub(super) fn is_authority(text: &str) -> bool {
    let host = name(text);
    let port = match &text[host.len()..] {
        "" => "",
        rest => rest.strip_prefix(':').unwrap_or("?"),
    };
    let is_port = port.is_empty() || is_digits(port) && port.parse::<u16>().is_ok();
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|it| it.parse::<Ipv6Addr>().is_ok()),
        None => is_registered_name(host),
    };
    is_host && is_port
}

pub(super) fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn is_registered_name(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (byte, after) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => {
                after
            }
            _ => return false,
        };
    }
    !text.is_empty()
}

/// The host without its port.
pub(super) fn name(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    &host[..end]
}

pub(super) fn is_local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || address(&name).is_some_and(|address| address.is_loopback())
}

/// Whether no public page can have this host. `.internal` and `.local` are never assigned to anyone
/// there (ICANN; RFC 6762, section 3), and nor is a domain of one label.
pub(super) fn is_private(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    is_local(&name)
        || address(&name).is_some()
        || !name.contains('.')
        || name.ends_with(".internal")
        || name.ends_with(".local")
}

/// The IP address in the host of a URL, if it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse().ok()
}
