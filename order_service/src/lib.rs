//! The order service: stores orders and moves them from status to status.
//!
//! Owns: orders, under the tag `{order}`.
//! Consumes: orders and actions from the gateway, by HTTP; `events:{inventory}_check`,
//! `events:{account}_wallet`, `events:{inventory}_confirmed`, `events:{account}_confirmed`.
//! Emits: `events:{order}_created`, `events:{order}_cancelled`, `events:{order}_shipped`,
//! `events:{order}_completed`, `events:{order}_unpaid`, `events:{order}_updated`.

pub mod api;

pub mod gateway_secret;
pub mod history;
mod memory;
pub mod order;
pub mod progress;
mod resend;
mod sampler;

use std::{net::SocketAddr, sync::Arc};

use clap::Parser;
use common::{
    config_error::ConfigError,
    connection::shared_link::SharedLink,
    consumer::Subscription,
    contract::{
        events::{PaymentConfirmed, StockConfirmed},
        streams::{self, topics},
    },
    http::backlog::MaxBacklog,
    process::{
        auth::AuthConfig,
        config::CommonConfig,
        memory_watch::{MaxMemory, MemoryWatch},
        service::{ServiceConfig, ServiceContext},
    },
    schema::stream::Topic,
};
use prometheus_client::metrics::gauge::Gauge;

use self::{
    api::Api,
    gateway_secret::GatewaySecrets,
    memory::MemorySampler,
    order::{Confirmed, Input, Orders},
    resend::ResendTask,
    sampler::Sampler,
};

/// Stores orders and moves them from status to status.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Address for the gateway's requests
    #[arg(long, env, default_value = "127.0.0.1:5001")]
    http_addr: SocketAddr,
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, env, default_value = "127.0.0.1:9101")]
    ops_addr: SocketAddr,
    /// Time after which an order without an answer is resent, in milliseconds
    #[arg(long, env, default_value = "60000", value_parser = clap::value_parser!(u64).range(100..))]
    resend_after_ms: u64,
    /// Number of entries that a service may be behind before new orders are refused, or off
    #[arg(long, env, default_value = "100000")]
    max_backlog: MaxBacklog,
    /// Share of its maxmemory that a Redis may use before new orders are refused, in percent, or off;
    /// halfway from there to 100 % changes to orders are refused as well
    #[arg(long, env, default_value = "90")]
    max_memory_percent: MaxMemory,
    /// Number of open orders that a customer may have, 0 for any number
    #[arg(long, env, default_value = "10000")]
    max_open_orders: u64,
    #[command(flatten)]
    auth: AuthConfig,
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
        self.auth.check(self.http_addr)
    }
}

/// Runs the service.
///
/// # Errors
///
/// The secrets of the gateway are not usable, or the process cannot listen on HTTP_ADDR.
pub async fn start(config: Config, context: ServiceContext) -> anyhow::Result<()> {
    let api = wire(&config, &context);
    let secrets = GatewaySecrets::new(&config.auth.secrets()?)?;
    context.serve(config.http_addr, api::router(api, secrets)).await
}

/// Starts everything but the HTTP server: the engine, its readers and the other tasks.
pub fn wire(config: &Config, context: &ServiceContext) -> Api {
    let orders = Orders {
        resend_after: config.resend_after_ms,
        max_open: config.max_open_orders,
        single_redis: [topics::INVENTORY, topics::ACCOUNT]
            .into_iter()
            .all(|topic| context.sources.of(topic) == context.sources.of(topics::ORDER)),
    };
    let engine = context.start_engine(orders, subscriptions());
    let store = Arc::new(SharedLink::new(context.sources.of(topics::ORDER).clone()));
    let backlog = Gauge::default();
    let name = "order_backlog_entries";
    let help = "Largest backlog of a consumer group on the path of an order";
    context.register_metrics(|registry| registry.register(name, help, backlog.clone()));
    let memory = MemoryWatch::new(config.max_memory_percent, context);
    let component = context.health.background_component("the memory watch");
    let sampler = MemorySampler::new(&context.sources, Arc::clone(&memory), component);
    context.spawn("the memory watch", sampler.run(context.shutdown.clone()));
    let component = context.health.component("the backlog sampler");
    let (sampler, progress) = Sampler::new(
        &context.sources,
        config.resend_after_ms,
        backlog,
        Arc::clone(&memory),
        component,
    );
    context.spawn("the backlog sampler", sampler.run(context.shutdown.clone()));
    let max_backlog = config.max_backlog;
    let resend = ResendTask {
        orders,
        engine: engine.clone(),
        store: Arc::clone(&store),
        inventory: SharedLink::new(context.sources.of(topics::INVENTORY).clone()),
        progress: progress.clone(),
        max_backlog,
        component: context.health.component("the resending of orders"),
    };
    context.spawn("the resending of orders", resend.run(context.shutdown.clone()));
    Api { engine, store, progress, max_backlog, memory }
}

/// The streams that the service reads.
pub fn subscriptions() -> Vec<Subscription<Input>> {
    vec![
        Subscription {
            stream: streams::INVENTORY_CHECK,
            // The order of a lost result is lost as well.
            parse: |entry| match entry.forgotten {
                true => Ok(None),
                false => Ok(Some(Input::Stock(entry.parse()?, entry.id))),
            },
        },
        Subscription {
            stream: streams::ACCOUNT_WALLET,
            parse: |entry| match entry.forgotten {
                true => Ok(None),
                false => Ok(Some(Input::Wallet(entry.parse()?, entry.id))),
            },
        },
        Subscription {
            stream: streams::INVENTORY_CONFIRMED,
            parse: |entry| match entry.forgotten {
                true => Ok(None),
                false => Ok(Some(Input::Confirmed(entry.parse::<StockConfirmed>()?.into()))),
            },
        },
        Subscription {
            stream: streams::ACCOUNT_CONFIRMED,
            parse: |entry| match entry.forgotten {
                true => Ok(None),
                false => {
                    let confirmed = Confirmed::of_payment(&entry.parse::<PaymentConfirmed>()?);
                    Ok(confirmed.map(Input::Confirmed))
                }
            },
        },
    ]
}
