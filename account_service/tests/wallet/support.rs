//! Inputs, and a service in memory whose accounts are checked after every input.

use account_service::wallet::{Charge, Input, Payment, Wallet};
use common::{
    contract::{
        entities::{Account, Deposit},
        events::{AccountCreated, OrderCancelled, Refunded, TopUp, WalletChecked, WalletOutcome},
        ids::{CustomerId, OrderId},
        streams,
    },
    decision::in_memory::Memory,
    schema::{entry_id::EntryId, stream::Stream},
};
use uuid::Uuid;

use WalletOutcome::ToBeShipped;

pub(crate) fn order_id(number: u128) -> OrderId {
    OrderId(Uuid::from_u128(number))
}

pub(crate) fn customer(id: &str) -> CustomerId {
    id.parse().unwrap()
}

pub(crate) fn entry(number: u64) -> EntryId {
    EntryId { time: 1_767_225_600_000, sequence: number }
}

pub(crate) fn account(id: &str, balance: u64) -> AccountCreated {
    AccountCreated {
        id: customer(id),
        name: format!("Customer {id}"),
        email: format!("{id}@server.com"),
        balance,
        keep: false,
        request: None,
    }
}

pub(crate) fn created(id: &str, balance: u64, by: EntryId) -> Input {
    Input::Created(account(id, balance), by)
}

/// Defines an account and keeps the balance of an existing one.
pub(crate) fn redefined(id: &str, balance: u64, by: EntryId) -> Input {
    Input::Created(AccountCreated { keep: true, ..account(id, balance) }, by)
}

pub(crate) fn charge(number: u128, attempt: u32, payer: &str, total: u64) -> Charge {
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

pub(crate) fn charged(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    Input::Charge(charge(number, attempt, payer, total))
}

/// A charge by an inventory_service of the original, in this entry.
pub(crate) fn charged_by_the_original(number: u128, by: EntryId, payer: &str, total: u64) -> Input {
    Input::Charge(Charge { attempt: None, entry: by, ..charge(number, 1, payer, total) })
}

/// The stock check is published_outcomes again because no answer to it came.
pub(crate) fn resent(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    Input::Charge(Charge { resend: true, ..charge(number, attempt, payer, total) })
}

/// The same after the stock was released.
pub(crate) fn released(number: u128, attempt: u32, payer: &str, total: u64) -> Input {
    let charge = charge(number, attempt, payer, total);
    Input::Charge(Charge { resend: true, released: true, ..charge })
}

pub(crate) fn cancelled(number: u128, attempt: u32, payer: &str) -> Input {
    cancelled_again(number, attempt, payer, 0)
}

/// A cancellation with this number of resends.
pub(crate) fn cancelled_again(number: u128, attempt: u32, payer: &str, resend: u32) -> Input {
    Input::Cancelled(OrderCancelled {
        id: order_id(number),
        customer_id: customer(payer),
        attempt,
        resend,
    })
}

pub(crate) fn topped_up(number: u128, payer: &str, amount: u64) -> Input {
    let event = TopUp { id: Uuid::from_u128(number), customer_id: customer(payer), amount };
    Input::ToppedUp(event, entry(1_000 + number as u64))
}

/// The service in memory; its invariants are checked after every input.
pub(crate) struct Bank(pub(crate) Memory<Wallet>);

impl Bank {
    /// A service with these accounts: customer, balance.
    pub(crate) fn with(accounts: &[(&str, u64)]) -> Self {
        let mut bank = Self(Memory::new(Wallet));
        for (id, balance) in accounts {
            bank.when(&created(id, *balance, entry(1)));
        }
        bank.0.published.clear();
        bank
    }

    pub(crate) fn when(&mut self, input: &Input) {
        self.0.handle(input, 1).unwrap();
        self.check_invariants();
    }

    /// Handles an input that must change nothing; returns the published outcomes.
    pub(crate) fn when_nothing_changes(&mut self, input: &Input) -> Vec<WalletChecked> {
        let before = (self.0.all::<Account>(), self.0.all::<Payment>(), self.0.all::<Deposit>());
        let published = self.0.published.len();
        self.when(input);
        assert_eq!(
            (self.0.all(), self.0.all(), self.0.all()),
            before,
            "{input:?} changed something"
        );
        let published_outcomes = self.0.published.split_off(published);
        assert!(
            published_outcomes.iter().all(|append| append.stream == streams::ACCOUNT_WALLET),
            "{published_outcomes:?}"
        );
        published_outcomes
            .iter()
            .map(|append| serde_json::from_str(&append.json).unwrap())
            .collect()
    }

    /// Handles an input that must change and publish nothing.
    pub(crate) fn when_nothing_happens(&mut self, input: &Input) {
        assert_eq!(self.when_nothing_changes(input), [], "{input:?} published something");
    }

    pub(crate) fn check_invariants(&self) {
        let payments = self.0.all::<Payment>();
        for account in self.0.all::<Account>() {
            assert_eq!(account.deposited, account.balance + account.paid, "{account:?}");
            let own = payments.iter().filter(|payment| payment.customer_id == account.id);
            let paid = own.filter(|it| it.outcome == Some(ToBeShipped) && !it.cancelled);
            assert_eq!(account.paid, paid.map(|it| it.total).sum::<u64>(), "{account:?}");
        }
        for payment in payments {
            let paid = payment.outcome == Some(ToBeShipped) && !payment.cancelled;
            assert_eq!(payment.net_amount(), if paid { payment.total } else { 0 }, "{payment:?}");
        }
    }

    pub(crate) fn account(&self, id: &str) -> Account {
        let mut accounts = self.0.all::<Account>().into_iter();
        accounts.find(|account| account.id.as_str() == id).unwrap()
    }

    /// The balance and the amount paid.
    pub(crate) fn books(&self, id: &str) -> (u64, u64) {
        let account = self.account(id);
        (account.balance, account.paid)
    }

    pub(crate) fn payment(&self, number: u128) -> Option<Payment> {
        let mut payments = self.0.all::<Payment>().into_iter();
        payments.find(|payment| payment.order_id == order_id(number))
    }

    /// The events on a stream since the last call.
    pub(crate) fn take<E: serde::de::DeserializeOwned>(&mut self, stream: Stream) -> Vec<E> {
        let published = self.0.take(stream);
        published.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    /// The only outcome since the last call.
    pub(crate) fn outcome(&mut self) -> WalletChecked {
        let mut published = self.take(streams::ACCOUNT_WALLET);
        assert_eq!(published.len(), 1, "{published:?}");
        published.remove(0)
    }

    /// The refunds since the last call.
    pub(crate) fn refunds(&mut self) -> Vec<u64> {
        let refunds: Vec<Refunded> = self.take(streams::ACCOUNT_REFUNDED);
        refunds.iter().map(|refund| refund.amount).collect()
    }
}
