//! Who paid for what: given accounts, when something happens, then this is left of the balance.

use account_service::{
    subscriptions,
    wallet::{Charge, Input, Payment, Wallet},
};
use common::{
    consumer::StreamEntry,
    contract::{
        definitions::AccountDefinition,
        entities::{Account, Deposit, Refused},
        events::{
            AccountCreated, OrderCancelled, Refunded, Stream, TopUp, ToppedUp, WalletChecked,
            WalletOutcome,
        },
        ids::{CustomerId, EntryId, OrderId},
    },
    decision::in_memory::Memory,
};
use uuid::Uuid;

use WalletOutcome::{InsufficientFund, Rejected, ToBeShipped};

fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

fn account(id: &str, balance: u64) -> AccountCreated {
    AccountCreated {
        id: customer(id),
        name: format!("Customer {id}"),
        email: format!("{id}@server.com"),
        balance,
        keep: false,
        request: None,
    }
}

fn created(id: &str, balance: u64, by: EntryId) -> Input {
    Input::Created(account(id, balance), by)
}

/// Defines an account, but not the balance of one that is there.
fn kept(id: &str, balance: u64, by: EntryId) -> Input {
    Input::Created(AccountCreated { keep: true, ..account(id, balance) }, by)
}

type Define = fn(&str, u64, EntryId) -> Input;

fn charge(number: u128, attempt: u32, payer: &str, total: u64) -> Charge {
    Charge {
        order_id: order_id(number),
        customer_id: customer(payer),
        total,
        attempt: Some(attempt),
        entry: entry(1),
        resend: false,
        released: false,
    }
}

fn charged(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    Input::Charge(charge(number, attempt, payer, total))
}

/// An inventory_service of the original asks, in this entry.
fn charged_by_the_original(number: u128, by: EntryId, payer: &str, total: u64) -> Input {
    Input::Charge(Charge { attempt: None, entry: by, ..charge(number, 1, payer, total) })
}

/// The stock check is said again because no answer to it came.
fn resent(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    Input::Charge(Charge { resend: true, ..charge(number, attempt, payer, total) })
}

/// The same, but the stock was given back meanwhile.
fn released(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    let charge = charge(number, attempt, payer, total);
    Input::Charge(Charge { resend: true, released: true, ..charge })
}

fn cancelled(number: u128, attempt: u32, payer: &str) -> Input {
    cancelled_again(number, attempt, payer, 0)
}

/// The cancellation was published again this number of times.
fn cancelled_again(number: u128, attempt: u32, payer: &str, resend: u32) -> Input {
    Input::Cancelled(OrderCancelled {
        id: order_id(number),
        customer_id: customer(payer),
        attempt,
        resend,
    })
}

