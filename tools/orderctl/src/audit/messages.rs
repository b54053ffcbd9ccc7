//! Checks the messages: whether customers were told of everything, once.

use std::collections::{BTreeMap, BTreeSet};

use common::contract::{
    events::{MessageKind, StockOutcome, Stream, Topic, WalletOutcome},
    ids::CustomerId,
};

use super::{
    order_history::{Story, attempt_of},
    snapshot::{Books, Trimmed, count},
};

/// The streams with what customers are told about their orders.
const OCCASIONS: [Stream; 7] = [
    Stream::OrderCreated,
    Stream::OrderCancelled,
    Stream::OrderShipped,
    Stream::OrderCompleted,
    Stream::InventoryCheck,
    Stream::AccountWallet,
    Stream::AccountRefunded,
];

/// How many messages there are where this many are due; what may be missing or too much because
/// streams were trimmed is excused.
struct Tally {
    due: usize,
    sent: usize,
    stored: usize,
    /// Older messages may be gone from their stream.
    sent_trimmed: bool,
    /// There may have been occasions that nobody knows of any more.
    forgotten: bool,
}

impl Tally {
    fn check(&self, about: &str, kind: &str, findings: &mut Vec<String>) {
        let Self { due, sent, stored, sent_trimmed, forgotten } = self;
        if sent < due && !sent_trimmed || sent > due && !forgotten {
            let stream = Stream::MessageSent;
            findings.push(format!("{about}{sent} messages {kind} on {stream} instead of {due}"));
        }
        if stored < due || stored > due && !forgotten {
            findings.push(format!("{about}{stored} messages {kind} are stored instead of {due}"));
        }
    }
}

impl Books {
    /// What is stored is what was sent, each message once; and of deposits customers were told.
    /// What they were told of orders is for [`Story::check_messages`].
    pub(super) fn check_messages(&self, findings: &mut Vec<String>) {
        for (id, times) in count(self.sent.iter().map(|message| message.id)) {
            if times > 1 {
                findings.push(format!("message {id} was sent {times} times instead of 1"));
            }
        }
        let mut unsent: BTreeSet<_> = self.messages.keys().collect();
        for message in &self.sent {
            unsent.remove(&message.id);
            match self.messages.get(&message.id) {
                Some(stored) if stored == message => {}
                Some(_) => findings
                    .push(format!("message {}: what was sent is not what is stored", message.id)),
                None => findings.push(format!("message {}: sent, but not stored", message.id)),
            }
        }
        // After a loss it remembers what it has sent, and does not send it again.
        let excused = self.trimmed.has(Stream::MessageSent) || self.lost.has(Topic::Message);
        for id in unsent.into_iter().filter(|_| !excused) {
            findings.push(format!("message {id}: stored, but not sent"));
        }
        if !self.lost.has(Topic::Message) && !self.lost.has(Topic::Account) {
            self.check_told_of_deposits(findings);
        }
    }

    fn check_told_of_deposits(&self, findings: &mut Vec<String>) {
        let kind = MessageKind::ToppedUp;
        let due = count(self.topped_up.iter().map(|event| &event.customer_id));
        let about = |customer, told: MessageKind| (told == kind).then_some(customer);
        let sent = count(self.sent.iter().filter_map(|it| about(&it.customer, it.kind)));
        let stored = count(self.messages.values().filter_map(|it| about(&it.customer, it.kind)));
        let customers: BTreeSet<&CustomerId> =
            due.keys().chain(sent.keys()).chain(stored.keys()).copied().collect();
        for customer in customers {
            let of = |counts: &BTreeMap<_, usize>| counts.get(customer).copied().unwrap_or(0);
            let tally = Tally {
                due: of(&due),
                sent: of(&sent),
                stored: of(&stored),
                sent_trimmed: self.trimmed.has(Stream::MessageSent),
                forgotten: self.trimmed.has(Stream::AccountToppedUp),
            };
            tally.check(&format!("account {customer}: "), kind.name(), findings);
        }
    }
}

impl Story<'_> {
    /// One message for every occasion, on the stream and stored, to the customer whose order it is.
    pub(super) fn check_messages(&self, trimmed: &Trimmed, findings: &mut Vec<String>) {
        let due = count(self.occasions().into_iter().map(|(kind, _)| kind));
        let sent = count(self.sent.iter().map(|message| message.kind.name()));
        let stored = count(self.stored.iter().map(|message| message.kind.name()));
        let kinds: BTreeSet<&str> =
            due.keys().chain(sent.keys()).chain(stored.keys()).copied().collect();
        for kind in kinds {
            let of = |counts: &BTreeMap<_, usize>| counts.get(kind).copied().unwrap_or(0);
            let tally = Tally {
                due: of(&due),
                sent: of(&sent),
                stored: of(&stored),
                sent_trimmed: trimmed.has(Stream::MessageSent),
                forgotten: trimmed.has_any(&OCCASIONS),
            };
            tally.check("", kind, findings);
        }
        let Some(order) = self.order else { return };
        for message in self.stored.iter().filter(|it| it.customer != order.customer_id) {
            findings.push(format!(
                "message {} went to {} instead of {}",
                message.id, message.customer, order.customer_id
            ));
        }
    }

    /// What the customer is told of, each with its attempt. What was said again is one occasion.
    fn occasions(&self) -> BTreeSet<(&'static str, u32)> {
        let created = self.created.iter().map(|event| {
            let first = event.attempt == 1;
            let kind = if first { MessageKind::OrderReceived } else { MessageKind::TriedAgain };
            (kind, event.attempt)
        });
        let checks = self.checks.iter().map(|event| {
            let kind = match event.inventory {
                StockOutcome::PaymentRequired => MessageKind::StockReserved,
                StockOutcome::OutOfStock => MessageKind::OutOfStock,
                StockOutcome::Rejected => MessageKind::Rejected,
            };
            (kind, attempt_of(event.attempt))
        });
        let wallets = self.wallets.iter().map(|event| {
            let kind = match event.account {
                WalletOutcome::ToBeShipped => MessageKind::OnItsWay,
                WalletOutcome::InsufficientFund => MessageKind::InsufficientFund,
                WalletOutcome::Rejected => MessageKind::Rejected,
            };
            (kind, attempt_of(event.attempt))
        });
        let acts = self.acts.iter().map(|event| {
            let kind = match event.stream {
                Stream::OrderCancelled => MessageKind::Cancelled,
                Stream::OrderShipped => MessageKind::Shipped,
                _ => MessageKind::Completed,
            };
            (kind, event.attempt)
        });
        let refunds = self.refunds.iter().map(|event| (MessageKind::Refunded, event.attempt));
        let all = created.chain(checks).chain(wallets).chain(acts).chain(refunds);
        all.map(|(kind, attempt)| (kind.name(), attempt)).collect()
    }
}
