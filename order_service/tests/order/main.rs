//! What becomes of orders: given an order, when something happens to it, then it stands like this.

use std::collections::{HashSet, VecDeque};

use common::{
    clock::Millis,
    consumer::StreamEntry,
    contract::{
        entities::{
            CONFIRMATION_RESENDS_MAX, Confirmation, KEPT_ATTEMPTS, MAX_ATTEMPTS,
            MAX_UNSHORTENED_ATTEMPTS, Order, OrderStatus, OrderUpdated, Resent, Step,
        },
        entity::{Entity, Place as Listed},
        events::{
            Event, OrderCancelled, OrderCompleted, OrderCreated, OrderShipped, OrderUnpaid,
            StockChecked, StockOutcome, Stream, WalletChecked, WalletOutcome,
        },
        ids::{CustomerId, EntryId, OrderId, ProductId},
    },
    decision::{Append, Changes, Decider, World, in_memory::Memory},
};
use order_service::{
    history::Retry,
    order::{Action, ActionRequest, Answer, Confirmed, Input, NewOrder, Orders, last_published},
    subscriptions,
};
use uuid::Uuid;

use Confirmation::{PaymentCancelled, StockCancelled, StockReleased, StockShipped};
use OrderStatus::{
    Cancelled, Completed, InsufficientFund, OutOfStock, PaymentRequired, Pending, Rejected,
    Shipped, ToBeShipped,
};

/// What moves orders.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cause {
    Stock(StockOutcome),
    Wallet(WalletOutcome),
    Asked(Action),
}

const SHORT: Cause = Cause::Stock(StockOutcome::OutOfStock);
const HELD: Cause = Cause::Stock(StockOutcome::PaymentRequired);
const TURNED_DOWN: Cause = Cause::Stock(StockOutcome::Rejected);
const PAID: Cause = Cause::Wallet(WalletOutcome::ToBeShipped);
const UNPAID: Cause = Cause::Wallet(WalletOutcome::InsufficientFund);
const STRANGER: Cause = Cause::Wallet(WalletOutcome::Rejected);
const PAY: Cause = Cause::Asked(Action::Pay);
const SHIP: Cause = Cause::Asked(Action::Ship);
const COMPLETE: Cause = Cause::Asked(Action::Complete);
const CANCEL: Cause = Cause::Asked(Action::Cancel);

/// Every result there is.
const RESULTS: [Cause; 6] = [SHORT, HELD, TURNED_DOWN, PAID, UNPAID, STRANGER];

/// All that moves an order of each status, if it is about the order's own attempt, and where to.
/// Nothing else ever changes a status.
const MOVES: [(OrderStatus, &[(Cause, OrderStatus)]); 9] = [
    (
        Pending,
        &[
            (SHORT, OutOfStock),
            (HELD, PaymentRequired),
            (TURNED_DOWN, Rejected),
            // The payment may be heard of before the stock check.
            (PAID, ToBeShipped),
            (UNPAID, InsufficientFund),
            (STRANGER, Rejected),
            (CANCEL, Cancelled),
        ],
    ),
    (
        OutOfStock,
        &[
            (HELD, PaymentRequired),
            (TURNED_DOWN, Rejected),
            (PAID, ToBeShipped),
            (UNPAID, InsufficientFund),
            (STRANGER, Rejected),
            (CANCEL, Cancelled),
        ],
    ),
    (
        PaymentRequired,
        &[
            (TURNED_DOWN, Rejected),
            (PAID, ToBeShipped),
            (UNPAID, InsufficientFund),
            (STRANGER, Rejected),
            (CANCEL, Cancelled),
        ],
    ),
    (InsufficientFund, &[(PAY, Pending), (CANCEL, Cancelled)]),
    (ToBeShipped, &[(SHIP, Shipped), (CANCEL, Cancelled)]),
    (Shipped, &[(COMPLETE, Completed)]),
    (Completed, &[]),
    (Rejected, &[]),
    (Cancelled, &[]),
];

/// In which statuses an order waits for an answer, and is sent again if none comes.
const WAITS: [OrderStatus; 2] = [Pending, PaymentRequired];

/// How long it waits at first.
const PATIENCE: Millis = 1_000;

const ORDERS: Orders = Orders { resend_after: PATIENCE, max_open: 0, single_redis: false };

/// Where this leads from this status, if anywhere.
fn destination(from: OrderStatus, cause: Cause) -> Option<OrderStatus> {
    let (_, moves) = MOVES.iter().find(|(status, _)| *status == from).unwrap();
    moves.iter().find(|(it, _)| *it == cause).map(|(_, to)| *to)
}

/// How far each status is. Written down here a second time, so that a change of the rule is noticed.
fn rank(status: OrderStatus) -> u8 {
    match status {
        Pending => 0,
        OutOfStock => 1,
        PaymentRequired => 2,
        InsufficientFund | ToBeShipped | Rejected => 3,
        Shipped => 4,
        Completed => 5,
        Cancelled => 6,
    }
}

fn id() -> OrderId {
    OrderId(Uuid::from_u128(1))
}

fn products(ids: &[&str]) -> Vec<ProductId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

fn place(ids: &[&str], payer: &str) -> Input {
    Input::Place(NewOrder { id: id(), product_ids: products(ids), customer_id: customer(payer) })
}

/// The order that all of this is about.
fn placed() -> Input {
    place(&["201", "204"], "101")
}

fn act(action: Action, request: u128) -> ActionRequest {
    ActionRequest { id: id(), action, request: Uuid::from_u128(request) }
}