fn topped_up(number: u128, payer: &str, amount: u64) -> Input {
    let event = TopUp { id: Uuid::from_u128(number), customer_id: customer(payer), amount };
    Input::ToppedUp(event, entry(1_000 + number as u64))
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

    /// The same, but nothing may change; what is published is returned.
    fn when_nothing_changes(&mut self, input: &Input) -> Vec<WalletChecked> {
        let before = (self.0.all::<Account>(), self.0.all::<Payment>(), self.0.all::<Deposit>());
        let published = self.0.published.len();
        self.when(input);
        assert_eq!(
            (self.0.all(), self.0.all(), self.0.all()),
            before,
            "{input:?} changed something"
        );
        let said = self.0.published.split_off(published);
        assert!(said.iter().all(|append| append.stream == Stream::AccountWallet), "{said:?}");
        said.iter().map(|append| serde_json::from_str(&append.json).unwrap()).collect()
    }

    /// The same, and nothing may be said either.
    fn when_nothing_happens(&mut self, input: &Input) {
        assert_eq!(self.when_nothing_changes(input), [], "{input:?} published something");
    }

    fn check_books(&self) {
        let payments = self.0.all::<Payment>();
        for account in self.0.all::<Account>() {
            assert_eq!(account.deposited, account.balance + account.paid, "{account:?}");
            let own = payments.iter().filter(|payment| payment.customer_id == account.id);
            let paid = own.filter(|it| it.outcome == Some(ToBeShipped) && !it.cancelled);
            assert_eq!(account.paid, paid.map(|it| it.total).sum::<u64>(), "{account:?}");
        }
        for payment in payments {
            let paid = payment.outcome == Some(ToBeShipped) && !payment.cancelled;
            assert_eq!(payment.kept(), if paid { payment.total } else { 0 }, "{payment:?}");
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

    fn payment(&self, number: u128) -> Option<Payment> {
        let mut payments = self.0.all::<Payment>().into_iter();
        payments.find(|payment| payment.order_id == order_id(number))
    }

    /// What was published on a stream since it was last asked for.
    fn take<E: serde::de::DeserializeOwned>(&mut self, stream: Stream) -> Vec<E> {
        let published = self.0.take(stream);
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    /// The one outcome published since it was last asked for.
    fn outcome(&mut self) -> WalletChecked {
        let mut published = self.take(Stream::AccountWallet);
        assert_eq!(published.len(), 1, "{published:?}");
        published.remove(0)
    }

    /// The sums that were given back since it was last asked for.
    fn refunds(&mut self) -> Vec<u64> {
        let refunds: Vec<Refunded> = self.take(Stream::AccountRefunded);
        refunds.iter().map(|refund| refund.amount).collect()
    }
}

#[test]
fn an_order_is_paid_whole_or_not_at_all() {
    // Who pays how much; what it comes to; balance and paid of 101, who had 1000, then.
    let table = [
        ("less than the balance", charge(1, 1, "101", 900), ToBeShipped, (100, 900)),
        ("exactly the balance", charge(1, 1, "101", 1_000), ToBeShipped, (0, 1_000)),
        ("nothing", charge(1, 1, "101", 0), ToBeShipped, (1_000, 0)),
        ("one more than the balance", charge(1, 1, "101", 1_001), InsufficientFund, (1_000, 0)),
        ("the largest total", charge(1, 1, "101", u64::MAX), InsufficientFund, (1_000, 0)),
        ("nothing of nothing", charge(1, 1, "102", 0), ToBeShipped, (1_000, 0)),
        ("something of nothing", charge(1, 1, "102", 1), InsufficientFund, (1_000, 0)),
        ("an unknown customer", charge(1, 1, "999", 1), Rejected, (1_000, 0)),
        ("an unknown customer, for nothing", charge(1, 1, "999", 0), Rejected, (1_000, 0)),
        ("a later attempt", charge(1, 3, "101", 900), ToBeShipped, (100, 900)),
        ("a later attempt, too dear", charge(1, 3, "101", 1_001), InsufficientFund, (1_000, 0)),
    ];
    for (name, charge, outcome, books) in table {
        // Sent again it is the same, if it was never heard of before.
        for resend in [false, true] {
            let (payer, total) = (charge.customer_id.as_str(), charge.total);
            let mut bank = Bank::with(&[("101", 1_000), ("102", 0)]);
            let balance = if payer == "102" { 0 } else { 1_000 };
            bank.when(&Input::Charge(Charge { resend, ..charge.clone() }));
            assert_eq!(bank.books("101"), books, "{name}");
            let reason = match outcome {
                ToBeShipped => None,
                InsufficientFund => Some(format!("it costs {total}, the balance is {balance}")),
                Rejected => Some(format!("there is no customer {payer}")),
            };
            let expected = WalletChecked {
                order_id: order_id(1),
                customer_id: customer(payer),
                account: outcome,
                order_total: Some(total),
                attempt: charge.attempt,
                reason: reason.clone(),
            };
            assert_eq!(bank.outcome(), expected, "{name}");
            let payment = Payment {
                order_id: order_id(1),
                customer_id: customer(payer),
                attempt: charge.attempt.unwrap(),
                total,
                outcome: Some(outcome),
                reason,
                cancelled: false,
                asked_by: None,
            };
            assert_eq!(bank.0.all::<Payment>(), [payment], "{name}");
            let updated: Vec<Account> = bank.take(Stream::AccountUpdated);
            let expected = (outcome == ToBeShipped).then(|| bank.account(payer));
            assert_eq!(updated, Vec::from_iter(expected), "{name}");
            assert!(bank.0.published.is_empty(), "{name}");
        }
    }
}

#[test]
fn nothing_is_taken_for_stock_that_was_given_back() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&released(1, 1, "101", 900));
    let outcome = bank.outcome();
    assert_eq!((outcome.account, bank.books("101")), (InsufficientFund, (1_000, 0)));
    assert_eq!(outcome.reason.as_deref(), Some("its stock was given back; pay again"));
    bank.when_nothing_happens(&charged(1, 1, "101", 900));
    assert_eq!(bank.when_nothing_changes(&released(1, 1, "101", 900)), [outcome]);

    bank.when(&charged(1, 2, "101", 900));
    assert_eq!((bank.outcome().account, bank.books("101")), (ToBeShipped, (100, 900)));

    bank.when(&released(2, 1, "999", 1));
    let outcome = bank.outcome();
    assert_eq!(outcome.account, Rejected, "there is no sense in paying again");
    assert_eq!(outcome.reason.as_deref(), Some("there is no customer 999"));
}

#[test]
fn a_redelivered_charge_is_paid_once() {
    for (payer, total) in [("101", 900), ("101", 1_001), ("999", 1)] {
        let mut bank = Bank::with(&[("101", 1_000)]);
        bank.when(&charged(1, 1, payer, total));
        bank.when_nothing_happens(&charged(1, 1, payer, total));
        // Also when the customer could pay by now.
        bank.when(&created("101", 5_000, entry(2)));
        bank.when(&created("999", 5_000, entry(2)));
        bank.when(&topped_up(1, "101", 5_000));
        bank.when_nothing_happens(&charged(1, 1, payer, total));
    }
}

#[test]
fn what_was_decided_is_said_again_word_for_word_and_never_charged_twice() {
    for (payer, total) in [("101", 900), ("101", 0), ("101", 1_001), ("999", 1)] {
        for attempt in [1, 2] {
            let mut bank = Bank::with(&[("101", 1_000)]);
            bank.when(&charged(1, attempt, payer, total));
            let first = bank.outcome();
            // Also when the customer could pay by now, or the price is another one.
            bank.when(&topped_up(1, "101", 5_000));
            bank.when(&created("999", 5_000, entry(2)));
            let again = [
                resent(1, attempt, payer, total),
                resent(1, attempt, payer, total + 1),
                released(1, attempt, payer, total),
            ];
            for input in again.iter().chain(&again) {
                assert_eq!(
                    bank.when_nothing_changes(input),
                    std::slice::from_ref(&first),
                    "{input:?}"
                );
            }
            bank.when_nothing_happens(&resent(1, attempt - 1, payer, total));
        }
    }
}

#[test]
fn orders_are_paid_until_the_balance_is_used_up() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    let outcomes = [(1, 600), (2, 600), (3, 400), (4, 1)].map(|(number, total)| {
        bank.when(&charged(number, 1, "101", total));
        bank.outcome().account
    });
    assert_eq!(outcomes, [ToBeShipped, InsufficientFund, ToBeShipped, InsufficientFund]);
    assert_eq!(bank.books("101"), (0, 1_000));
}

