//! The inventory service: reserves stock for orders.
//!
//! Owns: products, reservations, backorder queues and deliveries, under the tag `{inventory}`.
//! Consumes: `events:{inventory}_created`, `events:{inventory}_restock`, `events:{order}_created`,
//! `events:{order}_cancelled`, `events:{order}_shipped`, `events:{order}_unpaid`,
//! `events:{account}_wallet`; `events:{inventory}_line`, its own.
//! Emits: `events:{inventory}_check`, `events:{inventory}_confirmed`, `events:{inventory}_updated`,
//! `events:{inventory}_line`.

mod backorders;
pub mod reservation;
pub mod stock;
mod unit_of_work;

use std::net::SocketAddr;

use clap::Parser;
use common::{
    consumer::Subscription,
    contract::{
        events::WalletChecked,
        streams::{self, topics},
    },
    process::{
        config::CommonConfig,
        service::{ServiceConfig, ServiceContext},
    },
    schema::stream::Topic,
};

use self::stock::{Input, Stock, releases_stock};
pub use self::{backorders::queue::ORDERS_PER_PAGE, unit_of_work::Limits};

/// Reserves stock for orders and releases it if the payment fails.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Address of /healthz, /readyz and /metrics
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

    fn topics() -> Vec<Topic> {
        topics::ALL.into()
    }
}

/// Wires the service.
///
/// # Errors
///
/// None so far.
pub async fn start(_config: Config, context: ServiceContext) -> anyhow::Result<()> {
    context.start_engine(Stock::default(), subscriptions());
    Ok(())
}

/// The streams that the service reads.
pub fn subscriptions() -> Vec<Subscription<Input>> {
    vec![
        Subscription {
            stream: streams::INVENTORY_CREATED,
            parse: |entry| Ok(Some(Input::Created(entry.parse()?, entry.id))),
        },
        Subscription {
            stream: streams::INVENTORY_RESTOCK,
            parse: |entry| Ok(Some(Input::Restocked(entry.parse()?, entry.id))),
        },
        Subscription {
            stream: streams::INVENTORY_FILL,
            parse: |entry| Ok(Some(Input::FillBackorders(entry.parse()?))),
        },
        Subscription {
            stream: streams::ORDER_CREATED,
            // The lost decision has already had its effects elsewhere. order_service resends the
            // order if it is still open.
            parse: |entry| match entry.forgotten {
                true => Ok(None),
                false => Ok(Some(Input::Ordered(entry.parse()?))),
            },
        },
        Subscription {
            stream: streams::ORDER_CANCELLED,
            parse: |entry| Ok(Some(Input::Cancelled(entry.parse()?))),
        },
        Subscription {
            stream: streams::ORDER_SHIPPED,
            parse: |entry| Ok(Some(Input::Shipped(entry.parse()?))),
        },
        Subscription {
            stream: streams::ORDER_UNPAID,
            parse: |entry| Ok(Some(Input::StillUnpaid(entry.parse()?))),
        },
        Subscription {
            stream: streams::ACCOUNT_WALLET,
            parse: |entry| {
                let payment: WalletChecked = entry.parse()?;
                Ok(match (releases_stock(payment.account), payment.attempt) {
                    (true, _) => Some(Input::Unpaid(payment, entry.id)),
                    (false, None) => Some(Input::Paid(payment.order_id)),
                    (false, Some(_)) => None,
                })
            },
        },
    ]
}
