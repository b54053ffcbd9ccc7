//! Wallets: the decisions about accounts, payments and refunds. Pure: no IO, no clock.
//!
//! A payment is also the idempotency record of the event that asked for it: a redelivered event finds it
//! and changes nothing.

use common::{
    clock::Millis,
    contract::{
        definitions::AccountDefinition,
        entities::{Account, Deposit, Refused},
        events::{
            AccountCreated, ConfirmedStep, OrderCancelled, PaymentConfirmed, Refunded, TopUp,
            ToppedUp, WalletChecked, WalletOutcome,
        },
        excerpt::ShortId,
        ids::{CustomerId, OrderId},
        keys,
        streams::{self, topics},
    },
    decision::{Changes, DecideError, Decider, Reads, World},
    planted,
    schema::{
        entity::{Entity, Kind},
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};
use serde::{Deserialize, Serialize};

/// The events that concern wallets.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client defined an account, in this entry.
    Created(AccountCreated, EntryId),
    /// A customer topped up their account, in this entry.
    ToppedUp(TopUp, EntryId),
    /// The stock of an order is reserved, and the order has to be paid.
    Charge(Charge),
    /// An order was cancelled.
    Cancelled(OrderCancelled),
}

/// A charge: the request to pay for an order.
#[derive(Clone, PartialEq, Debug)]
pub struct Charge {
    /// The order.
    pub order_id: OrderId,
    /// The customer who pays.
    pub customer_id: CustomerId,
    /// The amount.
    pub total: u64,
    /// The attempt of the order. An inventory_service of the original does not name it: each of its
    /// entries then charges the current attempt.
    pub attempt: Option<u32>,
    /// The entry that asks for the payment.
    pub entry: EntryId,
    /// The order was resent without an answer: the outcome is published again.
    pub resend: bool,
    /// The stock was released: the customer must not be charged.
    pub released: bool,
}

impl Charge {
    /// The entry that asks for the payment, if it names no attempt.
    fn unnumbered(&self) -> Option<EntryId> {
        self.attempt.is_none().then_some(self.entry)
    }
}

/// The outcome of a charge.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// The order.
    pub order_id: OrderId,
    /// The customer who pays.
    pub customer_id: CustomerId,
    /// The attempt whose outcome this is.
    pub attempt: u32,
    /// The amount charged.
    pub total: u64,
    /// Whether it was paid; unknown if the order was cancelled before any charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<WalletOutcome>,
    /// Why it was not paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the order was cancelled: the payment is refunded, and nothing will be charged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// The last entry that charged it without naming an attempt.
    #[serde(default, rename = "asked_by", skip_serializing_if = "Option::is_none")]
    pub unnumbered_charge: Option<EntryId>,
}

impl Payment {
    /// The amount that was paid and not refunded.
    pub fn net_amount(&self) -> u64 {
        let paid = self.outcome == Some(WalletOutcome::ToBeShipped) && !self.cancelled;
        if paid { self.total } else { 0 }
    }
}

impl Entity for Payment {
    type Id = OrderId;
    const KIND: &'static Kind = &keys::PAYMENT;
    fn id(&self) -> &OrderId {
        &self.order_id
    }
}

/// The decider of account_service.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wallet;

impl Decider for Wallet {
    type Input = Input;
    type Answer = ();

    const TOPIC: Topic = topics::ACCOUNT;

    fn streams() -> Vec<Stream> {
        streams::of(topics::ACCOUNT)
    }

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

    fn decide(&self, input: &Input, world: &World, _now: Millis) -> Result<Changes, DecideError> {
        match input {
            Input::Created(event, entry) => create(event, *entry, world),
            Input::ToppedUp(event, entry) => top_up(event, *entry, world),
            Input::Charge(charge) => pay(charge, world),
            Input::Cancelled(order) => cancel(order, world),
        }
    }
}

fn create(event: &AccountCreated, entry: EntryId, world: &World) -> Result<Changes, DecideError> {
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
    // A reset of the balance does not change the payments.
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
        deposited: deposited.ok_or_else(|| {
            DecideError::invalid(format!("the balance of {} is too large", event.id))
        })?,
        created_by: Some(entry),
    };
    record(Some(account.clone())).into_iter().for_each(|record| changes.put(record));
    changes.put(account);
    changes.remark(format!("customer {} defined: balance {balance}", event.id));
    Ok(changes)
}

fn top_up(event: &TopUp, entry: EntryId, world: &World) -> Result<Changes, DecideError> {
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
    match credited(world.get::<Account>(&event.customer_id)?, event.amount) {
        Ok(account) => {
            deposit.balance = Some(account.balance);
            changes.append(&ToppedUp {
                id: event.id,
                customer_id: event.customer_id.clone(),
                amount: event.amount,
                balance: account.balance,
            });
            changes.remark(format!("customer {} topped up: {}", event.customer_id, event.amount));
            changes.put(account);
        }
        Err(refused) => {
            deposit.refused = Some(refused);
            changes.remark(format!(
                "top-up of customer {} by {} refused: {refused:?}",
                event.customer_id, event.amount
            ));
        }
    }
    if !planted!("a deposit has no record") {
        changes.put(deposit);
    }
    Ok(changes)
}

