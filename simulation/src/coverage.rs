//! The pairs of state and event that decisions met.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use common::simulation::Decision;

use crate::{
    history::{Setup, run},
    plan::Plan,
    runner::in_parallel,
};

/// A pair: the topic, the state of its entity, and the kind of the input.
pub type Pair = (&'static str, String, String);

/// The pairs that were met, with their number.
#[derive(Debug, Default)]
pub struct Coverage(RefCell<BTreeMap<Pair, u64>>);

impl Coverage {
    /// Records a decision.
    pub fn record(&self, decision: &Decision<'_>) {
        let pair = (decision.topic, state(decision), kind(&format!("{:?}", decision.input)));
        *self.0.borrow_mut().entry(pair).or_default() += 1;
    }

    /// The pairs so far.
    pub fn take(&self) -> BTreeMap<Pair, u64> {
        self.0.take()
    }
}

/// The state of the entity that a decision is about.
fn state(decision: &Decision<'_>) -> String {
    let prefixes = match decision.topic {
        "order" => ["{order}:entity:"],
        "inventory" => ["{inventory}:reservation:"],
        "account" => ["{account}:payment:"],
        _ => ["{message}:entity:"],
    };
    let about =
        |(key, _): &&(String, Option<String>)| prefixes.iter().any(|it| key.starts_with(it));
    match decision.entities.iter().find(about) {
        None => "-".to_owned(),
        Some((_, None)) => "absent".to_owned(),
        Some((_, Some(json))) => {
            let document: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
            let state = ["status", "state"].iter().find_map(|it| document[it].as_str());
            state.unwrap_or("present").to_owned()
        }
    }
}

/// The kind of an input: its variant, with the outcome that it reports or the action that it asks for.
fn kind(input: &str) -> String {
    let name: String = input.chars().take_while(char::is_ascii_alphanumeric).collect();
    let member = ["inventory: ", "account: ", "action: ", "confirmation: "].iter().find_map(|it| {
        let rest = &input[input.find(it)? + it.len()..];
        Some(rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>())
    });
    member.map_or(name.clone(), |member| format!("{name} {member}"))
}

/// What many histories met.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The number of pairs that were met.
    pub met: usize,
    /// The pairs that were not met.
    pub unmet: Vec<(String, String, String)>,
    /// The pairs that were not met, and that need a loss of data or two coincidences, with the reason.
    pub rare: Vec<((String, String, String), &'static str)>,
}

/// Pairs that do not come about without a loss of data or two coincidences.
struct Rare {
    topic: &'static str,
    states: &'static [&'static str],
    events: &'static [&'static str],
    /// The reason, for the report.
    why: &'static str,
}

const RARE: &[Rare] = &[
    Rare {
        topic: "order",
        states: &[
            "pending",
            "out-of-stock",
            "payment-required",
            "insufficient-fund",
            "to-be-shipped",
        ],
        events: &[
            "Confirmed StockShipped",
            "Confirmed StockCancelled",
            "Confirmed PaymentCancelled",
        ],
        why: "a shipped or cancelled order never has these statuses again",
    },
    Rare {
        topic: "order",
        states: &["shipped", "completed"],
        events: &["Confirmed StockCancelled", "Confirmed PaymentCancelled"],
        why: "a shipped order is not cancelled",
    },
    Rare {
        topic: "order",
        states: &["cancelled", "rejected"],
        events: &["Confirmed StockShipped"],
        why: "a cancelled or rejected order was never shipped",
    },
    Rare {
        topic: "order",
        states: &[
            "pending",
            "payment-required",
            "insufficient-fund",
            "to-be-shipped",
            "shipped",
            "completed",
            "rejected",
            "cancelled",
            "absent",
        ],
        events: &["Requeue"],
        why: "only orders that wait for stock are submitted for this",
    },
    Rare {
        topic: "order",
        states: &[
            "out-of-stock",
            "payment-required",
            "insufficient-fund",
            "to-be-shipped",
            "shipped",
            "completed",
        ],
        events: &["Stock Rejected"],
        why: "a product that exists does not vanish, so only a new order is rejected",
    },
    Rare {
        topic: "order",
        states: &["insufficient-fund", "to-be-shipped", "shipped", "completed"],
        events: &["Wallet Rejected"],
        why: "a customer who exists does not vanish, so only a new order is rejected",
    },
    Rare {
        topic: "order",
        states: &["rejected"],
        events: &[
            "Stock OutOfStock",
            "Wallet InsufficientFund",
            "Wallet ToBeShipped",
            "Confirmed StockCancelled",
            "Confirmed PaymentCancelled",
        ],
        why: "a rejected order had no other result before, and is not cancelled",
    },
    Rare {
        topic: "order",
        states: &["absent"],
        events: &["Stock OutOfStock", "Stock Rejected", "ResendOverdue", "Reindex"],
        why: "an order does not vanish",
    },
    Rare {
        topic: "inventory",
        states: &["absent", "cancelled", "rejected"],
        events: &["FillBackorders"],
        why: "only orders that wait are in a queue",
    },
    Rare {
        topic: "inventory",
        states: &["rejected"],
        events: &["Shipped", "StillUnpaid", "Unpaid InsufficientFund", "Unpaid Rejected"],
        why: "a rejected order is neither charged nor shipped",
    },
    Rare {
        topic: "inventory",
        states: &["released", "waiting"],
        events: &["Shipped"],
        why: "only a paid order is shipped, and its stock is held",
    },
    Rare {
        topic: "inventory",
        states: &["absent", "cancelled", "held", "waiting"],
        events: &["StillUnpaid"],
        why: "it repeats a result after which the stock was released",
    },
    Rare {
        topic: "inventory",
        states: &["waiting"],
        events: &["Unpaid Rejected"],
        why: "an order without a customer is rejected for good",
    },
];

/// Runs histories, and compares the pairs that they met with all pairs of the states and events.
pub fn measure(count: u64, threads: usize) -> Report {
    let mut met: BTreeMap<Pair, u64> = BTreeMap::new();
    let observe = |seed: &u64| {
        let coverage = Rc::new(Coverage::default());
        run(&Plan::of_seed(*seed, 20), Setup::default(), Some(Rc::clone(&coverage)));
        coverage.take()
    };
    in_parallel(threads, 1..=count, observe, |_, pairs| {
        for (pair, times) in pairs {
            *met.entry(pair).or_default() += times;
        }
        true
    });
    let mut report = Report { met: met.len(), ..Report::default() };
    let topics: BTreeSet<&str> = met.keys().map(|(topic, ..)| *topic).collect();
    for topic in topics {
        // `-` stands for events that are not about such an entity.
        let of_topic = || met.keys().filter(|it| it.0 == topic && it.1 != "-");
        let states: BTreeSet<&String> = of_topic().map(|(_, state, _)| state).collect();
        let events: BTreeSet<&String> = of_topic().map(|(_, _, event)| event).collect();
        for (state, event) in
            states.iter().flat_map(|it| events.iter().map(move |event| (*it, *event)))
        {
            let pair = (topic.to_owned(), state.clone(), event.clone());
            if met.contains_key(&(topic, state.clone(), event.clone())) {
                continue;
            }
            let is_it = |it: &&Rare| {
                it.topic == topic && it.states.contains(&&**state) && it.events.contains(&&**event)
            };
            match RARE.iter().find(is_it) {
                Some(rare) => report.rare.push((pair, rare.why)),
                None => report.unmet.push(pair),
            }
        }
    }
    report
}
