//! Goes after orders that wait for an answer for too long.
//!
//! The sorted sets of the statuses in which a service is due name those orders. Every instance
//! walks them from end to end, a page at a time; the engine decides about each, and one that another
//! instance has just sent again is not overdue.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{
    engine::Door,
    entities::{Order, OrderStatus},
    ids::OrderId,
    keys,
    redis_link::{LinkError, SharedLink},
};
use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::order::{Input, Orders};

/// How many orders are looked at together.
const PAGE: usize = 200;
/// How long between two walks at most, give or take a quarter.
const PAUSE: Duration = Duration::from_secs(5);
/// How long between two pages of one walk.
const BREATH: Duration = Duration::from_millis(20);

pub(crate) async fn run(
    orders: Orders,
    door: Door<Orders>,
    store: Arc<SharedLink>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pause = PAUSE.min(Duration::from_millis(orders.resend_after) / 4);
    let walks = async {
        loop {
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            for status in OrderStatus::ALL.into_iter().filter(|status| status.is_underway()) {
                // The readiness says that Redis is away; there is nothing to add.
                if let Err(error) = walk(&orders, &door, &store, status).await {
                    debug!("looking for overdue orders failed: {error}");
                }
            }
        }
    };
    tokio::select! {
        () = walks => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// Looks once at all orders of this status that are old enough.
async fn walk(
    orders: &Orders,
    door: &Door<Orders>,
    store: &SharedLink,
    status: OrderStatus,
) -> Result<(), LinkError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let end = format!("({:012x}", now.saturating_sub(orders.resend_after));
    let mut start = "-".to_owned();
    loop {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("ZRANGEBYLEX").arg(keys::orders_with(status)).arg(&start).arg(&end);
        pipeline.arg("LIMIT").arg(0).arg(PAGE);
        let Some(Value::Array(members)) = store.send(&pipeline).await?.pop() else { return Ok(()) };
        let members: Vec<String> = members.iter().filter_map(text).collect();
        let ids = members.iter().filter_map(|it| it.split_once('-')?.1.parse::<OrderId>().ok());
        for order in store.get_all::<Order>(ids).await? {
            if orders.is_overdue(&order, now) {
                let asked = door.ask(Input::Chase(order.id), None).await;
                debug!(order.id = %order.id, "an overdue order: {asked:?}");
            }
        }
        match members.last() {
            Some(last) if members.len() == PAGE => start = format!("({last}"),
            _ => return Ok(()),
        }
        tokio::time::sleep(BREATH).await;
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}
