//! Checks the events about an order: each was published once for its attempt.

use std::{collections::BTreeSet, ops::RangeInclusive};

use common::{
    contract::{
        events::{
            ConfirmedStep, Refunded, StockChecked, StockOutcome, WalletChecked, WalletOutcome,
        },
        order_status::OrderStatus,
        streams,
    },
    schema::stream::Stream,
};
use inventory_service::reservation::ReservationState;

use super::{
    facts::{ConfirmationEntry, STEP_STREAMS, TrimmedStreams},
    order_history::{OrderHistory, attempt_of, name},
};

/// The check of one attempt of an order.
struct Attempt<'a> {
    number: u32,
    trimmed: &'a TrimmedStreams,
    findings: &'a mut Vec<String>,
}

impl Attempt<'_> {
    /// Checks the number of entries on a stream. A trimmed stream may have fewer; if the streams that it
    /// follows are trimmed, one entry may have no visible cause.
    fn expect(
        &mut self,
        stream: Stream,
        found: usize,
        due: RangeInclusive<usize>,
        follows: &[Stream],
    ) {
        let (mut least, mut most) = due.into_inner();
        let wanted = if found < least { least } else { most };
        if self.trimmed.has(stream) {
            least = 0;
        }
        if self.trimmed.has_any(follows) {
            most = most.max(1);
        }
        if !(least..=most).contains(&found) {
            self.findings.push(format!(
                "{found} entries on {stream} for attempt {} instead of {wanted}",
                self.number
            ));
        }
    }
}

