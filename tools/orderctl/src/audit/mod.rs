//! The audit: checks that stock, money, orders, events and messages agree.
//!
//! The audit reads everything that the owners stored and published, and compares it. The result is
//! meaningful only when the system is quiet: while events are in flight, some of their effects are
//! outstanding. The report states whether the system was quiet. `facts` contains the events and
//! entities, `snapshot` reads them, `order_history` groups them by order, and one file per
//! subject checks them.

mod arrivals;
mod backorders;
mod facts;
mod groups;
mod indexes;
mod lost;
mod messages;
mod money;
mod order_history;
mod published;
mod reading;
mod snapshot;
mod stock;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use common::{
    clock::Millis,
    connection::{lag::Lag, topology::Sources},
    contract::{ids::OrderId, order::Order},
};

pub use self::groups::{Group, groups, is_quiet};
use self::{facts::Snapshot, groups::Observations, order_history::OrderHistory, reading::Links};

/// The number of findings that are printed; the rest is counted.
const FINDINGS_SHOWN: usize = 100;

/// The result of an audit.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The disagreements, each with the entity and both numbers.
    pub findings: Vec<String>,
    /// The limits of this audit.
    pub notes: Vec<String>,
    /// The number of orders in order_service.
    pub orders: usize,
    /// The number of orders of each status.
    pub by_status: BTreeMap<&'static str, usize>,
    /// The number of orders of another order service, known only by their events.
    pub foreign: usize,
    /// The number of orders that are older than the present store of an owner that lost the previous one.
    pub forgotten: usize,
    /// The number of orders for which a service has work left. Waiting for stock or money does not count.
    pub unfinished: usize,
    /// The number of messages sent.
    pub messages: usize,
    /// The number of dead letters of each owner.
    pub dead_letters: BTreeMap<&'static str, usize>,
    /// The progress of each consumer group.
    pub groups: Vec<Group>,
}

impl Report {
    /// Whether no event was under way during the audit.
    pub fn is_quiet(&self) -> bool {
        is_quiet(&self.groups)
    }
}

/// Reads everything and checks it.
///
/// # Errors
///
/// Redis cannot be read. A disagreement is a finding and not an error.
pub async fn audit(sources: &Sources) -> anyhow::Result<Report> {
    let mut links = Links::new(sources);
    // Before and after, to notice orders that are placed meanwhile.
    let before = Observations::take(&mut links).await?;
    let snapshot = Snapshot::read(&mut links).await?;
    let after = Observations::take(&mut links).await?;
    let mut report = snapshot.check();
    report.groups = before.and(after);
    if !report.is_quiet() {
        report.notes.push("events were under way: findings may only mean that".to_owned());
    }
    Ok(report)
}

impl Snapshot {
    pub(super) fn check(&self) -> Report {
        let mut report = Report {
            orders: self.orders.len(),
            messages: self.messages.len(),
            dead_letters: self.dead_letters.clone(),
            ..Report::default()
        };
        for order in self.orders.values() {
            *report.by_status.entry(order.status.name()).or_default() += 1;
        }
        let unreadable = self.unreadable.iter().map(|what| format!("cannot be read: {what}"));
        report.findings.extend(unreadable);
        self.check_stock(&mut report.findings);
        self.check_backorders(&mut report.findings);
        self.check_money(&mut report.findings);
        self.check_deliveries(&mut report.findings);
        self.check_deposits(&mut report.findings);
        self.check_indexes(&mut report.findings);
        self.check_messages(&mut report.findings);
        for stream in &self.trimmed.0 {
            report.notes.push(format!(
                "{stream} was trimmed (or its Redis is too old to report that): entries are checked, \
                 but missing ones are not reported"
            ));
        }
        for (id, history) in self.histories() {
            if self.lost.forgets(self.began(id, &history)) {
                report.forgotten += 1;
                // After a data loss no order stays unfinished for ever.
                if let Some(order) = history.order.filter(|order| order.status.is_underway()) {
                    report.unfinished += 1;
                    report
                        .findings
                        .push(format!("order {id}: it is still {}", order.status.name()));
                }
                continue;
            }
            report.foreign += usize::from(history.order.is_none());
            let before = report.findings.len();
            let finished = history.check(&self.trimmed, &mut report.findings);
            report.unfinished += usize::from(!finished);
            for finding in &mut report.findings[before..] {
                finding.insert_str(0, &format!("order {id}: "));
            }
        }
        report.notes.extend(self.lost.note(report.forgotten));
        report
    }

    /// The time at which an order first appeared, if known.
    fn began(&self, id: OrderId, history: &OrderHistory<'_>) -> Option<Millis> {
        let placed = history.order.map(Order::created);
        placed.into_iter().chain(self.first_seen.get(&id).copied()).min()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, foreign, unfinished, messages, .. } = self;
        writeln!(f, "{orders} orders, {unfinished} unfinished, {messages} messages")?;
        for (status, count) in &self.by_status {
            writeln!(f, "  {status:<20}{count:>9}")?;
        }
        if *foreign > 0 {
            writeln!(f, "  {foreign} orders are kept by another order service")?;
        }
        for (owner, count) in &self.dead_letters {
            writeln!(f, "  {count} dead letters of {owner}")?;
        }
        writeln!(f, "groups                                             pending      lag")?;
        for Group { stream, name, pending, lag, .. } in &self.groups {
            let lag = match lag {
                Lag::Exact(entries) => entries.to_string(),
                Lag::Estimate(entries) => format!("~{entries}"),
            };
            writeln!(f, "  {:<28}{name:<20}{pending:>8}{lag:>9}", stream.key())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for finding in self.findings.iter().take(FINDINGS_SHOWN) {
            writeln!(f, "FINDING: {finding}")?;
        }
        match self.findings.len() {
            0 => writeln!(f, "the books balance"),
            count if count > FINDINGS_SHOWN => {
                writeln!(f, "{count} findings, {FINDINGS_SHOWN} of them shown")
            }
            count => writeln!(f, "{count} findings"),
        }
    }
}
