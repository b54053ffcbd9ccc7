//! The inventory service: reserves stock for orders.
//!
//! Owns: products and reservations, under the tag `{inventory}`.
//! Consumes: `events:{inventory}_created`, `events:{order}_created`, `events:{account}_wallet`.
//! Emits: `events:{inventory}_check`, `events:{inventory}_updated`.

pub mod stock;

use std::net::SocketAddr;

use clap::Parser;
use common::{
    config::CommonConfig,
    consumer::Subscription,
    events::{Stream, WalletChecked},
    service::{Life, ServiceConfig},
};

use self::stock::{Input, Stock, frees_stock};

/// Reserves stock for orders and gives it back when they are not paid.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, env, default_value = "127.0.0.1:9102")]
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
    life.start_engine(Stock, subscriptions());
    Ok(())
}

/// What the service reads.
pub fn subscriptions() -> Vec<Subscription<Input>> {
    vec![
        Subscription {
            stream: Stream::InventoryCreated,
            parse: |entry| Ok(Some(Input::Created(entry.parse()?, entry.id))),
        },
        Subscription {
            stream: Stream::OrderCreated,
            parse: |entry| Ok(Some(Input::Ordered(entry.parse()?))),
        },
        Subscription {
            stream: Stream::AccountWallet,
            parse: |entry| {
                let payment: WalletChecked = entry.parse()?;
                Ok(frees_stock(payment.account).then_some(Input::Unpaid(payment)))
            },
        },
    ]
}