/// A result of this attempt; `None` if the cause is none. All carry a reason, as none should.
fn result(cause: Cause, attempt: u32) -> Option<Input> {
    let (order_id, customer_id) = (id(), customer("101"));
    match cause {
        Cause::Stock(inventory) => Some(Input::Stock(
            StockChecked {
                inventory,
                order_id,
                customer_id,
                product_ids: products(&["201", "204"]),
                order_total: (cause == HELD).then_some(900),
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

fn results(attempt: u32) -> impl Iterator<Item = (Cause, Input)> {
    RESULTS.into_iter().map(move |cause| (cause, result(cause, attempt).unwrap()))
}

/// The reason that an order gives once this moved it: only where something went wrong.
fn reason(cause: Cause) -> Option<String> {
    match cause {
        HELD | PAID | Cause::Asked(_) => None,
        Cause::Stock(outcome) => Some(format!("{outcome:?}, says the stock")),
        Cause::Wallet(outcome) => Some(format!("{outcome:?}, says the wallet")),
    }
}

const CONFIRMATIONS: [Confirmation; 4] =
    [StockCancelled, StockShipped, StockReleased, PaymentCancelled];

fn confirmed(confirmation: Confirmation, attempt: u32) -> Input {
    Input::Confirmed(Confirmed { order_id: id(), attempt, confirmation })
}

/// The confirmations that are due once this moved an order.
fn unconfirmed(cause: Cause) -> Vec<Confirmation> {
    match cause {
        CANCEL => vec![StockCancelled, PaymentCancelled],
        SHIP => vec![StockShipped],
        UNPAID | STRANGER => vec![StockReleased],
        _ => Vec::new(),
    }
}

/// The answer to the request that made the order like this.
fn answered(order: &Order) -> Order {
    Order { resent: None, unconfirmed: Vec::new(), ..order.clone() }
}

fn step(status: OrderStatus, at: Millis, attempt: u32) -> Step {
    Step::new(status, at, attempt)
}

/// An order as it is when it was placed at this time.
fn new_order(at: Millis) -> Order {
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

fn announced(order: &Order, resend: u32) -> OrderCreated {
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

fn append<E: Event>(event: &E) -> Append {
    Append { stream: E::STREAM, json: serde_json::to_string(event).unwrap() }
}

/// A changed order is published without its history, before the events about it.
fn updated(order: &Order) -> Append {
    let json = serde_json::to_string(&OrderUpdated::from(order)).unwrap();
    Append { stream: Stream::OrderUpdated, json }
}

/// The order after this happened at `now`; `None` if nothing came of it.
fn after(given: &Order, input: &Input, now: Millis) -> Option<Order> {
    let mut world = World::for_tests().with(given.clone());
    let mut changes = ORDERS.decide(input, &world, now).unwrap();
    if changes.is_empty() {
        return None;
    }
    world.apply(&mut changes);
    Some(world.get::<Order>(&given.id).unwrap().unwrap().clone())
}

/// What an order went through, and where it stands.
fn steps(order: &Order) -> Vec<(u32, OrderStatus)> {
    order.history.iter().map(|step| (step.attempt, step.status)).collect()
}

/// The service in memory.
struct Service(Memory<Orders>);

impl Service {
    fn new() -> Self {
        Self(Memory::new(ORDERS))
    }

    /// With this order, or what became of it, at rest.
    fn with(inputs: &[(Input, Millis)]) -> Self {
        let mut service = Self::new();
        for (input, now) in inputs {
            service.when(input, *now);
        }
        service.0.published.clear();
        service
    }

    fn when(&mut self, input: &Input, now: Millis) -> Option<Answer> {
        self.0.handle(input, now).unwrap()
    }

    /// The order, if there is one.
    fn order(&self) -> Option<Order> {
        let mut orders = self.0.all::<Order>();
        assert!(orders.len() <= 1, "{orders:?}");
        orders.pop()
    }

    fn asked(&mut self, action: Action, request: u128, now: Millis) -> Option<Answer> {
        self.when(&Input::Act(act(action, request)), now)
    }

    /// What was published since it was last asked for.
    fn published(&mut self) -> Vec<Append> {
        self.0.published.drain(..).collect()
    }

    /// The answer, where nothing else may come of it.
    fn when_nothing_happens(&mut self, input: &Input, now: Millis, case: &str) -> Option<Answer> {
        let before = self.order();
        let answer = self.when(input, now);
        assert_eq!(self.order(), before, "{case}: the order changed");
        assert_eq!(self.published(), [], "{case}: something was published");
        answer
    }
}

/// An order, and how it got there by what services and clients do.
#[derive(Clone)]
struct Story {
    inputs: Vec<(Input, Millis)>,
    order: Order,
    /// Each request that was granted, with its answer.
    granted: Vec<(ActionRequest, Order)>,
}

impl Story {
    fn now(&self) -> Millis {
        self.inputs.last().unwrap().1
    }

    /// A request that was not made before.
    fn fresh_request(&self, action: Action) -> ActionRequest {
        act(action, 100 + self.inputs.len() as u128)
    }

    fn told(&self) -> String {
        format!("given {:?} after {:?}", self.order.status, steps(&self.order))
    }

    fn then(&self, input: Input, now: Millis) -> Option<Self> {
        let order = after(&self.order, &input, now)?;
        let mut story = self.clone();
        if let Input::Act(act) = &input {
            story.granted.push((act.clone(), answered(&order)));
        }
        story.inputs.push((input, now));
        story.order = order;
        Some(story)
    }

    /// When it is overdue if it ever is, having been sent again so often.
    fn overdue_at(&self) -> Millis {
        let times = self.order.resent.map_or(0, |resent| resent.times);
        last_published(&self.order) + (PATIENCE << times)
    }
}

/// Every way in which an order can stand up to the second attempt, as one story of each; after
/// every step the clock goes on to what `tick` says.
fn stories(tick: fn(Millis) -> Millis) -> Vec<Story> {
    let first = Story {
        inputs: vec![(placed(), 1_000_000)],
        order: new_order(1_000_000),
        granted: Vec::new(),
    };
    let mut due = VecDeque::from([first]);
    let mut known = HashSet::new();
    let mut stories = Vec::new();
    while let Some(story) = due.pop_front() {
        let order = &story.order;
        let seen = (
            (order.status, order.attempt, order.order_total),
            (order.reason.clone(), order.resent.is_some(), order.unconfirmed.clone()),
            steps(order),
        );
        if order.attempt > 2 || !known.insert(seen) {
            continue;
        }
        let now = tick(story.now());
        let asked = Action::ALL.map(|action| Input::Act(story.fresh_request(action)));
        let learned = results(order.attempt).map(|(_, input)| input);
        due.extend(learned.chain(asked).filter_map(|input| story.then(input, now)));
        let confirmed = CONFIRMATIONS.map(|it| confirmed(it, order.attempt));
        due.extend(confirmed.into_iter().filter_map(|input| story.then(input, now)));
        due.extend(story.then(Input::ResendOverdue(id()), story.overdue_at()));
        stories.push(story);
    }
    stories
}

fn rising(now: Millis) -> Millis {
    now + 10
}

/// What this does to an order: what is stored, answered and published, as [`MOVES`] has it.
fn expected(
    given: &Order,
    cause: Cause,
    act: Option<&ActionRequest>,
    now: Millis,
) -> (Order, Vec<Append>) {
    let mut order = given.clone();
    let to = destination(given.status, cause);
    if let Some(to) = to {
        order.status = to;
        order.reason = reason(cause);
        if cause != COMPLETE {
            order.resent = None;
            order.unconfirmed = unconfirmed(cause);
        }
    }
    if cause == PAY {
        order.attempt += 1;
        order.order_total = None;
    }
    if matches!(cause, HELD | Cause::Wallet(_)) {
        order.order_total = Some(900);
    }
    let reached = match cause {
        SHORT => OutOfStock,
        HELD => PaymentRequired,
        PAID => ToBeShipped,
        UNPAID => InsufficientFund,
        TURNED_DOWN | STRANGER => Rejected,
        Cause::Asked(_) => order.status,
    };
    let far = |step: &Step| (step.attempt, rank(step.status));
    let mut reached = step(reached, now, order.attempt);
    reached.request = act.map(|act| act.request);
    let follows = order.history.iter().any(|step| far(step) > far(&reached));
    reached.late = follows.then_some(order.history.len() as u32);
    let told = matches!(cause, Cause::Wallet(_)) && given.order_total.is_none();
    reached.order_total = told.then_some(900);
    order.history.push(reached);
    order.history.sort_by_key(far);

    let (id, customer_id, attempt) = (order.id, order.customer_id.clone(), order.attempt);
    let event = match cause {
        PAY => Some(append(&announced(&order, 0))),
        SHIP => Some(append(&OrderShipped { id, customer_id, attempt, resend: 0 })),
        COMPLETE => Some(append(&OrderCompleted { id, customer_id, attempt })),
        CANCEL => Some(append(&OrderCancelled { id, customer_id, attempt, resend: 0 })),
        _ => None,
    };
    let published = [updated(&order)].into_iter().chain(event).collect();
    (order, published)
}

#[test]
fn the_table_of_moves_has_every_status() {
    assert_eq!(MOVES.map(|(status, _)| status), OrderStatus::ALL);
}

#[test]
fn every_status_is_reached_in_the_first_and_in_the_second_attempt() {
    let reached: HashSet<(OrderStatus, u32)> =
        stories(rising).iter().map(|story| (story.order.status, story.order.attempt)).collect();
    for status in OrderStatus::ALL {
        for attempt in [1, 2] {
            assert!(reached.contains(&(status, attempt)), "{status:?} in attempt {attempt}");
        }
    }
}

#[test]
fn wherever_an_order_stands_its_history_is_in_order_and_ends_there() {
    for story in stories(rising) {
        let (order, case) = (&story.order, story.told());
        let far = |step: &Step| (step.attempt, rank(step.status));
        assert!(order.history.windows(2).all(|pair| far(&pair[0]) < far(&pair[1])), "{case}");
        assert_eq!(steps(order).last(), Some(&(order.attempt, order.status)), "{case}");
        assert_eq!(order.history[0], step(Pending, 1_000_000, 1), "{case}");
        let begun = order.history.iter().filter(|step| step.status == Pending).count();
        assert_eq!(begun, order.attempt as usize, "{case}: every attempt begins once");
        let asked = order.history.iter().filter_map(|step| step.request);
        let granted = story.granted.iter().map(|(act, _)| act.request);
        assert!(asked.eq(granted), "{case}: a step remembers the request for it");
    }
}

#[test]
fn a_result_moves_an_order_of_its_own_attempt_as_the_table_says() {
    for story in stories(rising) {
        let (given, now) = (&story.order, story.now() + 10);
        let mut at_rest = Service::with(&story.inputs);
        assert_eq!(at_rest.order().as_ref(), Some(given), "the story is true");
        for (cause, input) in results(given.attempt) {
            let case = format!("{}, when {cause:?}", story.told());
            let (then, published) = expected(given, cause, None, now);
            // Of two with one rank only one can happen.
            let ranks = steps(given).into_iter().map(|(attempt, it)| (attempt, rank(it)));
            let reached = then.history.iter().find(|step| !given.history.contains(step)).unwrap();
            if ranks.into_iter().any(|it| it == (given.attempt, rank(reached.status))) {
                assert_eq!(destination(given.status, cause), None, "{case}");
                // Money for what cannot be had: see below.
                if (given.status, cause) == (Rejected, PAID) {
                    continue;
                }
                assert_eq!(at_rest.when_nothing_happens(&input, now, &case), None);
                continue;
            }
            let mut service = Service::with(&story.inputs);
            assert_eq!(service.when(&input, now), None, "{case}: nobody is answered");
            assert_eq!(service.order(), Some(then), "{case}");
            assert_eq!(service.published(), published, "{case}");
            service.when_nothing_happens(&input, now + 1, &format!("{case}, and again"));
        }
    }
}

#[test]
fn a_result_of_an_older_or_newer_attempt_changes_nothing_anywhere() {
    for story in stories(rising) {
        let mut at_rest = Service::with(&story.inputs);
        let (attempt, now) = (story.order.attempt, story.now() + 10);
        for other in [attempt - 1, attempt + 1, 0, u32::MAX] {
            for (cause, input) in results(other) {
                let case = format!("{}, when {cause:?} of attempt {other}", story.told());
                assert_eq!(at_rest.when_nothing_happens(&input, now, &case), None, "{case}");
            }
        }
    }
}

#[test]
fn a_request_is_granted_as_the_table_says_and_else_told_the_status() {
    for story in stories(rising) {
        let (given, now) = (&story.order, story.now() + 10);
        let mut at_rest = Service::with(&story.inputs);
        for action in Action::ALL {
            let case = format!("{}, when asked to {}", story.told(), action.name());
            let cause = Cause::Asked(action);
            let asked = story.fresh_request(action);
            let input = Input::Act(asked.clone());
            if destination(given.status, cause).is_none() {
                let answer = at_rest.when_nothing_happens(&input, now, &case);
                assert_eq!(answer, Some(Answer::WrongState(given.status)), "{case}");
                continue;
            }
            let mut service = Service::with(&story.inputs);
            let (then, published) = expected(given, cause, Some(&asked), now);
            assert_eq!(service.when(&input, now), Some(Answer::Done(answered(&then))), "{case}");
            assert_eq!(service.order(), Some(then), "{case}");
            assert_eq!(service.published(), published, "{case}");
        }
    }
}

#[test]
fn what_an_order_takes_is_what_the_table_says() {
    for action in Action::ALL {
        for (status, _) in MOVES {
            let to = destination(status, Cause::Asked(action));
            assert_eq!(action.fits(status), to.is_some(), "{action:?} of {status:?}");
            assert!(to.is_none_or(|to| to == action.status()), "{action:?} of {status:?}");
        }
    }
}

#[test]
fn an_order_placed_again_is_answered_as_at_first_wherever_it_stands() {
    let others = [
        place(&["201"], "101"),
        place(&["201", "204", "204"], "101"),
        place(&["204", "201"], "101"),
        place(&["201", "204"], "102"),
    ];
    for story in stories(rising) {
        let (case, now) = (story.told(), story.now() + 10);
        let mut at_rest = Service::with(&story.inputs);
        let answer = at_rest.when_nothing_happens(&placed(), now, &case);
        assert_eq!(answer, Some(Answer::Replayed(new_order(1_000_000))), "{case}");
        for other in &others {
            let answer = at_rest.when_nothing_happens(other, now, &case);
            assert_eq!(answer, Some(Answer::KeyReused), "{case}, when {other:?}");
        }
    }
}

/// Every request that was ever granted, made once more in every way in which an order can stand.
fn repeat_every_request(tick: fn(Millis) -> Millis) {
    let mut repeated = 0;
    for story in stories(tick) {
        let mut at_rest = Service::with(&story.inputs);
        for (asked, first) in &story.granted {
            for action in Action::ALL {
                let case = format!("{}, when {action:?} has the id of {asked:?}", story.told());
                let again = Input::Act(ActionRequest { action, ..asked.clone() });
                let answer = at_rest.when_nothing_happens(&again, tick(story.now()), &case);
                let expected = if action == asked.action {
                    Answer::Replayed(first.clone())
                } else {
                    Answer::KeyReused
                };
                assert_eq!(answer, Some(expected), "{case}");
                repeated += 1;
            }
        }
    }
    assert!(repeated > 100);
}

#[test]
fn a_request_made_again_is_answered_as_at_first_wherever_the_order_stands() {
    repeat_every_request(rising);
}

#[test]
fn a_request_made_again_is_answered_as_at_first_though_all_happened_in_one_millisecond() {
    repeat_every_request(|now| now);
}

#[test]
fn a_request_made_again_is_answered_as_at_first_though_the_clocks_of_instances_differ() {
    repeat_every_request(|now| now - 10);
}

#[test]
fn an_order_that_waits_for_too_long_or_is_not_confirmed_is_sent_again_and_no_other() {
    for story in stories(rising) {
        let (given, case) = (&story.order, story.told());
        let overdue = Input::ResendOverdue(id());
        let mut service = Service::with(&story.inputs);
        let early = story.overdue_at() - 1;
        let answer = service.when_nothing_happens(&overdue, early, &case);
        assert_eq!(answer, Some(Answer::Nothing), "{case}, a millisecond too early");
        if !WAITS.contains(&given.status) && given.unconfirmed.is_empty() {
            for now in [story.overdue_at(), u64::MAX] {
                let answer = service.when_nothing_happens(&overdue, now, &case);
                assert_eq!(answer, Some(Answer::Nothing), "{case}: nobody owes an answer");
            }
            continue;
        }
        let now = story.overdue_at();
        let times = given.resent.map_or(0, |resent| resent.times) + 1;
        let then = Order { resent: Some(Resent { at: now, times }), ..given.clone() };
        assert_eq!(service.when(&overdue, now), Some(Answer::Done(then.clone())), "{case}");
        let (id, customer_id, attempt) = (id(), customer("101"), given.attempt);
        let resend = times;
        let event = match given.unconfirmed.first() {
            None => append(&announced(&then, times)),
            Some(StockCancelled | PaymentCancelled) => {
                append(&OrderCancelled { id, customer_id, attempt, resend })
            }
            Some(StockShipped) => append(&OrderShipped { id, customer_id, attempt, resend }),
            Some(StockReleased) => append(&OrderUnpaid { id, customer_id, attempt, resend }),
        };
        assert_eq!(service.published(), [updated(&then), event], "{case}");
        assert_eq!(service.order(), Some(then), "{case}");
        // Another instance looked at the same time.
        let answer = service.when_nothing_happens(&overdue, now, &case);
        assert_eq!(answer, Some(Answer::Nothing), "{case}, at once again");
    }
}

#[test]
fn each_time_an_order_is_sent_again_it_is_given_twice_as_long_up_to_a_limit() {
    for status in WAITS {
        let mut service = Service::with(&[(placed(), 5_000)]);
        let mut last = 5_000;
        if status == PaymentRequired {
            last = 7_000;
            service.when(&result(HELD, 1).unwrap(), last);
        }
        for (factor, times) in [1, 2, 4, 8, 16, 32, 64, 64, 64].into_iter().zip(1..) {
            let due = last + factor * PATIENCE;
            let early = service.when(&Input::ResendOverdue(id()), due - 1);
            assert_eq!(early, Some(Answer::Nothing), "the {times}. time");
            let Some(Answer::Done(order)) = service.when(&Input::ResendOverdue(id()), due) else {
                panic!("{status:?}: it was not sent again the {times}. time")
            };
            assert_eq!(order.resent, Some(Resent { at: due, times }));
            assert_eq!(order.status, status, "that is no step");
            last = due;
        }
    }
}

#[test]
fn a_step_ends_the_wait_and_the_next_one_is_short_again() {
    let overdue = Input::ResendOverdue(id());
    let result = |cause, attempt| result(cause, attempt).unwrap();
    let mut service = Service::with(&[(placed(), 0)]);
    for now in [1_000, 3_000, 7_000] {
        assert!(matches!(service.when(&overdue, now), Some(Answer::Done(_))), "at {now}");
    }
    service.when(&result(HELD, 1), 8_000);
    assert_eq!(service.order().unwrap().resent, None, "what it waited for came");
    assert_eq!(service.when(&overdue, 8_999), Some(Answer::Nothing));
    assert!(matches!(service.when(&overdue, 9_000), Some(Answer::Done(_))));

    service.when(&result(UNPAID, 1), 9_500);
    assert_eq!(service.order().unwrap().resent, None);
    service.when(&confirmed(StockReleased, 1), 9_600);
    assert_eq!(service.when(&overdue, 1_000_000), Some(Answer::Nothing), "it waits for a customer");
    service.asked(Action::Pay, 1, 20_000);
    assert_eq!(service.when(&overdue, 20_999), Some(Answer::Nothing));
    let Some(Answer::Done(order)) = service.when(&overdue, 21_000) else { panic!("overdue") };
    assert_eq!(order.resent, Some(Resent { at: 21_000, times: 1 }));
    assert_eq!(order.attempt, 2);

    service.asked(Action::Cancel, 2, 21_500);
    assert_eq!(service.order().unwrap().resent, None, "another wait begins");
    assert_eq!(service.when(&overdue, 22_499), Some(Answer::Nothing));
    service.when(&confirmed(StockCancelled, 2), 22_499);
    service.when(&confirmed(PaymentCancelled, 2), 22_499);
    assert_eq!(service.when(&overdue, u64::MAX), Some(Answer::Nothing), "nothing is waited for");
}

#[test]
fn a_confirmation_ends_the_wait_for_it_and_for_nothing_else() {
    let mut ended = 0;
    for story in stories(rising) {
        let (given, now) = (&story.order, story.now() + 10);
        let mut at_rest = Service::with(&story.inputs);
        for confirmation in CONFIRMATIONS {
            for attempt in [given.attempt - 1, given.attempt, given.attempt + 1] {
                let case = format!("{}, when {confirmation:?} of {attempt}", story.told());
                let input = confirmed(confirmation, attempt);
                let is_due = given.unconfirmed.contains(&confirmation);
                if !is_due || attempt != given.attempt {
                    at_rest.when_nothing_happens(&input, now, &case);
                    continue;
                }
                let mut then = given.clone();
                then.unconfirmed.retain(|it| *it != confirmation);
                then.resent = then.resent.filter(|_| !then.unconfirmed.is_empty());
                let mut service = Service::with(&story.inputs);
                service.when(&input, now);
                assert_eq!(service.published(), [updated(&then)], "{case}");
                assert_eq!(service.order(), Some(then), "{case}");
                service.when_nothing_happens(&input, now, &case);
                ended += 1;
            }
        }
    }
    assert!(ended > 20, "{ended}");
}

#[test]
fn a_step_that_is_never_confirmed_is_published_twenty_times_and_reported_once() {
    let paid = [(placed(), 0), (result(PAID, 1).unwrap(), 0)];
    for (action, stream) in [(CANCEL, Stream::OrderCancelled), (SHIP, Stream::OrderShipped)] {
        let Cause::Asked(action) = action else { panic!("a request") };
        let mut service = Service::with(&paid);
        service.asked(action, 1, 0);
        let listed = |service: &Service| {
            let places = service.order().unwrap().places();
            places.iter().any(|place| place.set == "{order}:unconfirmed")
        };
        let mut last = 0;
        for times in 1..=CONFIRMATION_RESENDS_MAX {
            let due = last + (PATIENCE << (times - 1).min(6));
            assert_eq!(service.when(&Input::ResendOverdue(id()), due - 1), Some(Answer::Nothing));
            let answer = service.when(&Input::ResendOverdue(id()), due);
            assert!(matches!(answer, Some(Answer::Done(_))), "{times}: {answer:?}");
            assert!(listed(&service));
            last = due;
        }
        let published = service.0.take(stream).len() as u32;
        assert_eq!(published, 1 + CONFIRMATION_RESENDS_MAX);
        let answer = service.when(&Input::ResendOverdue(id()), last + 64 * PATIENCE);
        assert!(matches!(answer, Some(Answer::Unconfirmed(_))), "{answer:?}");
        assert!(!listed(&service), "nobody looks at it any more");
        service.published();
        let answer =
            service.when_nothing_happens(&Input::ResendOverdue(id()), u64::MAX, "an overdue order");
        assert_eq!(answer, Some(Answer::Nothing));
        // It is taken all the same if it comes late.
        for confirmation in CONFIRMATIONS {
            service.when(&confirmed(confirmation, 1), u64::MAX);
        }
        assert_eq!(service.order().unwrap().unconfirmed, []);
    }
}

#[test]
fn an_order_is_listed_as_unconfirmed_and_as_open_as_long_as_it_is() {
    for story in stories(rising) {
        let places = story.order.places();
        let sets: Vec<&str> = places[2..].iter().map(|place| place.set.as_str()).collect();
        let is_open = !matches!(story.order.status, Completed | Rejected | Cancelled);
        let unconfirmed = (!story.order.unconfirmed.is_empty()).then_some("{order}:unconfirmed");
        let open = is_open.then_some("{order}:open");
        let expected: Vec<&str> = [unconfirmed, open].into_iter().flatten().collect();
        assert_eq!(sets, expected, "{}", story.told());
        let own = format!("101/{}", places[0].member);
        let sorted_by_customer = ["{order}:open", places[1].set.as_str()];
        for place in &places {
            let is_own = sorted_by_customer.contains(&place.set.as_str());
            assert_eq!(place.member, if is_own { &own } else { &places[0].member }.as_str());
        }
    }
}

#[test]
fn an_order_of_the_version_before_counts_as_confirmed() {
    let stored = serde_json::to_value(new_order(1)).unwrap();
    assert_eq!(stored.get("unconfirmed"), None, "nothing is stored where nothing is outstanding");
    let mut stored = Order { status: Cancelled, ..serde_json::from_value(stored).unwrap() };
    stored.history.push(step(Cancelled, 2, 1));
    assert_eq!(after(&stored, &Input::ResendOverdue(id()), u64::MAX), None);
    assert_eq!(stored.places().len(), 2);
}

#[test]
fn confirmations_are_read_from_the_streams_of_both_owners() {
    let table = [
        (Stream::InventoryConfirmed, "cancelled", Some(StockCancelled)),
        (Stream::InventoryConfirmed, "shipped", Some(StockShipped)),
        (Stream::InventoryConfirmed, "released", Some(StockReleased)),
        (Stream::AccountConfirmed, "cancelled", Some(PaymentCancelled)),
        (Stream::AccountConfirmed, "shipped", None),
    ];
    for (stream, step, confirmation) in table {
        let entity = format!(r#"{{"order_id": "{}", "attempt": 2, "step": "{step}"}}"#, id());
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entry = StreamEntry { id: EntryId::default(), entity: &entity, forgotten: false };
        let expected = confirmation.map(|it| confirmed(it, 2));
        assert_eq!((subscription.parse)(&entry), Ok(expected), "{stream} {step}");
    }
}

#[test]
fn an_order_that_was_never_placed_is_unknown() {
    let mut service = Service::new();
    for action in Action::ALL {
        let input = Input::Act(act(action, 1));
        let answer = service.when_nothing_happens(&input, 1, action.name());
        assert_eq!(answer, Some(Answer::Unknown));
    }
    let answer =
        service.when_nothing_happens(&Input::ResendOverdue(id()), u64::MAX, "an overdue order");
    assert_eq!(answer, Some(Answer::Nothing));
    for attempt in [1, 2] {
        for (cause, input) in results(attempt) {
            assert_eq!(service.when_nothing_happens(&input, 1, &format!("{cause:?}")), None);
        }
    }
}

#[test]
fn results_may_come_in_any_order_and_end_in_the_same() {
    let histories: [&[Cause]; 9] = [
        &[SHORT, HELD],
        &[SHORT, TURNED_DOWN],
        &[HELD, PAID],
        &[HELD, UNPAID],
        &[HELD, STRANGER],
        &[SHORT, HELD, PAID],
        &[SHORT, HELD, UNPAID],
        &[SHORT, HELD, STRANGER],
        &[SHORT, TURNED_DOWN, HELD],
    ];
    for attempt in [1, 2] {
        let mut inputs = vec![(placed(), 1)];
        if attempt == 2 {
            inputs.push((result(UNPAID, 1).unwrap(), 2));
            inputs.push((Input::Act(act(Action::Pay, 7)), 3));
        }
        for causes in histories {
            let mut ends = permutations(causes).into_iter().map(|permutation| {
                let mut service = Service::with(&inputs);
                for cause in permutation {
                    // Each is learned of at a time of its own, to be told from the others.
                    let number = causes.iter().position(|it| *it == cause).unwrap();
                    service.when(&result(cause, attempt).unwrap(), 10 + number as u64);
                }
                // But for what tells in which order they came.
                let mut order = service.order().unwrap();
                for step in &mut order.history {
                    (step.late, step.order_total) = (None, None);
                }
                order
            });
            let end = ends.next().unwrap();
            let causes_known = steps(&end).iter().filter(|step| step.0 == attempt).count() - 1;
            assert_eq!(causes_known, causes.len(), "{causes:?}: all of them are remembered");
            assert!(ends.all(|other| other == end), "{causes:?} in attempt {attempt}");
        }
    }
}

fn permutations(causes: &[Cause]) -> Vec<Vec<Cause>> {
    if causes.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in causes.iter().enumerate() {
        let rest = [&causes[..place], &causes[place + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [&[*first][..], &rest].concat()));
    }
    all
}

#[test]
fn what_is_learned_after_an_order_was_cancelled_joins_its_history_only() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.asked(Action::Cancel, 7, 2);
    for (cause, now) in [(PAID, 3), (HELD, 4), (SHORT, 5), (UNPAID, 6), (STRANGER, 7)] {
        service.when(&result(cause, 1).unwrap(), now);
    }
    let order = service.order().unwrap();
    let history: Vec<_> = order.history.iter().map(|step| (step.status, step.at)).collect();
    let expected =
        [(Pending, 1), (OutOfStock, 5), (PaymentRequired, 4), (ToBeShipped, 3), (Cancelled, 2)];
    assert_eq!(history, expected);
    assert_eq!((order.status, order.reason), (Cancelled, None));
    assert_eq!(order.order_total, Some(900), "what it would have cost is known even so");
}

#[test]
fn an_order_that_is_paid_for_twice_at_once_is_tried_once() {
    let mut service = Service::with(&[(placed(), 1), (result(UNPAID, 1).unwrap(), 2)]);
    let Some(Answer::Done(first)) = service.asked(Action::Pay, 7, 3) else { panic!("not tried") };
    assert_eq!(service.asked(Action::Pay, 8, 3), Some(Answer::WrongState(Pending)));
    assert_eq!(service.asked(Action::Pay, 7, 3), Some(Answer::Replayed(first.clone())));
    assert_eq!(service.order(), Some(first));
    let created: Vec<OrderCreated> = (service.0.take(Stream::OrderCreated).iter())
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    let attempts: Vec<_> = created.iter().map(|event| (event.attempt, event.resend)).collect();
    assert_eq!(attempts, [(2, 0)]);
}

#[test]
fn an_order_may_be_tried_again_and_again() {
    let mut service = Service::with(&[(placed(), 0)]);
    for attempt in 1..=5 {
        let now = u64::from(attempt) * 10;
        service.when(&result(HELD, attempt).unwrap(), now);
        service.when(&result(UNPAID, attempt).unwrap(), now + 1);
        let order = service.order().unwrap();
        assert_eq!((order.status, order.order_total), (InsufficientFund, Some(900)));
        assert!(order.reason.is_some());
        service.asked(Action::Pay, u128::from(attempt), now + 2);
        let order = service.order().unwrap();
        assert_eq!((order.status, order.attempt), (Pending, attempt + 1));
        let begun_anew = (order.order_total, &order.reason, order.resent);
        assert_eq!(begun_anew, (None, &None, None), "nothing is left of the attempt before");
    }
    let one = |attempt| [Pending, PaymentRequired, InsufficientFund].map(|it| (attempt, it));
    let expected: Vec<_> = (1..=5).flat_map(one).chain([(6, Pending)]).collect();
    assert_eq!(steps(&service.order().unwrap()), expected);
}

/// The stored form of an order: the order and the records of requests to pay again.
fn stored_bytes(service: &Service) -> (usize, Vec<usize>) {
    let order = serde_json::to_string(&service.order().unwrap()).unwrap();
    let records = service.0.all::<Retry>();
    let records = records.iter().map(|it| serde_json::to_string(it).unwrap().len()).collect();
    (order.len(), records)
}

#[test]
fn an_order_tried_hundreds_of_times_stays_small_and_repeats_every_answer() {
    let mut service = Service::with(&[(placed(), 1_000_000)]);
    let mut granted = Vec::new();
    let mut largest_early = 0;
    for attempt in 1..=300 {
        let now = 1_000_000 + u64::from(attempt) * 10;
        // Results come in every order, so some steps are known late.
        let causes = permutations(&[SHORT, HELD, UNPAID]);
        for cause in causes[attempt as usize % causes.len()].iter().rev() {
            service.when(&result(*cause, attempt).unwrap(), now);
        }
        let (order, records) = stored_bytes(&service);
        if attempt <= 2 * KEPT_ATTEMPTS {
            largest_early = largest_early.max(order);
        }
        assert!(order <= largest_early + 100, "{order} bytes in attempt {attempt}");
        assert!(records.iter().all(|size| *size <= largest_early), "{records:?}");
        let Some(Answer::Done(answer)) = service.asked(Action::Pay, attempt.into(), now + 1) else {
            panic!("attempt {attempt} was the last")
        };
        assert_eq!((answer.attempt, answer.status), (attempt + 1, Pending));
        assert_eq!(answer.history[0], step(Pending, 1_000_000, 1), "the first step stays");
        granted.push(answer);
        if attempt % 60 != 0 && attempt > 2 * KEPT_ATTEMPTS {
            continue;
        }
        let case = format!("in attempt {}", attempt + 1);
        service.0.published.clear();
        for (request, first) in (1..).zip(&granted) {
            let again = Input::Act(act(Action::Pay, request));
            let answer = service.when_nothing_happens(&again, now + 2, &case);
            assert_eq!(answer, Some(Answer::Replayed(first.clone())), "{case}: {request}");
            let reused = Input::Act(act(Action::Cancel, request));
            let answer = service.when_nothing_happens(&reused, now + 2, &case);
            assert_eq!(answer, Some(Answer::KeyReused), "{case}: {request}");
        }
        let answer = service.when_nothing_happens(&placed(), now + 2, &case);
        assert_eq!(answer, Some(Answer::Replayed(new_order(1_000_000))), "{case}");
    }
    let order = service.order().unwrap();
    let all_steps = 300 * 4 + 1;
    assert_eq!(order.history.len() + order.omitted.unwrap() as usize, all_steps);
    // The end is like that of any order.
    let Some(Answer::Done(cancelled)) = service.asked(Action::Cancel, 1_000, 2_000_000) else {
        panic!("not cancelled")
    };
    service.when(&result(HELD, 301).unwrap(), 2_000_001);
    let answer = service.asked(Action::Cancel, 1_000, 2_000_002);
    assert_eq!(answer, Some(Answer::Replayed(cancelled)));
}

#[test]
fn an_order_with_its_limit_of_attempts_is_not_tried_again_but_can_be_cancelled() {
    for attempt in [MAX_ATTEMPTS, MAX_ATTEMPTS + 1, u32::MAX] {
        let given = Order { status: InsufficientFund, attempt, omitted: Some(9), ..new_order(1) };
        let mut world = World::for_tests().with(given);
        let mut ask = |action| {
            let mut changes = ORDERS.decide(&Input::Act(act(action, 7)), &world, 2).unwrap();
            let is_empty = changes.is_empty();
            world.apply(&mut changes);
            (is_empty, changes.into_answer().unwrap())
        };
        let refused = Answer::AttemptLimit { status: InsufficientFund, limit: MAX_ATTEMPTS };
        for action in [Action::Pay, Action::Ship, Action::Complete] {
            assert_eq!(ask(action), (true, refused.clone()), "{action:?}");
        }
        let (_, answer) = ask(Action::Cancel);
        assert!(matches!(&answer, Answer::Done(order) if order.status == Cancelled), "{answer:?}");
    }
    let given = Order { status: InsufficientFund, attempt: MAX_ATTEMPTS - 1, ..new_order(1) };
    let world = World::for_tests().with(Order { omitted: Some(9), ..given });
    let changes = ORDERS.decide(&Input::Act(act(Action::Pay, 7)), &world, 2).unwrap();
    assert!(matches!(changes.into_answer(), Some(Answer::Done(_))));
}

#[test]
fn a_customer_has_so_many_open_orders_and_another_one_when_one_is_over() {
    let mut service = Service(Memory::new(Orders { max_open: 2, ..ORDERS }));
    let place = |number: u128, payer: &str| {
        let (product_ids, customer_id) = (products(&["201"]), customer(payer));
        Input::Place(NewOrder { id: OrderId(Uuid::from_u128(number)), product_ids, customer_id })
    };
    let ask = |service: &mut Service, number, payer| {
        let answer = service.when(&place(number, payer), 1).expect("an answer");
        let orders = service.0.all::<Order>().len();
        (answer, orders, service.published().len())
    };
    let full = Answer::TooManyOpen { limit: 2 };
    for number in [1, 2] {
        assert!(matches!(ask(&mut service, number, "101"), (Answer::Done(_), _, 1)));
    }
    assert_eq!(ask(&mut service, 3, "101"), (full.clone(), 2, 0));
    assert!(matches!(ask(&mut service, 1, "101"), (Answer::Replayed(_), 2, 0)), "a repetition");
    assert!(matches!(ask(&mut service, 4, "102"), (Answer::Done(_), 3, 1)), "another customer");
    // Order 1 goes from status to status: only at its end is there room.
    for (input, is_over) in [
        (result(HELD, 1).unwrap(), false),
        (result(UNPAID, 1).unwrap(), false),
        (Input::Act(act(Action::Pay, 1)), false),
        (result(HELD, 2).unwrap(), false),
        (result(PAID, 2).unwrap(), false),
        (Input::Act(act(Action::Ship, 2)), false),
        (Input::Act(act(Action::Complete, 3)), true),
    ] {
        service.when(&input, 2);
        service.published();
        let (answer, ..) = ask(&mut service, 5, "101");
        assert_eq!(answer != full, is_over, "{input:?}");
    }
    assert_eq!(ask(&mut service, 6, "101").0, full);
}

/// An order as earlier versions stored it: all steps of all attempts, and no records.
fn of_an_earlier_version(attempts: u32) -> Order {
    let mut order = new_order(1_000);
    for attempt in 1..=attempts {
        let at = 1_000 + u64::from(attempt) * 10;
        if attempt > 1 {
            let request = Some(Uuid::from_u128(attempt.into()));
            order.history.push(Step { request, ..step(Pending, at, attempt) });
        }
        // The payment was known before the stock check.
        let late = Some(order.history.len() as u32 + 1);
        order.history.push(Step { late, ..step(PaymentRequired, at + 2, attempt) });
        let order_total = Some(900);
        order.history.push(Step { order_total, ..step(InsufficientFund, at + 1, attempt) });
    }
    Order { status: InsufficientFund, attempt: attempts, order_total: Some(900), ..order }
}

#[test]
fn an_order_of_an_earlier_version_is_shortened_once_and_repeats_its_answers() {
    for attempts in [2, KEPT_ATTEMPTS - 1, KEPT_ATTEMPTS, KEPT_ATTEMPTS + 1, 49] {
        let given = of_an_earlier_version(attempts);
        let replayed = |world: &World| -> Vec<Option<Answer>> {
            let requests = (2..=attempts).map(|attempt| act(Action::Pay, attempt.into()));
            let replays = requests.map(|it| ORDERS.decide(&Input::Act(it), world, 9_000).unwrap());
            replays.map(Changes::into_answer).collect()
        };
        let mut world = World::for_tests().with(given.clone());
        let before = replayed(&world);
        for request in 1_000..1_003 {
            let order = world.get::<Order>(&id()).unwrap().unwrap().clone();
            world = world.with(Order { status: InsufficientFund, ..order });
            let pay = Input::Act(act(Action::Pay, request));
            let mut changes = ORDERS.decide(&pay, &world, 8_000).unwrap();
            world.apply(&mut changes);
            assert!(matches!(changes.into_answer(), Some(Answer::Done(_))), "{attempts}");
            assert_eq!(replayed(&world), before, "{attempts} attempts, request {request}");
        }
        let order = world.get::<Order>(&id()).unwrap().unwrap();
        assert!(order.history.len() <= 1 + 3 * KEPT_ATTEMPTS as usize, "{order:?}");
    }
}

#[test]
fn an_order_of_an_earlier_version_with_too_many_attempts_is_served_and_not_tried_again() {
    let attempts = 4_000;
    let given = of_an_earlier_version(attempts);
    let world = World::for_tests().with(given.clone());
    let ask = |action, request| {
        let changes = ORDERS.decide(&Input::Act(act(action, request)), &world, 9_000).unwrap();
        changes.into_answer().unwrap()
    };
    let limit = MAX_UNSHORTENED_ATTEMPTS;
    let refused = Answer::AttemptLimit { status: InsufficientFund, limit };
    assert_eq!(ask(Action::Pay, 1_000_000), refused);
    assert!(matches!(ask(Action::Pay, 2), Answer::Replayed(order) if order.attempt == 2));
    let Answer::Done(order) = ask(Action::Cancel, 1_000_000) else { panic!("not cancelled") };
    assert_eq!(order.history[..given.history.len()], given.history, "nothing is lost");
}

#[test]
fn a_changed_order_is_published_flat_and_without_its_history() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.when(&Input::ResendOverdue(id()), PATIENCE + 1);
    service.when(&result(UNPAID, 1).unwrap(), 2_002);
    service.asked(Action::Pay, 1, 2_003);
    service.asked(Action::Cancel, 2, 2_004);
    let published = service.0.take(Stream::OrderUpdated);
    let published: Vec<serde_json::Value> =
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
    let flat = |status: &str, attempt, updated_at: u64| {
        serde_json::json!({
            "id": id(), "product_ids": ["201", "204"], "customer_id": "101", "status": status,
            "attempt": attempt, "created_at": 1, "updated_at": updated_at,
        })
    };
    let mut unpaid = flat("insufficient-fund", 1, 2_002);
    unpaid["order_total"] = 900.into();
    unpaid["reason"] = reason(UNPAID).unwrap().into();
    let expected = [
        flat("pending", 1, PATIENCE + 1),
        unpaid,
        flat("pending", 2, 2_003),
        flat("cancelled", 2, 2_004),
    ];
    assert_eq!(published, expected);
}

#[test]
fn a_new_order_is_pending_and_announced() {
    let mut service = Service::new();
    assert_eq!(service.when(&placed(), 7), Some(Answer::Done(new_order(7))));
    assert_eq!(service.order(), Some(new_order(7)));
    assert_eq!(service.published(), [append(&announced(&new_order(7), 0))]);
}

#[test]
fn events_look_as_in_the_contract() {
    let mut service = Service::new();
    service.when(&place(&["201", "204", "201"], "101"), 0);
    service.when(&Input::ResendOverdue(id()), PATIENCE);
    service.when(&result(UNPAID, 1).unwrap(), 2_000);
    service.asked(Action::Pay, 1, 2_001);
    service.when(&result(PAID, 2).unwrap(), 2_002);
    service.asked(Action::Ship, 2, 2_003);
    service.asked(Action::Complete, 3, 2_004);
    let created = |attempt| {
        serde_json::json!({
            "id": id(), "product_ids": ["201", "204", "201"], "customer_id": "101",
            "status": "pending", "attempt": attempt,
        })
    };
    let mut resent = created(1);
    resent["resend"] = 1.into();
    let about = |attempt| serde_json::json!({"id": id(), "customer_id": "101", "attempt": attempt});
    let mut taken = |stream| -> Vec<serde_json::Value> {
        let published = service.0.take(stream);
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    };
    assert_eq!(taken(Stream::OrderCreated), [created(1), resent, created(2)]);
    assert_eq!(taken(Stream::OrderShipped), [about(2)]);
    assert_eq!(taken(Stream::OrderCompleted), [about(2)]);
    assert_eq!(taken(Stream::OrderUpdated).len(), 6, "every change but the first is announced");
    assert!(service.published().is_empty());

    let mut service = Service::with(&[(placed(), 1)]);
    service.asked(Action::Cancel, 1, 2);
    let cancelled = service.0.take(Stream::OrderCancelled);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&cancelled[0]).unwrap(), about(1));
    assert_eq!(cancelled.len(), 1);
}

#[test]
fn an_order_is_listed_with_its_customers_and_with_those_of_its_status() {
    let names = [
        (Pending, "pending"),
        (OutOfStock, "out-of-stock"),
        (PaymentRequired, "payment-required"),
        (InsufficientFund, "insufficient-fund"),
        (ToBeShipped, "to-be-shipped"),
        (Shipped, "shipped"),
        (Completed, "completed"),
        (Rejected, "rejected"),
        (Cancelled, "cancelled"),
    ];
    for story in stories(rising) {
        let (_, name) = names.iter().find(|(status, _)| *status == story.order.status).unwrap();
        // 1,000,000 ms; however often it is tried, it was placed then.
        let member = "0000000f4240-00000000-0000-0000-0000-000000000001".to_owned();
        let of_all = Listed::new(format!("{{order}}:status:{name}"), member.clone());
        let own = format!("101/{member}");
        let of_customer = Listed::new(format!("{{order}}:status:{name}:customers"), own);
        assert_eq!(story.order.places()[..2], [of_all, of_customer], "{}", story.told());
        assert_eq!(story.order.lists(), ["{order}:index:101"]);
    }
}

#[test]
fn an_order_of_an_earlier_version_is_listed_without_being_changed_or_announced() {
    for story in stories(rising) {
        let mut service = Service::with(&story.inputs);
        let answer = service.when_nothing_happens(&Input::Reindex(id()), u64::MAX, &story.told());
        assert_eq!(answer, Some(Answer::Nothing));
    }
    let world = World::for_tests().with(new_order(1));
    let changes = ORDERS.decide(&Input::Reindex(id()), &world, 2).unwrap();
    assert!(!changes.is_empty(), "it is written, and so joins its sets");
}

#[test]
fn orders_of_one_status_sort_by_their_age() {
    // Times, then ids; the older one comes first as text as well.
    let ages = [(0, 9), (1, 2), (999, 1), (1_767_225_600_000, 5), (1_767_225_600_000, 6)];
    let members = ages.map(|(at, number)| {
        let order = Order { id: OrderId(Uuid::from_u128(number)), ..new_order(at) };
        order.places().remove(0).member
    });
    assert!(members.is_sorted(), "{members:?}");
    // The resending task reads those before a time, and takes the id from behind the first dash.
    assert!(members[3] < format!("{:012x}", 1_767_225_600_001_u64));
    assert!(members[3] > format!("{:012x}", 1_767_225_600_000_u64));
    let (_, id) = members[3].split_once('-').unwrap();
    assert_eq!(id.parse(), Ok(OrderId(Uuid::from_u128(5))));
}

#[test]
fn an_order_is_found_where_its_status_was_and_moved_to_where_it_is() {
    let (given, mut places) = (new_order(1), Vec::new());
    places.push(given.places());
    let held = after(&given, &result(HELD, 1).unwrap(), 2).unwrap();
    places.push(held.places());
    let sent_again = after(&held, &Input::ResendOverdue(id()), 5_000).unwrap();
    places.push(sent_again.places());
    let late = after(&sent_again, &result(SHORT, 1).unwrap(), 5_001).unwrap();
    places.push(late.places());
    assert_ne!(places[0], places[1], "a step moves it");
    assert_eq!(places[1], places[2], "being sent again does not");
    assert_eq!(places[1], places[3], "nor does what is learned late");
}

#[test]
fn only_an_order_that_waits_for_stock_is_sent_again_when_its_line_is_lost() {
    for story in stories(rising) {
        let (given, case) = (&story.order, story.told());
        let mut service = Service::with(&story.inputs);
        if given.status != OutOfStock {
            let answer = service.when_nothing_happens(&Input::Requeue(id()), u64::MAX, &case);
            assert_eq!(answer, Some(Answer::Nothing), "{case}");
            continue;
        }
        let answer = service.when(&Input::Requeue(id()), 1_000_000);
        assert_eq!(answer, Some(Answer::Done(given.clone())), "{case}");
        assert_eq!(service.published(), [append(&announced(given, 1))], "{case}");
        assert_eq!(service.order().as_ref(), Some(given), "{case}: that is no step");
    }
}

#[test]
fn what_was_paid_for_an_order_that_was_turned_down_is_given_back() {
    let mut service = Service::with(&[(placed(), 1), (result(TURNED_DOWN, 1).unwrap(), 2)]);
    let order = service.order().unwrap();
    service.when(&result(PAID, 1).unwrap(), 3);
    let customer_id = order.customer_id.clone();
    let called_off = OrderCancelled { id: id(), customer_id, attempt: 1, resend: 0 };
    let then = Order { unconfirmed: vec![StockCancelled, PaymentCancelled], ..order };
    assert_eq!(service.published(), [updated(&then), append(&called_off)]);
    assert_eq!(service.order(), Some(then), "it stays turned down");
}

#[test]
fn results_that_a_lost_store_knew_are_of_no_concern() {
    for subscription in subscriptions() {
        let entry = StreamEntry { id: EntryId::default(), entity: "", forgotten: true };
        assert_eq!((subscription.parse)(&entry), Ok(None), "{}", subscription.stream);
    }
}

#[test]
fn entries_of_the_original_are_understood() {
    let check = |rest: &str| {
        let id = id();
        let entity = format!(
            r#"{{"order_id": "{id}", "customer_id": "101", "product_ids": ["201", "204"], {rest}}}"#
        );
        (Stream::InventoryCheck, entity)
    };
    let payment = |outcome: &str| {
        let id = id();
        let entity =
            format!(r#"{{"order_id": "{id}", "customer_id": "101", "account": "{outcome}"}}"#);
        (Stream::AccountWallet, entity)
    };
    let table = [
        (
            check(r#""inventory": "payment-required", "order_total": 900"#),
            PaymentRequired,
            Some(900),
        ),
        (check(r#""inventory": "out-of-stock""#), OutOfStock, None),
        (payment("to-be-shipped"), ToBeShipped, None),
        (payment("insufficient-fund"), InsufficientFund, None),
    ];
    for ((stream, entity), status, total) in table {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        let entry = StreamEntry { id: EntryId::default(), entity: &entity, forgotten: false };
        let input = (subscription.parse)(&entry).unwrap().unwrap();
        let then = after(&new_order(1), &input, 2).unwrap();
        assert_eq!((then.status, then.order_total), (status, total), "{entity}");
        let known = Order { order_total: Some(900), ..new_order(1) };
        let then = after(&known, &input, 2).unwrap();
        assert_eq!(then.order_total, Some(900), "{entity}: what is not said is not forgotten");
    }
}

/// A result as the services of the original tell it: without attempt and reason.
fn of_the_original(cause: Cause, entry: u64) -> Input {
    let entry = original_entry(entry);
    match result(cause, 1).unwrap() {
        Input::Stock(event, _) => {
            Input::Stock(StockChecked { attempt: None, reason: None, ..event }, entry)
        }
        Input::Wallet(event, _) => {
            let event = WalletChecked { attempt: None, reason: None, order_total: None, ..event };
            Input::Wallet(event, entry)
        }
        _ => unreachable!("only results have causes"),
    }
}

fn original_entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600, sequence: number }
}

#[test]
fn a_result_without_attempt_is_about_the_current_one() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.when(&of_the_original(HELD, 3), 2);
    assert_eq!(service.order().unwrap().status, PaymentRequired);
    service.when(&of_the_original(UNPAID, 5), 3);
    assert_eq!(service.order().unwrap().status, InsufficientFund);
    // Other entries with the same news.
    service.when(&of_the_original(UNPAID, 6), 3);
    service.when(&of_the_original(HELD, 4), 3);
    service.published();
    service.when_nothing_happens(&of_the_original(HELD, 3), 3, "it is known");
    service.asked(Action::Pay, 7, 4);
    let created = service.published().into_iter().find(|it| it.stream == Stream::OrderCreated);
    let created: OrderCreated = serde_json::from_str(&created.unwrap().json).unwrap();
    let marks = (created.checked_by, created.refused_by);
    assert_eq!(marks, (Some(original_entry(4)), Some(original_entry(6))));
    for (cause, entry) in [(HELD, 3), (HELD, 4), (UNPAID, 5), (UNPAID, 6)] {
        let case = "it was about the attempt before";
        service.when_nothing_happens(&of_the_original(cause, entry), 5, case);
    }
    service.when(&of_the_original(HELD, 5), 6);
    service.when(&of_the_original(UNPAID, 7), 7);
    let order = service.order().unwrap();
    assert_eq!((order.status, order.attempt), (InsufficientFund, 2));
    service.asked(Action::Pay, 8, 8);
    service.when(&of_the_original(PAID, 8), 9);
    let order = service.order().unwrap();
    assert_eq!((order.status, order.attempt), (ToBeShipped, 3));
    service.published();
    service.when_nothing_happens(&of_the_original(PAID, 8), 10, "it is paid");
}

#[test]
fn what_a_service_without_attempts_takes_after_it_has_refused_is_paid() {
    let mut service = Service::with(&[(placed(), 1)]);
    service.when(&of_the_original(HELD, 0), 2);
    service.when(&of_the_original(UNPAID, 5), 3);
    service.when(&of_the_original(PAID, 6), 4);
    let order = service.order().unwrap();
    assert_eq!((order.status, order.unconfirmed), (ToBeShipped, Vec::new()));
    let statuses: Vec<_> = order.history.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [Pending, PaymentRequired, InsufficientFund, ToBeShipped]);
}

#[test]
fn what_binds_somebody_to_an_order_that_never_was_is_called_off() {
    for (cause, input) in results(2) {
        let mut service = Service(Memory::new(Orders { single_redis: true, ..ORDERS }));
        service.when(&input, 1);
        let (id, customer_id) = (id(), customer("101"));
        let off = append(&OrderCancelled { id, customer_id, attempt: 2, resend: 0 });
        let binds = matches!(cause, HELD | SHORT | PAID);
        assert_eq!(service.published(), if binds { vec![off] } else { vec![] }, "{cause:?}");
        assert_eq!(service.order(), None);
        // Where the orders may have been lost and what speaks of them was not, nobody can tell.
        Service::new().when_nothing_happens(&input, 1, "they may be lost");
    }
}
