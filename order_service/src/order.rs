//! Orders: what becomes of them. Pure: no IO, no clock.
//!
//! Status moves only forward within an attempt. The results of the stock check and of the payment
//! come from two streams and may arrive in either order, at different instances: each has a rank,
//! and one of lower rank is written into the history but never becomes the status again.

use common::{
    clock::Millis,
    contract::{
        entities::{CONFIRMATION_RESENDS_MAX, Confirmation, Order, OrderStatus, Resent, Step},
        events::{
            ConfirmedStep, OrderCancelled, OrderCompleted, OrderCreated, OrderShipped, OrderUnpaid,
            PaymentConfirmed, StockChecked, StockConfirmed, StockOutcome, Topic, WalletChecked,
            WalletOutcome,
        },
        ids::{CustomerId, EntryId, OrderId, ProductId},
        keys,
    },
    decision::{Changes, Decider, Halt, Reads, World},
};
use uuid::Uuid;

use crate::history::{self, Retry};

/// How often that time doubles at most, as no answer comes.
const DOUBLINGS: u32 = 6;

/// What happens to orders.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A customer orders.
    Place(Place),
    /// Somebody asks for an order's next step.
    Act(Act),
    /// An order may have waited for an answer for too long.
    Chase(OrderId),
    /// inventory_service has forgotten that this order waits for stock.
    Renew(OrderId),
    /// An earlier version stored this order, and it is not in all of its sorted sets.
    List(OrderId),
    /// The stock check's result, in this entry.
    Stock(StockChecked, EntryId),
    /// The payment's result, in this entry.
    Wallet(WalletChecked, EntryId),
    /// An owner's confirmation of a step.
    Confirmed(Confirmed),
}

/// The confirmation of one effect of an order's step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Confirmed {
    /// The order.
    pub order_id: OrderId,
    /// The attempt that the step was part of.
    pub attempt: u32,
    /// The effect.
    pub confirmation: Confirmation,
}

impl From<StockConfirmed> for Confirmed {
    fn from(event: StockConfirmed) -> Self {
        let confirmation = match event.step {
            ConfirmedStep::Cancelled => Confirmation::StockCancelled,
            ConfirmedStep::Shipped => Confirmation::StockShipped,
            ConfirmedStep::Released => Confirmation::StockReleased,
        };
        Self { order_id: event.order_id, attempt: event.attempt, confirmation }
    }
}

impl Confirmed {
    /// The confirmation by account_service; `None` for a step that does not concern payments.
    pub fn of_payment(event: &PaymentConfirmed) -> Option<Self> {
        let PaymentConfirmed { order_id, attempt, step } = *event;
        let confirmation = Confirmation::PaymentCancelled;
        (step == ConfirmedStep::Cancelled).then_some(Self { order_id, attempt, confirmation })
    }
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

/// A request for a step in the life of an order.
#[derive(Clone, PartialEq, Debug)]
pub struct Act {
    /// The order.
    pub id: OrderId,
    /// What is to be done.
    pub action: Action,
    /// Names the request: from the `Idempotency-Key`, so that a repetition finds its step.
    pub request: Uuid,
}

/// What can be asked of an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Try an order that was not paid for again.
    Pay,
    /// It left the house.
    Ship,
    /// It arrived.
    Complete,
    /// Call it off.
    Cancel,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 4] = [Self::Pay, Self::Ship, Self::Complete, Self::Cancel];

    /// What it is called where answers name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Ship => "ship",
            Self::Complete => "complete",
            Self::Cancel => "cancel",
        }
    }

    /// The status that it leads to.
    pub const fn status(self) -> OrderStatus {
        match self {
            Self::Pay => OrderStatus::Pending,
            Self::Ship => OrderStatus::Shipped,
            Self::Complete => OrderStatus::Completed,
            Self::Cancel => OrderStatus::Cancelled,
        }
    }

    /// Whether an order of this status takes it.
    pub const fn fits(self, status: OrderStatus) -> bool {
        match self {
            Self::Pay => matches!(status, OrderStatus::InsufficientFund),
            Self::Ship => matches!(status, OrderStatus::ToBeShipped),
            Self::Complete => matches!(status, OrderStatus::Shipped),
            Self::Cancel => matches!(
                status,
                OrderStatus::Pending
                    | OrderStatus::OutOfStock
                    | OrderStatus::PaymentRequired
                    | OrderStatus::InsufficientFund
                    | OrderStatus::ToBeShipped
            ),
        }
    }
}

