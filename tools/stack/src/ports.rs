//! Free TCP ports on the loopback interface.
//!
//! Not by binding port 0: those numbers come from the range from which outgoing connections get theirs, so a
//! service that is killed and restarted under load would now and then find its port taken by a client. These lie
//! below that range, and each process begins at a place of its own so that tests side by side do not meet.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::Error;

const FIRST: u32 = 10_000;
/// Linux' outgoing connections begin here (net.ipv4.ip_local_port_range), other systems' higher.
const END: u32 = 32_768;
/// Neighbouring process ids begin this far apart.
const STRIDE: u32 = 128;

static HANDED_OUT: AtomicU32 = AtomicU32::new(0);

/// A port nobody listens on. No two calls in one process return the same one until the range is used up.
#[must_use]
pub fn free() -> u16 {
    loop {
        let step = HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(STRIDE).wrapping_add(step) % (END - FIRST);
        let port = u16::try_from(FIRST + place).unwrap_or(u16::MAX);
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

/// The port so many after `first`, if it can be had.
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
