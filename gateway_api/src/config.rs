//! Configuration of the gateway: command-line options and environment variables.

use std::net::SocketAddr;

use clap::Parser;
use common::{
    config_error::ConfigError,
    contract::streams::topics,
    http::{backlog::MaxBacklog, server::tls::TlsConfig},
    process::{config::CommonConfig, memory_watch::MaxMemory, service::ServiceConfig},
    schema::stream::Topic,
};

use crate::{
    access::{config::OidcConfig, limits::config::LimitsConfig},
    upstream::order_client::OrderServiceUrl,
};

/// Accepts orders over HTTP and serves the report.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Address and port for clients
    #[arg(long, env, default_value = "127.0.0.1:5000")]
    pub(crate) http_addr: SocketAddr,
    /// Address and port of /healthz, /readyz and /metrics
    #[arg(long, env, default_value = "127.0.0.1:9100")]
    ops_addr: SocketAddr,
    /// Addresses of the instances of order_service, separated by commas
    #[arg(long, env, value_delimiter = ',', default_value = "http://127.0.0.1:5001")]
    pub(crate) order_service_url: Vec<OrderServiceUrl>,
    /// Load the demo customers and products at the start if there is no data yet: true or false
    #[arg(
        long,
        env,
        default_value = "false",
        value_parser = clap::value_parser!(bool),
        action = clap::ArgAction::Set
    )]
    pub(crate) seed_demo_data: bool,
    /// Maximum backlog of a service on a stream, in entries; beyond it, definitions, restocks and top-ups
    /// for this service are refused; or off
    #[arg(long, env, default_value = "10000")]
    pub(crate) max_command_backlog: MaxBacklog,
    /// Maximum use of a Redis' maxmemory, in percent; beyond it, commands that add data are refused; or off
    #[arg(long, env, default_value = "90")]
    pub(crate) max_memory_percent: MaxMemory,
    #[command(flatten)]
    pub(crate) tls: TlsConfig,
    #[command(flatten)]
    pub(crate) limits: LimitsConfig,
    #[command(flatten)]
    pub(crate) oidc: OidcConfig,
    #[command(flatten)]
    common: CommonConfig,
}

impl ServiceConfig for Config {
    fn common(&self) -> &CommonConfig {
        &self.common
    }

    fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    fn topics() -> Vec<Topic> {
        topics::ALL.into()
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.tls.load()?;
        self.oidc.check(self.http_addr)
    }
}
