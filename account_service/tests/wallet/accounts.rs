//! Accounts: definitions and deposits.

use account_service::wallet::{Input, Wallet};
use common::{
    contract::{
        definitions::AccountDefinition,
        entities::{Account, Deposit, Refused},
        events::{AccountCreated, ToppedUp},
        streams,
    },
    decision::in_memory::Memory,
    schema::entry_id::EntryId,
};
use uuid::Uuid;

use crate::support::{
    Bank, account, cancelled, charged, created, customer, entry, redefined, topped_up,
};

type Define = fn(&str, u64, EntryId) -> Input;

#[test]
fn each_deposit_is_credited_once() {
    let mut bank = Bank::with(&[("101", 1_000), ("102", 0)]);
    bank.when(&charged(1, 1, "101", 400));
    bank.0.published.clear();
    bank.when(&topped_up(7, "101", 500));
    let account = bank.account("101");
    assert_eq!((account.balance, account.paid, account.deposited), (1_100, 400, 1_500));
    let deposit = Deposit {
        id: Uuid::from_u128(7),
        customer_id: customer("101"),
        amount: 500,
        balance: Some(1_100),
        refused: None,
        entry: entry(1_007),
    };
    assert_eq!(bank.0.all::<Deposit>(), std::slice::from_ref(&deposit));
    let events: Vec<serde_json::Value> = bank.take(streams::ACCOUNT_TOPPED_UP);
    let expected = serde_json::json!({
        "id": Uuid::from_u128(7), "customer_id": "101", "amount": 500, "balance": 1_100,
    });
    assert_eq!(events, [expected]);
    assert_eq!(bank.take::<Account>(streams::ACCOUNT_UPDATED), [account]);
    assert!(bank.0.published.is_empty());

    // The same deposit, with any contents and at any time.
    bank.when(&charged(2, 1, "101", 100));
    for again in [topped_up(7, "101", 500), topped_up(7, "101", 1), topped_up(7, "102", 500)] {
        bank.when_nothing_happens(&again);
        let Input::ToppedUp(event, _) = again else { unreachable!() };
        bank.when_nothing_happens(&Input::ToppedUp(event, entry(9_999)));
    }
    assert_eq!(bank.0.all::<Deposit>(), [deposit]);

    bank.when(&topped_up(8, "101", 500));
    bank.when(&topped_up(9, "102", 500));
    assert_eq!((bank.books("101"), bank.books("102")), ((1_500, 500), (500, 0)));
    let balances: Vec<ToppedUp> = bank.take(streams::ACCOUNT_TOPPED_UP);
    assert_eq!(balances.iter().map(|event| event.balance).collect::<Vec<_>>(), [1_500, 500]);
}

#[test]
fn a_refused_deposit_is_recorded_and_stays_refused() {
    let most = u64::MAX - 1_000;
    // Of 101 with a balance of 600, who paid 400.
    let table = [
        ("an unknown customer", "999", 1, Some(Refused::Unknown)),
        ("as much as can be counted", "101", most, None),
        ("one more", "101", most + 1, Some(Refused::TooMuch)),
        ("more than the balance can be", "101", u64::MAX, Some(Refused::TooMuch)),
        ("too much of an unknown customer", "999", u64::MAX, Some(Refused::Unknown)),
        ("nothing", "101", 0, None),
    ];
    for (name, payer, amount, refused) in table {
        let mut bank = Bank::with(&[("101", 1_000)]);
        bank.when(&charged(1, 1, "101", 400));
        bank.0.published.clear();
        bank.when(&topped_up(7, payer, amount));
        let came_in = if refused.is_none() { amount } else { 0 };
        assert_eq!(bank.books("101"), (600 + came_in, 400), "{name}");
        let deposit = Deposit {
            id: Uuid::from_u128(7),
            customer_id: customer(payer),
            amount,
            balance: refused.is_none().then_some(600 + came_in),
            refused,
            entry: entry(1_007),
        };
        assert_eq!(bank.0.all::<Deposit>(), [deposit], "{name}");
        let events = bank.take::<ToppedUp>(streams::ACCOUNT_TOPPED_UP);
        assert_eq!(events.len(), usize::from(refused.is_none()), "{name}");
        let updates = bank.take::<Account>(streams::ACCOUNT_UPDATED);
        assert_eq!(updates.len(), usize::from(refused.is_none()), "{name}");
        assert!(bank.0.published.is_empty(), "{name}");

        // Also if it could be credited by now.
        bank.when(&created("101", 0, entry(2)));
        bank.when(&created("999", 0, entry(2)));
        bank.0.published.clear();
        bank.when_nothing_happens(&topped_up(7, payer, amount));
    }
}

#[test]
fn a_new_account_has_its_balance() {
    for define in [created as Define, redefined] {
        let mut bank = Bank::with(&[]);
        bank.when(&define("101", 1_000, entry(1)));
        let expected = Account {
            id: customer("101"),
            name: "Customer 101".to_owned(),
            email: "101@server.com".to_owned(),
            balance: 1_000,
            paid: 0,
            deposited: 1_000,
            created_by: Some(entry(1)),
        };
        assert_eq!(bank.account("101"), expected);
        assert_eq!(bank.take::<Account>(streams::ACCOUNT_UPDATED), [expected]);
        assert!(bank.0.published.is_empty());
    }
}

