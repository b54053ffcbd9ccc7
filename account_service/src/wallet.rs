//! Wallets: who paid for what. Pure: no IO, no clock.
//!
//! A payment is also the trace of the event that asked for it: an event that comes again finds it
//! and changes nothing.

use common::{
    clock::Millis,
    contract::{
        definitions::AccountDefinition,
        entities::{Account, Deposit, Refused},
        entity::Entity,
        events::{
            AccountCreated, ConfirmedStep, OrderCancelled, PaymentConfirmed, Refunded, TopUp,
            Topic, ToppedUp, WalletChecked, WalletOutcome,
        },
        excerpt::ShortId,
        ids::{CustomerId, EntryId, OrderId},
        keys::{self, Kind},
    },
    decision::{Changes, Decider, Halt, Reads, World},
};
use serde::{Deserialize, Serialize};

/// What happens to wallets.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined an account, in this entry.
    Created(AccountCreated, EntryId),
    /// A customer paid money in, in this entry.
    ToppedUp(TopUp, EntryId),
    /// An order's stock is reserved, and it has to be paid.
    Charge(Charge),
    /// An order was called off.
    Cancelled(OrderCancelled),
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
    /// Which attempt of the order this is. An inventory_service of the original does not say: then it is
    /// the order's current one, so that each entry asks anew.
    pub attempt: Option<u32>,
    /// The entry that asks.
    pub entry: EntryId,
    /// No answer came for long: the outcome is said again.
    pub resend: bool,
    /// Its stock was given back: nothing may be taken any more.
    pub released: bool,
}

impl Charge {
    /// The entry that asks, if it does not name its attempt.
    fn unnumbered(&self) -> Option<EntryId> {
        self.attempt.is_none().then_some(self.entry)
    }
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
    /// Whether it was paid; unknown if the order was called off before anything was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<WalletOutcome>,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The order was called off: what was paid is given back, and nothing will be taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// The last entry that it was asked by without naming an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<EntryId>,
}

impl Payment {
    /// The money that the order has cost and was not given back.
    pub fn kept(&self) -> u64 {
        let paid = self.outcome == Some(WalletOutcome::ToBeShipped) && !self.cancelled;
        if paid { self.total } else { 0 }
    }
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
            Input::Created(account, _) => {
                if let Some(request) = &account.request {
                    reads.fresh::<AccountDefinition>(request);
                }
                reads.load::<Account>(&account.id);
            }
            Input::ToppedUp(deposit, _) => {
                reads.fresh::<Deposit>(&deposit.id);
                reads.load::<Account>(&deposit.customer_id);
            }
            Input::Cancelled(order) => {
                reads.load::<Payment>(&order.id);
                reads.load::<Account>(&order.customer_id);
            }
            Input::Charge(charge) => {
                if charge.attempt == Some(1) && !charge.resend {
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
            Input::ToppedUp(event, entry) => top_up(event, *entry, world),
            Input::Charge(charge) => pay(charge, world),
            Input::Cancelled(order) => cancel(order, world),
        }
    }
}

fn create(event: &AccountCreated, entry: EntryId, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    if let Some(request) = &event.request
        && world.get::<AccountDefinition>(request)?.is_some()
    {
        return Ok(changes);
    }
    let existing = world.get::<Account>(&event.id)?;
    let is_new = existing.is_none();
    let record = |made| {
        let asked = event.clone();
        event.request.map(|id| AccountDefinition { id, asked, entry, is_new, made })
    };
    if existing.and_then(|account| account.created_by).is_some_and(|applied| applied >= entry) {
        record(None).into_iter().for_each(|record| changes.put(record));
        return Ok(changes);
    }
    // What was paid stays paid, whatever the balance is reset to.
    let paid = existing.map_or(0, |account| account.paid);
    let kept = existing.filter(|account| event.keep && account.created_by.is_some());
    let (balance, deposited) = match kept {
        Some(account) => (account.balance, Some(account.deposited)),
        None => (event.balance, event.balance.checked_add(paid)),
    };
    let account = Account {
        id: event.id.clone(),
        name: event.name.clone(),
        email: event.email.clone(),
        balance,
        paid,
        deposited: deposited
            .ok_or_else(|| Halt::fault(format!("the balance of {} is too large", event.id)))?,
        created_by: Some(entry),
    };
    record(Some(account.clone())).into_iter().for_each(|record| changes.put(record));
    changes.put(account);
    changes.remark(format!("customer {} has a balance of {balance}", event.id));
    Ok(changes)
}

fn top_up(event: &TopUp, entry: EntryId, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    if world.get::<Deposit>(&event.id)?.is_some() {
        return Ok(changes);
    }
    let mut deposit = Deposit {
        id: event.id,
        customer_id: event.customer_id.clone(),
        amount: event.amount,
        balance: None,
        refused: None,
        entry,
    };
    match with_more(world.get::<Account>(&event.customer_id)?, event.amount) {
        Ok(account) => {
            deposit.balance = Some(account.balance);
            changes.append(&ToppedUp {
                id: event.id,
                customer_id: event.customer_id.clone(),
                amount: event.amount,
                balance: account.balance,
            });
            changes.remark(format!("customer {} topped up {}", event.customer_id, event.amount));
            changes.put(account);
        }
        Err(refused) => {
            deposit.refused = Some(refused);
            changes.remark(format!(
                "{} of customer {} were turned away: {refused:?}",
                event.amount, event.customer_id
            ));
        }
    }
    changes.put(deposit);
    Ok(changes)
}