/// What whoever asked for something is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It is done, and this is the order.
    Done(Order),
    /// It was done before, at the same request; this is the order as it was then.
    Replayed(Order),
    /// The key was used for something else.
    KeyReused,
    /// There is no such order.
    Unknown,
    /// The order is in a state that does not take it.
    WrongState(OrderStatus),
    /// The customer has as many open orders as one may have.
    TooManyOpen {
        /// How many those are.
        limit: u64,
    },
    /// The order does not take it, and had as many attempts as an order may have.
    AttemptLimit {
        /// Its status.
        status: OrderStatus,
        /// How many those are.
        limit: u32,
    },
    /// There is nothing to chase.
    Nothing,
    /// Its last step was not confirmed after the last time that it was published.
    Unconfirmed(Order),
}

/// Decides about orders.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// How long an order waits for an answer before it is sent again, in milliseconds.
    pub resend_after: Millis,
    /// The most open orders of one customer; 0 for any number.
    pub max_open: u64,
    /// Whether what is not stored never was an order: all that speaks of orders lies in the same Redis
    /// as the orders, and is lost together with them or not at all.
    pub knows_all: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self { resend_after: 60_000, max_open: 0, knows_all: false }
    }
}

impl Decider for Orders {
    type Input = Input;
    type Answer = Answer;

    const TOPIC: Topic = Topic::Order;

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match input {
            Input::Place(place) => reads.fresh::<Order>(&place.id),
            Input::Act(act) => {
                reads.load::<Order>(&act.id);
                reads.load::<Retry>(&Retry::id_of(act.id, act.request));
            }
            Input::Chase(id) | Input::Renew(id) | Input::List(id) => reads.load::<Order>(id),
            Input::Stock(check, _) => reads.load::<Order>(&check.order_id),
            Input::Wallet(payment, _) => reads.load::<Order>(&payment.order_id),
            Input::Confirmed(confirmed) => reads.load::<Order>(&confirmed.order_id),
        }
    }

    fn decide(&self, input: &Input, world: &World, now: Millis) -> Result<Changes<Answer>, Halt> {
        match input {
            Input::Place(order) => self.place(order, world, now),
            Input::Act(asked) => act(asked, world, now),
            Input::Chase(id) => self.chase(*id, world, now),
            Input::Renew(id) => renew(*id, world),
            Input::List(id) => list(*id, world),
            Input::Stock(check, entry) => {
                let (status, reason) = match check.inventory {
                    StockOutcome::PaymentRequired => (OrderStatus::PaymentRequired, None),
                    StockOutcome::OutOfStock => (OrderStatus::OutOfStock, check.reason.as_ref()),
                    StockOutcome::Rejected => (OrderStatus::Rejected, check.reason.as_ref()),
                };
                let (attempt, total) = (check.attempt, check.order_total);
                let (id, customer) = (check.order_id, &check.customer_id);
                let told_by = attempt.is_none().then_some(*entry);
                let rest = StepResult::of(id, customer);
                let result = StepResult { status, attempt, reason, total, told_by, ..rest };
                self.apply_result(&result, world, now)
            }
            Input::Wallet(payment, entry) => {
                let reason = payment.reason.as_ref();
                let (status, reason) = match payment.account {
                    WalletOutcome::ToBeShipped => (OrderStatus::ToBeShipped, None),
                    WalletOutcome::InsufficientFund => (OrderStatus::InsufficientFund, reason),
                    WalletOutcome::Rejected => (OrderStatus::Rejected, reason),
                };
                let unconfirmed: &[Confirmation] = match payment.account {
                    WalletOutcome::ToBeShipped => &[],
                    WalletOutcome::InsufficientFund | WalletOutcome::Rejected => {
                        &[Confirmation::StockReleased]
                    }
                };
                let (attempt, total) = (payment.attempt, payment.order_total);
                let (id, customer) = (payment.order_id, &payment.customer_id);
                let told_by = attempt.is_none().then_some(*entry);
                let rest = StepResult::of(id, customer);
                let result =
                    StepResult { status, attempt, reason, total, unconfirmed, told_by, ..rest };
                self.apply_result(&result, world, now)
            }
            Input::Confirmed(confirmed) => confirm(confirmed, world),
        }
    }
}

