//! Checks deliveries of stock and deposits of money: each was applied once, as requested.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use common::{
    contract::{
        events::ToppedUp,
        ids::{CustomerId, ProductId},
        streams,
    },
    schema::{entry_id::EntryId, stream::Stream},
};
use uuid::Uuid;

use super::facts::{Snapshot, count};

/// The requests of one kind and their records: each is applied once, however often it is requested.
struct Arrivals<'a, I> {
    /// Its name in findings.
    noun: &'static str,
    /// The stream of the requests.
    stream: Stream,
    /// Whether the stream was trimmed.
    trimmed: bool,
    asked: Vec<Arrival<'a, I>>,
    recorded: Vec<(Arrival<'a, I>, Outcome)>,
}

struct Arrival<'a, I> {
    id: Uuid,
    entry: EntryId,
    to: &'a I,
    amount: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Refused,
}

impl Outcome {
    fn of(refused: bool) -> Self {
        if refused { Self::Refused } else { Self::Accepted }
    }
}

impl<I: Ord + fmt::Display> Arrivals<'_, I> {
    /// Checks that the requests and the records agree.
    fn check(&self, findings: &mut Vec<String>) {
        let Self { noun, stream, .. } = self;
        let recorded: BTreeSet<Uuid> = self.recorded.iter().map(|(it, _)| it.id).collect();
        for Arrival { id, entry, .. } in &self.asked {
            if !recorded.contains(id) {
                findings.push(format!(
                    "{noun} {id}: entry {entry} of {stream} brings it, but it is not recorded"
                ));
            }
        }
        let asked: BTreeMap<(Uuid, EntryId), &Arrival<'_, I>> =
            self.asked.iter().map(|it| ((it.id, it.entry), it)).collect();
        for (Arrival { id, entry, to, amount }, _) in &self.recorded {
            match asked.get(&(*id, *entry)) {
                Some(asked) if asked.to == *to && asked.amount == *amount => {}
                Some(asked) => findings.push(format!(
                    "{noun} {id}: recorded as {amount} to {to}, but entry {entry} of {stream} \
                     brings {} to {}",
                    asked.amount, asked.to
                )),
                None if self.trimmed => {}
                None => findings.push(format!(
                    "{noun} {id}: recorded, but entry {entry} of {stream} does not bring it"
                )),
            }
        }
    }

    /// The sums of the accepted ones.
    fn sums(&self) -> BTreeMap<&I, u128> {
        let mut sums = BTreeMap::new();
        for (arrival, _) in self.recorded.iter().filter(|it| it.1 == Outcome::Accepted) {
            *sums.entry(arrival.to).or_default() += u128::from(arrival.amount);
        }
        sums
    }
}

impl Snapshot {
    pub(super) fn check_deliveries(&self, findings: &mut Vec<String>) {
        let arrivals = self.deliveries();
        arrivals.check(findings);
        let brought = arrivals.sums();
        let defined = self.products_defined.iter().map(|event| (&event.id, event.amount));
        let defined = self.defined_once(streams::INVENTORY_CREATED, defined);
        for (id, product) in &self.products {
            let brought = brought.get(id).copied().unwrap_or(0);
            if let Some(first) = defined.get(id)
                && u128::from(*first) + brought != u128::from(product.received)
            {
                findings.push(format!(
                    "product {id}: received {}, but {first} at first and {brought} brought make {}",
                    product.received,
                    u128::from(*first) + brought
                ));
            }
        }
    }

    pub(super) fn check_deposits(&self, findings: &mut Vec<String>) {
        let arrivals = self.deposits();
        arrivals.check(findings);
        let brought = arrivals.sums();
        let defined = self.accounts_defined.iter().map(|event| (&event.id, event.balance));
        let defined = self.defined_once(streams::ACCOUNT_CREATED, defined);
        for (id, account) in &self.accounts {
            let brought = brought.get(id).copied().unwrap_or(0);
            if let Some(first) = defined.get(id)
                && u128::from(*first) + brought != u128::from(account.deposited)
            {
                findings.push(format!(
                    "account {id}: deposited {}, but {first} at first and {brought} paid in make \
                     {}",
                    account.deposited,
                    u128::from(*first) + brought
                ));
            }
        }
        self.check_topped_up(findings);
    }

