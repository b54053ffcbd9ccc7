//! Turns entries into jobs of the engine, within their memory limit.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    StreamEntry, Subscription,
    checkpoints::Checkpoints,
    reader::{Interruption, Reader},
};
use crate::{
    connection::entry::{EVENT_BYTES, Entry, short_reason},
    decision::Decider,
    engine::{Job, Origin, Work},
    schema::stream::{ENTITY, TRACEPARENT},
    trace_context::traceparent,
};

/// The memory limit for jobs that are handed over together, in KiB.
const CHUNK_KIB: usize = 2 * 1_024;
/// The maximum growth of an entry's byte in its dead letter, which is JSON.
const JSON_ESCAPE_FACTOR: usize = 8;

impl<D: Decider> Reader<D> {
    pub(super) async fn send(
        &self,
        mut job: Job<D>,
        memory: OwnedSemaphorePermit,
    ) -> Result<(), Interruption> {
        job.memory = Some(memory);
        self.queue.send(job).await.map_err(|_| Interruption::Closed)
    }

    pub(super) async fn hand_over(
        &self,
        entries: Vec<(String, Vec<Entry>)>,
        checkpoints: Option<&Checkpoints>,
    ) -> Result<(), Interruption> {
        let queue_kib = self.limits.queue_kib as usize;
        let chunk_limit = CHUNK_KIB.min(queue_kib);
        // The queue has to take a chunk as a whole.
        let chunk_jobs = self.limits.batch_inputs.min(self.limits.queue_inputs);
        let (mut chunk, mut chunk_kib) = (Vec::new(), 0);
        for (name, entries) in entries {
            let Some(subscription) = self.subscriptions.iter().find(|s| s.stream.key() == name)
            else {
                continue;
            };
            for entry in entries {
                let (job, bytes) = self.job(subscription, entry, checkpoints);
                let kib = bytes.div_ceil(1_024).clamp(1, queue_kib);
                if chunk.len() == chunk_jobs || chunk_kib + kib > chunk_limit {
                    self.send_all(std::mem::take(&mut chunk)).await?;
                    chunk_kib = 0;
                }
                chunk_kib += kib;
                chunk.push((job, kib));
            }
        }
        self.send_all(chunk).await
    }

    /// Sends jobs, each with its memory in KiB.
    async fn send_all(&self, jobs: Vec<(Job<D>, usize)>) -> Result<(), Interruption> {
        let kib: usize = jobs.iter().map(|(_, kib)| kib).sum();
        let kib = u32::try_from(kib).unwrap_or(u32::MAX).min(self.limits.queue_kib);
        let memory = Arc::clone(&self.memory).acquire_many_owned(kib).await;
        let mut memory = memory.map_err(|_| Interruption::Closed)?;
        // Reserves capacity for all jobs at once: one by one, each would wait behind the commands
        // of callers.
        let permits = self.queue.reserve_many(jobs.len()).await;
        let permits = permits.map_err(|_| Interruption::Closed)?;
        for (permit, (mut job, kib)) in permits.zip(jobs) {
            job.memory = memory.split(kib);
            permit.send(job);
        }
        Ok(())
    }

    /// The job for an entry, and its memory in KiB.
    pub(super) fn job(
        &self,
        subscription: &Subscription<D::Input>,
        entry: Entry,
        checkpoints: Option<&Checkpoints>,
    ) -> (Job<D>, usize) {
        let Entry { id, mut fields } = entry;
        let forgotten = checkpoints.is_some_and(|it| it.is_forgotten(subscription.stream, id));
        let traceparent = fields.get(TRACEPARENT).and_then(traceparent);
        let bytes = fields.memory();
        let work = match fields.get(ENTITY).map(std::str::from_utf8) {
            None if fields.0.is_empty() => Work::Deleted,
            _ if bytes > EVENT_BYTES => Work::Unreadable(format!(
                "it has {} bytes; the limit is {EVENT_BYTES}",
                fields.bytes()
            )),
            None => Work::Unreadable(format!("it has no field `{ENTITY}`")),
            Some(Err(_)) => Work::Unreadable(format!("field `{ENTITY}` is not UTF-8")),
            Some(Ok(entity)) => {
                match (subscription.parse)(&StreamEntry { id, entity, forgotten }) {
                    Ok(Some(input)) => Work::Input(input),
                    Ok(None) => Work::Nothing,
                    Err(reason) => Work::Unreadable(short_reason(reason)),
                }
            }
        };
        // The fields are kept for a possible dead letter.
        let (whole, bytes) = match work {
            Work::Unreadable(_) => (fields.cut(), fields.memory() * JSON_ESCAPE_FACTOR),
            _ => (None, bytes),
        };
        let (stream, provenance) = (subscription.stream, self.provenance());
        let origin = Origin::Entry { stream, id, fields, provenance };
        let mut job = Job::new(work, origin, traceparent);
        job.whole = whole;
        (job, bytes)
    }
}
