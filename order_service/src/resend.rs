//! Resends overdue orders: those that wait too long for an answer or a confirmation.
//!
//! The sorted sets of the statuses in which another service is due name these orders, and so does the
//! set of the orders with an unconfirmed step. Every instance walks them from end to end, a page at a
//! time; the engine decides about each order, and an order that another instance has just resent is not
//! overdue.
//!
//! An order is resent only if its last event was certainly handled by every group between it and its
//! answer (see [`Progress`]): while a service is away its stream does not grow by repetitions.
//!
//! Orders that wait for stock are not overdue, with one exception: a new store of inventory_service has
//! lost the backorder queues, so the orders that waited in them are resent.
//!
//! The same walk adds orders that earlier versions stored to the sets of their customers, once.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Millis, now_millis},
    connection::{
        backoff::Backoff, error::ConnectionError, health::Component, permissions::Permission,
        shared_link::SharedLink,
    },
    contract::{
        ids::OrderId,
        keys,
        order::{CONFIRMATION_RESENDS_MAX, Order},
        order_status::OrderStatus,
        streams::topics,
    },
    engine::{EngineHandle, store_id::StoreId},
    http::backlog::MaxBacklog,
    schema::keys::store,
};
use redis::{Pipeline, Value};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    order::{Answer, Input, Orders, last_published},
    progress::{Path, Progress},
};

/// The number of orders that are read together.
const ORDERS_PER_PAGE: usize = 200;
/// The longest pause between two walks, give or take a quarter.
const WALK_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between two pages of one walk.
const PAGE_INTERVAL: Duration = Duration::from_millis(20);
/// The version of [`keys::ORDER_INDEX_VERSION`] that also sorts the orders of each status by customer.
const INDEX_VERSION: &str = "1";

/// The task that resends overdue orders.
pub(crate) struct ResendTask {
    pub(crate) orders: Orders,
    pub(crate) engine: EngineHandle<Orders>,
    /// The Redis of orders.
    pub(crate) store: Arc<SharedLink>,
    /// The Redis of inventory_service.
    pub(crate) inventory: SharedLink,
    /// The progress of the consumer groups.
    pub(crate) progress: watch::Receiver<Progress>,
    /// The backlog beyond which no order is resent.
    pub(crate) max_backlog: MaxBacklog,
    /// The health of this task. It starts once its permissions are known.
    pub(crate) component: Arc<Component>,
}

