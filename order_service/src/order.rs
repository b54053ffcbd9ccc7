//! Orders: how an order moves from status to status. Pure: no IO, no clock.
//!
//! The status moves only forward within an attempt. The results of the stock check and of the payment
//! come from two streams and may arrive in either order, at different instances: each has a rank, and
//! a result of lower rank joins the history but never becomes the status again (`results`). This file
//! has the requests of clients; `overdue` resends unanswered and unconfirmed steps.

mod input;
mod overdue;
mod results;

use common::{
    clock::Millis,
    contract::{
        events::{OrderCancelled, OrderCompleted, OrderShipped},
        keys,
        order::{Confirmation, Order, Step},
        order_routes::OrderAction,
        order_status::OrderStatus,
        streams::{self, topics},
    },
    decision::{Changes, DecideError, Decider, Reads, World},
    planted,
    schema::stream::{Stream, Topic},
};

pub use self::{
    input::{ActionRequest, Answer, Confirmed, Input, NewOrder},
    overdue::last_published,
};
use self::{
    overdue::{created, reindex, requeue, resend_overdue},
    results::{CANCELLATION, StepResult, apply, confirm},
};
use crate::history::{self, Retry};

/// The decider of order_service.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// The time after which an order without an answer is resent, in milliseconds.
    pub resend_after: Millis,
    /// The largest number of open orders of one customer; 0 for any number.
    pub max_open: u64,
    /// Whether stock and accounts lie in the same Redis as the orders, so that they are lost together
    /// or not at all: an order that is not stored never existed.
    pub single_redis: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self { resend_after: 60_000, max_open: 0, single_redis: false }
    }
}

impl Decider for Orders {
    type Input = Input;
    type Answer = Answer;

    const TOPIC: Topic = topics::ORDER;

    fn streams() -> Vec<Stream> {
        streams::of(topics::ORDER)
    }

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match input {
            Input::Place(order) => reads.fresh::<Order>(&order.id),
            Input::Act(request) => {
                reads.load::<Order>(&request.id);
                reads.load::<Retry>(&Retry::id_of(request.id, request.request));
            }
            Input::ResendOverdue(id) | Input::Requeue(id) | Input::Reindex(id) => {
                reads.load::<Order>(id)
            }
            Input::Stock(check, _) => reads.load::<Order>(&check.order_id),
            Input::Wallet(payment, _) => reads.load::<Order>(&payment.order_id),
            Input::Confirmed(confirmed) => reads.load::<Order>(&confirmed.order_id),
        }
    }

    fn decide(
        &self,
        input: &Input,
        world: &World,
        now: Millis,
    ) -> Result<Changes<Answer>, DecideError> {
        match input {
            Input::Place(order) => self.place(order, world, now),
            Input::Act(request) => act(request, world, now),
            Input::ResendOverdue(id) => resend_overdue(*id, self.resend_after, world, now),
            Input::Requeue(id) => requeue(*id, world),
            Input::Reindex(id) => reindex(*id, world),
            Input::Stock(check, entry) => {
                apply(&StepResult::of_stock(check, *entry), self.single_redis, world, now)
            }
            Input::Wallet(payment, entry) => {
                apply(&StepResult::of_payment(payment, *entry), self.single_redis, world, now)
            }
            Input::Confirmed(confirmed) => confirm(confirmed, world),
        }
    }
}

impl Orders {
    fn place(
        &self,
        new: &NewOrder,
        world: &World,
        now: Millis,
    ) -> Result<Changes<Answer>, DecideError> {
        if let Some(order) = world.get::<Order>(&new.id)? {
            let same = order.product_ids == new.product_ids && order.customer_id == new.customer_id;
            let answer = if same { Answer::Replayed(order.as_of(0)) } else { Answer::KeyReused };
            return Ok(Changes::none().answering(answer));
        }
        let order = Order {
            id: new.id,
            product_ids: new.product_ids.clone(),
            customer_id: new.customer_id.clone(),
            status: OrderStatus::Pending,
            attempt: 1,
            order_total: None,
            reason: None,
            history: vec![Step::new(OrderStatus::Pending, now, 1)],
            omitted: None,
            resent: None,
            unconfirmed: Vec::new(),
        };
        let mut changes = Changes::none();
        if self.max_open > 0 {
            let (prefix, limit) = (keys::of_customer(&new.customer_id), self.max_open);
            changes.limit(keys::OPEN_ORDERS, prefix, limit, Answer::TooManyOpen { limit });
        }
        changes.append(&created(&order, 0));
        changes.detail(order.id, "order placed");
        changes.put(order.clone());
        Ok(changes.answering(Answer::Done(order)))
    }

