//! The gateway: the only service that clients reach. It has no domain rules.
//!
//! Owns: nothing.
//! Consumes: HTTP from clients; entities and indexes of all topics, read only; changes from
//! `events:{order}_created`, `events:{message}_sent`, the `…_updated` and the `…_dead` streams.
//! Emits: HTTP to order_service; definitions, restocks, top-ups and the demo data on
//! `events:{account}_created`, `events:{inventory}_created`, `events:{account}_top-up` and
//! `events:{inventory}_restock`.
//!
//! The rooms, from the top down. A room imports only rooms below it, and no two files import each other, not
//! even through others; `tests/architecture.rs` holds that.
//!
//! - `router`: all routes, and the layers around them
//! - `readiness`: checks the dependencies of the gateway
//! - `permissions`: the permissions that the gateway's Redis user needs
//! - `routes`: the handlers, one file per resource, each with its part of the OpenAPI document
//! - `state`: the state that handlers share
//! - `config`: command-line options and environment variables
//! - `web`: the pages, and the choice between HTML and JSON
//! - `docs`: the OpenAPI and AsyncAPI documents, and the pages that show them
//! - `events`: server-sent events, from one read of each Redis for all clients
//! - `upstream`: order_service over HTTP, and queries and commands to the Redis of each topic
//! - `access`: limits, tokens, browsers that sign in, and the gate before all routes
//! - `page_problem`: a problem that browsers get as a page

pub mod access;
mod config;
pub mod docs;
mod events;
mod page_problem;
mod permissions;
mod readiness;
pub mod router;
mod routes;
mod state;
mod upstream;
mod web;

use std::sync::Arc;

use common::{
    connection::shared_link::SharedLink,
    contract::streams::topics,
    http::server::ServerOptions,
    process::{memory_watch::MemoryWatch, service::ServiceContext},
};

pub use self::config::Config;
use self::{
    access::{gate::Gate, limits::limiter::Limiter},
    events::EventStreams,
    state::Gateway,
    upstream::{
        backlogs::Backlogs, flow_sampler::FlowSampler, order_client::OrderClient, stores::Stores,
    },
};

/// Wires the service.
///
/// # Errors
///
/// HTTP_ADDR cannot be listened on, or the certificate cannot be used any more.
pub async fn start(config: Config, context: ServiceContext) -> anyhow::Result<()> {
    let link = |topic| SharedLink::new(context.sources.of(topic).clone());
    let memory = MemoryWatch::new(config.max_memory_percent, &context);
    let secret = config.oidc.auth().secrets()?.into_iter().next();
    let gateway = Gateway {
        gate: Arc::new(Gate::start(&config.oidc, &context)?),
        orders: Arc::new(OrderClient::new(config.order_service_url, secret.as_ref())),
        stores: Arc::new(Stores {
            order: link(topics::ORDER),
            inventory: link(topics::INVENTORY),
            account: link(topics::ACCOUNT),
            message: link(topics::MESSAGE),
        }),
        backlogs: Arc::new(Backlogs::new(config.max_command_backlog, Arc::clone(&memory))),
        events: Arc::new(EventStreams::start(&context)),
        flow: FlowSampler::start(&context),
    };
    let (health, shutdown) = (Arc::clone(&context.health), context.shutdown.clone());
    context.spawn(
        "the readiness checks",
        readiness::run(gateway.clone(), memory, config.seed_demo_data, health, shutdown),
    );
    let limiter = Limiter::new(&config.limits);
    let options = ServerOptions {
        tls: config.tls.load()?,
        connections_per_client: config.limits.connections_per_address(),
        exempt: config.limits.exempt(),
        allowed_hosts: config.limits.allowed_hosts().to_vec(),
        trusted_proxies: config.limits.trusted_proxies().to_vec(),
        keep_alive: context.keep_alive,
        has_pages: true,
        refuse: router::refuse,
        ..ServerOptions::default()
    };
    context.serve_as(config.http_addr, router::router(gateway, limiter), options).await
}
