//! The message service: tells customers what becomes of their orders.
//!
//! Owns: messages, and its own copy of customers' names, under the tag `{message}`.
//! Consumes: `events:{account}_created`, `events:{order}_created`, `events:{inventory}_check`,
//! `events:{account}_wallet`, `events:{order}_cancelled`, `events:{order}_shipped`,
//! `events:{order}_completed`, `events:{account}_refunded`, `events:{account}_topped-up`.
//! Emits: `events:{message}_sent`, and each message as a line on stdout.

pub mod notification;

use std::net::SocketAddr;

use clap::Parser;
use common::{
    config::CommonConfig,
    consumer::Subscription,
    events::Stream,
    service::{Life, ServiceConfig},
};

use self::notification::{Input, Notifications};

/// Tells customers what becomes of their orders.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, env, default_value = "127.0.0.1:9104")]
    ops_addr: SocketAddr,
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
}

/// Wires the service.
///
/// # Errors
///
/// None so far.
pub async fn start(_config: Config, life: Life) -> anyhow::Result<()> {
    life.start_engine(Notifications, subscriptions());
    Ok(())
}

/// What the service reads.
pub fn subscriptions() -> Vec<Subscription<Input>> {
    vec![
        Subscription {
            stream: Stream::AccountCreated,
            parse: |entry| Ok(Some(Input::Customer(entry.parse()?, entry.id))),
        },
        Subscription {
            stream: Stream::OrderCreated,
            parse: |entry| Ok(Some(Input::Ordered(entry.parse()?))),
        },
        Subscription {
            stream: Stream::InventoryCheck,
            parse: |entry| Ok(Some(Input::Stock(entry.parse()?))),
        },
        Subscription {
            stream: Stream::AccountWallet,
            parse: |entry| Ok(Some(Input::Wallet(entry.parse()?))),
        },
        Subscription {
            stream: Stream::OrderCancelled,
            parse: |entry| Ok(Some(Input::Cancelled(entry.parse()?))),
        },
        Subscription {
            stream: Stream::OrderShipped,
            parse: |entry| Ok(Some(Input::Shipped(entry.parse()?))),
        },
        Subscription {
            stream: Stream::OrderCompleted,
            parse: |entry| Ok(Some(Input::Completed(entry.parse()?))),
        },
        Subscription {
            stream: Stream::AccountRefunded,
            parse: |entry| Ok(Some(Input::Refunded(entry.parse()?))),
        },
        Subscription {
            stream: Stream::AccountToppedUp,
            parse: |entry| Ok(Some(Input::ToppedUp(entry.parse()?))),
        },
    ]
}