    /// Whether an order waits for an answer or a confirmation that should have arrived by now.
    pub fn is_overdue(&self, order: &Order, now: Millis) -> bool {
        overdue::is_overdue(order, self.resend_after, now)
    }
}

fn act(asked: &ActionRequest, world: &World, now: Millis) -> Result<Changes<Answer>, DecideError> {
    let mut changes = Changes::none();
    let ActionRequest { id, action, request } = *asked;
    let Some(order) = world.get::<Order>(&id)? else {
        return Ok(changes.answering(Answer::Unknown));
    };
    if let Some(record) = world.get::<Retry>(&Retry::id_of(id, request))? {
        let answer = match action {
            OrderAction::Pay => Answer::Replayed(record.answer(order)),
            _ => Answer::KeyReused,
        };
        return Ok(changes.answering(answer));
    }
    if let Some(index) = order.history.iter().position(|step| step.request == Some(request))
        && !planted!("a repeated request is a new one")
    {
        let answer = if order.history[index].status == action.status() {
            Answer::Replayed(order.as_of(index))
        } else {
            Answer::KeyReused
        };
        return Ok(changes.answering(answer));
    }
    let (status, limit) = (order.status, order.attempt_limit());
    let exhausted = OrderAction::Pay.fits(status) && order.attempt >= limit;
    let fits = action.fits(status)
        || action == OrderAction::Cancel && planted!("a shipped order can be cancelled");
    if !fits || exhausted && action == OrderAction::Pay {
        let answer = match exhausted {
            true => Answer::AttemptLimit { status, limit },
            false => Answer::WrongState(status),
        };
        return Ok(changes.answering(answer));
    }
    let mut order = order.clone();
    order.status = action.status();
    order.reason = None;
    if action != OrderAction::Complete {
        order.resent = None;
        order.unconfirmed = match action {
            OrderAction::Cancel => CANCELLATION.to_vec(),
            OrderAction::Ship => vec![Confirmation::StockShipped],
            // An outstanding release becomes part of the next attempt: inventory_service releases
            // the stock of one attempt before it reserves that of the next.
            OrderAction::Pay | OrderAction::Complete => Vec::new(),
        };
    }
    if action == OrderAction::Pay {
        order.attempt += u32::from(!planted!("a new try is the same attempt"));
        order.order_total = None;
    }
    let (status, attempt) = (order.status, order.attempt);
    order.history.push(Step { request: Some(request), ..Step::new(status, now, attempt) });
    if action == OrderAction::Pay {
        let records = history::condense(&mut order);
        // `reads` did not name the records of earlier requests; they are loaded together.
        let known: Vec<_> = records.iter().map(|it| world.get::<Retry>(&it.id)).collect();
        known.into_iter().collect::<Result<Vec<_>, DecideError>>()?;
        records.into_iter().for_each(|record| changes.put(record));
    }
    let customer_id = order.customer_id.clone();
    match action {
        OrderAction::Pay => changes.append(&created(&order, 0)),
        OrderAction::Ship => changes.append(&OrderShipped { id, customer_id, attempt, resend: 0 }),
        OrderAction::Complete => changes.append(&OrderCompleted { id, customer_id, attempt }),
        OrderAction::Cancel => {
            changes.append(&OrderCancelled { id, customer_id, attempt, resend: 0 })
        }
    }
    changes.note(id, format!("{} requested: order is {}", action.name(), status.name()));
    changes.put(order.clone());
    // A repeated request gets the same answer, even if the step is confirmed by then.
    let answer = Order { resent: None, unconfirmed: Vec::new(), ..order };
    Ok(changes.answering(Answer::Done(answer)))
}