fn with_more(account: Option<&Account>, amount: u64) -> Result<Account, Refused> {
    let mut account = account.ok_or(Refused::Unknown)?.clone();
    account.deposited = account.deposited.checked_add(amount).ok_or(Refused::TooMuch)?;
    account.balance = account.balance.checked_add(amount).ok_or(Refused::TooMuch)?;
    Ok(account)
}

fn pay(charge: &Charge, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    if let Some(payment) = world.get::<Payment>(&charge.order_id)? {
        // What is paid is paid, whichever attempt it was.
        let paid = payment.outcome == Some(WalletOutcome::ToBeShipped);
        let is_answered = match charge.attempt {
            Some(attempt) => payment.attempt >= attempt,
            None => payment.asked_by >= Some(charge.entry),
        };
        if payment.cancelled || paid || is_answered {
            let again = match charge.attempt {
                Some(attempt) => charge.resend && attempt >= payment.attempt,
                None => !is_answered,
            };
            if again && !payment.cancelled {
                publish(payment, charge.attempt, &mut changes);
                changes.note(charge.order_id, "no answer came for long: its payment again");
                if let Some(asked_by) = charge.unnumbered() {
                    changes.put(Payment { asked_by: Some(asked_by), ..payment.clone() });
                }
            }
            return Ok(changes);
        }
    }
    let (outcome, reason) = match world.get::<Account>(&charge.customer_id)? {
        None => {
            let reason = format!("there is no customer {}", ShortId(charge.customer_id.as_str()));
            (WalletOutcome::Rejected, Some(reason))
        }
        // Only where this service has lost what it had decided.
        Some(_) if charge.released => {
            let reason = "its stock was given back; pay again".to_owned();
            (WalletOutcome::InsufficientFund, Some(reason))
        }
        Some(account) if account.balance < charge.total => {
            let reason = format!("it costs {}, the balance is {}", charge.total, account.balance);
            (WalletOutcome::InsufficientFund, Some(reason))
        }
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
    changes.note(
        charge.order_id,
        match &reason {
            None => format!("{} were paid", charge.total),
            Some(reason) => format!("nothing was paid: {reason}"),
        },
    );
    let known = world.get::<Payment>(&charge.order_id)?;
    let (attempt, asked_by) = known.map_or((1, None), |known| (known.attempt, known.asked_by));
    let payment = Payment {
        order_id: charge.order_id,
        customer_id: charge.customer_id.clone(),
        attempt: charge.attempt.unwrap_or(attempt),
        total: charge.total,
        outcome: Some(outcome),
        reason,
        cancelled: false,
        asked_by: charge.unnumbered().or(asked_by),
    };
    publish(&payment, charge.attempt, &mut changes);
    changes.put(payment);
    Ok(changes)
}

fn publish(payment: &Payment, attempt: Option<u32>, changes: &mut Changes) {
    if let Some(account) = payment.outcome {
        changes.append(&WalletChecked {
            order_id: payment.order_id,
            customer_id: payment.customer_id.clone(),
            account,
            order_total: Some(payment.total),
            attempt,
            reason: payment.reason.clone(),
        });
    }
}

fn cancel(order: &OrderCancelled, world: &World) -> Result<Changes, Halt> {
    let mut changes = Changes::none();
    let confirmed = PaymentConfirmed {
        order_id: order.id,
        attempt: order.attempt,
        step: ConfirmedStep::Cancelled,
    };
    let existing = world.get::<Payment>(&order.id)?;
    if existing.is_some_and(|payment| payment.cancelled) {
        if order.resend > 0 {
            changes.append(&confirmed);
        }
        return Ok(changes);
    }
    // Where nothing was asked for yet, whoever asks will find that it is called off.
    let payment = existing.cloned().unwrap_or_else(|| Payment {
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        attempt: order.attempt,
        total: 0,
        outcome: None,
        reason: None,
        cancelled: false,
        asked_by: None,
    });
    let amount = payment.kept();
    let payer = if amount == 0 { None } else { world.get::<Account>(&payment.customer_id)? };
    // An account whose data was lost has nothing to be given back to.
    if let Some(account) = payer {
        let mut account = account.clone();
        account.paid = account.paid.saturating_sub(amount);
        account.balance = account
            .balance
            .checked_add(amount)
            .ok_or_else(|| Halt::fault(format!("the balance of {} is too large", account.id)))?;
        changes.append(&Refunded {
            order_id: order.id,
            customer_id: payment.customer_id.clone(),
            amount,
            attempt: payment.attempt,
        });
        changes.put(account);
        changes.note(order.id, format!("it is called off: {amount} were given back"));
    } else {
        changes.note(order.id, "it is called off and costs nothing");
    }
    changes.append(&confirmed);
    changes.put(Payment { cancelled: true, ..payment });
    Ok(changes)
}
