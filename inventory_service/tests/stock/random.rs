//! Properties over random histories: stock and queues are consistent after each input, and stock goes to the
//! orders that a simple model of the rules fills.
//!
//! `PROPTEST_CASES` sets how many histories are tried. A failure prints the smallest one found.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contract::{
        entities::Product,
        events::{
            OrderCreated,
            StockOutcome::{self, OutOfStock, PaymentRequired},
        },
        ids::ProductId,
    },
    schema::entry_id::EntryId,
};
use inventory_service::{
    Limits,
    reservation::{Reservation, ReservationState, quantities},
    stock::Input,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestError, TestRunner},
};
use uuid::Uuid;

use crate::support::{
    Warehouse, cancelled_again, created, entry, ordered, ordered_after, paid_by_the_original,
    product_id, redefined, resent_after, restocked, shipped_again, still_unpaid, unpaid,
    unpaid_by_the_original,
};

/// Histories that are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 500;
const PRODUCTS: [&str; 3] = ["201", "202", "203"];

/// The steps of a history. A number chooses among the possibilities at its time, modulo their count.
#[derive(Clone, Debug)]
enum Step {
    New(Input),
    /// An earlier input is redelivered.
    Again(usize),
    /// A queue is filled further.
    Move(usize),
    /// The event that continues to fill a queue is lost.
    Lose(usize),
}

#[derive(Clone, Debug)]
struct History {
    limits: Limits,
    steps: Vec<Step>,
}

