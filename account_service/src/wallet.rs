//! Wallets: who paid for what. Pure: no IO, no clock.
//!
//! A payment is also the trace of the event that asked for it: an event that comes again finds it
//! and changes nothing.

use common::{
    decision::{Changes, Decider, Entity, Halt, Millis, Reads, World},
    entities::Account,
    events::{AccountCreated, Topic, WalletChecked, WalletOutcome},
    ids::{CustomerId, EntryId, OrderId},
    keys::{self, Kind},
};
use serde::{Deserialize, Serialize};

/// What happens to wallets.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined an account, in this entry.
    Created(AccountCreated, EntryId),
    /// An order's stock is reserved, and it has to be paid.
    Charge(Charge),
}

/// A demand for payment.
#[derive(Clone, PartialEq, Debug)]
pub struct Charge {
    /// The order.
    pub order_id: OrderId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// How much.
    pub total: u64,
    /// Which attempt of the order this is.
    pub attempt: u32,
}

/// What a demand for payment came to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// The order.
    pub order_id: OrderId,
    /// Who pays.
    pub customer_id: CustomerId,
    /// The attempt that this is the outcome of.
    pub attempt: u32,
    /// How much was asked for.
    pub total: u64,
    /// Whether it was paid.
    pub outcome: WalletOutcome,
}

impl Entity for Payment {
    type Id = OrderId;
    fn kind() -> &'static Kind {
        &keys::PAYMENT
    }
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

/// Decides about wallets.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wallet;

impl Decider for Wallet {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = Topic::Account;

    fn reads(&self, input: &Input, reads: &mut Reads) {
        match input {
            Input::Created(account, _) => reads.load::<Account>(&account.id),
            Input::Charge(charge) => {
                if charge.attempt == 1 {
                    reads.fresh::<Payment>(&charge.order_id);
                } else {
                    reads.load::<Payment>(&charge.order_id);
                }
                reads.load::<Account>(&charge.customer_id);
            }
        }
    }

    fn decide(&self, input: &Input, world: &World, _now: Millis) -> Result<Changes, Halt> {
        match input {
            Input::Created(event, entry) => create(event, *entry, world),
            Input::Charge(charge) => pay(charge, world),
        }
    }
}

fn create(event: &AccountCreated, entry: EntryId, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    let existing = world.get::<Account>(&event.id)?;
    if existing.and_then(|account| account.created_by).is_some_and(|applied| applied >= entry) {
        return Ok(changes);
    }
    // What was paid stays paid, whatever the balance is reset to.
    let paid = existing.map_or(0, |account| account.paid);
    let deposited = event.balance.checked_add(paid);
    changes.put(Account {
        id: event.id.clone(),
        name: event.name.clone(),
        email: event.email.clone(),
        balance: event.balance,
        paid,
        deposited: deposited
            .ok_or_else(|| Halt::fault(format!("the balance of {} is too large", event.id)))?,
        created_by: Some(entry),
    });
    changes.remark(format!("customer {} has a balance of {}", event.id, event.balance));
    Ok(changes)
}

fn pay(charge: &Charge, world: &World) -> Result<Changes, Halt> {
    let existing = world.get::<Payment>(&charge.order_id)?;
    // What is paid is paid, whichever attempt it was.
    let settled = |payment: &Payment| {
        payment.attempt >= charge.attempt || payment.outcome == WalletOutcome::ToBeShipped
    };
    if existing.is_some_and(settled) {
        return Ok(Changes::none());
    }
    let mut changes = Changes::none();
    let (outcome, reason) = match world.get::<Account>(&charge.customer_id)? {
        None => {
            let reason = format!("there is no customer {}", charge.customer_id);
            (WalletOutcome::Rejected, Some(reason))
        }
        Some(account) if account.balance < charge.total => (WalletOutcome::InsufficientFund, None),
        Some(account) => {
            let mut account = account.clone();
            account.balance -= charge.total;
            account.paid = account.paid.checked_add(charge.total).ok_or_else(|| {
                Halt::fault(format!("customer {} paid too much to count", account.id))
            })?;
            changes.put(account);
            (WalletOutcome::ToBeShipped, None)
        }
    };
    changes.put(Payment {
        order_id: charge.order_id,
        customer_id: charge.customer_id.clone(),
        attempt: charge.attempt,
        total: charge.total,
        outcome,
    });
    changes.append(&WalletChecked {
        order_id: charge.order_id,
        customer_id: charge.customer_id.clone(),
        account: outcome,
        attempt: charge.attempt,
        reason: reason.clone(),
    });
    changes.note(
        charge.order_id,
        match (outcome, reason) {
            (WalletOutcome::ToBeShipped, _) => format!("{} were paid", charge.total),
            (_, Some(reason)) => format!("nothing was paid: {reason}"),
            (_, None) => format!("nothing was paid: the balance is below {}", charge.total),
        },
    );
    Ok(changes)
}