#[test]
fn a_reset_account_keeps_the_paid_total() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 900));
    bank.when(&topped_up(1, "101", 70));
    for (number, balance) in [(2, 1_000), (3, 0), (4, 50_000)] {
        bank.when(&created("101", balance, entry(number)));
        let account = bank.account("101");
        assert_eq!((account.balance, account.paid), (balance, 900), "reset to its first value");
        assert_eq!(account.deposited, balance + 900);
    }
    bank.when(&charged(2, 1, "101", 50_000));
    assert_eq!(bank.books("101"), (0, 50_900));
}

#[test]
fn a_definition_that_keeps_the_balance_only_renames() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 900));
    bank.when(&topped_up(1, "101", 70));
    let before = bank.account("101");
    // A balance that would overflow is not even read.
    for (number, balance) in [(2, 0), (3, 1_000), (4, u64::MAX)] {
        bank.0.published.clear();
        let event = AccountCreated {
            name: format!("Name {number}"),
            email: format!("{number}@server.com"),
            keep: true,
            ..account("101", balance)
        };
        bank.when(&Input::Created(event, entry(number)));
        let expected = Account {
            name: format!("Name {number}"),
            email: format!("{number}@server.com"),
            created_by: Some(entry(number)),
            ..before.clone()
        };
        assert_eq!(bank.account("101"), expected);
        assert_eq!(bank.take::<Account>(streams::ACCOUNT_UPDATED), [expected]);
    }
    bank.when(&created("101", 5, entry(5)));
    assert_eq!(bank.books("101"), (5, 900), "the next definition may reset it");
}

#[test]
fn an_older_created_event_changes_nothing() {
    let id = |text: &str| text.parse::<EntryId>().unwrap();
    // Applied, then late: by number, not as text; seconds of the original below milliseconds.
    let table = [
        ("1767225600000-5", "1767225600000-5"),
        ("1767225600000-5", "1767225600000-4"),
        ("1767225600000-10", "1767225600000-9"),
        ("1767225600000-0", "999999999999-7"),
        ("1767225600000-0", "1767225600-999999"),
    ];
    for (applied, late) in table {
        let ways: [(Define, Define); 2] = [(created, redefined), (redefined, created)];
        for (define, redefine) in ways {
            let mut bank = Bank(Memory::new(Wallet));
            bank.when(&define("101", 1_000, id(applied)));
            bank.when_nothing_happens(&define("101", 1, id(late)));
            bank.when_nothing_happens(&redefine("101", 1, id(late)));
            bank.when(&charged(1, 1, "101", 400));
            bank.when_nothing_happens(&define("101", 1_000, id(applied)));
            bank.when(&created("101", 7, EntryId { time: u64::MAX, sequence: 0 }));
            assert_eq!(bank.books("101"), (7, 400), "a newer one changes it");
        }
    }
}

#[test]
fn a_balance_that_overflows_is_a_fault_and_changes_nothing() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 1));
    let before = bank.account("101");
    let error = bank.0.handle(&created("101", u64::MAX, entry(2)), 1).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("101") && text.contains("too large"), "{text}");
    assert_eq!(bank.account("101"), before);
    bank.when(&created("101", u64::MAX - 1, entry(2)));
    bank.when(&charged(2, 1, "101", u64::MAX - 1));
    assert_eq!(bank.books("101"), (0, u64::MAX), "the largest sum is valid");
    bank.when(&cancelled(2, 1, "101"));
    assert_eq!(bank.books("101"), (u64::MAX - 1, 1), "and can be refunded");
}

#[test]
fn a_requested_definition_is_applied_once_and_recorded() {
    let mut bank = Bank::with(&[]);
    let asked = |name: &str, request: u128| AccountCreated {
        name: name.to_owned(),
        keep: true,
        request: Some(Uuid::from_u128(request)),
        ..account("101", 5)
    };
    let record = |bank: &Bank, request: u128| {
        let records = bank.0.all::<AccountDefinition>().into_iter();
        records.filter(|it| it.id == Uuid::from_u128(request)).collect::<Vec<_>>()
    };
    let (first, second) = (asked("First", 1), asked("Second", 2));
    bank.when(&Input::Created(first.clone(), entry(2)));
    let made = bank.account("101");
    bank.when(&Input::Created(second, entry(4)));
    // The event of the first request is redelivered, and published again.
    for by in [entry(2), entry(3), entry(5)] {
        bank.when_nothing_happens(&Input::Created(first.clone(), by));
    }
    assert_eq!(bank.account("101").name, "Second");
    let [known] = &record(&bank, 1)[..] else { panic!("one record") };
    assert_eq!((&known.asked, known.entry, known.is_new), (&first, entry(2), true));
    assert_eq!(known.made.as_ref(), Some(&made));
    assert!(!record(&bank, 2)[0].is_new);
    // A definition after a newer one changes nothing, and its record says so.
    bank.when_nothing_happens(&Input::Created(asked("Late", 3), entry(3)));
    assert_eq!(record(&bank, 3)[0].made, None);
}