fn for_all<S: Strategy>(histories: S, property: impl Fn(&S::Value)) {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    let cases = if asked { default.cases } else { CASES };
    let config = ProptestConfig { cases, failure_persistence: None, ..default };
    let result = TestRunner::new(config).run(&histories, |history| {
        property(&history);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("{why}\nin this history: {history:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// The products of each order.
fn wants(products: usize) -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    let id = prop_oneof![
        20 => (0..products).prop_map(|number| PRODUCTS[number]),
        1 => Just("999"),
    ];
    vec(vec(id, 1..=4), 1..=8)
}

/// Inputs about these orders; entries and deliveries are numbered by their positions.
fn inputs(products: usize, attempts: u32, count: usize) -> impl Strategy<Value = Vec<Input>> {
    let input = (0..20_u8, any::<u8>(), 1..=attempts, 0..=6_u64, any::<bool>());
    (wants(products), vec(input, 1..count)).prop_map(move |(wants, steps)| {
        let begin = PRODUCTS[..products].iter().map(|id| created(id, 3, 2, entry(1)));
        let inputs = steps.into_iter().enumerate().map(|(index, step)| {
            let (what, which, attempt, amount, flag) = step;
            let order = usize::from(which) % wants.len();
            let (number, ids) = (order as u128 + 1, &wants[order]);
            let id = PRODUCTS[usize::from(which) % products];
            let by = entry(2 + index as u64);
            // A price at which a total of two units overflows, or a delivery that is too large.
            let huge = if amount == 6 { u64::MAX } else { amount };
            match what {
                0..8 => ordered_after(number, if flag { 1 } else { attempt }, ids, by),
                8 => resent_after(number, attempt, ids, by),
                9 if flag => unpaid_by_the_original(number, by),
                9 => paid_by_the_original(number),
                10..12 if flag => unpaid(number, attempt),
                10..12 => still_unpaid(number, attempt),
                12..14 => cancelled_again(number, u32::from(flag)),
                14 => shipped_again(number, attempt, u32::from(flag)),
                15 if flag => redefined(id, huge, amount, by),
                15 => created(id, huge, amount, by),
                16 => restocked(index as u128, if flag { id } else { "999" }, huge),
                _ => restocked(index as u128, id, amount),
            }
        });
        begin.chain(inputs).collect()
    })
}

fn small_limits() -> impl Strategy<Value = Limits> {
    (1..4_usize, 1..3_usize, 1..12_usize, 1..4_usize, 0..4_usize).prop_map(
        |(fills, pages, entities, queues, listed_products)| Limits {
            fills,
            pages,
            entities,
            queues,
            listed_products,
        },
    )
}

fn histories() -> impl Strategy<Value = History> {
    let limits = prop_oneof![1 => Just(Limits::default()), 4 => small_limits()];
    let step = prop_oneof![
        3 => any::<usize>().prop_map(Step::Again),
        5 => any::<usize>().prop_map(Step::Move),
        1 => any::<usize>().prop_map(Step::Lose),
    ];
    (limits, inputs(3, 3, 60), vec((any::<prop::sample::Index>(), step), 0..40)).prop_map(
        |(limits, inputs, others)| {
            let mut steps: Vec<Step> = inputs.into_iter().map(Step::New).collect();
            for (index, other) in others {
                steps.insert(index.index(steps.len()), other);
            }
            History { limits, steps }
        },
    )
}

#[test]
fn stock_and_queues_are_consistent_after_every_input() {
    for_all(histories(), |history| {
        let mut warehouse = Warehouse::limited(history.limits, &[]);
        let (mut seen, mut due) = (Vec::<Input>::new(), Vec::<Input>::new());
        for step in &history.steps {
            let input = match step {
                Step::New(input) => input.clone(),
                Step::Again(number) if !seen.is_empty() => seen[number % seen.len()].clone(),
                Step::Move(number) if !due.is_empty() => due.remove(number % due.len()),
                Step::Lose(number) if !due.is_empty() => {
                    due.remove(number % due.len());
                    continue;
                }
                _ => continue,
            };
            warehouse.when(&input);
            due.extend(warehouse.due_inputs());
            seen.push(input);
        }
        // After any loss, the next order for a product lets its queue be filled to its end.
        for (id, number) in PRODUCTS.into_iter().zip(100..) {
            warehouse.when(&ordered(number, 1, &[id]));
            due.iter().for_each(|input| warehouse.when(input));
            warehouse.fill_to_the_end();
        }
        for id in PRODUCTS {
            assert_eq!(warehouse.product(id).backorders.fill, None);
        }
    });
}

#[test]
fn repeated_inputs_change_and_publish_nothing() {
    let cases = (small_limits(), inputs(3, 3, 40), vec(any::<usize>(), 40));
    for_all(cases, |(limits, inputs, again)| {
        let mut warehouse = Warehouse::limited(*limits, &[]);
        let mut effective = Vec::new();
        let mut before = warehouse.stored();
        for (input, again) in inputs.iter().zip(again) {
            warehouse.when_unchecked(input);
            warehouse.fill_to_the_end();
            let after = warehouse.stored();
            // A resend is answered each time that it is delivered.
            let is_resent = match input {
                Input::Ordered(order) => order.resend > 0,
                Input::Cancelled(order) => order.resend > 0,
                Input::Shipped(order) => order.resend > 0,
                Input::StillUnpaid(_) => true,
                _ => false,
            };
            if !is_resent && after != before {
                effective.push(input);
            }
            before = after;
            if !effective.is_empty() {
                let input = effective[again % effective.len()];
                let published = warehouse.memory.published.len();
                warehouse.when_unchecked(input);
                assert_eq!(warehouse.stored(), before, "{input:?} changed something again");
                assert_eq!(
                    warehouse.memory.published.len(),
                    published,
                    "{input:?} published it again"
                );
            }
        }
    });
}

#[test]
fn stock_goes_to_the_orders_that_a_simple_model_fills() {
    for_all(inputs(3, 3, 60), |inputs| {
        let (mut warehouse, mut plain) = (Warehouse::with(&[]), Plain::default());
        for input in inputs {
            warehouse.when_unchecked(input);
            plain.when(input);
            if plain.depends_on_the_sequence_of_queues {
                break;
            }
            plain.check(&mut warehouse, input);
        }
    });
}

#[test]
fn a_queue_filled_in_parts_is_filled_as_if_at_once() {
    for_all((small_limits(), inputs(3, 3, 60)), |(limits, inputs)| {
        let (mut warehouse, mut plain) = (Warehouse::limited(*limits, &[]), Plain::default());
        for input in inputs {
            warehouse.when_unchecked(input);
            warehouse.fill_to_the_end();
            plain.when(input);
            if plain.depends_on_the_sequence_of_queues {
                break;
            }
            plain.check(&mut warehouse, input);
        }
    });
}

/// The rules without pages, sequence numbers and limits.
#[derive(Default)]
struct Plain {
    products: BTreeMap<ProductId, PlainProduct>,
    orders: BTreeMap<u128, PlainOrder>,
    /// The waiting orders, in arrival order.
    queue: Vec<u128>,
    deliveries: BTreeSet<Uuid>,
    outcomes: Vec<(u128, StockOutcome, Option<u64>)>,
    /// Several products arrived at once, and orders in their queues also wait for another product that is
    /// available: which order gets it depends on the queue that is filled first.
    depends_on_the_sequence_of_queues: bool,
}

#[derive(Clone, Default)]
struct PlainProduct {
    price: u64,
    amount: u64,
    held: u64,
    created_by: Option<EntryId>,
}

struct PlainOrder {
    ids: Vec<ProductId>,
    attempt: u32,
    state: ReservationState,
    shipped: bool,
    total: Option<u64>,
    paid: bool,
    refused_by: Option<EntryId>,
}

impl Plain {
    fn when(&mut self, input: &Input) {
        match input {
            Input::Created(event, by) => {
                let product = self.products.entry(event.id.clone()).or_default();
                if product.created_by >= Some(*by) {
                    return;
                }
                let before = product.amount;
                if product.created_by.is_none() || !event.keep {
                    product.amount = event.amount;
                }
                (product.price, product.created_by) = (event.price, Some(*by));
                if product.amount > before {
                    self.fill_waiting(std::slice::from_ref(&event.id));
                }
            }
            Input::Restocked(event, _) => {
                let is_new = self.deliveries.insert(event.id);
                let Some(product) = self.products.get_mut(&event.product_id) else { return };
                let sum = (product.amount + product.held).checked_add(event.amount);
                if is_new && sum.is_some() {
                    product.amount += event.amount;
                    self.fill_waiting(std::slice::from_ref(&event.product_id));
                }
            }
            Input::Ordered(event) => self.order(event),
            Input::Unpaid(event, by) => {
                let number = event.order_id.0.as_u128();
                let Some(order) = self.orders.get(&number) else { return };
                if event.attempt.is_none() && order.refused_by >= Some(*by) {
                    return;
                }
                let attempt = event.attempt.unwrap_or(order.attempt);
                if self.holds(number, attempt) && !self.orders[&number].paid {
                    let arrived = self.give_up(number, ReservationState::Released);
                    self.fill_waiting(&arrived);
                }
            }
            Input::Paid(order) => {
                let held = self.orders.get_mut(&order.0.as_u128());
                held.into_iter()
                    .for_each(|it| it.paid |= it.state == ReservationState::Held && !it.shipped);
            }
            Input::StillUnpaid(event) => {
                let number = event.id.0.as_u128();
                if self.holds(number, event.attempt) && !self.orders[&number].paid {
                    let arrived = self.give_up(number, ReservationState::Released);
                    self.fill_waiting(&arrived);
                }
            }
            Input::Cancelled(event) => {
                let number = event.id.0.as_u128();
                let order = self.orders.entry(number).or_insert_with(|| PlainOrder {
                    ids: Vec::new(),
                    attempt: event.attempt,
                    state: ReservationState::Rejected,
                    shipped: false,
                    total: None,
                    paid: false,
                    refused_by: None,
                });
                if !order.shipped {
                    let arrived = self.give_up(number, ReservationState::Cancelled);
                    self.fill_waiting(&arrived);
                }
            }
            Input::Shipped(event) => {
                let number = event.id.0.as_u128();
                if self.holds(number, event.attempt) {
                    self.orders.get_mut(&number).unwrap().shipped = true;
                }
            }
            Input::FillBackorders(_) => {}
        }
    }

    fn order(&mut self, event: &OrderCreated) {
        let number = event.id.0.as_u128();
        let mut arrived = Vec::new();
        let before = self.orders.get(&number);
        let (paid, refused_by) = before.map_or((false, None), |it| (it.paid, it.refused_by));
        if let Some(order) = self.orders.get(&number) {
            if order.state == ReservationState::Cancelled
                || order.shipped
                || order.attempt > event.attempt
            {
                return;
            }
            if order.attempt == event.attempt {
                if event.resend > 0 {
                    let outcome = match order.state {
                        ReservationState::Waiting => OutOfStock,
                        ReservationState::Rejected => StockOutcome::Rejected,
                        _ => PaymentRequired,
                    };
                    self.outcomes.push((number, outcome, order.total));
                }
                return;
            }
            arrived = self.give_up(number, ReservationState::Released);
        }
        let order = PlainOrder {
            ids: event.product_ids.clone(),
            attempt: event.attempt,
            state: ReservationState::Rejected,
            shipped: false,
            total: None,
            paid,
            refused_by: refused_by.max(event.refused_by),
        };
        self.orders.insert(number, order);
        if event.product_ids.iter().any(|id| !self.products.contains_key(id)) {
            self.outcomes.push((number, StockOutcome::Rejected, None));
        } else if self.is_promised(&event.product_ids, &arrived) || !self.fill(number) {
            self.orders.get_mut(&number).unwrap().state = ReservationState::Waiting;
            self.queue.push(number);
            self.outcomes.push((number, OutOfStock, None));
        }
        self.fill_waiting(&arrived);
    }

    /// Whether waiting orders may need all of the incoming stock.
    fn is_promised(&self, ids: &[ProductId], arrived: &[ProductId]) -> bool {
        quantities(ids).into_iter().filter(|(id, _)| arrived.contains(id)).any(|(id, wanted)| {
            let waits = |number: &&u128| self.orders[*number].ids.contains(&id);
            let waiting = self.queue.iter().filter(waits).count() as u64;
            waiting > 0 && self.products[&id].amount < wanted + 100 * waiting
        })
    }

    /// Whether this attempt of the order holds stock that can be released.
    fn holds(&self, number: u128, attempt: u32) -> bool {
        let order = self.orders.get(&number);
        order.is_some_and(|it| {
            it.attempt == attempt && it.state == ReservationState::Held && !it.shipped
        })
    }

    /// Releases everything of the order; returns the products whose stock came in by that.
    fn give_up(&mut self, number: u128, state: ReservationState) -> Vec<ProductId> {
        self.queue.retain(|waiting| *waiting != number);
        let order = self.orders.get_mut(&number).unwrap();
        let before = std::mem::replace(&mut order.state, state);
        if before != ReservationState::Held {
            return Vec::new();
        }
        let ids = order.ids.clone();
        for id in &ids {
            let product = self.products.get_mut(id).unwrap();
            (product.amount, product.held) = (product.amount + 1, product.held - 1);
        }
        ids
    }

    /// Whether the order is finished: filled, or its total overflows.
    fn fill(&mut self, number: u128) -> bool {
        let order = self.orders.get_mut(&number).unwrap();
        let wanted = quantities(&order.ids);
        if wanted.iter().any(|(id, wanted)| self.products[id].amount < *wanted) {
            return false;
        }
        let prices = order.ids.iter().map(|id| u128::from(self.products[id].price));
        let Ok(total) = u64::try_from(prices.sum::<u128>()) else {
            order.state = ReservationState::Rejected;
            self.outcomes.push((number, StockOutcome::Rejected, None));
            return true;
        };
        (order.state, order.total) = (ReservationState::Held, Some(total));
        for (id, wanted) in wanted {
            let product = self.products.get_mut(&id).unwrap();
            (product.amount, product.held) = (product.amount - wanted, product.held + wanted);
        }
        self.outcomes.push((number, PaymentRequired, Some(total)));
        true
    }

    /// Fills the orders that wait for one of these products.
    fn fill_waiting(&mut self, arrived: &[ProductId]) {
        let several = arrived.iter().any(|id| *id != arrived[0]);
        let crosses = |number: &u128| {
            let ids = &self.orders[number].ids;
            ids.iter().any(|id| arrived.contains(id)) && ids.iter().any(|id| !arrived.contains(id))
        };
        self.depends_on_the_sequence_of_queues |= several && self.queue.iter().any(crosses);
        for number in self.queue.clone() {
            let waits_for = |id| self.orders[&number].ids.contains(id);
            if arrived.iter().any(waits_for) && self.fill(number) {
                self.queue.retain(|waiting| *waiting != number);
            }
        }
    }

    /// Compares the model with the warehouse.
    fn check(&mut self, warehouse: &mut Warehouse, input: &Input) {
        let outcomes = warehouse.outcomes().into_iter();
        let mut outcomes: Vec<_> =
            outcomes.map(|it| (it.order_id.0.as_u128(), it.inventory, it.order_total)).collect();
        let mut expected = std::mem::take(&mut self.outcomes);
        // Queues that do not depend on each other are filled one after the other.
        outcomes.sort_by_key(|(number, ..)| *number);
        expected.sort_by_key(|(number, ..)| *number);
        assert_eq!(outcomes, expected, "{input:?}");
        for product in warehouse.memory.all::<Product>() {
            let plain = &self.products[&product.id];
            let stock = (product.price, product.amount, product.reserved);
            assert_eq!(stock, (plain.price, plain.amount, plain.held), "{input:?}: {product:?}");
        }
        let reservations = warehouse.memory.all::<Reservation>();
        assert_eq!(reservations.len(), self.orders.len(), "{input:?}");
        for it in reservations {
            let plain = &self.orders[&it.order_id.0.as_u128()];
            let state = (it.attempt, it.state, it.shipped, it.total);
            let expected = (plain.attempt, plain.state, plain.shipped, plain.total);
            assert_eq!(state, expected, "{input:?}: {it:?}");
        }
        for id in PRODUCTS {
            let waits = |number: &&u128| self.orders[number].ids.contains(&product_id(id));
            let queue: Vec<u128> = self.queue.iter().filter(waits).copied().collect();
            assert_eq!(warehouse.queue(id), queue, "{input:?}: the queue of {id}");
        }
    }
}