#[test]
fn a_later_attempt_is_charged_anew_and_an_earlier_one_no_more() {
    // What comes in between, and what the second attempt comes to; whether it was sent again.
    let table = [
        (topped_up(1, "101", 50), ToBeShipped, (0, 150)),
        (topped_up(1, "101", 49), InsufficientFund, (149, 0)),
        (created("101", 200, entry(2)), ToBeShipped, (50, 150)),
        (kept("101", 200, entry(2)), InsufficientFund, (100, 0)),
    ];
    for (between, outcome, books) in table {
        for second in [charged(1, 2, "101", 150), resent(1, 2, "101", 150)] {
            let mut bank = Bank::with(&[("101", 100)]);
            bank.when(&charged(1, 1, "101", 150));
            assert_eq!(bank.outcome().account, InsufficientFund);
            bank.when(&between);
            bank.when(&second);
            let event = bank.outcome();
            assert_eq!((event.account, event.attempt), (outcome, Some(2)), "{between:?}");
            assert_eq!(bank.books("101"), books, "{between:?}");
            assert_eq!(bank.payment(1).unwrap().attempt, 2);
            bank.when_nothing_happens(&charged(1, 2, "101", 150));
            bank.when_nothing_happens(&charged(1, 1, "101", 150));
            bank.when_nothing_happens(&resent(1, 1, "101", 150));
        }
    }
}

