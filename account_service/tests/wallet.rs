//! Who paid for what: given accounts, when something happens, then this is left of the balance.

use account_service::{
    subscriptions,
    wallet::{Charge, Input, Payment, Wallet},
};
use common::{
    consumer::StreamEntry,
    entities::Account,
    events::{AccountCreated, Stream, WalletChecked, WalletOutcome},
    ids::{CustomerId, EntryId, OrderId},
    memory::Memory,
};
use uuid::Uuid;

fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

fn created(id: &str, balance: u64, by: EntryId) -> Input {
    let event = AccountCreated {
        id: customer(id),
        name: format!("Customer {id}"),
        email: format!("{id}@server.com"),
        balance,
    };
    Input::Created(event, by)
}

fn charge(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    let order_id = order_id(number);
    Input::Charge(Charge { order_id, customer_id: customer(payer), total, attempt })
}

/// The service in memory, with its books checked after everything that happens.
struct Bank(Memory<Wallet>);

impl Bank {
    /// With these accounts: customer, balance.
    fn with(accounts: &[(&str, u64)]) -> Self {
        let mut bank = Self(Memory::new(Wallet));
        for (id, balance) in accounts {
            bank.when(&created(id, *balance, entry(1)));
        }
        bank.0.published.clear();
        bank
    }

    fn when(&mut self, input: &Input) {
        self.0.handle(input, 1).unwrap();
        self.check_books();
    }

    /// The same, but nothing may come of it.
    fn when_nothing_happens(&mut self, input: &Input) {
        let before = (self.0.all::<Account>(), self.0.all::<Payment>());
        let published = self.0.published.len();
        self.when(input);
        assert_eq!((self.0.all(), self.0.all()), before, "{input:?} changed something");
        assert_eq!(self.0.published.len(), published, "{input:?} published something");
    }

    fn check_books(&self) {
        let payments = self.0.all::<Payment>();
        for account in self.0.all::<Account>() {
            assert_eq!(account.deposited, account.balance + account.paid, "{account:?}");
            let paid = payments.iter().filter(|payment| {
                payment.customer_id == account.id && payment.outcome == WalletOutcome::ToBeShipped
            });
            let paid: u64 = paid.map(|payment| payment.total).sum();
            assert_eq!(account.paid, paid, "{account:?}");
        }
    }

    fn account(&self, id: &str) -> Account {
        let mut accounts = self.0.all::<Account>().into_iter();
        accounts.find(|account| account.id.as_str() == id).unwrap()
    }

    /// Balance and what was paid.
    fn books(&self, id: &str) -> (u64, u64) {
        let account = self.account(id);
        (account.balance, account.paid)
    }

    /// The one outcome published since it was last asked for.
    fn outcome(&mut self) -> WalletChecked {
        let published = self.0.take(Stream::AccountWallet);
        assert_eq!(published.len(), 1, "{published:?}");
        serde_json::from_str(&published[0]).unwrap()
    }
}

#[test]
fn an_order_is_paid_whole_or_not_at_all() {
    use WalletOutcome::{InsufficientFund, Rejected, ToBeShipped};
    // Who pays how much; what it comes to; balance and paid of 101, who had 1000, then.
    let table = [
        ("less than the balance", "101", 900, ToBeShipped, (100, 900)),
        ("exactly the balance", "101", 1_000, ToBeShipped, (0, 1_000)),
        ("nothing", "101", 0, ToBeShipped, (1_000, 0)),
        ("one more than the balance", "101", 1_001, InsufficientFund, (1_000, 0)),
        ("the largest total", "101", u64::MAX, InsufficientFund, (1_000, 0)),
        ("nothing from an empty account", "102", 0, ToBeShipped, (1_000, 0)),
        ("something from an empty account", "102", 1, InsufficientFund, (1_000, 0)),
        ("an unknown customer", "999", 1, Rejected, (1_000, 0)),
        ("an unknown customer, for nothing", "999", 0, Rejected, (1_000, 0)),
    ];
    for (name, payer, total, outcome, books) in table {
        let mut bank = Bank::with(&[("101", 1_000), ("102", 0)]);
        bank.when(&charge(1, 1, payer, total));
        assert_eq!(bank.books("101"), books, "{name}");
        let event = bank.outcome();
        let expected = WalletChecked {
            order_id: order_id(1),
            customer_id: customer(payer),
            account: outcome,
            attempt: 1,
            reason: (outcome == Rejected).then(|| format!("there is no customer {payer}")),
        };
        assert_eq!(event, expected, "{name}");
        let payment = Payment {
            order_id: order_id(1),
            customer_id: customer(payer),
            attempt: 1,
            total,
            outcome,
        };
        assert_eq!(bank.0.all::<Payment>(), [payment], "{name}");
        let updated = bank.0.take(Stream::AccountUpdated);
        assert_eq!(updated.len(), usize::from(outcome == ToBeShipped), "{name}: {updated:?}");
        for json in updated {
            assert_eq!(serde_json::from_str::<Account>(&json).unwrap(), bank.account(payer));
        }
        assert!(bank.0.published.is_empty(), "{name}");
    }
}

