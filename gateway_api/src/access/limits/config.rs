//! Configuration of the limits.

use clap::Args;
use common::http::{network::Network, server::HostName};

use super::{forwarded::ForwardedHeader, rate::Rate};

/// Configuration of the limits.
#[derive(Args, Clone, Debug)]
pub struct LimitsConfig {
    /// How many requests are worked on at once, until their answer is sent; more are turned away
    /// (503). Each subject and each address (IPv6: /64; loopback is exempt) may have a quarter of
    /// them (429)
    #[arg(long, env, default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) max_in_flight: u32,
    /// How much memory large answers may take that clients have not taken yet, in bytes; more are
    /// refused (503). One subject or address may have a quarter of it (429)
    #[arg(long, env, default_value = "67108864", value_parser = clap::value_parser!(u64).range(8_388_608..=1_099_511_627_776))]
    pub(super) max_unsent_bytes: u64,
    /// How often one address (IPv6: /64) may ask: 100/s, 100/s:500 with how many at once, or off.
    /// Loopback is exempt
    #[arg(long, env, default_value = "100/s:500")]
    pub(super) rate_per_address: Rate,
    /// How often one authenticated subject may ask, wherever from
    #[arg(long, env, default_value = "100/s:500")]
    pub(super) rate_per_subject: Rate,
    /// How much one address may change: what is no GET costs 1, and 1 more for each 256 bytes of its
    /// body [default: 50/s:500, or off if RATE_PER_ADDRESS is]
    #[arg(long, env)]
    pub(super) write_rate_per_address: Option<Rate>,
    /// How much one authenticated subject may change [default: 50/s:500, or off if RATE_PER_SUBJECT is]
    #[arg(long, env)]
    pub(super) write_rate_per_subject: Option<Rate>,
    /// The most connections of one address (IPv6: /64), 0 for any number; loopback and trusted
    /// proxies are exempt
    #[arg(long, env, default_value = "256")]
    connections_per_address: usize,
    /// Addresses and networks (10.0.0.0/8) of proxies that are believed, separated by commas
    #[arg(long, env, value_delimiter = ',')]
    pub(super) trusted_proxies: Vec<Network>,
    /// The header in which they say whom they heard from
    #[arg(long, env, value_enum, default_value = "x-forwarded-for")]
    pub(super) forwarded_header: ForwardedHeader,
    /// Names by which clients may reach the gateway, separated by commas, or * [default: those of
    /// this machine if HTTP_ADDR is loopback, else *]
    #[arg(long, env, value_delimiter = ',')]
    allowed_hosts: Vec<HostName>,
}

impl LimitsConfig {
    /// The most connections of one address.
    pub fn connections_per_address(&self) -> usize {
        self.connections_per_address
    }

    /// Networks that are exempt from that.
    pub fn exempt(&self) -> Vec<Network> {
        Network::LOOPBACK.into_iter().chain(self.trusted_proxies.iter().copied()).collect()
    }

    /// Proxies whose forwarding header is trusted.
    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Names by which clients may reach the gateway, if they are configured.
    pub fn allowed_hosts(&self) -> &[HostName] {
        &self.allowed_hosts
    }
}
