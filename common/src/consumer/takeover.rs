//! Entries that are pending: those of this instance after a start, and those that other instances left behind.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    checkpoints::Checkpoints,
    pace::Pace,
    pending,
    reader::{Helper, Interruption, Reader, group_is_gone},
    suspects::is_suspect,
};
use crate::{
    connection::{entry::read_reply, error::ConnectionError, link::Link},
    decision::Decider,
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
                info!(entries = found, "taking up what was left pending");
                pace.saw(entries.iter().map(|(_, entries)| &entries[..]), false);
            }
            self.hand_over(entries, checkpoints).await?;
        }
        Ok(())
    }

    /// Takes over what other instances left pending for too long.
    pub(super) async fn claim(&self, helper: &mut Helper) -> Result<(), Interruption> {
        let idle = Duration::from_millis(self.claim_idle_ms);
        for subscription in &self.subscriptions {
            let stream = subscription.stream;
            let pending = match pending::list(&mut helper.link, stream, D::TOPIC, None).await {
                Err(ConnectionError::Refused { message, .. }) if group_is_gone(&message) => {
                    return Ok(());
                }
                pending => pending?,
            };
            let now = Instant::now().into_std();
            let (mut idle, vanished) = helper.watch.idle_for(idle, stream, pending, now);
            // The engine has these, and gets on with them once its Redis takes writes.
            let waits = self.engine.is_failing();
            idle.retain(|it| !waits || it.holder != self.instance);
            self.restore(helper, stream, vanished).await?;
            let (suspects, others): (Vec<_>, Vec<_>) = idle.into_iter().partition(is_suspect);
            // What others did not finish may be why.
            let mut pace = Pace::slow_start();
            let mut others = &others[..];
            while !others.is_empty() {
                let (some, rest) = others.split_at(pace.count(1).min(others.len()));
                let link = &mut helper.link;
                let entries =
                    pending::take_over(link, stream, D::TOPIC, &self.instance, some).await?;
                pace.saw([&entries[..]].into_iter(), false);
                if !entries.is_empty() {
                    info!(%stream, entries = entries.len(), "taking over what was left behind");
                }
                let entries = vec![(stream.key().to_owned(), entries)];
                self.hand_over(entries, helper.checkpoints.as_ref()).await?;
                others = rest;
            }
            self.handle_alone(helper, subscription, suspects).await?;
        }
        Ok(())
    }

    /// Has entries delivered again that were pending for a consumer which is gone now: XGROUP DELCONSUMER
    /// drops them from the pending entries list as well. Entries that had been acknowledged before find
    /// their idempotency records.
    async fn restore(
        &self,
        helper: &mut Helper,
        stream: Stream,
        mut vanished: Vec<(EntryId, String)>,
    ) -> Result<(), Interruption> {
        vanished.retain(|(_, holder)| *holder != self.instance);
        if vanished.is_empty() {
            return Ok(());
        }
        let consumers = pending::consumers(&mut helper.link, stream, D::TOPIC).await?;
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
        pending::force(&mut helper.link, stream, D::TOPIC, &self.instance, ids).await?;
        let mut pace = Pace::slow_start();
        self.drain_own(&mut helper.link, helper.checkpoints.as_ref(), &mut pace).await
    }
}
