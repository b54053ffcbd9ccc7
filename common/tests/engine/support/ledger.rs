//! A minimal service: it counts deposits, and each deposit leaves a receipt.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    clock::Millis,
    contract::streams::{self, topics},
    decision::{Changes, DecideError, Decider, Reads, World},
    schema::{
        entity::{Entity, Kind, SortedSetEntry},
        stream::{Event, Stream, Topic},
    },
};
use serde::{Deserialize, Serialize};

static COUNTER: Kind = Kind {
    prefix: "{inventory}:counter:",
    index: Some("{inventory}:counters"),
    updates: Some(streams::INVENTORY_UPDATED),
    announces_new: false,
};
static RECEIPT: Kind =
    Kind { prefix: "{inventory}:receipt:", index: None, updates: None, announces_new: false };

/// The counted total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) id: String,
    pub(crate) total: u64,
}

/// The idempotency record of a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) id: String,
    pub(crate) counter: String,
    pub(crate) amount: u64,
    /// The total of the counter after the deposit.
    pub(crate) total: u64,
    /// Whether it is in the list and in the sorted set of its counter's receipts.
    #[serde(default)]
    pub(crate) listed: bool,
    /// Whether it counts for the limit.
    #[serde(default)]
    pub(crate) limited: bool,
}

/// The sorted set of the receipts that count for the limit.
pub(crate) const LIMITED: &str = "{inventory}:limited";

impl Entity for Counter {
    type Id = str;
    const KIND: &'static Kind = &COUNTER;
    fn id(&self) -> &str {
        &self.id
    }
}

impl Entity for Receipt {
    type Id = str;
    const KIND: &'static Kind = &RECEIPT;
    fn id(&self) -> &str {
        &self.id
    }
    fn lists(&self) -> Vec<String> {
        let list = format!("{{inventory}}:receipts-of:{}", self.counter);
        if self.listed { vec![list] } else { Vec::new() }
    }
    fn sorted_sets(&self) -> Vec<SortedSetEntry> {
        let limited = self.limited.then(|| SortedSetEntry::new(LIMITED, self.id.clone()));
        limited.into_iter().collect()
    }
}

/// The event of a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deposited {
    pub(crate) id: String,
    pub(crate) total: u64,
}

impl Event for Deposited {
    const STREAM: Stream = streams::INVENTORY_CHECK;
}

/// The input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deposit {
    pub(crate) id: String,
    pub(crate) counter: String,
    pub(crate) amount: u64,
    #[serde(default)]
    pub(crate) how: How,
}

/// The special behaviour of a deposit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    #[default]
    Plain,
    /// The decision reports a fault of the input.
    AtFault,
    /// The decision panics.
    Panicking,
    /// `reads` panics.
    PanickingInReads,
    /// The decision panics if the counter has this total.
    PanickingAt(u64),
    /// It deposits into this number of additional counters.
    Wide(usize),
    /// The same without naming them: the decision reads them.
    WideLater(usize),
    /// It writes an entity that it has not named.
    Unnamed,
    /// It is not a deposit, but a query for the receipt.
    Asking,
    /// It is not a deposit, but a query for the total of the counter.
    AskingTotal,
    /// Its amount is the total of the counter `shared`, which it does not name.
    Sharing,
    /// Its decision takes a millisecond.
    Slow,
    /// Its receipt joins a list and a sorted set of the counter's.
    Listed,
    /// The number of receipts is limited to this.
    Limited(u64),
}

impl Deposit {
    pub(crate) fn new(id: impl Into<String>, counter: &str, amount: u64) -> Self {
        Self { id: id.into(), counter: counter.to_owned(), amount, how: How::Plain }
    }

    pub(crate) fn how(mut self, how: How) -> Self {
        self.how = how;
        self
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("it has string keys only")
    }

    fn more_counters(&self) -> impl Iterator<Item = String> {
        let (How::Wide(count) | How::WideLater(count)) = self.how else {
            return (0..0).map(name(""));
        };
        (0..count).map(name(&self.id))
    }
}

fn name(id: &str) -> impl Fn(usize) -> String + use<> {
    let id = id.to_owned();
    move |number| format!("{id}.{number}")
}

