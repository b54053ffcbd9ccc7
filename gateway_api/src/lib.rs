//! The gateway: the one door for clients. It has no domain rules.
//!
//! Owns: nothing.
//! Consumes: HTTP from clients; entities and indexes of all topics, read only; what changes, from
//! `events:{order}_created`, `events:{message}_sent`, the `…_updated` and the `…_dead` streams.
//! Emits: HTTP to order_service; what clients define and bring in, and the demo data, on
//! `events:{account}_created`, `events:{inventory}_created`, `events:{account}_top-up` and
//! `events:{inventory}_restock`.

pub mod access;
pub mod docs;
pub mod events;
mod permissions;
mod readiness;
pub mod routes;
pub mod upstream;
mod web;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, middleware};
use clap::Parser;
use common::{
    config_error::Fault,
    connection::link::SharedLink,
    contract::events::Topic,
    http::{
        backlog::MaxBacklog,
        request::wrong_method,
        server::{Serving, survive_panics, tls::TlsConfig},
    },
    process::{
        config::CommonConfig,
        memory_watch::{MaxMemory, MemoryWatch},
        service::{Life, ServiceConfig},
    },
};

use self::{
    access::{
        config::OidcConfig,
        gate::{self, Gate},
        limits::{self, Guard, GuardConfig},
    },
    events::Live,
    upstream::{
        backlogs::Backlogs,
        flow_sampler::Sampler,
        order_client::{OrderClient, OrderServiceUrl},
    },
};

/// Takes orders over HTTP and shows a report.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Where clients reach the system
    #[arg(long, env, default_value = "127.0.0.1:5000")]
    http_addr: SocketAddr,
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, env, default_value = "127.0.0.1:9100")]
    ops_addr: SocketAddr,
    /// Where order_service is; several instances separated by commas
    #[arg(long, env, value_delimiter = ',', default_value = "http://127.0.0.1:5001")]
    order_service_url: Vec<OrderServiceUrl>,
    /// Publish the demo customers and products at the start, if there are none yet: true or false
    #[arg(long, env, default_value = "false", value_parser = clap::value_parser!(bool), action = clap::ArgAction::Set)]
    seed_demo_data: bool,
    /// How many entries a service may be behind on a stream before no more definitions, deliveries and
    /// deposits are accepted for it, or off
    #[arg(long, env, default_value = "10000")]
    max_command_backlog: MaxBacklog,
    /// How much of its maxmemory a Redis may have used before nothing more is published that adds to it,
    /// in percent, or off
    #[arg(long, env, default_value = "90")]
    max_memory_percent: MaxMemory,
    #[command(flatten)]
    tls: TlsConfig,
    #[command(flatten)]
    guard: GuardConfig,
    #[command(flatten)]
    oidc: OidcConfig,
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

    fn check(&self) -> Result<(), Fault> {
        self.tls.load()?;
        self.oidc.check(self.http_addr)
    }
}

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Who may call what.
    pub gate: Arc<Gate>,
    /// order_service.
    pub orders: Arc<OrderClient>,
    /// The Redis of each topic.
    pub stores: Arc<Stores>,
    /// The limit of what is published for a service that does not read it.
    pub(crate) backlogs: Arc<Backlogs>,
    /// What changes, for those who follow it.
    pub live: Arc<Live>,
    /// How the events flow, for those who look.
    pub flow: Arc<Sampler>,
}

/// Connections to the Redis of each topic that the gateway reads.
#[derive(Debug)]
pub struct Stores {
    /// Orders.
    pub order: SharedLink,
    /// Products, and what clients say of them.
    pub inventory: SharedLink,
    /// Accounts, and what clients say of them.
    pub account: SharedLink,
    /// Messages.
    pub message: SharedLink,
}

impl Stores {
    /// That of a topic.
    pub(crate) fn of(&self, topic: Topic) -> &SharedLink {
        match topic {
            Topic::Order => &self.order,
            Topic::Inventory => &self.inventory,
            Topic::Account => &self.account,
            Topic::Message => &self.message,
        }
    }
}

/// Wires the service.
///
/// # Errors
///
/// HTTP_ADDR cannot be listened on, or the certificate cannot be used any more.
pub async fn start(config: Config, life: Life) -> anyhow::Result<()> {
    let link = |topic| SharedLink::new(life.sources.of(topic).clone());
    let memory = MemoryWatch::new(config.max_memory_percent, &life);
    let secret = config.oidc.auth().secrets()?.into_iter().next();
    let gateway = Gateway {
        gate: Arc::new(Gate::start(&config.oidc, &life)?),
        orders: Arc::new(OrderClient::new(config.order_service_url, secret.as_ref())),
        stores: Arc::new(Stores {
            order: link(Topic::Order),
            inventory: link(Topic::Inventory),
            account: link(Topic::Account),
            message: link(Topic::Message),
        }),
        backlogs: Arc::new(Backlogs::new(config.max_command_backlog, Arc::clone(&memory))),
        live: Arc::new(Live::start(&life)),
        flow: Sampler::start(&life),
    };
    let (health, shutdown) = (Arc::clone(&life.health), life.shutdown.clone());
    life.spawn(
        "the readiness watch",
        readiness::run(gateway.clone(), memory, config.seed_demo_data, health, shutdown),
    );
    let guard = Guard::new(&config.guard);
    let serving = Serving {
        tls: config.tls.load()?,
        connections_per_client: config.guard.connections_per_address(),
        exempt: config.guard.exempt(),
        allowed_hosts: config.guard.allowed_hosts().to_vec(),
        trusted_proxies: config.guard.trusted_proxies().to_vec(),
        keep_alive: life.keep_alive,
        has_pages: true,
        refuse: limits::refused,
        ..Serving::default()
    };
    life.serve_as(config.http_addr, router(gateway, guard), serving).await
}

/// All routes; the guard counts addresses outside the gate and subjects inside.
pub fn router(gateway: Gateway, guard: Arc<Guard>) -> Router {
    let (routes, mut document) = docs::openapi::routes().split_for_parts();
    docs::openapi::secure(&mut document);
    let routes = routes
        .merge(docs::router(&document))
        .merge(web::router())
        .merge(access::sign_in::router())
        .method_not_allowed_fallback(wrong_method)
        .fallback(web::unknown_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway.gate), gate::permit))
        .layer(middleware::from_fn_with_state(Arc::clone(&guard), limits::inside))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway.gate), gate::admit))
        .with_state(gateway);
    // What a panic is answered with has the guard's headers, too.
    survive_panics(routes).layer(middleware::from_fn_with_state(guard, limits::outside))
}