#[test]
fn an_attempt_that_overtook_another_leaves_nothing_to_it() {
    let mut bank = Bank::with(&[("101", 100)]);
    bank.when(&charged(1, 3, "101", 150));
    assert_eq!(bank.outcome().attempt, Some(3));
    bank.when(&topped_up(1, "101", 1_000));
    for attempt in [1, 2, 3] {
        bank.when_nothing_happens(&charged(1, attempt, "101", 150));
    }
    bank.when(&charged(1, 4, "101", 150));
    assert_eq!((bank.outcome().account, bank.books("101")), (ToBeShipped, (950, 150)));
}

#[test]
fn a_paid_order_is_not_paid_again_by_a_later_attempt() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 400));
    bank.when_nothing_happens(&charged(1, 2, "101", 400));
    // Whoever lost the answer is told that it is paid.
    let said = bank.when_nothing_changes(&resent(1, 2, "101", 400));
    let said: Vec<_> = said.iter().map(|event| (event.account, event.attempt)).collect();
    assert_eq!(said, [(ToBeShipped, Some(2))]);
    assert_eq!(bank.books("101"), (600, 400));
}

#[test]
fn where_no_attempt_is_named_each_entry_asks_once() {
    let mut bank = Bank::with(&[("101", 100)]);
    let first = charged_by_the_original(1, entry(5), "101", 150);
    bank.when(&first);
    let told = bank.outcome();
    assert_eq!(
        (told.account, told.attempt),
        (InsufficientFund, None),
        "the order knows which it is in"
    );
    bank.when(&topped_up(1, "101", 900));
    bank.when_nothing_happens(&first);
    bank.when_nothing_happens(&charged_by_the_original(1, entry(4), "101", 150));
    let second = charged_by_the_original(1, entry(6), "101", 150);
    bank.when(&second);
    let told = bank.outcome();
    assert_eq!((told.account, told.attempt), (ToBeShipped, None));
    assert_eq!(bank.books("101"), (850, 150));
    bank.when_nothing_happens(&second);
    bank.when_nothing_happens(&first);
    // Who asks again is told again, and pays nothing.
    let third = charged_by_the_original(1, entry(7), "101", 150);
    bank.when(&third);
    assert_eq!(bank.outcome().account, ToBeShipped);
    assert_eq!(bank.books("101"), (850, 150));
    bank.when_nothing_happens(&third);
    bank.when(&cancelled(1, 1, "101"));
    assert_eq!(bank.books("101"), (1_000, 0));
    bank.when_nothing_happens(&charged_by_the_original(1, entry(8), "101", 150));
}

#[test]
fn one_that_names_its_attempt_follows_one_that_does_not() {
    let mut bank = Bank::with(&[("101", 100)]);
    bank.when(&charged_by_the_original(1, entry(5), "101", 150));
    assert_eq!(bank.outcome().account, InsufficientFund);
    bank.when(&topped_up(1, "101", 900));
    bank.when_nothing_happens(&charged(1, 1, "101", 150));
    bank.when(&charged(1, 2, "101", 150));
    assert_eq!((bank.outcome().account, bank.books("101")), (ToBeShipped, (850, 150)));
    // The other way round: what was refused without an attempt is not charged when it comes again.
    let mut bank = Bank::with(&[("101", 100)]);
    let first = charged_by_the_original(1, entry(5), "101", 150);
    bank.when(&first);
    bank.when(&charged(1, 2, "101", 150));
    bank.when(&topped_up(1, "101", 900));
    bank.when_nothing_happens(&first);
}

