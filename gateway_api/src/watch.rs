//! Watches what the gateway needs, for its readiness, and loads the demo data at the first start.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{health::Health, ids::OrderId, redis_link::LinkError};
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Gateway, demo, order_client::Route};

/// How often it looks while something is missing.
const EAGER: Duration = Duration::from_millis(100);
/// How often it looks once all is there.
const CALM: Duration = Duration::from_secs(2);

pub(crate) async fn run(
    gateway: Gateway,
    seed: bool,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let part = health.part("the gateway");
    let watch = async {
        let (mut unseeded, mut ready) = (seed, false);
        loop {
            let pause = match look(&gateway, &mut unseeded, &mut ready).await {
                Err(error @ LinkError::Unsuitable { .. }) if !ready => return error.into(),
                Ok(true) => {
                    part.answered();
                    CALM
                }
                Ok(false) => EAGER,
                Err(error) => {
                    part.failed(&error);
                    EAGER
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        error = watch => Err(error),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// Whether orders can be taken and the report be shown.
async fn look(gateway: &Gateway, unseeded: &mut bool, ready: &mut bool) -> Result<bool, LinkError> {
    for store in [&gateway.stores.order, &gateway.stores.inventory, &gateway.stores.account] {
        store.check_server().await?;
    }
    if *unseeded {
        demo::seed_what_is_missing(&gateway.stores).await?;
        *unseeded = false;
    }
    // No order has this id: "not found" says that order_service and its Redis answer.
    let nobody = Route::Show(OrderId(uuid::Uuid::nil()));
    let answer = gateway.orders.call(nobody, &HeaderMap::new(), Bytes::new()).await;
    let reached = answer.is_ok_and(|answer| answer.status() == StatusCode::NOT_FOUND);
    if reached != *ready {
        *ready = reached;
        if reached {
            info!("order_service answers");
        } else {
            warn!("order_service does not answer");
        }
    }
    Ok(reached)
}
