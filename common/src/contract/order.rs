//! Orders and their history.

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
        entity::{Entity, Kind, SortedSetEntry},
        entry_id::EntryId,
        json::to_json,
    },
};

/// The maximum number of product ids in one order.
pub const PRODUCTS_LIMIT: usize = 100;
/// The maximum number of attempts of an order.
pub const MAX_ATTEMPTS: u32 = 10_000;
/// The maximum number of attempts of an order whose history was never shortened. Earlier versions
/// stored all steps of all attempts, and shortening them must fit into one commit.
pub const MAX_UNSHORTENED_ATTEMPTS: u32 = 50;
/// The number of attempts whose steps an order keeps, including the current one.
pub const KEPT_ATTEMPTS: u32 = 10;

/// A step of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The status that was reached.
    pub status: OrderStatus,
    /// The time at which order_service recorded it, in milliseconds since 1970.
    #[schema(value_type = u64, example = 1_767_225_600_000_u64)]
    pub at: Millis,
    /// The number of the attempt, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// The request that caused the step, if one did; derived from its `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// The number of steps known before this one; only if order_service learned of it after a step
    /// that follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<u32>,
    /// The order's total, only if it became known by this step and not by `payment-required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_total: Option<u64>,
    /// The last entry with this result; only if the result carries no attempt.
    #[serde(default, rename = "told_by", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "1767225600-000123")]
    pub reported_by: Option<EntryId>,
}

impl Step {
    /// A step that no request caused and that arrived in order.
    pub const fn new(status: OrderStatus, at: Millis, attempt: u32) -> Self {
        Self {
            status,
            at,
            attempt,
            request: None,
            late: None,
            order_total: None,
            reported_by: None,
        }
    }
}

/// The maximum number of resends for the confirmation of a step.
pub const CONFIRMATION_RESENDS_MAX: u32 = 20;

/// An effect of an order's last step that its owner has to confirm to order_service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// The cancelled order holds no stock; by inventory_service.
    StockCancelled,
    /// The shipped order is counted as sold; by inventory_service.
    StockShipped,
    /// The unpaid order holds no stock; by inventory_service.
    StockReleased,
    /// The payment of the cancelled order is refunded; by account_service.
    PaymentCancelled,
}

/// The resends of an order for lack of an answer or a confirmation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Resent {
    /// The time of the last resend, in milliseconds since 1970.
    #[schema(value_type = u64, example = 1_767_225_660_000_u64)]
    pub at: Millis,
    /// The number of resends since the last step.
    #[schema(example = 1)]
    pub times: u32,
}

/// An order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// The order's id.
    #[schema(value_type = uuid::Uuid)]
    pub id: OrderId,
    /// The ordered products; an id repeated n times means n units.
    #[schema(example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// The customer who ordered and pays.
    pub customer_id: CustomerId,
    /// The current status.
    pub status: OrderStatus,
    /// The number of the attempt to fill the order, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// The cost, in whole units of money; known once the stock is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub order_total: Option<u64>,
    /// The reason for the rejection, or the short products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The statuses of the order, oldest first: the first step and those of the latest attempts.
    pub history: Vec<Step>,
    /// The number of omitted steps after the first one; they belong to earlier attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 27)]
    pub omitted: Option<u32>,
    /// The resends; only while an answer or a confirmation is overdue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resent: Option<Resent>,
    /// The effects of the last step that are not confirmed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!([]))]
    pub unconfirmed: Vec<Confirmation>,
}

impl Order {
    /// The maximum number of attempts of this order.
    pub const fn attempt_limit(&self) -> u32 {
        if self.attempt > KEPT_ATTEMPTS && self.omitted.is_none() {
            MAX_UNSHORTENED_ATTEMPTS
        } else {
            MAX_ATTEMPTS
        }
    }

    /// The time at which the order was placed.
    pub fn created(&self) -> Millis {
        self.history.first().map_or(0, |step| step.at)
    }

    /// Whether order_service still resends the order for the confirmation of a step.
    pub fn awaits_confirmation(&self) -> bool {
        let times = self.resent.map_or(0, |resent| resent.times);
        !self.unconfirmed.is_empty() && times <= CONFIRMATION_RESENDS_MAX
    }

    /// The order as it was in the answer to the request for the step at this index of its history:
    /// with the state known by then.
    #[must_use]
    pub fn as_of(&self, index: usize) -> Self {
        let arrivals = self.arrivals();
        let steps = self.history.iter().zip(&arrivals);
        let history: Vec<Step> = steps
            .filter(|(_, arrival)| **arrival <= arrivals[index])
            .map(|(step, _)| *step)
            .collect();
        let Step { status, attempt, .. } = self.history[index];
        let total = |step: &Step| match step.status {
            OrderStatus::PaymentRequired => self.order_total,
            _ => step.order_total,
        };
        let order_total = history.iter().filter(|step| step.attempt == attempt).find_map(total);
        // Steps are omitted when an attempt begins, so earlier answers contained all of them.
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

    /// For each step of the history, the number of steps known before it. Late steps record this
    /// number; the others arrived in sequence.
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
    fn sorted_sets(&self) -> Vec<SortedSetEntry> {
        let member = format!("{:012x}-{}", self.created(), self.id);
        let of_customer = format!("{}{member}", keys::of_customer(&self.customer_id));
        let mut sorted_sets = vec![
            SortedSetEntry::new(keys::orders_with(self.status), member.clone()),
            SortedSetEntry::new(keys::customers_orders_with(self.status), of_customer.clone()),
        ];
        if self.awaits_confirmation() {
            sorted_sets.push(SortedSetEntry::new(keys::UNCONFIRMED_ORDERS, member));
        }
        if self.status.is_open() {
            sorted_sets.push(SortedSetEntry::new(keys::OPEN_ORDERS, of_customer));
        }
        sorted_sets
    }
    fn announcement(&self) -> Option<String> {
        Some(to_json(&OrderUpdated::from(self)))
    }
}

/// An order on `events:{order}_updated`: without its history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(from = "AnyOrderUpdated")]
pub struct OrderUpdated {
    /// The order.
    #[schema(value_type = Uuid)]
    pub id: OrderId,
    /// The ordered products; an id repeated n times means n units.
    #[schema(example = json!(["201", "204"]))]
    pub product_ids: Vec<ProductId>,
    /// The customer who ordered and pays.
    pub customer_id: CustomerId,
    /// Its status.
    pub status: OrderStatus,
    /// The number of the attempt to fill the order, from 1.
    #[schema(example = 1)]
    pub attempt: u32,
    /// The cost, in whole units of money; known once the stock is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 900)]
    pub order_total: Option<u64>,
    /// The reason for the rejection, or the short products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time at which the order was placed, in milliseconds since 1970; absent if the publisher
    /// omits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 1_767_225_600_000_u64)]
    pub created_at: Option<Millis>,
    /// The time of the last step, or of a later resend, in milliseconds since 1970; absent if the
    /// publisher omits it.
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

/// Replaces colons that the original would misread: it takes every text with `_` and `:` in a
/// cached event for a key of its cache, and answers 500 for ever if the key is missing. Reasons
/// contain ids, which may have either character.
fn no_key_of_the_original(reason: &str) -> String {
    if reason.contains('_') { reason.replace(':', " -") } else { reason.to_owned() }
}

/// The time of the latest step or resend.
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