#[test]
fn money_comes_in_once_for_each_deposit() {
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
    let events: Vec<serde_json::Value> = bank.take(Stream::AccountToppedUp);
    let expected = serde_json::json!({
        "id": Uuid::from_u128(7), "customer_id": "101", "amount": 500, "balance": 1_100,
    });
    assert_eq!(events, [expected]);
    assert_eq!(bank.take::<Account>(Stream::AccountUpdated), [account]);
    assert!(bank.0.published.is_empty());

    // The same deposit, whatever else it says and whenever it comes.
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
    let balances: Vec<ToppedUp> = bank.take(Stream::AccountToppedUp);
    assert_eq!(balances.iter().map(|event| event.balance).collect::<Vec<_>>(), [1_500, 500]);
}

#[test]
fn money_that_cannot_come_in_is_turned_away_for_good_and_on_record() {
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
        let events = bank.take::<ToppedUp>(Stream::AccountToppedUp);
        assert_eq!(events.len(), usize::from(refused.is_none()), "{name}");
        let updates = bank.take::<Account>(Stream::AccountUpdated);
        assert_eq!(updates.len(), usize::from(refused.is_none()), "{name}");
        assert!(bank.0.published.is_empty(), "{name}");

        // Also when it could come in by now.
        bank.when(&created("101", 0, entry(2)));
        bank.when(&created("999", 0, entry(2)));
        bank.0.published.clear();
        bank.when_nothing_happens(&topped_up(7, payer, amount));
    }
}

#[test]
fn a_new_account_has_its_balance() {
    for define in [created as Define, kept] {
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
        assert_eq!(bank.take::<Account>(Stream::AccountUpdated), [expected]);
        assert!(bank.0.published.is_empty());
    }
}

#[test]
fn a_reset_account_keeps_what_was_paid() {
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
fn an_account_that_keeps_its_balance_is_renamed_only() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 900));
    bank.when(&topped_up(1, "101", 70));
    let before = bank.account("101");
    // Not even a balance that could not be counted is looked at.
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
        assert_eq!(bank.take::<Account>(Stream::AccountUpdated), [expected]);
    }
    bank.when(&created("101", 5, entry(5)));
    assert_eq!(bank.books("101"), (5, 900), "the next one may reset it");
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
        let ways: [(Define, Define); 2] = [(created, kept), (kept, created)];
        for (define, redefine) in ways {
            let mut bank = Bank(Memory::new(Wallet));
            bank.when(&define("101", 1_000, id(applied)));
            bank.when_nothing_happens(&define("101", 1, id(late)));
            bank.when_nothing_happens(&redefine("101", 1, id(late)));
            bank.when(&charged(1, 1, "101", 400));
            bank.when_nothing_happens(&define("101", 1_000, id(applied)));
            bank.when(&created("101", 7, EntryId { time: u64::MAX, sequence: 0 }));
            assert_eq!(bank.books("101"), (7, 400), "a newer one does");
        }
    }
}

#[test]
fn a_balance_that_cannot_be_counted_is_at_fault_and_changes_nothing() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 1));
    let before = bank.account("101");
    let fault = bank.0.handle(&created("101", u64::MAX, entry(2)), 1).unwrap_err();
    let text = fault.to_string();
    assert!(text.contains("101") && text.contains("too large"), "{text}");
    assert_eq!(bank.account("101"), before);
    bank.when(&created("101", u64::MAX - 1, entry(2)));
    bank.when(&charged(2, 1, "101", u64::MAX - 1));
    assert_eq!(bank.books("101"), (0, u64::MAX), "the largest sum is one");
    bank.when(&cancelled(2, 1, "101"));
    assert_eq!(bank.books("101"), (u64::MAX - 1, 1), "and can be given back");
}

