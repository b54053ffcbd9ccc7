//! The settings of a server, and the other end of a connection.

use std::{net::SocketAddr, time::Duration};

use axum::{body::Body, response::IntoResponse as _};
use http::{Response, request::Parts};

use super::{host_name::HostName, tls::Tls};
use crate::http::{network::Network, problem::Problem};

/// The maximum number of connections.
pub(super) const CONNECTIONS: usize = 4_096;
/// The time limit for the head of a request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The default time for which an idle connection is kept open. Load balancers and proxies commonly
/// reuse connections for 60 s; if the server closes one earlier, a request may be lost.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The settings of a server.
#[derive(Debug)]
pub struct ServerOptions {
    /// The TLS settings; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// The maximum number of connections. A further connection replaces the least useful one.
    pub connections: usize,
    /// The maximum number of connections per client, an IPv4 address or an IPv6 /64; 0 for no
    /// limit. A further connection replaces the client's least useful one.
    pub connections_per_client: usize,
    /// Clients without that limit.
    pub exempt: Vec<Network>,
    /// The time limit for a client that reads nothing of its answer.
    pub write_timeout: Duration,
    /// The time limit for the head of a request.
    pub head_timeout: Duration,
    /// How long an idle connection is kept open.
    pub keep_alive: Duration,
    /// The host names that requests may use, or `*`. The default is the names of this machine on a
    /// loopback address, and any name elsewhere.
    pub allowed_hosts: Vec<HostName>,
    /// Whether the server is for a private network: on an address that is not loopback, the default
    /// then is addresses and names of private networks, and the names above are additional ones.
    pub is_private: bool,
    /// Proxies whose forwarding headers are trusted.
    pub trusted_proxies: Vec<Network>,
    /// Whether the server has pages, which other sites may link to: then only requests with effects
    /// are refused to other sites.
    pub has_pages: bool,
    /// The response to a request that is refused here.
    pub refuse: fn(Problem, &Parts, Peer) -> Response<Body>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            connections: CONNECTIONS,
            connections_per_client: 0,
            exempt: Vec::new(),
            write_timeout: Duration::from_secs(30),
            head_timeout: HEADER_TIMEOUT,
            keep_alive: KEEP_ALIVE,
            allowed_hosts: Vec::new(),
            is_private: false,
            trusted_proxies: Vec::new(),
            has_pages: false,
            refuse: |problem, _, _| problem.into_response(),
        }
    }
}

/// The other end of a connection: an extension of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The address of the client, or of a proxy in between.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}
