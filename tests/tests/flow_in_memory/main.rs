//! The whole life of orders as properties: the four services in memory, wired by their events, with
//! every delivery repeated, late or overtaken by others as it comes. What must not depend on that,
//! does not.
//!
//! `PROPTEST_CASES` sets how many histories are tried. A failure prints the smallest one found.

mod books;
mod history;
mod system;

use std::cell::RefCell;

use common::contract::{
    entities::{Account, Delivery, Deposit, Order, OrderStatus, Product},
    entity::Entity,
    events::MessageSent,
};
use inventory_service::{Limits, reservation::Reservation};
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

/// Histories that are tried unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 10_000;

#[test]
fn stock_and_money_add_up_and_every_order_ends_or_waits_however_events_are_delivered() {
    let seen = RefCell::new(Seen::default());
    for_all(|history| {
        let (mut system, _) = play(history)?;
        system.settle()?;
        system.check_books()?;
        system.check_lines()?;
        system.check_orders(history, &mut seen.borrow_mut())?;
        system.check_messages()?;
        seen.borrow_mut().add(&system.seen);
        Ok(())
    });
    if cases() >= CASES {
        seen.borrow().check_variety();
    }
}

#[test]
fn repetitions_leave_no_trace() {
    for_all(|history| {
        // What is sent again is said again each time that it is delivered; and a line that is served
        // in parts is served in others. Neither can be compared entry by entry.
        let steps = history
            .steps
            .iter()
            .filter(|step| !matches!(step, Step::ResendOverdue(_) | Step::Lose(_)));
        let history = History {
            steps: steps.cloned().collect(),
            limits: Limits::default(),
            ..history.clone()
        };
        let (system, firsts) = play(&history)?;
        let mut plain = System::new(&history);
        for (now, action) in &firsts {
            plain.clock = *now;
            plain.act(action)?;
        }
        prop_assert_eq!(system.stock.all::<Product>(), plain.stock.all());
        prop_assert_eq!(system.stock.all::<Reservation>(), plain.stock.all());
        prop_assert_eq!(system.stock.all::<Delivery>(), plain.stock.all());
        prop_assert_eq!(system.wallets.all::<Account>(), plain.wallets.all());
        prop_assert_eq!(
            system.wallets.all::<account_service::wallet::Payment>(),
            plain.wallets.all()
        );
        prop_assert_eq!(system.wallets.all::<Deposit>(), plain.wallets.all());
        // A confirmation that overtakes the result of the payment is ignored; repeated, it counts.
        let settled = |mut orders: Vec<Order>| {
            orders.iter_mut().for_each(|order| order.unconfirmed.clear());
            orders
        };
        prop_assert_eq!(settled(system.orders.all()), settled(plain.orders.all()));
        prop_assert_eq!(system.messages.all::<MessageSent>(), plain.messages.all());
        Ok(())
    });
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

/// Plays the history until there is nothing left to do; gives also what was done for the first
/// time, and when.
fn play(history: &History) -> Checked<(System, Vec<(u64, Action)>)> {
    let mut system = System::new(history);
    let mut firsts = Vec::new();
    let mut act = |system: &mut System, action: Action| -> Checked {
        system.clock += 1;
        // A line that was begun again moves by the event of the time before as well.
        let moves_line = system.is_for_line(&action);
        if system.act(&action)? || moves_line {
            firsts.push((system.clock, action));
        }
        Ok(())
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
    Ok((system, firsts))
}

fn failed(why: String) -> TestCaseError {
    TestCaseError::fail(why)
}

/// Whether an order of this status stays as it is until a client or new stock comes.
fn rests(status: OrderStatus) -> bool {
    !status.is_underway()
}

fn by_id<E: Entity<Id: Ord + Clone>>(entities: Vec<E>) -> std::collections::BTreeMap<E::Id, E>
where
    E::Id: Sized,
{
    entities.into_iter().map(|entity| (entity.id().clone(), entity)).collect()
}
