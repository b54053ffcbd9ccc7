//! The lifecycle of orders as properties: the four services in memory, connected by their events, with
//! deliveries repeated, delayed and reordered at random.
//!
//! `PROPTEST_CASES` sets how many histories are tried. A failure prints the smallest one found.

mod books;
mod history;
mod system;

use std::cell::RefCell;

use common::{contract::order_status::OrderStatus, schema::entity::Entity};
use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestError, TestRunner},
};

use self::{
    books::Seen,
    history::{History, Step, histories},
    system::{Action, System},
};

type Checked<T = ()> = Result<T, TestCaseError>;

/// The number of histories that are tried by default.
const CASES: u32 = 10_000;

#[test]
fn stock_and_money_add_up_and_every_order_ends_in_any_order_of_events() {
    let seen = RefCell::new(Seen::default());
    for_all(|history| {
        let mut system = play(history)?;
        system.settle()?;
        system.check_books()?;
        system.check_queues()?;
        system.check_orders(history, &mut seen.borrow_mut())?;
        system.check_messages()?;
        seen.borrow_mut().add(&system.seen);
        Ok(())
    });
    if cases() >= CASES {
        seen.borrow().check_variety();
    }
}

fn cases() -> u32 {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default().cases } else { CASES }
}

fn for_all(property: impl Fn(&History) -> Checked) {
    let config =
        ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&histories(), |history| property(&history));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("{why}\nin this history: {history:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// Plays the history until nothing is left to do.
fn play(history: &History) -> Checked<System> {
    let mut system = System::new(history);
    let act = |system: &mut System, action: Action| -> Checked {
        system.clock += 1;
        system.act(&action)
    };
    for action in history.beginning() {
        act(&mut system, action)?;
    }
    if history.known_first {
        while let Some(action) = system.next_waiting() {
            act(&mut system, action)?;
        }
    }
    for step in &history.steps {
        if let Some(action) = system.choose(step) {
            act(&mut system, action)?;
        }
    }
    while let Some(action) = system.choose(&Step::Place) {
        act(&mut system, action)?;
    }
    while let Some(action) = system.next_waiting() {
        act(&mut system, action)?;
    }
    Ok(system)
}

fn failed(why: String) -> TestCaseError {
    TestCaseError::fail(why)
}

/// Whether an order of this status stays as it is until a client acts or stock arrives.
fn rests(status: OrderStatus) -> bool {
    !status.is_underway()
}

fn by_id<E: Entity<Id: Ord + Clone>>(entities: Vec<E>) -> std::collections::BTreeMap<E::Id, E>
where
    E::Id: Sized,
{
    entities.into_iter().map(|entity| (entity.id().clone(), entity)).collect()
}
