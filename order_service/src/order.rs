//! Orders: what becomes of them. Pure: no IO, no clock.
//!
//! Status moves only forward within an attempt. The results of the stock check and of the payment
//! come from two streams and may arrive in either order, at different instances: each has a rank,
//! and one of lower rank is written into the history but never becomes the status again.

use common::{
    decision::{Changes, Decider, Halt, Millis, Reads, World},
    entities::{Order, OrderStatus, Step},
    events::{OrderCreated, StockChecked, StockOutcome, Topic, WalletChecked, WalletOutcome},
    ids::{CustomerId, OrderId, ProductId},
};

/// What happens to orders.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A customer orders.
    Place(Place),
    /// The stock check's result.
    Stock(StockChecked),
    /// The payment's result.
    Wallet(WalletChecked),
}

/// A new order, already given its id.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// The order's id: from the `Idempotency-Key`, so that a repetition finds the order.
    pub id: OrderId,
    /// A product id repeated n times means n pieces.
    pub product_ids: Vec<ProductId>,
    /// Who orders, and pays.
    pub customer_id: CustomerId,
}

/// What whoever placed an order is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It is placed.
    Placed(Order),
    /// It was placed before, by the same request.
    Replayed(Order),
    /// Another order was placed with that key.
    KeyReused,
}

/// Decides about orders.
#[derive(Debug, Default, Clone, Copy)]
pub struct Orders;

impl Decider for Orders {
    type Input = Input;
    type Answer = Answer;

    const TOPIC: Topic = Topic::Order;

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match input {
            Input::Place(place) => reads.fresh::<Order>(&place.id),
            Input::Stock(check) => reads.load::<Order>(&check.order_id),
            Input::Wallet(payment) => reads.load::<Order>(&payment.order_id),
        }
    }

    fn decide(&self, input: &Input, world: &World, now: Millis) -> Result<Changes<Answer>, Halt> {
        match input {
            Input::Place(order) => place(order, world, now),
            Input::Stock(check) => {
                let (status, reason) = match check.inventory {
                    StockOutcome::PaymentRequired => (OrderStatus::PaymentRequired, None),
                    StockOutcome::OutOfStock => (OrderStatus::OutOfStock, check.reason.as_ref()),
                    StockOutcome::Rejected => (OrderStatus::Rejected, check.reason.as_ref()),
                };
                let result =
                    StepResult { status, attempt: check.attempt, reason, total: check.order_total };
                apply_result(check.order_id, &result, world, now)
            }
            Input::Wallet(payment) => {
                let (status, reason) = match payment.account {
                    WalletOutcome::ToBeShipped => (OrderStatus::ToBeShipped, None),
                    WalletOutcome::InsufficientFund => (OrderStatus::InsufficientFund, None),
                    WalletOutcome::Rejected => (OrderStatus::Rejected, payment.reason.as_ref()),
                };
                let result = StepResult { status, attempt: payment.attempt, reason, total: None };
                apply_result(payment.order_id, &result, world, now)
            }
        }
    }
}

fn place(place: &Place, world: &World, now: Millis) -> Result<Changes<Answer>, Halt> {
    if let Some(order) = world.get::<Order>(&place.id)? {
        let same = order.product_ids == place.product_ids && order.customer_id == place.customer_id;
        let answer = if same { Answer::Replayed(order.clone()) } else { Answer::KeyReused };
        return Ok(Changes::none().answering(answer));
    }
    let order = Order {
        id: place.id,
        product_ids: place.product_ids.clone(),
        customer_id: place.customer_id.clone(),
        status: OrderStatus::Pending,
        attempt: 1,
        order_total: None,
        reason: None,
        history: vec![Step { status: OrderStatus::Pending, at: now, attempt: 1 }],
    };
    let mut changes = Changes::none();
    changes.append(&OrderCreated {
        id: order.id,
        product_ids: order.product_ids.clone(),
        customer_id: order.customer_id.clone(),
        status: order.status.name().to_owned(),
        attempt: order.attempt,
    });
    changes.note(order.id, "the order is placed");
    changes.put(order.clone());
    Ok(changes.answering(Answer::Placed(order)))
}

/// The result of a stock check or a payment, as an order sees it.
struct StepResult<'a> {
    status: OrderStatus,
    attempt: u32,
    reason: Option<&'a String>,
    total: Option<u64>,
}

fn apply_result(
    id: OrderId,
    result: &StepResult<'_>,
    world: &World,
    now: Millis,
) -> Result<Changes<Answer>, Halt> {
    let mut changes = Changes::none();
    let Some(order) = world.get::<Order>(&id)? else {
        // Not an order of ours, or one whose data was lost: there is nothing to move on.
        changes.note(id, format!("{} came for an order that is not here", result.status.name()));
        return Ok(changes);
    };
    let here = (result.attempt, rank(result.status));
    let known = order.history.iter().any(|step| (step.attempt, rank(step.status)) == here);
    if result.attempt != order.attempt || known {
        return Ok(changes);
    }
    let mut order = order.clone();
    let step = Step { status: result.status, at: now, attempt: result.attempt };
    let place = order.history.partition_point(|step| (step.attempt, rank(step.status)) < here);
    order.history.insert(place, step);
    if result.total.is_some() {
        order.order_total = result.total;
    }
    if rank(result.status) > rank(order.status) {
        order.status = result.status;
        order.reason = result.reason.cloned();
    }
    changes.note(id, format!("the order is {}", order.status.name()));
    changes.put(order);
    Ok(changes)
}

/// How far a status is within its attempt. Of two with the same rank only one can happen.
fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Pending => 0,
        OrderStatus::OutOfStock | OrderStatus::PaymentRequired => 1,
        OrderStatus::InsufficientFund | OrderStatus::ToBeShipped => 2,
        // By the stock check or by the payment: either way the end.
        OrderStatus::Rejected => 2,
        OrderStatus::Shipped => 3,
        OrderStatus::Completed => 4,
        OrderStatus::Cancelled => 5,
    }
}
