//! Goes after orders that wait for an answer or a confirmation for too long.
//!
//! The sorted sets of the statuses in which a service is due name those orders, and so does the set
//! of the orders with a step that is not confirmed. Every instance walks them from end to end, a page
//! at a time; the engine decides about each, and one that another instance has just sent again is
//! not overdue.
//!
//! An order is sent again only if its last event was certainly handled by every group between it and
//! its answer (see [`Progress`]): while a service is away its stream does not grow by repetitions.
//!
//! Orders that wait for stock are due with nobody, so they are left alone, with one exception: where
//! inventory_service's store is another one than before, it has forgotten who stood in line.
//!
//! The same walk lists orders that earlier versions stored, which are not in the sets of their customers,
//! once.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Millis, now_millis},
    connection::{
        health::Part,
        link::{Backoff, LinkError, SharedLink},
        permissions::Right,
    },
    contract::{
        entities::{CONFIRMATION_RESENDS_MAX, Order, OrderStatus},
        events::Topic,
        ids::OrderId,
        keys,
    },
    engine::{Door, store_id::StoreId},
    http::backlog::MaxBacklog,
};
use redis::{Pipeline, Value};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    order::{Answer, Input, Orders, last_published},
    progress::{Path, Progress},
};

/// How many orders are looked at together.
const PAGE: usize = 200;
/// How long between two walks at most, give or take a quarter.
const PAUSE: Duration = Duration::from_secs(5);
/// How long between two pages of one walk.
const BREATH: Duration = Duration::from_millis(20);
/// Names the store of inventory_service in whose lines the orders wait that wait for stock.
const LINES_OF: &str = "{order}:lines-of";
/// Names the version of the sorted sets that all stored orders have joined.
const SETS_OF: &str = "{order}:sets";
/// The version that sorts the orders of each status by customer, too.
const ALL_SETS: &str = "1";

/// What it takes to go after orders.
pub(crate) struct Chase {
    pub(crate) orders: Orders,
    pub(crate) door: Door<Orders>,
    /// Where orders are kept.
    pub(crate) store: Arc<SharedLink>,
    /// Where inventory_service keeps who waits for what.
    pub(crate) inventory: SharedLink,
    /// How far the services are.
    pub(crate) progress: watch::Receiver<Progress>,
    /// The backlog beyond which no order is sent again.
    pub(crate) max_backlog: MaxBacklog,
    /// It begins once its rights are known. That a Redis is away the engine and the readers tell.
    pub(crate) part: Arc<Part>,
}

