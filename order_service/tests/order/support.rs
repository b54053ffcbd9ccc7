//! Orders, inputs and a service in memory.

use common::{
    clock::Millis,
    contract::{
        events::{OrderCreated, StockChecked, WalletChecked},
        ids::{CustomerId, OrderId, ProductId},
        order::{Confirmation, Order, OrderUpdated, Step},
        order_routes::OrderAction,
        order_status::OrderStatus,
        streams,
    },
    decision::{Append, Decider, World, in_memory::Memory},
    schema::{entry_id::EntryId, stream::Event},
};
use order_service::order::{ActionRequest, Answer, Confirmed, Input, NewOrder, Orders};
use uuid::Uuid;

use crate::table::{Cause, RESERVED, RESULTS};

use Confirmation::{PaymentCancelled, StockCancelled, StockReleased, StockShipped};
use OrderStatus::Pending;

/// The first waiting time.
pub(crate) const RESEND_AFTER: Millis = 1_000;

pub(crate) const ORDERS: Orders =
    Orders { resend_after: RESEND_AFTER, max_open: 0, single_redis: false };

pub(crate) fn id() -> OrderId {
    OrderId(Uuid::from_u128(1))
}

pub(crate) fn products(ids: &[&str]) -> Vec<ProductId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

pub(crate) fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

pub(crate) fn place(ids: &[&str], payer: &str) -> Input {
    Input::Place(NewOrder { id: id(), product_ids: products(ids), customer_id: customer(payer) })
}

/// The request to place the order of these tests.
pub(crate) fn placed() -> Input {
    place(&["201", "204"], "101")
}

pub(crate) fn act(action: OrderAction, request: u128) -> ActionRequest {
    ActionRequest { id: id(), action, request: Uuid::from_u128(request) }
}

/// A result of this attempt; `None` if the cause is no result. Every result has a reason, although an
/// accepted one should have none.
pub(crate) fn result(cause: Cause, attempt: u32) -> Option<Input> {
    let (order_id, customer_id) = (id(), customer("101"));
    match cause {
        Cause::Stock(inventory) => Some(Input::Stock(
            StockChecked {
                inventory,
                order_id,
                customer_id,
                product_ids: products(&["201", "204"]),
                order_total: (cause == RESERVED).then_some(900),
                attempt: Some(attempt),
                reason: Some(format!("{inventory:?}, says the stock")),
                resend: false,
                released: false,
            },
            EntryId::default(),
        )),
        Cause::Wallet(account) => Some(Input::Wallet(
            WalletChecked {
                order_id,
                customer_id,
                account,
                order_total: Some(900),
                attempt: Some(attempt),
                reason: Some(format!("{account:?}, says the wallet")),
            },
            EntryId::default(),
        )),
        Cause::Asked(_) => None,
    }
}

pub(crate) fn results(attempt: u32) -> impl Iterator<Item = (Cause, Input)> {
    RESULTS.into_iter().map(move |cause| (cause, result(cause, attempt).unwrap()))
}

pub(crate) const CONFIRMATIONS: [Confirmation; 4] =
    [StockCancelled, StockShipped, StockReleased, PaymentCancelled];

pub(crate) fn confirmed(confirmation: Confirmation, attempt: u32) -> Input {
    Input::Confirmed(Confirmed { order_id: id(), attempt, confirmation })
}

/// The answer to the request that led to this order.
pub(crate) fn answered(order: &Order) -> Order {
    Order { resent: None, unconfirmed: Vec::new(), ..order.clone() }
}

pub(crate) fn step(status: OrderStatus, at: Millis, attempt: u32) -> Step {
    Step::new(status, at, attempt)
}

/// A new order, placed at this time.
pub(crate) fn new_order(at: Millis) -> Order {
    Order {
        id: id(),
        product_ids: products(&["201", "204"]),
        customer_id: customer("101"),
        status: Pending,
        attempt: 1,
        order_total: None,
        reason: None,
        history: vec![step(Pending, at, 1)],
        omitted: None,
        resent: None,
        unconfirmed: Vec::new(),
    }
}

pub(crate) fn announced(order: &Order, resend: u32) -> OrderCreated {
    OrderCreated {
        id: order.id,
        product_ids: order.product_ids.clone(),
        customer_id: order.customer_id.clone(),
        status: "pending".to_owned(),
        attempt: order.attempt,
        resend,
        checked_by: None,
        refused_by: None,
    }
}

pub(crate) fn append<E: Event>(event: &E) -> Append {
    Append { stream: E::STREAM, json: serde_json::to_string(event).unwrap() }
}

/// A changed order is published without its history, before the events about it.
pub(crate) fn updated(order: &Order) -> Append {
    let json = serde_json::to_string(&OrderUpdated::from(order)).unwrap();
    Append { stream: streams::ORDER_UPDATED, json }
}

/// The order after this input at `now`; `None` if nothing changed.
pub(crate) fn after(given: &Order, input: &Input, now: Millis) -> Option<Order> {
    let mut world = World::for_tests().with(given.clone());
    let mut changes = ORDERS.decide(input, &world, now).unwrap();
    if changes.is_empty() {
        return None;
    }
    world.apply(&mut changes);
    Some(world.get::<Order>(&given.id).unwrap().unwrap().clone())
}

/// The attempts and statuses of an order's history.
pub(crate) fn steps(order: &Order) -> Vec<(u32, OrderStatus)> {
    order.history.iter().map(|step| (step.attempt, step.status)).collect()
}

/// The service in memory.
pub(crate) struct Service(pub(crate) Memory<Orders>);

impl Service {
    pub(crate) fn new() -> Self {
        Self(Memory::new(ORDERS))
    }

    /// A service that has handled these inputs.
    pub(crate) fn with(inputs: &[(Input, Millis)]) -> Self {
        let mut service = Self::new();
        for (input, now) in inputs {
            service.when(input, *now);
        }
        service.0.published.clear();
        service
    }

    pub(crate) fn when(&mut self, input: &Input, now: Millis) -> Option<Answer> {
        self.0.handle(input, now).unwrap()
    }

    /// The order, if it exists.
    pub(crate) fn order(&self) -> Option<Order> {
        let mut orders = self.0.all::<Order>();
        assert!(orders.len() <= 1, "{orders:?}");
        orders.pop()
    }

    pub(crate) fn asked(
        &mut self,
        action: OrderAction,
        request: u128,
        now: Millis,
    ) -> Option<Answer> {
        self.when(&Input::Act(act(action, request)), now)
    }

    /// The events since the last call.
    pub(crate) fn published(&mut self) -> Vec<Append> {
        self.0.published.drain(..).collect()
    }

    /// The answer to an input that must change nothing.
    pub(crate) fn when_nothing_happens(
        &mut self,
        input: &Input,
        now: Millis,
        case: &str,
    ) -> Option<Answer> {
        let before = self.order();
        let answer = self.when(input, now);
        assert_eq!(self.order(), before, "{case}: the order changed");
        assert_eq!(self.published(), [], "{case}: something was published");
        answer
    }
}

pub(crate) fn permutations(causes: &[Cause]) -> Vec<Vec<Cause>> {
    if causes.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in causes.iter().enumerate() {
        let rest = [&causes[..index], &causes[index + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [&[*first][..], &rest].concat()));
    }
    all
}