#[test]
fn a_cancelled_order_gets_back_what_it_cost_and_costs_nothing_more() {
    let unpaid = charged(1, 1, "101", 1_001);
    // What happened to an order of 101, who had 1000, and in which attempt it is cancelled then;
    // which outcome, attempt and total stay on record; what is given back.
    let table = [
        ("nothing", vec![], 1, (None, 1, 0), None),
        ("nothing in the second attempt", vec![], 2, (None, 2, 0), None),
        ("paid", vec![charged(1, 1, "101", 400)], 1, (Some(ToBeShipped), 1, 400), Some(400)),
        ("paid, for nothing", vec![charged(1, 1, "101", 0)], 1, (Some(ToBeShipped), 1, 0), None),
        ("not paid", vec![unpaid.clone()], 1, (Some(InsufficientFund), 1, 1_001), None),
        ("of a stranger", vec![charged(1, 1, "999", 1)], 1, (Some(Rejected), 1, 1), None),
        (
            "not paid, then tried again",
            vec![unpaid.clone()],
            2,
            (Some(InsufficientFund), 1, 1_001),
            None,
        ),
        (
            "not paid, then paid",
            vec![unpaid.clone(), topped_up(7, "101", 1), charged(1, 2, "101", 1_001)],
            2,
            (Some(ToBeShipped), 2, 1_001),
            Some(1_001),
        ),
        (
            "paid, then the account was reset",
            vec![charged(1, 1, "101", 400), created("101", 1_000, entry(2))],
            1,
            (Some(ToBeShipped), 1, 400),
            Some(400),
        ),
    ];
    for (name, before, last, (outcome, attempt, total), refund) in table {
        let mut bank = Bank::with(&[("101", 1_000)]);
        before.iter().for_each(|input| bank.when(input));
        bank.0.published.clear();
        let (deposited, before) = (bank.account("101").deposited, bank.payment(1));
        let payer = before.as_ref().map_or(customer("101"), |it| it.customer_id.clone());
        bank.when(&cancelled(1, last, payer.as_str()));

        let refunded = refund.map(|amount| {
            serde_json::json!({
                "order_id": order_id(1), "customer_id": payer, "amount": amount, "attempt": attempt,
            })
        });
        let events: Vec<serde_json::Value> = bank.take(Stream::AccountRefunded);
        assert_eq!(events, Vec::from_iter(refunded), "{name}");
        let updated: Vec<Account> = bank.take(Stream::AccountUpdated);
        assert_eq!(updated, Vec::from_iter(refund.map(|_| bank.account("101"))), "{name}");
        assert_eq!(bank.0.take(Stream::AccountConfirmed).len(), 1, "{name}");
        assert!(bank.0.published.is_empty(), "{name}");
        assert_eq!(bank.books("101"), (deposited, 0), "{name}");
        let payment = Payment {
            order_id: order_id(1),
            customer_id: payer.clone(),
            attempt,
            total,
            outcome,
            reason: before.and_then(|payment| payment.reason),
            cancelled: true,
            asked_by: None,
        };
        assert_eq!(bank.payment(1), Some(payment), "{name}");

        // From now on nothing comes of it, in whatever attempt.
        bank.when(&topped_up(9, "101", 5_000));
        bank.when(&created("999", 5_000, entry(2)));
        bank.0.published.clear();
        for attempt in 1..=3 {
            for payer in ["101", "999"] {
                bank.when_nothing_happens(&cancelled(1, attempt, payer));
                bank.when_nothing_happens(&charged(1, attempt, payer, 400));
                bank.when_nothing_happens(&resent(1, attempt, payer, 400));
                bank.when_nothing_happens(&released(1, attempt, payer, 400));
            }
        }
    }
}

