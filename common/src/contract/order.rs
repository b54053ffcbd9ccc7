//! Orders, with their history.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    clock::Millis,
    contract::{
        ids::{CustomerId, OrderId, ProductId},
        keys,
        order_status::OrderStatus,
    },
    schema::{
        entity::{Entity, Kind, Place},
        entry_id::EntryId,
        json::to_json,
    },
};

/// How many attempts an order may have.
pub const MAX_ATTEMPTS: u32 = 10_000;
/// How many attempts an order may have whose history was never shortened. Earlier versions stored all
/// steps of all attempts, and what is shortened at once has to fit into one commit.
pub const MAX_UNSHORTENED_ATTEMPTS: u32 = 50;
/// The attempts whose steps an order keeps, the current one included.
pub const KEPT_ATTEMPTS: u32 = 10;

/// A step in the life of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The status that it reached.
    pub status: OrderStatus,
    /// When order_service learned of it, in milliseconds since 1970.
    #[schema(value_type = u64, example = 1_767_225_600_000_u64)]
    pub at: Millis,
    /// In which attempt, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// The request that asked for it, if one did; made from its `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// Only if order_service learned of it after a step that follows it: how many steps it knew
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<u32>,
    /// Only if the order's total became known by it and not by `payment-required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The last entry with this result; only if that does not say which attempt it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600-000123")]
    pub told_by: Option<EntryId>,
}

impl Step {
    /// A step that nobody asked for, known in time.
    pub const fn new(status: OrderStatus, at: Millis, attempt: u32) -> Self {
        Self { status, at, attempt, request: None, late: None, order_total: None, told_by: None }
    }
}

/// The largest number of times that order_service asks for the confirmation of a step.
pub const CONFIRMATION_RESENDS_MAX: u32 = 20;

/// An effect of an order's last step that its owner has to confirm to order_service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// The cancelled order holds no stock; by inventory_service.
    StockCancelled,
    /// The shipped order is counted as sold; by inventory_service.
    StockShipped,
    /// The order that was not paid holds no stock; by inventory_service.
    StockReleased,
    /// The payment of the cancelled order is refunded; by account_service.
    PaymentCancelled,
}

/// How often an order was sent again because no answer or confirmation came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Resent {
    /// When for the last time, in milliseconds since 1970.
    #[schema(value_type = u64, example = 1_767_225_660_000_u64)]
    pub at: Millis,
    /// How often since its last step.
    #[schema(example = 1)]
    pub times: u32,
}

/// An order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// The order's id.
    #[schema(value_type = uuid::Uuid)]
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    #[schema(example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who ordered, and pays.
    pub customer_id: CustomerId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Counts the tries to fill the order, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// What it costs, in whole units of money; known once its stock is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub order_total: Option<u64>,
    /// Why it was rejected, or what is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The statuses that it went through, oldest first: the first step and those of the latest
    /// attempts.
    pub history: Vec<Step>,
    /// How many steps after the first one are not kept in `history` any more; they belong to
    /// earlier attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 27)]
    pub omitted: Option<u32>,
    /// Only while an answer or a confirmation is overdue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resent: Option<Resent>,
    /// The effects of its last step that are not confirmed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    pub unconfirmed: Vec<Confirmation>,
}

impl Order {
    /// How many attempts it may have.
    pub const fn attempt_limit(&self) -> u32 {
        if self.attempt > KEPT_ATTEMPTS && self.omitted.is_none() {
            MAX_UNSHORTENED_ATTEMPTS
        } else {
            MAX_ATTEMPTS
        }
    }

    /// When it was placed.
    pub fn created(&self) -> Millis {
        self.history.first().map_or(0, |step| step.at)
    }

    /// Whether order_service still asks for the confirmation of a step.
    pub fn awaits_confirmation(&self) -> bool {
        let times = self.resent.map_or(0, |resent| resent.times);
        !self.unconfirmed.is_empty() && times <= CONFIRMATION_RESENDS_MAX
    }

    /// As it was answered to the request that asked for the step at this place of its history:
    /// with what was known by then.
    #[must_use]
    pub fn as_of(&self, place: usize) -> Self {
        let arrivals = self.arrivals();
        let steps = self.history.iter().zip(&arrivals);
        let history: Vec<Step> = steps
            .filter(|(_, arrival)| **arrival <= arrivals[place])
            .map(|(step, _)| *step)
            .collect();
        let Step { status, attempt, .. } = self.history[place];
        let total = |step: &Step| match step.status {
            OrderStatus::PaymentRequired => self.order_total,
            _ => step.order_total,
        };
        let order_total = history.iter().filter(|step| step.attempt == attempt).find_map(total);
        // Steps are omitted when an attempt begins, so earlier answers had all of them.
        let omitted = self.omitted.filter(|_| attempt == self.attempt);
        Self {
            status,
            attempt,
            order_total,
            reason: None,
            history,
            omitted,
            resent: None,
            unconfirmed: Vec::new(),
            ..self.clone()
        }
    }