#[test]
fn a_redelivered_charge_is_paid_once() {
    for (payer, total) in [("101", 900), ("101", 1_001), ("999", 1)] {
        let mut bank = Bank::with(&[("101", 1_000)]);
        bank.when(&charge(1, 1, payer, total));
        bank.when_nothing_happens(&charge(1, 1, payer, total));
        // Also when the customer could pay by now.
        bank.when(&created("101", 5_000, entry(2)));
        bank.when(&created("999", 5_000, entry(2)));
        bank.when_nothing_happens(&charge(1, 1, payer, total));
    }
}

#[test]
fn orders_are_paid_until_the_balance_is_used_up() {
    use WalletOutcome::{InsufficientFund, ToBeShipped};
    let mut bank = Bank::with(&[("101", 1_000)]);
    let outcomes = [(1, 600), (2, 600), (3, 400), (4, 1)].map(|(number, total)| {
        bank.when(&charge(number, 1, "101", total));
        bank.outcome().account
    });
    assert_eq!(outcomes, [ToBeShipped, InsufficientFund, ToBeShipped, InsufficientFund]);
    assert_eq!(bank.books("101"), (0, 1_000));
}

#[test]
fn a_later_attempt_is_charged_anew_and_an_earlier_one_no_more() {
    let mut bank = Bank::with(&[("101", 100)]);
    bank.when(&charge(1, 1, "101", 150));
    assert_eq!(bank.outcome().account, WalletOutcome::InsufficientFund);
    bank.when(&created("101", 200, entry(2)));
    bank.when(&charge(1, 2, "101", 150));
    let event = bank.outcome();
    assert_eq!((event.account, event.attempt), (WalletOutcome::ToBeShipped, 2));
    assert_eq!(bank.books("101"), (50, 150));
    bank.when_nothing_happens(&charge(1, 2, "101", 150));
    bank.when_nothing_happens(&charge(1, 1, "101", 150));
}

#[test]
fn a_new_account_has_its_balance() {
    let bank = Bank::with(&[("101", 1_000)]);
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
}

#[test]
fn a_reset_account_keeps_what_was_paid() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charge(1, 1, "101", 900));
    for (number, balance) in [(2, 1_000), (3, 0), (4, 50_000)] {
        bank.when(&created("101", balance, entry(number)));
        let account = bank.account("101");
        assert_eq!((account.balance, account.paid), (balance, 900), "reset to its first value");
        assert_eq!(account.deposited, balance + 900);
    }
    bank.when(&charge(2, 1, "101", 50_000));
    assert_eq!(bank.books("101"), (0, 50_900));
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
        let mut bank = Bank(Memory::new(Wallet));
        bank.when(&created("101", 1_000, id(applied)));
        bank.when_nothing_happens(&created("101", 1, id(late)));
        bank.when(&charge(1, 1, "101", 400));
        bank.when_nothing_happens(&created("101", 1_000, id(applied)));
        bank.when(&created("101", 7, EntryId { time: u64::MAX, sequence: 0 }));
        assert_eq!(bank.books("101"), (7, 400), "a newer one does");
    }
}

#[test]
fn a_balance_that_cannot_be_counted_is_at_fault_and_changes_nothing() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charge(1, 1, "101", 1));
    let before = bank.account("101");
    let fault = bank.0.handle(&created("101", u64::MAX, entry(2)), 1).unwrap_err();
    let text = fault.to_string();
    assert!(text.contains("101") && text.contains("too large"), "{text}");
    assert_eq!(bank.account("101"), before);
    bank.when(&created("101", u64::MAX - 1, entry(2)));
    bank.when(&charge(2, 1, "101", u64::MAX - 1));
    assert_eq!(bank.books("101"), (0, u64::MAX), "the largest sum is one");
}

#[test]
fn only_reserved_stock_is_charged_and_never_without_a_total() {
    let check = subscriptions().into_iter().find(|it| it.stream == Stream::InventoryCheck).unwrap();
    let parse = |inventory: &str, total: &str| {
        let entity = format!(
            r#"{{"inventory": "{inventory}", "order_id": "{}", "customer_id": "101",
                "product_ids": ["201"]{total}}}"#,
            order_id(1)
        );
        (check.parse)(&StreamEntry { id: entry(1), entity: &entity })
    };
    let charged = parse("payment-required", r#", "order_total": 800"#);
    assert_eq!(charged, Ok(Some(charge(1, 1, "101", 800))));
    assert_eq!(parse("out-of-stock", ""), Ok(None));
    assert_eq!(parse("rejected", ""), Ok(None));
    for total in ["", r#", "order_total": null"#, r#", "order_total": -1"#] {
        let fault = parse("payment-required", total).unwrap_err();
        assert!(fault.contains("field `entity`"), "{fault}");
    }
}

#[test]
fn a_paid_order_is_not_paid_again_by_a_later_attempt() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charge(1, 1, "101", 400));
    bank.when(&charge(1, 2, "101", 400));
    assert_eq!(bank.books("101"), (600, 400));
}