#[test]
fn in_whatever_order_a_cancelled_order_is_heard_of_it_costs_nothing() {
    let inputs = [
        charged(1, 1, "101", 1_100),
        topped_up(7, "101", 200),
        charged(1, 2, "101", 1_100),
        resent(1, 2, "101", 1_100),
        cancelled(1, 2, "101"),
        cancelled(1, 2, "101"),
    ];
    let mut ends = std::collections::BTreeSet::new();
    for places in permutations(&[0, 1, 2, 3, 4, 5]) {
        let mut bank = Bank::with(&[("101", 1_000)]);
        places.iter().for_each(|place| bank.when(&inputs[*place]));
        assert_eq!(bank.books("101"), (1_200, 0), "{places:?}");
        assert!(bank.payment(1).unwrap().cancelled, "{places:?}");
        let outcomes: Vec<WalletChecked> = bank.take(Stream::AccountWallet);
        // Said again it is still one payment.
        let paid = outcomes.iter().any(|event| event.account == ToBeShipped);
        let refunds = bank.refunds();
        assert_eq!(refunds, if paid { vec![1_100] } else { Vec::new() }, "{places:?}");
        ends.insert((outcomes.len(), paid));
    }
    assert!(ends.len() > 4, "the order makes a difference: {ends:?}");
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in items.iter().enumerate() {
        let rest = [&items[..place], &items[place + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [&[*first][..], &rest].concat()));
    }
    all
}

#[test]
fn a_refund_pays_for_other_orders() {
    let mut bank = Bank::with(&[("101", 1_000)]);
    bank.when(&charged(1, 1, "101", 1_000));
    bank.when(&charged(2, 1, "101", 600));
    bank.when(&cancelled(1, 1, "101"));
    bank.when(&charged(2, 2, "101", 600));
    bank.when(&charged(3, 1, "101", 400));
    assert_eq!(bank.books("101"), (0, 1_000));
    bank.when(&cancelled(2, 2, "101"));
    assert_eq!((bank.books("101"), bank.refunds()), ((600, 400), vec![1_000, 600]));
}