impl OrderHistory<'_> {
    pub(super) fn check_events(&self, trimmed: &TrimmedStreams, findings: &mut Vec<String>) {
        let last = self.order.map_or(0, |order| order.attempt);
        let created = self.created.iter().map(|event| event.attempt);
        let steps = self.steps.iter().map(|event| event.attempt);
        let checks = self.checks.iter().map(|event| attempt_of(event.attempt));
        let wallets = self.wallets.iter().map(|event| attempt_of(event.attempt));
        let refunds = self.refunds.iter().map(|event| event.attempt);
        let confirmed = self.confirmed.iter().map(|event| event.attempt);
        let events = created.chain(steps).chain(checks).chain(wallets).chain(refunds);
        let events = events.chain(confirmed);
        let attempts: BTreeSet<u32> = events.chain(1..=last).collect();
        let newest = attempts.last().copied();
        for number in attempts {
            // A cancelled order may have stopped at any point.
            let is_cancelled = self.is_cancelled() && Some(number) == newest;
            let mut attempt = Attempt { number, trimmed, findings: &mut *findings };
            self.check_created(&mut attempt);
            self.check_checks(&mut attempt, is_cancelled);
            self.check_wallets(&mut attempt, is_cancelled);
            self.check_steps(&mut attempt);
            self.check_refunds(&mut attempt);
            self.check_confirmations(&mut attempt);
        }
    }

    fn is_cancelled(&self) -> bool {
        let cancelled = Some(OrderStatus::Cancelled);
        self.order.map(|order| order.status) == cancelled
            || self.steps.iter().any(|event| event.stream == streams::ORDER_CANCELLED)
    }

    /// Each attempt is announced once. The attempts of an order of another order service are unknown.
    fn check_created(&self, attempt: &mut Attempt<'_>) {
        let ours = self.created.iter().filter(|event| event.attempt == attempt.number);
        let found = ours.filter(|event| !event.resend).count();
        let due = match self.order {
            Some(order) => {
                let due = usize::from((1..=order.attempt).contains(&attempt.number));
                due..=due
            }
            None => 0..=1,
        };
        attempt.expect(streams::ORDER_CREATED, found, due, &[]);
    }

    fn is_announced(&self, attempt: u32) -> bool {
        self.order.is_some_and(|order| (1..=order.attempt).contains(&attempt))
            || self.created.iter().any(|event| event.attempt == attempt)
    }

    /// Whether the order was, or may have been, resent.
    fn was_resent(&self, attempt: &Attempt<'_>) -> bool {
        attempt.trimmed.has(streams::ORDER_CREATED)
            || self.created.iter().any(|it| it.attempt == attempt.number && it.resend)
    }

    /// The number of stock checks with this outcome: first ones, and those after a resend.
    fn check_counts(&self, attempt: &Attempt<'_>, outcome: StockOutcome) -> (usize, usize) {
        let mine = |event: &&&StockChecked| {
            attempt_of(event.attempt) == attempt.number && event.inventory == outcome
        };
        let said = self.checks.iter().filter(mine);
        let again = said.clone().filter(|event| event.resend).count();
        (said.count() - again, again)
    }

    /// The stock check publishes each of its outcomes once: `out-of-stock`, and the outcome after the
    /// backorder is filled.
    fn check_checks(&self, attempt: &mut Attempt<'_>, is_cancelled: bool) {
        let created = streams::ORDER_CREATED;
        let was_resent = self.was_resent(attempt);
        let (mut found, mut outcomes) = (0, 0);
        for outcome in
            [StockOutcome::PaymentRequired, StockOutcome::OutOfStock, StockOutcome::Rejected]
        {
            let (first, again) = self.check_counts(attempt, outcome);
            // The first answer answers a resend if the first event was lost.
            found += if was_resent { first.max(again.min(1)) } else { first + again };
            outcomes += usize::from(first + again > 0);
        }
        let is_announced = self.is_announced(attempt.number);
        let least = usize::from(is_announced && !is_cancelled);
        let is_known = is_announced || attempt.trimmed.has(created);
        let most = if is_known { outcomes.max(1) } else { 0 };
        attempt.expect(streams::INVENTORY_CHECK, found, least..=most, &[created]);
        let says = |outcome| self.check_counts(attempt, outcome) != (0, 0);
        if says(StockOutcome::PaymentRequired) && says(StockOutcome::Rejected) {
            attempt.findings.push(format!(
                "its stock check says payment-required and rejected for attempt {}",
                attempt.number
            ));
        }
    }

    /// One payment for each charge. It is published again whenever the stock check is.
    fn check_wallets(&self, attempt: &mut Attempt<'_>, is_cancelled: bool) {
        let mine = |event: &&&WalletChecked| attempt_of(event.attempt) == attempt.number;
        let wallets = self.wallets.iter().filter(mine);
        let outcomes: Vec<WalletOutcome> = wallets.map(|event| event.account).collect();
        let (first, again) = self.check_counts(attempt, StockOutcome::PaymentRequired);
        let checks_are_gone = attempt.trimmed.has(streams::INVENTORY_CHECK);
        let may_repeat = self.was_resent(attempt) && (again > 0 || checks_are_gone);
        let found = if may_repeat { outcomes.len().min(1) } else { outcomes.len() };
        let asked = usize::from(first + again > 0);
        let least = if is_cancelled { 0 } else { asked };
        attempt.expect(streams::ACCOUNT_WALLET, found, least..=asked, &[streams::INVENTORY_CHECK]);
        if let Some(other) = outcomes.iter().find(|outcome| **outcome != outcomes[0]) {
            attempt.findings.push(format!(
                "its payment is said to be {} and {} for attempt {}",
                name(&outcomes[0]),
                name(other),
                attempt.number
            ));
        }
    }

    /// A step that a client requested is published once, and again only until it is confirmed.
    fn check_steps(&self, attempt: &mut Attempt<'_>) {
        for stream in STEP_STREAMS {
            let mine = self.steps.iter().filter(|event| event.stream == stream && !event.resend);
            let found = mine.filter(|event| event.attempt == attempt.number).count();
            let due = match self.order {
                Some(order) => {
                    let happened = match stream {
                        streams::ORDER_CANCELLED => order.status == OrderStatus::Cancelled,
                        streams::ORDER_COMPLETED => order.status == OrderStatus::Completed,
                        _ => matches!(order.status, OrderStatus::Shipped | OrderStatus::Completed),
                    };
                    let due = usize::from(happened && order.attempt == attempt.number);
                    due..=due
                }
                None => 0..=1,
            };
            attempt.expect(stream, found, due, &[]);
        }
    }

    /// Owners confirm only effects that exist, and once unless order_service asks again.
    fn check_confirmations(&self, attempt: &mut Attempt<'_>) {
        let number = attempt.number;
        let held = self.reservation;
        let stock = |step| match step {
            ConfirmedStep::Cancelled => {
                held.is_some_and(|reservation| reservation.state == ReservationState::Cancelled)
            }
            // A lost reservation leaves nothing to be counted.
            ConfirmedStep::Shipped => held.is_none_or(|reservation| reservation.shipped),
            ConfirmedStep::Released => held.is_none_or(|reservation| {
                reservation.attempt != number || reservation.state != ReservationState::Held
            }),
        };
        let cancelled =
            |step| step == ConfirmedStep::Cancelled && self.payment.is_some_and(|it| it.cancelled);
        for (stream, step, is_so) in [
            (
                streams::INVENTORY_CONFIRMED,
                ConfirmedStep::Cancelled,
                stock(ConfirmedStep::Cancelled),
            ),
            (streams::INVENTORY_CONFIRMED, ConfirmedStep::Shipped, stock(ConfirmedStep::Shipped)),
            (streams::INVENTORY_CONFIRMED, ConfirmedStep::Released, stock(ConfirmedStep::Released)),
            (
                streams::ACCOUNT_CONFIRMED,
                ConfirmedStep::Cancelled,
                cancelled(ConfirmedStep::Cancelled),
            ),
        ] {
            let mine = |it: &&&ConfirmationEntry| {
                (it.stream, it.step, it.attempt) == (stream, step, number)
            };
            let found = self.confirmed.iter().filter(mine).count();
            if found > 0 && !is_so {
                attempt.findings.push(format!(
                    "{stream} says {} of attempt {number}, which is not so",
                    name(&step)
                ));
            }
            let found = if self.is_repeated(step, attempt) { found.min(1) } else { found };
            attempt.expect(stream, found, 0..=1, &[]);
        }
    }

    /// Whether order_service resent the step, or may have.
    fn is_repeated(&self, step: ConfirmedStep, attempt: &Attempt<'_>) -> bool {
        let stream = match step {
            ConfirmedStep::Cancelled => streams::ORDER_CANCELLED,
            ConfirmedStep::Shipped => streams::ORDER_SHIPPED,
            ConfirmedStep::Released => streams::ORDER_UNPAID,
        };
        let again = |stream| {
            let mut steps = self.steps.iter();
            steps.any(|it| (it.stream, it.attempt, it.resend) == (stream, attempt.number, true))
        };
        attempt.trimmed.has(stream)
            || again(stream)
            || step == ConfirmedStep::Released
                && self.unpaid.iter().any(|event| event.attempt == attempt.number)
    }

    /// The payment for a cancelled order is refunded once, in full.
    fn check_refunds(&self, attempt: &mut Attempt<'_>) {
        let mine = |event: &&&Refunded| event.attempt == attempt.number;
        let refunds: Vec<&Refunded> = self.refunds.iter().filter(mine).copied().collect();
        let payment = self.payment.filter(|payment| payment.attempt == attempt.number);
        let paid = payment.filter(|it| it.outcome == Some(WalletOutcome::ToBeShipped));
        let paid = paid.map_or(0, |payment| payment.total);
        let cancelled = payment.is_some_and(|payment| payment.cancelled);
        let due = usize::from(cancelled && paid > 0);
        attempt.expect(streams::ACCOUNT_REFUNDED, refunds.len(), due..=due, &[]);
        for refund in refunds.iter().filter(|refund| refund.amount != paid) {
            attempt.findings.push(format!("{} refunded of {paid} paid", refund.amount));
        }
    }
}
