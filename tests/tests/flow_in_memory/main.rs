//! The lifecycle of orders as properties: the four services in memory, connected by their events, with
//! deliveries repeated, delayed and reordered at random.
//!
//! `PROPTEST_CASES` sets how many histories are tried. A failure prints the smallest one found.

mod books;
mod history;
mod system;

use std::cell::RefCell;

use common::{
    contract::{
        entities::{Account, Delivery, Deposit, Product},
        messages::MessageSent,
        order::Order,
        order_status::OrderStatus,
    },
    schema::entity::Entity,
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

/// The number of histories that are tried by default.
const CASES: u32 = 10_000;

#[test]
fn stock_and_money_add_up_and_every_order_ends_in_any_order_of_events() {
    let seen = RefCell::new(Seen::default());
    for_all(|history| {
        let (mut system, _) = play(history)?;
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

#[test]
fn repeated_deliveries_have_no_effect() {
    for_all(|history| {
        // A resend is answered each time that it is delivered, and a queue that is filled in parts is
        // filled in other parts. Neither can be compared entry by entry.
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

/// Plays the history until nothing is left to do; also returns the actions that were done for the first
/// time, with their times.
fn play(history: &History) -> Checked<(System, Vec<(u64, Action)>)> {
    let mut system = System::new(history);
    let mut firsts = Vec::new();
    let mut act = |system: &mut System, action: Action| -> Checked {
        system.clock += 1;
        // A queue whose filling was restarted is also filled by the earlier event.
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
