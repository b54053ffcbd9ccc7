//! Every way in which an order reaches a status.

use std::collections::{HashSet, VecDeque};

use common::{
    clock::Millis,
    contract::{order::Order, order_routes::OrderAction},
};
use order_service::order::{ActionRequest, Input, last_published};

use crate::support::{
    CONFIRMATIONS, RESEND_AFTER, act, after, answered, confirmed, id, new_order, placed, results,
    steps,
};

/// An order and the inputs that led to its state.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) inputs: Vec<(Input, Millis)>,
    pub(crate) order: Order,
    /// The granted requests with their answers.
    pub(crate) granted: Vec<(ActionRequest, Order)>,
}

impl Scenario {
    pub(crate) fn now(&self) -> Millis {
        self.inputs.last().unwrap().1
    }

    /// A request with a new id.
    pub(crate) fn fresh_request(&self, action: OrderAction) -> ActionRequest {
        act(action, 100 + self.inputs.len() as u128)
    }

    pub(crate) fn describe(&self) -> String {
        format!("given {:?} after {:?}", self.order.status, steps(&self.order))
    }

    pub(crate) fn then(&self, input: Input, now: Millis) -> Option<Self> {
        let order = after(&self.order, &input, now)?;
        let mut scenario = self.clone();
        if let Input::Act(act) = &input {
            scenario.granted.push((act.clone(), answered(&order)));
        }
        scenario.inputs.push((input, now));
        scenario.order = order;
        Some(scenario)
    }

    /// The time at which it is overdue, if it ever is.
    pub(crate) fn overdue_at(&self) -> Millis {
        let times = self.order.resent.map_or(0, |resent| resent.times);
        last_published(&self.order) + (RESEND_AFTER << times)
    }
}

/// One scenario for every state of an order up to the second attempt; `tick` gives the time of each
/// next step.
pub(crate) fn scenarios(tick: fn(Millis) -> Millis) -> Vec<Scenario> {
    let first = Scenario {
        inputs: vec![(placed(), 1_000_000)],
        order: new_order(1_000_000),
        granted: Vec::new(),
    };
    let mut due = VecDeque::from([first]);
    let mut known = HashSet::new();
    let mut scenarios = Vec::new();
    while let Some(scenario) = due.pop_front() {
        let order = &scenario.order;
        let seen = (
            (order.status, order.attempt, order.order_total),
            (order.reason.clone(), order.resent.is_some(), order.unconfirmed.clone()),
            steps(order),
        );
        if order.attempt > 2 || !known.insert(seen) {
            continue;
        }
        let now = tick(scenario.now());
        let asked = OrderAction::ALL.map(|action| Input::Act(scenario.fresh_request(action)));
        let learned = results(order.attempt).map(|(_, input)| input);
        due.extend(learned.chain(asked).filter_map(|input| scenario.then(input, now)));
        let confirmed = CONFIRMATIONS.map(|it| confirmed(it, order.attempt));
        due.extend(confirmed.into_iter().filter_map(|input| scenario.then(input, now)));
        due.extend(scenario.then(Input::ResendOverdue(id()), scenario.overdue_at()));
        scenarios.push(scenario);
    }
    scenarios
}

pub(crate) fn rising(now: Millis) -> Millis {
    now + 10
}