impl Orders {
    fn place(&self, place: &Place, world: &World, now: Millis) -> Result<Changes<Answer>, Halt> {
        if let Some(order) = world.get::<Order>(&place.id)? {
            let same =
                order.product_ids == place.product_ids && order.customer_id == place.customer_id;
            let answer = if same { Answer::Replayed(order.as_of(0)) } else { Answer::KeyReused };
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
            history: vec![Step::new(OrderStatus::Pending, now, 1)],
            omitted: None,
            resent: None,
            unconfirmed: Vec::new(),
        };
        let mut changes = Changes::none();
        if self.max_open > 0 {
            let (prefix, limit) = (keys::of_customer(&place.customer_id), self.max_open);
            changes.limit(keys::OPEN_ORDERS, prefix, limit, Answer::TooManyOpen { limit });
        }
        changes.append(&created(&order, 0));
        changes.note(order.id, "the order is placed");
        changes.put(order.clone());
        Ok(changes.answering(Answer::Done(order)))
    }

    fn chase(&self, id: OrderId, world: &World, now: Millis) -> Result<Changes<Answer>, Halt> {
        let mut changes = Changes::none();
        let Some(order) = world.get::<Order>(&id)?.filter(|order| self.is_overdue(order, now))
        else {
            return Ok(changes.answering(Answer::Nothing));
        };
        let mut order = order.clone();
        let times = order.resent.map_or(0, |resent| resent.times).saturating_add(1);
        order.resent = Some(Resent { at: now, times });
        if order.status.is_underway() {
            changes.append(&created(&order, times));
            changes.note(id, format!("no answer came: the order is sent again, the {times}. time"));
        } else if times > CONFIRMATION_RESENDS_MAX {
            changes.put(order.clone());
            return Ok(changes.answering(Answer::Unconfirmed(order)));
        } else {
            publish_step_again(&order, times, &mut changes);
            let status = order.status.name();
            changes.note(id, format!("{status} is not confirmed: published again, resend {times}"));
        }
        changes.put(order.clone());
        Ok(changes.answering(Answer::Done(order)))
    }

    /// Whether an order waits for an answer or a confirmation that should have come by now. Each time
    /// that it was sent again it is given twice as long: a service that is away for hours must not
    /// find the same order a hundred times.
    pub fn is_overdue(&self, order: &Order, now: Millis) -> bool {
        if !order.status.is_underway() && !order.awaits_confirmation() {
            return false;
        }
        let times = order.resent.map_or(0, |resent| resent.times);
        now.saturating_sub(last_published(order)) >= self.resend_after << times.min(DOUBLINGS)
    }
}

/// The time of the last event that asks a service for something about the order.
pub fn last_published(order: &Order) -> Millis {
    let last_step = order.history.iter().map(|step| step.at).max().unwrap_or(0);
    order.resent.map_or(last_step, |resent| resent.at.max(last_step))
}

