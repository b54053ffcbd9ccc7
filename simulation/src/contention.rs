//! Constant load from several instances on the same entities: no input may starve.

use std::collections::BTreeSet;

use crate::plan::{Course, Plan, Scale, Scenario};

/// The number of decisions that an input takes at most.
const TRIES_MAX: u64 = 20;
/// The number of orders, for the same three products and three customers.
const ORDERS: usize = 1_200;

/// Three instances of each service, of which one has slower connections than the others, and some 400
/// orders a second.
pub fn plan(seed: u64) -> Plan {
    Plan {
        scenario: Scenario::Only(Course::Paid),
        isolated: false,
        instances: 3,
        slow_instance: Some(1),
        tries_max: Some(TRIES_MAX),
        answers_acl: false,
        scale: Scale::quick(),
        faults: BTreeSet::new(),
        millis: 4_000,
        ..Plan::of_seed(seed, ORDERS)
    }
}
