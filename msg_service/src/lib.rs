//! The message service: notifies customers of the progress of their orders.
//!
//! Owns: messages, and its own copy of customers' names, under the tag `{message}`.
//! Consumes: `events:{account}_created`, `events:{order}_created`, `events:{inventory}_check`,
//! `events:{account}_wallet`, `events:{order}_cancelled`, `events:{order}_shipped`,
//! `events:{order}_completed`, `events:{account}_refunded`, `events:{account}_topped-up`.
//! Emits: `events:{message}_sent`; each message as a line on stdout, which is how it is delivered. The
//! log has only its kind, its customer's id and its order.

pub mod notification;

use std::net::SocketAddr;

use clap::Parser;
use common::{
    consumer::{StreamEntry, Subscription},
    contract::streams::{self, topics},
    process::{
        config::CommonConfig,
        service::{ServiceConfig, ServiceContext},
    },
    schema::stream::Topic,
};
use serde::de::DeserializeOwned;

use self::notification::{Input, Notifications};

/// Notifies customers of the progress of their orders.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Config {
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, env, default_value = "127.0.0.1:9104")]
    ops_addr: SocketAddr,
    /// Whether delivered messages contain full e-mail addresses, on standard output: true or false
    #[arg(
        long,
        env,
        default_value = "false",
        value_parser = clap::value_parser!(bool),
        action = clap::ArgAction::Set
    )]
    whole_addresses: bool,
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
pub async fn start(config: Config, context: ServiceContext) -> anyhow::Result<()> {
    let notifications = Notifications { whole_addresses: config.whole_addresses };
    context.start_engine(notifications, subscriptions());
    Ok(())
}

/// The streams that the service reads.
pub fn subscriptions() -> Vec<Subscription<Input>> {
    vec![
        Subscription {
            stream: streams::ACCOUNT_CREATED,
            parse: |entry| Ok(Some(Input::Customer(entry.parse()?, entry.id))),
        },
        Subscription {
            stream: streams::ORDER_CREATED,
            parse: |entry| message(entry, Input::Ordered),
        },
        Subscription {
            stream: streams::INVENTORY_CHECK,
            parse: |entry| message(entry, |event| Input::Stock(event, entry.id)),
        },
        Subscription {
            stream: streams::ACCOUNT_WALLET,
            parse: |entry| message(entry, |event| Input::Wallet(event, entry.id)),
        },
        Subscription {
            stream: streams::ORDER_CANCELLED,
            parse: |entry| message(entry, Input::Cancelled),
        },
        Subscription {
            stream: streams::ORDER_SHIPPED,
            parse: |entry| message(entry, Input::Shipped),
        },
        Subscription {
            stream: streams::ORDER_COMPLETED,
            parse: |entry| message(entry, Input::Completed),
        },
        Subscription {
            stream: streams::ACCOUNT_REFUNDED,
            parse: |entry| message(entry, Input::Refunded),
        },
        Subscription {
            stream: streams::ACCOUNT_TOPPED_UP,
            parse: |entry| message(entry, Input::ToppedUp),
        },
    ]
}

/// The input for a message; remembered only, if the event is from before this service lost its store.
fn message<E: DeserializeOwned>(
    entry: &StreamEntry<'_>,
    input: impl FnOnce(E) -> Input,
) -> Result<Option<Input>, String> {
    let input = input(entry.parse()?);
    Ok(Some(if entry.forgotten { Input::Remembered(Box::new(input)) } else { input }))
}