/// Publishes what the owners need to confirm once more.
fn publish_step_again(order: &Order, resend: u32, changes: &mut Changes<Answer>) {
    let (id, customer_id, attempt) = (order.id, order.customer_id.clone(), order.attempt);
    match order.unconfirmed.first() {
        Some(Confirmation::StockCancelled | Confirmation::PaymentCancelled) => {
            changes.append(&OrderCancelled { id, customer_id, attempt, resend });
        }
        Some(Confirmation::StockShipped) => {
            changes.append(&OrderShipped { id, customer_id, attempt, resend });
        }
        Some(Confirmation::StockReleased) => {
            changes.append(&OrderUnpaid { id, customer_id, attempt, resend });
        }
        None => {}
    }
}

/// Takes a confirmation that is still outstanding; one of an older attempt or step is ignored.
fn confirm(confirmed: &Confirmed, world: &World) -> Result<Changes<Answer>, Halt> {
    let mut changes = Changes::none();
    let Some(order) = world.get::<Order>(&confirmed.order_id)?.filter(|order| {
        order.attempt == confirmed.attempt && order.unconfirmed.contains(&confirmed.confirmation)
    }) else {
        return Ok(changes);
    };
    let mut order = order.clone();
    order.unconfirmed.retain(|it| *it != confirmed.confirmation);
    if order.unconfirmed.is_empty() {
        order.resent = None;
    }
    changes.put(order);
    Ok(changes)
}

/// Sends an order again that waits for stock, so that it joins the line, or whatever else becomes of
/// it in a store that does not know it.
fn renew(id: OrderId, world: &World) -> Result<Changes<Answer>, Halt> {
    let mut changes = Changes::none();
    match world.get::<Order>(&id)? {
        Some(order) if order.status == OrderStatus::OutOfStock => {
            changes.append(&created(order, 1));
            changes.note(id, "its place in the line is lost: the order is sent again");
            Ok(changes.answering(Answer::Done(order.clone())))
        }
        _ => Ok(changes.answering(Answer::Nothing)),
    }
}

/// Has the order join all of its sorted sets.
fn list(id: OrderId, world: &World) -> Result<Changes<Answer>, Halt> {
    let mut changes = Changes::none();
    if let Some(order) = world.get::<Order>(&id)? {
        changes.join_again(order.clone());
    }
    Ok(changes.answering(Answer::Nothing))
}

fn created(order: &Order, resend: u32) -> OrderCreated {
    OrderCreated {
        id: order.id,
        product_ids: order.product_ids.clone(),
        customer_id: order.customer_id.clone(),
        status: OrderStatus::Pending.name().to_owned(),
        attempt: order.attempt,
        resend,
        checked_by: last_of_earlier_attempts(order, &CHECKED),
        refused_by: last_of_earlier_attempts(order, &REFUSED),
    }
}

