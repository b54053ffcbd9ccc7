//! Configuration of the limits.

use clap::Args;
use common::http::{network::Network, server::HostName};

use super::{forwarded::ForwardedHeader, rate::Rate};

/// Configuration of the limits.
#[derive(Args, Clone, Debug)]
pub struct LimitsConfig {
    /// Maximum number of requests in flight, until their response is sent; more are refused (503). Each
    /// subject and each address (IPv6: /64; loopback is exempt) may use at most a quarter of these (429)
    #[arg(long, env, default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) max_in_flight: u32,
    /// Memory limit in bytes of large responses that clients have not received yet; more are refused
    /// (503). Each subject and each address may use at most a quarter (429)
    #[arg(
        long,
        env,
        default_value = "67108864",
        value_parser = clap::value_parser!(u64).range(8_388_608..=1_099_511_627_776)
    )]
    pub(super) max_unsent_bytes: u64,
    /// Request rate of each address (IPv6: /64): 100/s, 100/s:500 with a burst of 500, or off; loopback is
    /// exempt
    #[arg(long, env, default_value = "100/s:500")]
    pub(super) rate_per_address: Rate,
    /// Request rate of each authenticated subject, over all its addresses
    #[arg(long, env, default_value = "100/s:500")]
    pub(super) rate_per_subject: Rate,
    /// Write rate of each address: a request other than GET costs 1, and 1 more for each 256 bytes of its
    /// body [default: 50/s:500, or off if RATE_PER_ADDRESS is off]
    #[arg(long, env)]
    pub(super) write_rate_per_address: Option<Rate>,
    /// Write rate of each authenticated subject [default: 50/s:500, or off if RATE_PER_SUBJECT is off]
    #[arg(long, env)]
    pub(super) write_rate_per_subject: Option<Rate>,
    /// Maximum number of connections of one address (IPv6: /64), 0 for no limit; loopback and trusted proxies
    /// are exempt
    #[arg(long, env, default_value = "256")]
    connections_per_address: usize,
    /// Addresses and networks (10.0.0.0/8) of proxies whose forwarding header is trusted, separated by
    /// commas
    #[arg(long, env, value_delimiter = ',')]
    pub(super) trusted_proxies: Vec<Network>,
    /// Header in which trusted proxies report the address of the client
    #[arg(long, env, value_enum, default_value = "x-forwarded-for")]
    pub(super) forwarded_header: ForwardedHeader,
    /// Accepted host names of requests, separated by commas, or * [default: the names of this machine if
    /// HTTP_ADDR is loopback, else *]
    #[arg(long, env, value_delimiter = ',')]
    allowed_hosts: Vec<HostName>,
}

impl LimitsConfig {
    /// The maximum number of connections of one address.
    pub fn connections_per_address(&self) -> usize {
        self.connections_per_address
    }

    /// Networks that are exempt from this limit.
    pub fn exempt(&self) -> Vec<Network> {
        Network::LOOPBACK.into_iter().chain(self.trusted_proxies.iter().copied()).collect()
    }

    /// Proxies whose forwarding header is trusted.
    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Accepted host names, if configured.
    pub fn allowed_hosts(&self) -> &[HostName] {
        &self.allowed_hosts
    }
}
