//! Checks the messages: customers were notified of every event, once.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contract::{
        events::{StockOutcome, WalletOutcome},
        ids::CustomerId,
        messages::MessageKind,
        streams::{self, topics},
    },
    schema::stream::Stream,
};

use super::{
    facts::{Snapshot, TrimmedStreams, count},
    order_history::{OrderHistory, attempt_of},
};

/// The streams whose events notify customers about their orders.
const NOTIFYING_STREAMS: [Stream; 7] = [
    streams::ORDER_CREATED,
    streams::ORDER_CANCELLED,
    streams::ORDER_SHIPPED,
    streams::ORDER_COMPLETED,
    streams::INVENTORY_CHECK,
    streams::ACCOUNT_WALLET,
    streams::ACCOUNT_REFUNDED,
];

/// The number of messages of one kind, due and found. Differences that trimmed streams explain are
/// excused.
struct MessageTally {
    due: usize,
    sent: usize,
    stored: usize,
    /// Older messages may be gone from their stream.
    sent_trimmed: bool,
    /// Events that led to messages may be gone from their streams.
    forgotten: bool,
}

impl MessageTally {
    fn check(&self, about: &str, kind: &str, findings: &mut Vec<String>) {
        let Self { due, sent, stored, sent_trimmed, forgotten } = self;
        if sent < due && !sent_trimmed || sent > due && !forgotten {
            let stream = streams::MESSAGE_SENT;
            findings.push(format!("{about}{sent} messages {kind} on {stream} instead of {due}"));
        }
        if stored < due || stored > due && !forgotten {
            findings.push(format!("{about}{stored} messages {kind} are stored instead of {due}"));
        }
    }
}

impl Snapshot {
    /// Checks that the stored messages are those that were sent, each once, and the messages about
    /// deposits. [`OrderHistory::check_messages`] checks those about orders.
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
                Some(_) => findings.push(format!(
                    "message {}: the sent message differs from the stored one",
                    message.id
                )),
                None => findings.push(format!("message {}: sent, but not stored", message.id)),
            }
        }
        // After a data loss the messages are stored again, and not sent again.
        let excused = self.trimmed.has(streams::MESSAGE_SENT) || self.lost.has(topics::MESSAGE);
        for id in unsent.into_iter().filter(|_| !excused) {
            findings.push(format!("message {id}: stored, but not sent"));
        }
        if !self.lost.has(topics::MESSAGE) && !self.lost.has(topics::ACCOUNT) {
            self.check_deposit_messages(findings);
        }
    }

    fn check_deposit_messages(&self, findings: &mut Vec<String>) {
        let kind = MessageKind::ToppedUp;
        let due = count(self.topped_up.iter().map(|event| &event.customer_id));
        let about = |customer, found: MessageKind| (found == kind).then_some(customer);
        let sent = count(self.sent.iter().filter_map(|it| about(&it.customer, it.kind)));
        let stored = count(self.messages.values().filter_map(|it| about(&it.customer, it.kind)));
        let customers: BTreeSet<&CustomerId> =
            due.keys().chain(sent.keys()).chain(stored.keys()).copied().collect();
        for customer in customers {
            let of = |counts: &BTreeMap<_, usize>| counts.get(customer).copied().unwrap_or(0);
            let tally = MessageTally {
                due: of(&due),
                sent: of(&sent),
                stored: of(&stored),
                sent_trimmed: self.trimmed.has(streams::MESSAGE_SENT),
                forgotten: self.trimmed.has(streams::ACCOUNT_TOPPED_UP),
            };
            tally.check(&format!("account {customer}: "), kind.name(), findings);
        }
    }
}

impl OrderHistory<'_> {
    /// Checks one message for every event, on the stream and stored, to the customer of the order.
    pub(super) fn check_messages(&self, trimmed: &TrimmedStreams, findings: &mut Vec<String>) {
        let due = count(self.due_messages().into_iter().map(|(kind, _)| kind));
        let sent = count(self.sent.iter().map(|message| message.kind.name()));
        let stored = count(self.stored.iter().map(|message| message.kind.name()));
        let kinds: BTreeSet<&str> =
            due.keys().chain(sent.keys()).chain(stored.keys()).copied().collect();
        for kind in kinds {
            let of = |counts: &BTreeMap<_, usize>| counts.get(kind).copied().unwrap_or(0);
            let tally = MessageTally {
                due: of(&due),
                sent: of(&sent),
                stored: of(&stored),
                sent_trimmed: trimmed.has(streams::MESSAGE_SENT),
                forgotten: trimmed.has_any(&NOTIFYING_STREAMS),
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

    /// The messages that are due, each with its attempt. Resent events have one message.
    fn due_messages(&self) -> BTreeSet<(&'static str, u32)> {
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
        let steps = self.steps.iter().map(|event| {
            let kind = match event.stream {
                streams::ORDER_CANCELLED => MessageKind::Cancelled,
                streams::ORDER_SHIPPED => MessageKind::Shipped,
                _ => MessageKind::Completed,
            };
            (kind, event.attempt)
        });
        let refunds = self.refunds.iter().map(|event| (MessageKind::Refunded, event.attempt));
        let all = created.chain(checks).chain(wallets).chain(steps).chain(refunds);
        all.map(|(kind, attempt)| (kind.name(), attempt)).collect()
    }
}