fn act(asked: &Act, world: &World, now: Millis) -> Result<Changes<Answer>, Halt> {
    let mut changes = Changes::none();
    let Act { id, action, request } = *asked;
    let Some(order) = world.get::<Order>(&id)? else {
        return Ok(changes.answering(Answer::Unknown));
    };
    if let Some(record) = world.get::<Retry>(&Retry::id_of(id, request))? {
        let answer = match action {
            Action::Pay => Answer::Replayed(record.answer(order)),
            _ => Answer::KeyReused,
        };
        return Ok(changes.answering(answer));
    }
    if let Some(place) = order.history.iter().position(|step| step.request == Some(request)) {
        let answer = if order.history[place].status == action.status() {
            Answer::Replayed(order.as_of(place))
        } else {
            Answer::KeyReused
        };
        return Ok(changes.answering(answer));
    }
    let (status, limit) = (order.status, order.attempt_limit());
    let exhausted = Action::Pay.fits(status) && order.attempt >= limit;
    if !action.fits(status) || exhausted && action == Action::Pay {
        let answer = match exhausted {
            true => Answer::AttemptLimit { status, limit },
            false => Answer::WrongState(status),
        };
        return Ok(changes.answering(answer));
    }
    let mut order = order.clone();
    order.status = action.status();
    order.reason = None;
    if action != Action::Complete {
        order.resent = None;
        order.unconfirmed = match action {
            Action::Cancel => CANCELLATION.to_vec(),
            Action::Ship => vec![Confirmation::StockShipped],
            // A release that is still outstanding becomes part of the next attempt, which
            // inventory_service reserves only after it has released the one before.
            Action::Pay | Action::Complete => Vec::new(),
        };
    }
    if action == Action::Pay {
        order.attempt += 1;
        order.order_total = None;
    }
    let (status, attempt) = (order.status, order.attempt);
    order.history.push(Step { request: Some(request), ..Step::new(status, now, attempt) });
    if action == Action::Pay {
        let records = history::condense(&mut order);
        // Those of earlier requests were not named by `reads`; all of them are loaded together.
        let known: Vec<_> = records.iter().map(|it| world.get::<Retry>(&it.id)).collect();
        known.into_iter().collect::<Result<Vec<_>, Halt>>()?;
        records.into_iter().for_each(|record| changes.put(record));
    }
    let customer_id = order.customer_id.clone();
    match action {
        Action::Pay => changes.append(&created(&order, 0)),
        Action::Ship => changes.append(&OrderShipped { id, customer_id, attempt, resend: 0 }),
        Action::Complete => changes.append(&OrderCompleted { id, customer_id, attempt }),
        Action::Cancel => changes.append(&OrderCancelled { id, customer_id, attempt, resend: 0 }),
    }
    changes.note(id, format!("{}: the order is {}", action.name(), status.name()));
    changes.put(order.clone());
    // A repetition of the request gets the same answer, when the step may be confirmed.
    let answer = Order { resent: None, unconfirmed: Vec::new(), ..order };
    Ok(changes.answering(Answer::Done(answer)))
}

/// The confirmations of a cancellation.
const CANCELLATION: [Confirmation; 2] =
    [Confirmation::StockCancelled, Confirmation::PaymentCancelled];

/// The result of a stock check or a payment, as an order sees it.
struct StepResult<'a> {
    id: OrderId,
    customer: &'a CustomerId,
    status: OrderStatus,
    /// The attempt that it is about, where it says so.
    attempt: Option<u32>,
    reason: Option<&'a String>,
    total: Option<u64>,
    /// The confirmations that this status of an order asks for.
    unconfirmed: &'a [Confirmation],
    /// The entry of a result that does not name its attempt.
    told_by: Option<EntryId>,
}

impl<'a> StepResult<'a> {
    fn of(id: OrderId, customer: &'a CustomerId) -> Self {
        Self {
            id,
            customer,
            status: OrderStatus::Pending,
            attempt: None,
            reason: None,
            total: None,
            unconfirmed: &[],
            told_by: None,
        }
    }

    /// Whether somebody holds or has taken something for the order, or will.
    fn binds(&self) -> bool {
        matches!(
            self.status,
            OrderStatus::OutOfStock | OrderStatus::PaymentRequired | OrderStatus::ToBeShipped
        )
    }

    /// Whether it was taken for an earlier attempt, and is delivered again. A payment never is: an order that
    /// is paid is not tried again.
    fn is_past(&self, order: &Order) -> bool {
        let statuses: &[OrderStatus] = match self.status {
            OrderStatus::OutOfStock | OrderStatus::PaymentRequired => &CHECKED,
            OrderStatus::InsufficientFund => &REFUSED,
            _ => return false,
        };
        self.told_by.is_some() && self.told_by <= last_of_earlier_attempts(order, statuses)
    }
}