    fn deliveries(&self) -> Arrivals<'_, ProductId> {
        let stream = streams::INVENTORY_RESTOCK;
        let asked = self.restocks.iter().map(|(entry, event)| {
            let (id, entry, to, amount) = (event.id, *entry, &event.product_id, event.amount);
            Arrival { id, entry, to, amount }
        });
        let recorded = self.deliveries.values().map(|it| {
            let (id, entry, to, amount) = (it.id, it.entry, &it.product_id, it.amount);
            (Arrival { id, entry, to, amount }, Outcome::of(it.refused.is_some()))
        });
        let (asked, recorded) = (asked.collect(), recorded.collect());
        let trimmed = self.trimmed.has(stream);
        Arrivals { noun: "delivery", stream, trimmed, asked, recorded }
    }

    fn deposits(&self) -> Arrivals<'_, CustomerId> {
        let stream = streams::ACCOUNT_TOP_UP;
        let asked = self.top_ups.iter().map(|(entry, event)| {
            let (id, entry, to, amount) = (event.id, *entry, &event.customer_id, event.amount);
            Arrival { id, entry, to, amount }
        });
        let recorded = self.deposits.values().map(|it| {
            let (id, entry, to, amount) = (it.id, it.entry, &it.customer_id, it.amount);
            (Arrival { id, entry, to, amount }, Outcome::of(it.refused.is_some()))
        });
        let (asked, recorded) = (asked.collect(), recorded.collect());
        let trimmed = self.trimmed.has(stream);
        Arrivals { noun: "deposit", stream, trimmed, asked, recorded }
    }

    /// The first amount of each product or account that was defined once. A second definition discards
    /// an unknown amount.
    fn defined_once<'a, I: Ord>(
        &self,
        stream: Stream,
        defined: impl Iterator<Item = (&'a I, u64)>,
    ) -> BTreeMap<&'a I, u64> {
        let mut once: BTreeMap<&I, Vec<u64>> = BTreeMap::new();
        for (id, amount) in defined.filter(|_| !self.trimmed.has(stream)) {
            once.entry(id).or_default().push(amount);
        }
        let alone = |(id, amounts): (&'a I, Vec<u64>)| match amounts[..] {
            [amount] => Some((id, amount)),
            _ => None,
        };
        once.into_iter().filter_map(alone).collect()
    }

    /// Checks that each accepted deposit is announced once, as recorded.
    fn check_topped_up(&self, findings: &mut Vec<String>) {
        let stream = streams::ACCOUNT_TOPPED_UP;
        let mut announced = count(self.topped_up.iter().map(|event| event.id));
        for (id, deposit) in &self.deposits {
            let found = announced.remove(id).unwrap_or(0);
            let due = usize::from(deposit.refused.is_none());
            let excused = found < due && self.trimmed.has(stream);
            if found != due && !excused {
                findings
                    .push(format!("deposit {id}: {found} entries on {stream} instead of {due}"));
            }
        }
        for (id, found) in announced {
            findings.push(format!("deposit {id}: {found} entries on {stream}, but no record"));
        }
        for ToppedUp { id, customer_id, amount, balance } in &self.topped_up {
            let Some(deposit) = self.deposits.get(id) else { continue };
            let same = deposit.customer_id == *customer_id && deposit.amount == *amount;
            if !same || deposit.balance != Some(*balance) {
                findings.push(format!(
                    "deposit {id}: recorded as {} to {}, but announced as {amount} to \
                     {customer_id}",
                    deposit.amount, deposit.customer_id
                ));
            }
        }
    }
}
