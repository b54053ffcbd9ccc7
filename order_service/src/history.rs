//! The bounded history of an order with many attempts. Pure: no IO, no clock.
//!
//! An order is stored whole with each step, so its history is bounded: it keeps the first step and
//! those of the last [`KEPT_ATTEMPTS`] attempts. The steps are also the idempotency records of the
//! requests that asked for them. Where steps are dropped, a [`Retry`] record of its own keeps the answer
//! to each request to pay again.

use common::{
    contract::{
        ids::OrderId,
        keys,
        order::{KEPT_ATTEMPTS, Order, Step},
        order_status::OrderStatus,
    },
    schema::entity::{Entity, Kind},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The idempotency record of a request to pay again: the part of its answer that the order may have lost.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Retry {
    /// The id of the record, see [`Retry::id_of`].
    pub id: Uuid,
    /// The attempt that the request began.
    pub attempt: u32,
    /// The history in the answer.
    pub history: Vec<Step>,
    /// The number of steps that had been dropped by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<u32>,
}

impl Retry {
    /// The id of the record: a key may be used once for each order.
    pub fn id_of(order: OrderId, request: Uuid) -> Uuid {
        Uuid::new_v5(&order.0, request.as_bytes())
    }

    fn new(request: Uuid, answer: Order) -> Self {
        let Order { id, attempt, history, omitted, .. } = answer;
        Self { id: Self::id_of(id, request), attempt, history, omitted }
    }

    /// The first answer, made from the current order.
    pub fn answer(&self, order: &Order) -> Order {
        Order {
            status: OrderStatus::Pending,
            attempt: self.attempt,
            order_total: None,
            reason: None,
            history: self.history.clone(),
            omitted: self.omitted,
            resent: None,
            ..order.clone()
        }
    }
}

impl Entity for Retry {
    type Id = Uuid;
    const KIND: &'static Kind = &keys::RETRY;
    fn id(&self) -> &Uuid {
        &self.id
    }
}

/// Drops the steps of early attempts from an order whose next attempt has just begun, and returns the
/// records of the requests that the history can no longer answer.
pub fn condense(order: &mut Order) -> Vec<Retry> {
    let request = |order: &Order, index: usize| {
        let Step { status, attempt, request, .. } = order.history[index];
        request.filter(|_| status == OrderStatus::Pending && attempt > 1)
    };
    let oldest = order.attempt.saturating_sub(KEPT_ATTEMPTS - 1);
    if oldest < 2 {
        return Vec::new();
    }
    let last = order.history.len() - 1;
    let mut records = Vec::new();
    if order.omitted.is_none() {
        let earlier = (0..last).filter_map(|index| Some((index, request(order, index)?)));
        records.extend(earlier.map(|(index, request)| Retry::new(request, order.as_of(index))));
    }
    drop_steps_before(order, oldest);
    let last = order.history.len() - 1;
    records.extend(request(order, last).map(|request| Retry::new(request, order.clone())));
    records
}

/// Keeps the first step and those from this attempt on.
fn drop_steps_before(order: &mut Order, oldest: u32) {
    let arrivals = order.arrivals();
    let steps = order.history.iter().zip(arrivals).enumerate();
    let mut kept: Vec<(u32, Step)> = steps
        .filter(|(index, (step, _))| *index == 0 || step.attempt >= oldest)
        .map(|(_, (step, arrival))| (arrival, *step))
        .collect();
    let dropped = u32::try_from(order.history.len() - kept.len()).unwrap_or(u32::MAX);
    // Late steps say how many were known before them; that is now counted among those kept.
    let mut known: Vec<u32> = kept.iter().map(|(arrival, _)| *arrival).collect();
    known.sort_unstable();
    for (arrival, step) in &mut kept {
        let before = known.partition_point(|other| *other < *arrival);
        step.late = step.late.and_then(|_| u32::try_from(before).ok());
    }
    order.history = kept.into_iter().map(|(_, step)| step).collect();
    order.omitted = Some(order.omitted.unwrap_or(0).saturating_add(dropped));
}