impl Orders {
    fn apply_result(
        &self,
        result: &StepResult<'_>,
        world: &World,
        now: Millis,
    ) -> Result<Changes<Answer>, Halt> {
        let mut changes = Changes::none();
        let id = result.id;
        let Some(order) = world.get::<Order>(&id)? else {
            // Not an order of ours, or one whose data was lost: there is nothing to move on.
            let status = result.status.name();
            changes.note(id, format!("{status} came for an order that is not here"));
            if self.knows_all && result.binds() {
                let (customer_id, attempt) = (result.customer.clone(), result.attempt.unwrap_or(1));
                changes.append(&OrderCancelled { id, customer_id, attempt, resend: 0 });
            }
            return Ok(changes);
        };
        let attempt = result.attempt.unwrap_or(order.attempt);
        let here = (attempt, rank(result.status));
        let known = order.history.iter().any(|step| (step.attempt, rank(step.status)) == here);
        // An account_service of the original takes money for each event that asks for it, so it may
        // take the money after it has refused.
        let is_paid_after_all = result.attempt.is_none()
            && result.status == OrderStatus::ToBeShipped
            && order.status == OrderStatus::InsufficientFund;
        if result.is_past(order) {
            return Ok(changes);
        }
        if attempt != order.attempt || known && !is_paid_after_all {
            let paid = result.status == OrderStatus::ToBeShipped && attempt == order.attempt;
            if paid && order.status == OrderStatus::Rejected {
                // Only where inventory_service lost what the order held and, asked again, turned it
                // down while the payment was on its way: the money goes back.
                let customer_id = order.customer_id.clone();
                changes.append(&OrderCancelled { id, customer_id, attempt, resend: 0 });
                changes.note(id, "it was paid and cannot be filled: the money is to be given back");
                changes.put(Order { unconfirmed: CANCELLATION.to_vec(), ..order.clone() });
                return Ok(changes);
            }
            let is_same = |step: &Step| (step.attempt, step.status) == (attempt, result.status);
            if let Some(place) = order.history.iter().position(is_same)
                && order.history[place].told_by < result.told_by
            {
                // The same result in another entry, which may be delivered again in the next attempt.
                let mut order = order.clone();
                order.history[place].told_by = result.told_by;
                changes.put(order);
            }
            return Ok(changes);
        }
        let mut order = order.clone();
        let place = order.history.partition_point(|step| (step.attempt, rank(step.status)) <= here);
        let steps = order.history.len();
        let late = (place < steps).then(|| u32::try_from(steps).unwrap_or(u32::MAX));
        let tells_total =
            order.order_total.is_none() && result.status != OrderStatus::PaymentRequired;
        let order_total = result.total.filter(|_| tells_total);
        let told_by = result.told_by;
        let step = Step { late, order_total, told_by, ..Step::new(result.status, now, attempt) };
        order.history.insert(place, step);
        if result.total.is_some() {
            order.order_total = result.total;
        }
        if rank(result.status) > rank(order.status) || is_paid_after_all {
            order.status = result.status;
            order.reason = result.reason.cloned();
            order.resent = None;
            order.unconfirmed = result.unconfirmed.to_vec();
        }
        changes.note(id, format!("the order is {}", order.status.name()));
        changes.put(order);
        Ok(changes)
    }
}

/// The statuses that a stock check leads to, but for the end of the order.
const CHECKED: [OrderStatus; 2] = [OrderStatus::OutOfStock, OrderStatus::PaymentRequired];
/// The status that a failed payment leads to, but for the end of the order.
const REFUSED: [OrderStatus; 1] = [OrderStatus::InsufficientFund];

/// The last entry without an attempt that was taken for one of these, in an attempt before the current one.
fn last_of_earlier_attempts(order: &Order, statuses: &[OrderStatus]) -> Option<EntryId> {
    let earlier = order.history.iter().filter(|step| step.attempt < order.attempt);
    earlier.filter(|step| statuses.contains(&step.status)).filter_map(|step| step.told_by).max()
}

/// How far a status is within its attempt. Of two with the same rank only one can happen.
fn rank(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Pending => 0,
        OrderStatus::OutOfStock => 1,
        OrderStatus::PaymentRequired => 2,
        OrderStatus::InsufficientFund | OrderStatus::ToBeShipped => 3,
        // By the stock check or by the payment: either way the end.
        OrderStatus::Rejected => 3,
        OrderStatus::Shipped => 4,
        OrderStatus::Completed => 5,
        OrderStatus::Cancelled => 6,
    }
}
