//! The account service: charges customers for orders and refunds them.
//!
//! Owns: accounts, payments and deposits, under the tag `{account}`.
//! Consumes: `events:{account}_created`, `events:{account}_top-up`, `events:{inventory}_check`,
//! `events:{order}_cancelled`.
//! Emits: `events:{account}_wallet`, `events:{account}_topped-up`, `events:{account}_refunded`,
//! `events:{account}_confirmed`, `events:{account}_updated`.

pub mod wallet;

use std::net::SocketAddr;

use clap::Parser;
use common::{
    consumer::{StreamEntry, Subscription},
    contract::{
        events::{StockChecked, StockOutcome},
        streams::{self, topics},
    },
    process::{
        config::CommonConfig,
        service::{ServiceConfig, ServiceContext},
    },
    schema::stream::Topic,
};

use self::wallet::{Charge, Input, Wallet};

/// Charges customers for orders whose stock is reserved.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, env, default_value = "127.0.0.1:9103")]
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
    context.start_engine(Wallet, subscriptions());
    Ok(())
}

/// The streams that the service reads.
pub fn subscriptions() -> Vec<Subscription<Input>> {
    vec![
        Subscription {
            stream: streams::ACCOUNT_CREATED,
            parse: |entry| Ok(Some(Input::Created(entry.parse()?, entry.id))),
        },
        Subscription {
            stream: streams::ACCOUNT_TOP_UP,
            parse: |entry| Ok(Some(Input::ToppedUp(entry.parse()?, entry.id))),
        },
        Subscription { stream: streams::INVENTORY_CHECK, parse: charge },
        Subscription {
            stream: streams::ORDER_CANCELLED,
            parse: |entry| Ok(Some(Input::Cancelled(entry.parse()?))),
        },
    ]
}

fn charge(entry: &StreamEntry<'_>) -> Result<Option<Input>, String> {
    // The lost decision has already had its effects elsewhere. order_service resends the order if it is
    // still open.
    if entry.forgotten {
        return Ok(None);
    }
    let check: StockChecked = entry.parse()?;
    if check.inventory != StockOutcome::PaymentRequired {
        return Ok(None);
    }
    let total = check
        .order_total
        .ok_or("field `entity`: `payment-required` without `order_total`".to_owned())?;
    Ok(Some(Input::Charge(Charge {
        order_id: check.order_id,
        customer_id: check.customer_id,
        total,
        attempt: check.attempt,
        entry: entry.id,
        resend: check.resend,
        released: check.released,
    })))
}