/// The answer to a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The new total of the counter.
    Done(u64),
    /// The deposit is a repetition; this is the total after the first one.
    Known(u64),
    /// There is no receipt.
    Unknown,
    /// The limit of receipts is reached.
    Full,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// The service, and a record of its decisions.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    decided: Vec<(String, bool)>,
    meanwhile: HashMap<String, Meanwhile>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ledger").field(&self.decided()).finish()
    }
}

impl Ledger {
    /// Calls `act` during the first decision about the deposit: after the read and before the
    /// commit.
    pub(crate) fn meanwhile(&self, id: &str, act: impl FnOnce() + Send + 'static) {
        self.inside().meanwhile.insert(id.to_owned(), Box::new(act));
    }

    /// The decided deposits, in order, including those that panicked or were at fault.
    pub(crate) fn decided(&self) -> Vec<String> {
        self.inside().decided.iter().map(|(id, _)| id.clone()).collect()
    }

    /// For each decision about this deposit, whether the receipt was loaded.
    pub(crate) fn saw_receipt(&self, id: &str) -> Vec<bool> {
        let inside = self.inside();
        inside.decided.iter().filter(|(decided, _)| decided == id).map(|(_, saw)| *saw).collect()
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decider for Ledger {
    type Input = Deposit;
    type Answer = Answer;

    const TOPIC: Topic = topics::INVENTORY;

    fn streams() -> Vec<Stream> {
        streams::of(topics::INVENTORY)
    }

    fn reads(&self, deposit: &Deposit, reads: &mut Reads) {
        assert_ne!(deposit.how, How::PanickingInReads, "panic requested in reads");
        reads.fresh::<Receipt>(&deposit.id);
        reads.load::<Counter>(&deposit.counter);
        if matches!(deposit.how, How::Wide(_)) {
            deposit.more_counters().for_each(|counter| reads.load::<Counter>(&counter));
        }
    }

    fn decide(
        &self,
        deposit: &Deposit,
        world: &World,
        _now: Millis,
    ) -> Result<Changes<Answer>, DecideError> {
        let known = world.get::<Receipt>(&deposit.id)?;
        let meanwhile = {
            let mut inside = self.inside();
            inside.decided.push((deposit.id.clone(), known.is_some()));
            inside.meanwhile.remove(&deposit.id)
        };
        if let Some(act) = meanwhile {
            act();
        }
        let mut changes = Changes::none();
        if let Some(receipt) = known {
            return Ok(changes.answering(Answer::Known(receipt.total)));
        }
        let seen = world.get::<Counter>(&deposit.counter)?.map_or(0, |counter| counter.total);
        match deposit.how {
            How::AtFault => return Err(DecideError::invalid("fault requested".to_owned())),
            How::Panicking => panic!("panic requested"),
            How::PanickingAt(total) => assert_ne!(total, seen, "panic requested at this total"),
            How::Asking => return Ok(changes.answering(Answer::Unknown)),
            How::AskingTotal => return Ok(changes.answering(Answer::Done(seen))),
            How::Unnamed => changes.put(Counter { id: "unnamed".to_owned(), total: 1 }),
            How::Slow => std::thread::sleep(Duration::from_millis(1)),
            How::Limited(most) => changes.limit(LIMITED, String::new(), most, Answer::Full),
            How::Plain
            | How::PanickingInReads
            | How::Wide(_)
            | How::WideLater(_)
            | How::Sharing
            | How::Listed => {}
        }
        let shared = match deposit.how {
            How::Sharing => world.get::<Counter>("shared")?.map_or(0, |counter| counter.total),
            _ => 0,
        };
        let total = seen + deposit.amount + shared;
        // All missing entities are requested at once.
        let mut seen_all = Ok(());
        for id in deposit.more_counters() {
            if let Err(error) = world.get::<Counter>(&id) {
                seen_all = Err(error);
            }
        }
        seen_all?;
        for id in deposit.more_counters() {
            let seen = world.get::<Counter>(&id)?.map_or(0, |counter| counter.total);
            changes.put(Counter { id, total: seen + deposit.amount });
        }
        changes.put(Counter { id: deposit.counter.clone(), total });
        changes.put(Receipt {
            id: deposit.id.clone(),
            counter: deposit.counter.clone(),
            amount: deposit.amount,
            total,
            listed: deposit.how == How::Listed,
            limited: matches!(deposit.how, How::Limited(_)),
        });
        changes.append(&Deposited { id: deposit.id.clone(), total });
        Ok(changes.answering(Answer::Done(total)))
    }
}