impl Chase {
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            allowed = self.await_rights() => allowed?,
            () = shutdown.cancelled() => return Ok(()),
        }
        let pause = PAUSE.min(Duration::from_millis(self.orders.resend_after) / 4);
        let rounds = async {
            loop {
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                match self.round().await {
                    Ok(()) => self.part.answered(),
                    Err(error) => self.part.denied(&error),
                }
            }
        };
        tokio::select! {
            () = rounds => Ok(()),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    /// Waits until it is known whether we may do what no other part does.
    async fn await_rights(&self) -> Result<(), LinkError> {
        let walk = Right::new("ZRANGEBYLEX", &keys::orders_with(OrderStatus::Pending), &["-", "+"]);
        let note = [LINES_OF, SETS_OF].map(|key| Right::new("SET", key, &["0"]));
        let known = [LINES_OF, SETS_OF].map(|key| Right::new("GET", key, &[]));
        let note = [&note[..], &known, &[walk]].concat();
        let look = [Right::new("GET", &keys::store(Topic::Inventory), &[])];
        let mut backoff = Backoff::default();
        loop {
            let checked = match self.store.check_rights(&note).await {
                Ok(()) => self.inventory.check_rights(&look).await,
                Err(error) => Err(error),
            };
            match checked {
                Err(error @ LinkError::Unsuitable { .. }) => return Err(error),
                Err(error) => self.part.denied(&error),
                Ok(()) => {
                    self.part.answered();
                    return Ok(());
                }
            }
            backoff.wait().await;
        }
    }

    async fn round(&self) -> Result<(), LinkError> {
        self.list_orders().await?;
        let progress = self.progress.borrow().clone();
        if self.max_backlog.exceeded_by(progress.largest).is_none() {
            let underway = OrderStatus::ALL.into_iter().filter(|status| status.is_underway());
            let sets = underway.map(keys::orders_with);
            for set in sets.chain([keys::UNCONFIRMED_ORDERS.to_owned()]) {
                let before = now_millis().saturating_sub(self.orders.resend_after);
                let overdue = |order: &Order| {
                    let due = self.orders.is_overdue(order, now_millis())
                        && progress.has_handled(Path::of(order), last_published(order));
                    due.then_some(Input::Chase(order.id))
                };
                self.walk(set, before, overdue).await?;
            }
        }
        self.renew_lines().await
    }

    /// Lists the orders that earlier versions stored in the sets that are sorted by customer. An order that changes
    /// meanwhile joins them with that change. The marker that this is done is stored beside the orders, and is lost or
    /// restored together with them.
    async fn list_orders(&self) -> Result<(), LinkError> {
        let mut get = Pipeline::with_capacity(1);
        get.cmd("GET").arg(SETS_OF);
        let known = self.store.send(&get).await?.pop();
        if known.as_ref().and_then(text).as_deref() == Some(ALL_SETS) {
            return Ok(());
        }
        let mut all = true;
        for status in OrderStatus::ALL {
            let list = |order: &Order| Some(Input::List(order.id));
            all &= self.walk(keys::orders_with(status), Millis::MAX, list).await?;
        }
        if !all {
            return Ok(());
        }
        info!("all orders are in the sets that are sorted by customer");
        let mut note = Pipeline::with_capacity(1);
        note.cmd("SET").arg(SETS_OF).arg(ALL_SETS);
        self.store.send(&note).await.map(drop)
    }

    /// Where inventory_service lost its store: sends all orders again that waited in its lines. Not
    /// at once, so that the products can be defined again before.
    async fn renew_lines(&self) -> Result<(), LinkError> {
        let get = |key: String| {
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.cmd("GET").arg(key);
            pipeline
        };
        let there = self.inventory.send(&get(keys::store(Topic::Inventory))).await?.pop();
        let Some(there) = there.as_ref().and_then(StoreId::from_reply) else { return Ok(()) };
        let known = self.store.send(&get(LINES_OF.to_owned())).await?.pop();
        let known = known.as_ref().and_then(text);
        let id = there.id.to_string();
        if known.as_ref() == Some(&id) {
            return Ok(());
        }
        if known.is_some() {
            if now_millis() < there.began.saturating_add(self.orders.resend_after) {
                return Ok(());
            }
            info!("inventory_service has another store: all orders that wait for stock go there");
            let renew = |order: &Order| Some(Input::Renew(order.id));
            let waiting = keys::orders_with(OrderStatus::OutOfStock);
            let all = self.walk(waiting, there.began, renew).await?;
            if !all {
                return Ok(());
            }
        }
        let mut note = Pipeline::with_capacity(1);
        note.cmd("SET").arg(LINES_OF).arg(id);
        self.store.send(&note).await.map(drop)
    }

    /// Looks at all orders of this set that were placed before this time, and has done what is due;
    /// gives whether that succeeded with each of them.
    async fn walk(
        &self,
        set: String,
        before: Millis,
        due: impl Fn(&Order) -> Option<Input>,
    ) -> Result<bool, LinkError> {
        let end = format!("({before:012x}");
        let mut start = "-".to_owned();
        let mut all = true;
        loop {
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.cmd("ZRANGEBYLEX").arg(&set).arg(&start).arg(&end);
            pipeline.arg("LIMIT").arg(0).arg(PAGE);
            let Some(Value::Array(members)) = self.store.send(&pipeline).await?.pop() else {
                return Ok(all);
            };
            let members: Vec<String> = members.iter().filter_map(text).collect();
            let ids = members.iter().filter_map(|it| it.split_once('-')?.1.parse::<OrderId>().ok());
            // Together, so that they share batches.
            let mut asking = JoinSet::new();
            for order in self.store.get_all::<Order>(ids).await? {
                if let Some(input) = due(&order) {
                    let door = self.door.clone();
                    asking.spawn(async move { (order.id, door.ask(input, None).await) });
                }
            }
            while let Some(asked) = asking.join_next().await {
                let Ok((id, asked)) = asked else {
                    all = false;
                    continue;
                };
                all &= asked.is_ok();
                if let Ok(Answer::Unconfirmed(order)) = &asked {
                    let (status, missing) = (order.status.name(), &order.unconfirmed);
                    warn!(
                        order.id = %id,
                        "{status} was published {CONFIRMATION_RESENDS_MAX} times again and is not \
                         confirmed ({missing:?}); it is not published any more"
                    );
                }
                debug!(order.id = %id, "an overdue order: {asked:?}");
            }
            match members.last() {
                Some(last) if members.len() == PAGE => start = format!("({last}"),
                _ => return Ok(all),
            }
            tokio::time::sleep(BREATH).await;
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}
