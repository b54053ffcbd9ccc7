//! Checks the books: whether stock, money, orders, events and messages agree.
//!
//! It reads what the owners stored and published, all of it, and compares. That is only of use at a
//! quiet moment: while events are under way their effects are here and not yet there. The report
//! tells whether it was one.

mod arrivals;
mod groups;
mod indexes;
mod lines;
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

use std::{collections::BTreeMap, fmt, time::Duration};

use common::connection::{lag::Lag, topology::Sources};

pub use self::groups::{Group, groups, is_quiet};
use self::{groups::Looks, reading::Links, snapshot::Books};

/// How long Redis may take to answer one command.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many findings are printed; the rest is counted.
const SHOWN: usize = 100;

/// What the audit found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What does not agree, each with its culprit and both numbers.
    pub findings: Vec<String>,
    /// What could not be looked at.
    pub notes: Vec<String>,
    /// How many orders order_service keeps.
    pub orders: usize,
    /// How many of them have each status.
    pub by_status: BTreeMap<&'static str, usize>,
    /// How many orders of another order service there are: known by their events alone.
    pub foreign: usize,
    /// How many orders are older than the present store of an owner that lost the one before.
    pub forgotten: usize,
    /// How many orders still wait for what a service has to do. To wait for stock or money is not
    /// that.
    pub unfinished: usize,
    /// How many messages were sent.
    pub messages: usize,
    /// How many dead letters each owner wrote.
    pub dead_letters: BTreeMap<&'static str, usize>,
    /// How far each group is.
    pub groups: Vec<Group>,
}

impl Report {
    /// Whether no event was under way while the audit looked.
    pub fn is_quiet(&self) -> bool {
        is_quiet(&self.groups)
    }
}

/// Reads everything and checks it.
///
/// # Errors
///
/// Redis cannot be read. What is wrong with the books is no error but a finding.
pub async fn audit(sources: &Sources) -> anyhow::Result<Report> {
    let mut links = Links::new(sources);
    // Before and after: so it also shows if somebody places orders meanwhile.
    let before = Looks::take(&mut links).await?;
    let books = Books::read(&mut links).await?;
    let after = Looks::take(&mut links).await?;
    let mut report = books.check();
    report.groups = before.and(after);
    if !report.is_quiet() {
        report.notes.push("events were under way: findings may only mean that".to_owned());
    }
    Ok(report)
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
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "FINDING: {finding}")?;
        }
        match self.findings.len() {
            0 => writeln!(f, "the books balance"),
            count if count > SHOWN => writeln!(f, "{count} findings, {SHOWN} of them shown"),
            count => writeln!(f, "{count} findings"),
        }
    }
}
