//! Free TCP ports on the loopback interface.
//!
//! Binding port 0 is unsuitable: the kernel takes those ports from the range of outgoing
//! connections, so a service that is restarted under load would occasionally find its port taken by
//! a client. These ports lie below that range, and each process starts at a different one, so that
//! parallel tests do not collide.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::Error;

const FIRST_PORT: u32 = 10_000;
/// The start of the range of outgoing connections on Linux (net.ipv4.ip_local_port_range); other
/// systems start higher.
const END_PORT: u32 = 32_768;
/// The distance between the first ports of neighbouring process ids.
const PORTS_PER_PROCESS: u32 = 128;

static HANDED_OUT: AtomicU32 = AtomicU32::new(0);

/// A port without a listener. No two calls in one process return the same one until the range is
/// used up.
#[must_use]
pub fn free() -> u16 {
    loop {
        let step = HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(PORTS_PER_PROCESS).wrapping_add(step)
            % (END_PORT - FIRST_PORT);
        let port = u16::try_from(FIRST_PORT + offset).unwrap_or(u16::MAX);
        if is_free(port) {
            return port;
        }
    }
}

/// Whether a server could listen on this port of 127.0.0.1 now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The port at this distance from `first`, if it exists.
pub(crate) fn nth_after(first: u16, further: usize) -> Result<u16, Error> {
    let port = u16::try_from(further).ok().and_then(|further| first.checked_add(further));
    match port {
        Some(port) if is_free(port) => Ok(port),
        Some(port) => Err(Error::PortTaken { port }),
        None => {
            let no_such_port = Error::io(format!("count {further} ports on from {first}"));
            Err(no_such_port(io::ErrorKind::InvalidInput.into()))
        }
    }
}