#[test]
fn only_reserved_stock_is_charged_and_never_without_a_total() {
    let check = subscriptions().into_iter().find(|it| it.stream == Stream::InventoryCheck).unwrap();
    let parse = |inventory: &str, rest: &str| {
        let entity = format!(
            r#"{{"inventory": "{inventory}", "order_id": "{}", "customer_id": "101",
                "product_ids": ["201"]{rest}}}"#,
            order_id(1)
        );
        (check.parse)(&StreamEntry { id: entry(1), entity: &entity, forgotten: false })
    };
    let paid = r#", "order_total": 800"#;
    let original = charged_by_the_original(1, entry(1), "101", 800);
    assert_eq!(parse("payment-required", paid), Ok(Some(original)));
    let first = format!(r#"{paid}, "attempt": 1"#);
    assert_eq!(parse("payment-required", &first), Ok(Some(charged(1, 1, "101", 800))));
    let again = format!(r#"{paid}, "attempt": 2, "resend": true"#);
    assert_eq!(parse("payment-required", &again), Ok(Some(resent(1, 2, "101", 800))));
    let free = format!(r#"{again}, "released": true"#);
    assert_eq!(parse("payment-required", &free), Ok(Some(released(1, 2, "101", 800))));
    for rest in ["", paid, r#", "resend": true"#] {
        assert_eq!(parse("out-of-stock", rest), Ok(None));
        assert_eq!(parse("rejected", rest), Ok(None));
    }
    for total in ["", r#", "order_total": null"#, r#", "order_total": -1"#] {
        let fault = parse("payment-required", total).unwrap_err();
        assert!(fault.contains("field `entity`"), "{fault}");
    }
}

#[test]
fn what_a_lost_store_had_charged_is_not_charged_again() {
    let forgotten = StreamEntry { id: entry(1), entity: "", forgotten: true };
    let check = subscriptions().into_iter().find(|it| it.stream == Stream::InventoryCheck).unwrap();
    assert_eq!((check.parse)(&forgotten), Ok(None));
}

#[test]
fn other_entries_are_understood() {
    let parse = |stream, entity: serde_json::Value| {
        let subscription = subscriptions().into_iter().find(|it| it.stream == stream).unwrap();
        (subscription.parse)(&StreamEntry {
            id: entry(1),
            entity: &entity.to_string(),
            forgotten: false,
        })
    };
    let account = serde_json::json!({
        "id": "101", "name": "Customer 101", "email": "101@server.com", "balance": 1_000,
    });
    let mut keeping = account.clone();
    keeping["keep"] = true.into();
    let original = parse(Stream::AccountCreated, account);
    assert_eq!(original, Ok(Some(created("101", 1_000, entry(1)))));
    assert_eq!(parse(Stream::AccountCreated, keeping), Ok(Some(kept("101", 1_000, entry(1)))));

    let cancel = serde_json::json!({"id": order_id(1), "customer_id": "101", "attempt": 2});
    assert_eq!(parse(Stream::OrderCancelled, cancel), Ok(Some(cancelled(1, 2, "101"))));

    let id = Uuid::from_u128(7);
    let money = |amount: serde_json::Value| {
        let event = serde_json::json!({"id": id, "customer_id": "101", "amount": amount});
        parse(Stream::AccountTopUp, event)
    };
    let event = TopUp { id, customer_id: customer("101"), amount: 500 };
    assert_eq!(money(500.into()), Ok(Some(Input::ToppedUp(event, entry(1)))));
    for wrong in [serde_json::json!(-1), serde_json::json!(0.5), serde_json::json!("5")] {
        assert!(money(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_cancellation_is_confirmed_with_its_effect_and_whenever_it_is_asked_for_again() {
    let given: [(&str, Vec<Input>); 5] = [
        ("unknown", vec![]),
        ("paid", vec![charged(1, 1, "101", 400)]),
        ("not paid", vec![charged(1, 1, "101", 4_000)]),
        ("of an unknown customer", vec![charged(1, 1, "999", 1)]),
        ("cancelled", vec![charged(1, 1, "101", 400), cancelled(1, 1, "101")]),
    ];
    for (name, inputs) in given {
        let mut bank = Bank::with(&[("101", 1_000)]);
        inputs.iter().for_each(|input| bank.when(input));
        let mut confirmed = |input: &Input| {
            bank.0.take(Stream::AccountConfirmed);
            bank.when(input);
            bank.take::<serde_json::Value>(Stream::AccountConfirmed)
        };
        let confirmation = serde_json::json!({
            "order_id": order_id(1), "attempt": 2, "step": "cancelled",
        });
        let first = usize::from(name != "cancelled");
        assert_eq!(confirmed(&cancelled(1, 2, "101")).len(), first, "{name}");
        assert!(confirmed(&cancelled(1, 2, "101")).is_empty(), "{name}: it is only redelivered");
        for resend in [1, 2] {
            let again = confirmed(&cancelled_again(1, 2, "101", resend));
            assert_eq!(again, std::slice::from_ref(&confirmation), "{name}");
        }
        assert_eq!(bank.books("101"), (1_000, 0), "{name}");
        bank.when_nothing_happens(&resent(1, 3, "101", 400));
        let refunds = bank.refunds().len();
        assert_eq!(refunds, usize::from(matches!(name, "paid" | "cancelled")), "{name}");
    }
}

#[test]
fn a_requested_definition_has_its_effect_once_also_after_a_newer_one_and_leaves_its_record() {
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
    // The event of the first request comes again, and was published again.
    for by in [entry(2), entry(3), entry(5)] {
        bank.when_nothing_happens(&Input::Created(first.clone(), by));
    }
    assert_eq!(bank.account("101").name, "Second");
    let [known] = &record(&bank, 1)[..] else { panic!("one record") };
    assert_eq!((&known.asked, known.entry, known.is_new), (&first, entry(2), true));
    assert_eq!(known.made.as_ref(), Some(&made));
    assert!(!record(&bank, 2)[0].is_new);
    // One that comes after a newer one changes nothing, and its record says so.
    bank.when_nothing_happens(&Input::Created(asked("Late", 3), entry(3)));
    assert_eq!(record(&bank, 3)[0].made, None);
}
