//! Checks the dependencies of the gateway, for its readiness, and loads the demo data at the first start.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    connection::{error::ConnectionError, health::Health},
    contract::{ids::OrderId, streams::topics},
    process::memory_watch::MemoryWatch,
    schema::stream::Topic,
};
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    permissions,
    state::Gateway,
    upstream::{demo_data, order_client::OrderCall},
};

/// The interval of checks until the gateway is ready.
const UNREADY_INTERVAL: Duration = Duration::from_millis(100);
/// The interval of checks once it is ready.
const READY_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) async fn run(
    gateway: Gateway,
    memory: Arc<MemoryWatch>,
    seed: bool,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let component = health.component("the gateway");
    let checking = async {
        let mut checks = Checks { unseeded: seed, ready: false, unchecked: topics::ALL.into() };
        loop {
            let pause = match check(&gateway, &memory, &mut checks).await {
                Err(error @ ConnectionError::Unsuitable { .. }) if !checks.ready => {
                    return error.into();
                }
                Ok(true) => {
                    component.answered();
                    READY_INTERVAL
                }
                Ok(false) => UNREADY_INTERVAL,
                Err(error) => {
                    component.failed(&error);
                    UNREADY_INTERVAL
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        error = checking => Err(error),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// The checks that are done already.
struct Checks {
    /// The demo data may have to be loaded.
    unseeded: bool,
    ready: bool,
    /// The topics at whose Redis the permissions are not checked yet.
    unchecked: Vec<Topic>,
}

/// Whether orders can be accepted and the report can be served.
async fn check(
    gateway: &Gateway,
    memory: &MemoryWatch,
    checks: &mut Checks,
) -> Result<bool, ConnectionError> {
    let Checks { unseeded, ready, unchecked } = checks;
    check_servers(gateway, memory).await?;
    check_permissions(gateway, unchecked).await?;
    if *unseeded {
        demo_data::seed_missing_data(&gateway.stores).await?;
        *unseeded = false;
    }
    // No order has this id: a "not found" shows that order_service and its Redis answer.
    let unknown = OrderCall::Show(OrderId(uuid::Uuid::nil()));
    let answer = gateway.orders.call(unknown, &HeaderMap::new(), Bytes::new()).await;
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

/// Whether all servers can be used and admit the gateway; records their memory use.
async fn check_servers(gateway: &Gateway, memory: &MemoryWatch) -> Result<(), ConnectionError> {
    for topic in topics::ALL {
        let store = gateway.stores.of(topic);
        let checked = store.check_server().await;
        let checked = checked.map(|facts| memory.saw(&store.address(), facts));
        tolerate(topic, checked)?;
    }
    Ok(())
}

/// Checks the permissions that are not checked yet.
async fn check_permissions(
    gateway: &Gateway,
    unchecked: &mut Vec<Topic>,
) -> Result<(), ConnectionError> {
    let mut left = Vec::new();
    for topic in unchecked.clone() {
        let checked =
            gateway.stores.of(topic).check_permissions(&permissions::of_gateway(topic)).await;
        let known = checked.is_ok();
        tolerate(topic, checked)?;
        if !known {
            left.push(topic);
        }
    }
    *unchecked = left;
    Ok(())
}

/// Orders are accepted without messages, so an unreachable Redis of messages is not an error here. A
/// wrong configuration of that Redis is an error, because an operator has to repair it.
fn tolerate(topic: Topic, checked: Result<(), ConnectionError>) -> Result<(), ConnectionError> {
    match checked {
        Err(
            ConnectionError::Away { .. }
            | ConnectionError::Refused { .. }
            | ConnectionError::NotServing { .. },
        ) if topic == topics::MESSAGE => Ok(()),
        checked => checked,
    }
}