fn credited(account: Option<&Account>, amount: u64) -> Result<Account, Refused> {
    let mut account = account.ok_or(Refused::Unknown)?.clone();
    account.deposited = account.deposited.checked_add(amount).ok_or(Refused::TooMuch)?;
    account.balance = account.balance.checked_add(amount).ok_or(Refused::TooMuch)?;
    Ok(account)
}

fn pay(charge: &Charge, world: &World) -> Result<Changes, DecideError> {
    let mut changes = Changes::none();
    if let Some(payment) = world.get::<Payment>(&charge.order_id)? {
        // An accepted payment counts for every attempt.
        let paid = payment.outcome == Some(WalletOutcome::ToBeShipped);
        let is_answered = match charge.attempt {
            Some(_) if planted!("each charge is a new one") => false,
            Some(attempt) => payment.attempt >= attempt,
            None => payment.unnumbered_charge >= Some(charge.entry),
        };
        if payment.cancelled || paid || is_answered {
            let again = match charge.attempt {
                Some(attempt) => charge.resend && attempt >= payment.attempt,
                None => !is_answered,
            };
            if again && !payment.cancelled {
                publish(payment, charge.attempt, &mut changes);
                changes.note(charge.order_id, "order resent: payment published again");
                if let Some(unnumbered_charge) = charge.unnumbered() {
                    changes.put(Payment {
                        unnumbered_charge: Some(unnumbered_charge),
                        ..payment.clone()
                    });
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
        // Only if this service has lost its decision.
        Some(_) if charge.released => {
            let reason = "its stock was released; pay again".to_owned();
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
                DecideError::invalid(format!("customer {} paid too much to count", account.id))
            })?;
            changes.put(account);
            (WalletOutcome::ToBeShipped, None)
        }
    };
    changes.detail(
        charge.order_id,
        match &reason {
            None => format!("payment accepted: {}", charge.total),
            Some(reason) => format!("payment refused: {reason}"),
        },
    );
    let known = world.get::<Payment>(&charge.order_id)?;
    let (attempt, unnumbered_charge) =
        known.map_or((1, None), |known| (known.attempt, known.unnumbered_charge));
    let payment = Payment {
        order_id: charge.order_id,
        customer_id: charge.customer_id.clone(),
        attempt: charge.attempt.unwrap_or(attempt),
        total: charge.total,
        outcome: Some(outcome),
        reason,
        cancelled: false,
        unnumbered_charge: charge.unnumbered().or(unnumbered_charge),
    };
    publish(&payment, charge.attempt, &mut changes);
    if !planted!("a payment has no record") {
        changes.put(payment);
    }
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

fn cancel(order: &OrderCancelled, world: &World) -> Result<Changes, DecideError> {
    let mut changes = Changes::none();
    let confirmed = PaymentConfirmed {
        order_id: order.id,
        attempt: order.attempt,
        step: ConfirmedStep::Cancelled,
    };
    let existing = world.get::<Payment>(&order.id)?;
    if existing.is_some_and(|payment| payment.cancelled) && !planted!("an order is refunded twice")
    {
        if order.resend > 0 && !planted!("a refund is confirmed only once") {
            changes.append(&confirmed);
        }
        return Ok(changes);
    }
    if existing.is_none() && planted!("a cancellation that comes first is forgotten by payments") {
        changes.append(&confirmed);
        return Ok(changes);
    }
    // A cancellation that overtakes the charge leaves a payment, so that the charge finds it.
    let payment = existing.cloned().unwrap_or_else(|| Payment {
        order_id: order.id,
        customer_id: order.customer_id.clone(),
        attempt: order.attempt,
        total: 0,
        outcome: None,
        reason: None,
        cancelled: false,
        unnumbered_charge: None,
    });
    let amount = payment.net_amount();
    let payer = if amount == 0 { None } else { world.get::<Account>(&payment.customer_id)? };
    // The account may be gone if its data was lost.
    if let Some(account) = payer {
        let mut account = account.clone();
        account.paid = account.paid.saturating_sub(amount);
        account.balance = account.balance.checked_add(amount).ok_or_else(|| {
            DecideError::invalid(format!("the balance of {} is too large", account.id))
        })?;
        changes.append(&Refunded {
            order_id: order.id,
            customer_id: payment.customer_id.clone(),
            amount,
            attempt: payment.attempt,
        });
        changes.put(account);
        changes.note(order.id, format!("order cancelled: {amount} refunded"));
    } else {
        changes.note(order.id, "order cancelled: nothing to refund");
    }
    changes.append(&confirmed);
    changes.put(Payment { cancelled: true, ..payment });
    Ok(changes)
}
