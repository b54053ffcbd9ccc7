//! Pending entries: those of this instance after a start, and those that other instances abandoned.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    checkpoints::Checkpoints,
    pace::Pace,
    pending,
    reader::{Interruption, Reader, Upkeep, group_is_gone},
    suspects::is_suspect,
};
use crate::{
    connection::{entry::read_reply, error::ConnectionError, link::Link},
    decision::Decider,
    planted,
    schema::{entry_id::EntryId, stream::Stream},
};

impl<D: Decider> Reader<D> {
    pub(super) async fn drain_own(
        &self,
        link: &mut Link,
        checkpoints: Option<&Checkpoints>,
        pace: &mut Pace,
    ) -> Result<(), Interruption> {
        let mut left: Vec<(usize, EntryId)> =
            (0..self.subscriptions.len()).map(|stream| (stream, EntryId::default())).collect();
        while !left.is_empty() {
            let width = pace.streams(left.len());
            let count = pace.count(width);
            let after = left[..width].iter().map(|(stream, id)| (*stream, id.to_string()));
            let read = self.read_command(count, false, after);
            let entries = read_reply(link.ask("XREADGROUP", read).await?);
            let mut number = 0;
            left.retain_mut(|(stream, after)| {
                number += 1;
                if number > width {
                    return true;
                }
                let name = self.subscriptions[*stream].stream.key();
                let found = entries.iter().find(|(it, _)| it == name);
                let Some((_, [.., last])) = found.map(|(name, found)| (name, &found[..])) else {
                    return false;
                };
                *after = last.id;
                true
            });
            let found: usize = entries.iter().map(|(_, entries)| entries.len()).sum();
            if found > 0 {
                info!(entries = found, "reading pending entries");
                pace.saw(entries.iter().map(|(_, entries)| &entries[..]), false);
            }
            self.hand_over(entries, checkpoints).await?;
        }
        Ok(())
    }

    /// Takes over entries that other instances left pending for too long.
    pub(super) async fn claim(&self, upkeep: &mut Upkeep) -> Result<(), Interruption> {
        if planted!("abandoned entries are not taken over") {
            return Ok(());
        }
        let idle = Duration::from_millis(self.claim_idle_ms);
        for subscription in &self.subscriptions {
            let stream = subscription.stream;
            let pending = match pending::list(&mut upkeep.link, stream, D::TOPIC, None).await {
                Err(ConnectionError::Refused { message, .. }) if group_is_gone(&message) => {
                    return Ok(());
                }
                pending => pending?,
            };
            let now = Instant::now();
            let (mut idle, vanished) = upkeep.watch.idle_for(idle, stream, pending, now);
            // The engine holds these, and continues once its Redis accepts writes.
            let waits = self.engine.is_failing();
            idle.retain(|it| !waits || it.holder != self.instance);
            self.restore(upkeep, stream, vanished).await?;
            let (suspects, others): (Vec<_>, Vec<_>) = idle.into_iter().partition(is_suspect);
            // The entries may be the reason why other instances died.
            let mut pace = Pace::slow_start(self.limits.batch_inputs);
            let mut others = &others[..];
            while !others.is_empty() {
                let (some, rest) = others.split_at(pace.count(1).min(others.len()));
                let link = &mut upkeep.link;
                let entries =
                    pending::take_over(link, stream, D::TOPIC, &self.instance, some).await?;
                pace.saw([&entries[..]].into_iter(), false);
                if !entries.is_empty() {
                    info!(%stream, entries = entries.len(), "taking over abandoned entries");
                }
                let entries = vec![(stream.key().to_owned(), entries)];
                self.hand_over(entries, upkeep.checkpoints.as_ref()).await?;
                others = rest;
            }
            self.handle_alone(upkeep, subscription, suspects).await?;
        }
        Ok(())
    }

    /// Requests another delivery of entries that were pending for a removed consumer: XGROUP
    /// DELCONSUMER drops them from the pending entries list as well. Entries that had been
    /// acknowledged before find their idempotency records.
    async fn restore(
        &self,
        upkeep: &mut Upkeep,
        stream: Stream,
        mut vanished: Vec<(EntryId, String)>,
    ) -> Result<(), Interruption> {
        vanished.retain(|(_, holder)| *holder != self.instance);
        if vanished.is_empty() {
            return Ok(());
        }
        let consumers = pending::consumers(&mut upkeep.link, stream, D::TOPIC).await?;
        vanished.retain(|(_, holder)| !consumers.contains(holder));
        if vanished.is_empty() {
            return Ok(());
        }
        for (id, holder) in &vanished {
            self.metrics.lost_entries.inc();
            warn!(%stream, entry = %id, consumer = holder,
                "the consumer was removed while the entry was pending for it; it is delivered again");
        }
        let ids = vanished.iter().map(|(id, _)| *id);
        pending::force(&mut upkeep.link, stream, D::TOPIC, &self.instance, ids).await?;
        let mut pace = Pace::slow_start(self.limits.batch_inputs);
        self.drain_own(&mut upkeep.link, upkeep.checkpoints.as_ref(), &mut pace).await
    }
}