    /// For each step of the history, how many were known before it. Those that came late tell; the
    /// others came one after the other.
    pub fn arrivals(&self) -> Vec<u32> {
        let late: Vec<u32> = self.history.iter().filter_map(|step| step.late).collect();
        let mut in_time = (0..).filter(|number| !late.contains(number));
        let arrival = |step: &Step| step.late.or_else(|| in_time.next()).unwrap_or(0);
        self.history.iter().map(arrival).collect()
    }
}

impl Entity for Order {
    type Id = OrderId;
    const KIND: &'static Kind = &keys::ORDER;
    fn id(&self) -> &OrderId {
        &self.id
    }
    fn lists(&self) -> Vec<String> {
        vec![keys::orders_of(&self.customer_id)]
    }
    fn places(&self) -> Vec<Place> {
        let member = format!("{:012x}-{}", self.created(), self.id);
        let of_customer = format!("{}{member}", keys::of_customer(&self.customer_id));
        let mut places = vec![
            Place::new(keys::orders_with(self.status), member.clone()),
            Place::new(keys::customers_orders_with(self.status), of_customer.clone()),
        ];
        if self.awaits_confirmation() {
            places.push(Place::new(keys::UNCONFIRMED_ORDERS, member));
        }
        if self.status.is_open() {
            places.push(Place::new(keys::OPEN_ORDERS, of_customer));
        }
        places
    }
    fn announcement(&self) -> Option<String> {
        Some(to_json(&OrderUpdated::from(self)))
    }
}

/// An order as `events:{order}_updated` carries it: without its history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(from = "AnyOrderUpdated")]
pub struct OrderUpdated {
    /// The order.
    #[schema(value_type = Uuid)]
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    #[schema(example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// Who ordered, and pays.
    pub customer_id: CustomerId,
    /// Its status.
    pub status: OrderStatus,
    /// Counts the tries to fill the order, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// What it costs, in whole units of money; known once its stock is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub order_total: Option<u64>,
    /// Why it was rejected, or what is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was placed, in milliseconds since 1970; absent where the publisher does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 1_767_225_600_000_u64)]
    pub created_at: Option<Millis>,
    /// The time of its last step, or when it was sent again after that, in milliseconds since 1970;
    /// absent where the publisher does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 1_767_225_600_007_u64)]
    pub updated_at: Option<Millis>,
}

impl From<&Order> for OrderUpdated {
    fn from(order: &Order) -> Self {
        Self {
            id: order.id,
            product_ids: order.product_ids.clone(),
            customer_id: order.customer_id.clone(),
            status: order.status,
            attempt: order.attempt,
            order_total: order.order_total,
            reason: order.reason.as_deref().map(no_key_of_the_original),
            created_at: order.history.first().map(|step| step.at),
            updated_at: last_change(&order.history, order.resent),
        }
    }
}

/// The original takes every text with `_` and `:` in an event that it caches for a key of its cache, and answers 500
/// for ever when there is none. Reasons name ids, and ids may have either.
fn no_key_of_the_original(reason: &str) -> String {
    if reason.contains('_') { reason.replace(':', " -") } else { reason.to_owned() }
}

/// The time of the latest step, or of sending the order again.
fn last_change(history: &[Step], resent: Option<Resent>) -> Option<Millis> {
    history.iter().map(|step| step.at).chain(resent.map(|resent| resent.at)).max()
}

/// An entry of `events:{order}_updated` by any publisher: earlier versions of order_service published
/// the whole order, and the original publishes four members.
#[derive(Deserialize)]
struct AnyOrderUpdated {
    id: OrderId,
    product_ids: Vec<ProductId>,
    customer_id: CustomerId,
    status: OrderStatus,
    #[serde(default = "crate::contract::events::first_attempt")]
    attempt: u32,
    order_total: Option<u64>,
    reason: Option<String>,
    created_at: Option<Millis>,
    updated_at: Option<Millis>,
    #[serde(default)]
    history: Vec<Step>,
    resent: Option<Resent>,
}

impl From<AnyOrderUpdated> for OrderUpdated {
    fn from(any: AnyOrderUpdated) -> Self {
        Self {
            id: any.id,
            product_ids: any.product_ids,
            customer_id: any.customer_id,
            status: any.status,
            attempt: any.attempt,
            order_total: any.order_total,
            reason: any.reason,
            created_at: any.created_at.or(any.history.first().map(|step| step.at)),
            updated_at: any.updated_at.or(last_change(&any.history, any.resent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_announced_reason_looks_like_a_key_of_the_original() {
        assert_eq!(no_key_of_the_original("201: 2 wanted"), "201: 2 wanted");
        assert_eq!(no_key_of_the_original("a_b: 2 wanted"), "a_b - 2 wanted");
    }
}