impl ResendTask {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            allowed = self.await_permissions() => allowed?,
            () = shutdown.cancelled() => return Ok(()),
        }
        let pause = WALK_INTERVAL.min(Duration::from_millis(self.orders.resend_after) / 4);
        let walks = async {
            loop {
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                match self.walk_all().await {
                    Ok(()) => self.component.answered(),
                    Err(error) => self.component.denied(&error),
                }
            }
        };
        tokio::select! {
            biased;
            () = walks => Ok(()),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    /// Waits until the permissions that only this task needs are known.
    async fn await_permissions(&self) -> Result<(), ConnectionError> {
        let walk =
            Permission::new("ZRANGEBYLEX", &keys::orders_with(OrderStatus::Pending), &["-", "+"]);
        let note = [keys::BACKORDER_STORE, keys::ORDER_INDEX_VERSION]
            .map(|key| Permission::new("SET", key, &["0"]));
        let known = [keys::BACKORDER_STORE, keys::ORDER_INDEX_VERSION]
            .map(|key| Permission::new("GET", key, &[]));
        let note = [&note[..], &known, &[walk]].concat();
        let look = [Permission::new("GET", &store(topics::INVENTORY), &[])];
        let mut backoff = Backoff::default();
        loop {
            let checked = match self.store.check_permissions(&note).await {
                Ok(()) => self.inventory.check_permissions(&look).await,
                Err(error) => Err(error),
            };
            match checked {
                Err(error @ ConnectionError::Unsuitable { .. }) => return Err(error),
                Err(error) => self.component.denied(&error),
                Ok(()) => {
                    self.component.answered();
                    return Ok(());
                }
            }
            backoff.wait().await;
        }
    }

    async fn walk_all(&self) -> Result<(), ConnectionError> {
        self.reindex_orders().await?;
        let progress = self.progress.borrow().clone();
        if self.max_backlog.exceeded_by(progress.largest).is_none() {
            let underway = OrderStatus::ALL.into_iter().filter(|status| status.is_underway());
            let sets = underway.map(keys::orders_with);
            for set in sets.chain([keys::UNCONFIRMED_ORDERS.to_owned()]) {
                let before = now_millis().saturating_sub(self.orders.resend_after);
                let overdue = |order: &Order| {
                    let due = self.orders.is_overdue(order, now_millis())
                        && progress.has_handled(Path::of(order), last_published(order));
                    due.then_some(Input::ResendOverdue(order.id))
                };
                self.walk(set, before, overdue).await?;
            }
        }
        self.requeue_orders().await
    }

    /// Adds the orders that earlier versions stored to the sets that are sorted by customer. An order
    /// that changes meanwhile joins them with that change. The marker of completion is stored beside the
    /// orders, and is lost or restored together with them.
    async fn reindex_orders(&self) -> Result<(), ConnectionError> {
        let mut get = Pipeline::with_capacity(1);
        get.cmd("GET").arg(keys::ORDER_INDEX_VERSION);
        let known = self.store.send(&get).await?.pop();
        if known.as_ref().and_then(text).as_deref() == Some(INDEX_VERSION) {
            return Ok(());
        }
        let mut all = true;
        for status in OrderStatus::ALL {
            let reindex = |order: &Order| Some(Input::Reindex(order.id));
            all &= self.walk(keys::orders_with(status), Millis::MAX, reindex).await?;
        }
        if !all {
            return Ok(());
        }
        info!("all orders are indexed by customer");
        let mut note = Pipeline::with_capacity(1);
        note.cmd("SET").arg(keys::ORDER_INDEX_VERSION).arg(INDEX_VERSION);
        self.store.send(&note).await.map(drop)
    }

    /// Resends all orders that waited for stock if inventory_service has a new store. It waits for a
    /// while first, so that the products can be defined again.
    async fn requeue_orders(&self) -> Result<(), ConnectionError> {
        let get = |key: String| {
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.cmd("GET").arg(key);
            pipeline
        };
        let there = self.inventory.send(&get(store(topics::INVENTORY))).await?.pop();
        let Some(there) = there.as_ref().and_then(StoreId::from_reply) else { return Ok(()) };
        let known = self.store.send(&get(keys::BACKORDER_STORE.to_owned())).await?.pop();
        let known = known.as_ref().and_then(text);
        let id = there.id.to_string();
        if known.as_ref() == Some(&id) {
            return Ok(());
        }
        if known.is_some() {
            if now_millis() < there.began.saturating_add(self.orders.resend_after) {
                return Ok(());
            }
            info!("inventory_service has a new store: resending all orders that wait for stock");
            let requeue = |order: &Order| Some(Input::Requeue(order.id));
            let waiting = keys::orders_with(OrderStatus::OutOfStock);
            let all = self.walk(waiting, there.began, requeue).await?;
            if !all {
                return Ok(());
            }
        }
        let mut note = Pipeline::with_capacity(1);
        note.cmd("SET").arg(keys::BACKORDER_STORE).arg(id);
        self.store.send(&note).await.map(drop)
    }

    /// Reads all orders of this set that were placed before this time, and submits the inputs that are
    /// due; returns whether all of them succeeded.
    async fn walk(
        &self,
        set: String,
        before: Millis,
        due: impl Fn(&Order) -> Option<Input>,
    ) -> Result<bool, ConnectionError> {
        let end = format!("({before:012x}");
        let mut start = "-".to_owned();
        let mut all = true;
        loop {
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.cmd("ZRANGEBYLEX").arg(&set).arg(&start).arg(&end);
            pipeline.arg("LIMIT").arg(0).arg(ORDERS_PER_PAGE);
            let Some(Value::Array(members)) = self.store.send(&pipeline).await?.pop() else {
                return Ok(all);
            };
            let members: Vec<String> = members.iter().filter_map(text).collect();
            let ids = members.iter().filter_map(|it| it.split_once('-')?.1.parse::<OrderId>().ok());
            // Submitted together, so that they share batches.
            let mut submissions = JoinSet::new();
            for order in self.store.get_all::<Order>(ids).await? {
                if let Some(input) = due(&order) {
                    let engine = self.engine.clone();
                    submissions.spawn(async move { (order.id, engine.submit(input, None).await) });
                }
            }
            while let Some(asked) = submissions.join_next().await {
                let Ok((id, asked)) = asked else {
                    all = false;
                    continue;
                };
                all &= asked.is_ok();
                if let Ok(Answer::Unconfirmed(order)) = &asked {
                    let (status, missing) = (order.status.name(), &order.unconfirmed);
                    warn!(
                        subject.id = %id,
                        "{status} is not confirmed after {CONFIRMATION_RESENDS_MAX} resends \
                         ({missing:?}): giving up"
                    );
                }
                debug!(subject.id = %id, "overdue order: {asked:?}");
            }
            match members.last() {
                Some(last) if members.len() == ORDERS_PER_PAGE => start = format!("({last}"),
                _ => return Ok(all),
            }
            tokio::time::sleep(PAGE_INTERVAL).await;
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}
