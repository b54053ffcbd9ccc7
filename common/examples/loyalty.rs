//! A sixth service: a point for every ten units of money that a customer pays for an order, exactly once.
//!
//! Owns: points and awards, under the tag `{loyalty}`.
//! Consumes: `events:{account}_wallet`.
//! Emits: `events:{loyalty}_earned`.

use std::{net::SocketAddr, process::ExitCode};

use clap::Parser;
use common::{
    contract::{
        events::{WalletChecked, WalletOutcome},
        ids::{CustomerId, OrderId},
        streams::{self, topics},
    },
    prelude::*,
};
use serde::{Deserialize, Serialize};

const LOYALTY: Topic = Topic::new("loyalty", "loyalty_service", "events:{loyalty}_dead");
const EARNED: Stream = Stream::new("events:{loyalty}_earned", LOYALTY, Writer::Owner, &[]);

/// The points for one order: the event, and the record by which a repeated payment earns nothing again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Award {
    order_id: OrderId,
    customer_id: CustomerId,
    points: u64,
}

impl Event for Award {
    const STREAM: Stream = EARNED;
}

impl Entity for Award {
    type Id = OrderId;
    const KIND: &'static Kind = &Kind::plain(LOYALTY, "{loyalty}:award:");
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

/// All points of a customer.
#[derive(Serialize, Deserialize)]
struct Points {
    customer_id: CustomerId,
    points: u64,
}

impl Entity for Points {
    type Id = CustomerId;
    const KIND: &'static Kind = &Kind::plain(LOYALTY, "{loyalty}:points:");
    fn id(&self) -> &CustomerId {
        &self.customer_id
    }
}

struct Loyalty;

impl Decider for Loyalty {
    type Input = Award;
    type Answer = ();
    const TOPIC: Topic = LOYALTY;

    fn streams() -> Vec<Stream> {
        vec![EARNED]
    }

    fn reads(&self, award: &Award, reads: &mut Reads) {
        reads.fresh::<Award>(&award.order_id);
        reads.load::<Points>(&award.customer_id);
    }

    fn decide(&self, award: &Award, world: &World, _now: Millis) -> Result<Changes, DecideError> {
        let mut changes = Changes::none();
        if world.get::<Award>(&award.order_id)?.is_none() {
            let customer_id = award.customer_id.clone();
            let before = world.get::<Points>(&customer_id)?.map_or(0, |it| it.points);
            changes.append(award);
            changes.put(Points { customer_id, points: before.saturating_add(award.points) });
            changes.put(award.clone());
        }
        Ok(changes)
    }
}

/// The points for a payment; none for one that failed.
fn award(paid: WalletChecked) -> Option<Award> {
    let total = paid.order_total.filter(|_| paid.account == WalletOutcome::ToBeShipped)?;
    Some(Award { order_id: paid.order_id, customer_id: paid.customer_id, points: total / 10 })
}

#[derive(Parser)]
struct Config {
    #[arg(long, env, default_value = "127.0.0.1:9106")]
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
        vec![LOYALTY, topics::ACCOUNT]
    }
}

async fn start(_config: Config, context: ServiceContext) -> anyhow::Result<()> {
    let paid = Subscription { stream: streams::ACCOUNT_WALLET, parse: |it| Ok(award(it.parse()?)) };
    context.start_engine(Loyalty, vec![paid]);
    Ok(())
}

fn main() -> ExitCode {
    run_service("loyalty_service", start)
}
