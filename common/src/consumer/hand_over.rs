//! From entries to jobs of the engine, within the memory that they may take.

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
    engine::{BATCH_INPUTS, Job, Origin, QUEUE_KIB, Work},
    schema::stream::{ENTITY, TRACEPARENT},
    trace_context::traceparent,
};

/// The most memory of jobs that are handed over together, in KiB.
const CHUNK_KIB: usize = 2 * 1_024;
/// How much larger a byte of an entry may be in its dead letter, which is JSON.
const ESCAPED: usize = 8;

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
        let (mut chunk, mut chunk_kib) = (Vec::new(), 0);
        for (name, entries) in entries {
            let Some(subscription) = self.subscriptions.iter().find(|s| s.stream.key() == name)
            else {
                continue;
            };
            for entry in entries {
                let (job, bytes) = self.job(subscription, entry, checkpoints);
                let kib = bytes.div_ceil(1_024).clamp(1, QUEUE_KIB as usize);
                if chunk.len() == BATCH_INPUTS || chunk_kib + kib > CHUNK_KIB {
                    self.send_all(std::mem::take(&mut chunk)).await?;
                    chunk_kib = 0;
                }
                chunk_kib += kib;
                chunk.push((job, kib));
            }
        }
        self.send_all(chunk).await
    }

    /// Sends jobs with the KiB that each takes.
    async fn send_all(&self, jobs: Vec<(Job<D>, usize)>) -> Result<(), Interruption> {
        let kib: usize = jobs.iter().map(|(_, kib)| kib).sum();
        let kib = u32::try_from(kib).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let memory = Arc::clone(&self.memory).acquire_many_owned(kib).await;
        let mut memory = memory.map_err(|_| Interruption::Closed)?;
        // Places for all at once: one by one, each would wait behind the commands of callers.
        let places = self.queue.reserve_many(jobs.len()).await;
        let places = places.map_err(|_| Interruption::Closed)?;
        for (place, (mut job, kib)) in places.zip(jobs) {
            job.memory = memory.split(kib);
            place.send(job);
        }
        Ok(())
    }

    /// The job that an entry is, and the memory that it takes.
    pub(super) fn job(
        &self,
        subscription: &Subscription<D::Input>,
        entry: Entry,
        checkpoints: Option<&Checkpoints>,
    ) -> (Job<D>, usize) {
        let Entry { id, mut fields } = entry;
        let forgotten = checkpoints.is_some_and(|it| it.is_forgotten(subscription.stream, id));
        let trace = fields.get(TRACEPARENT).and_then(traceparent);
        let bytes = fields.memory();
        let work = match fields.get(ENTITY).map(std::str::from_utf8) {
            None if fields.0.is_empty() => Work::Deleted,
            _ if bytes > EVENT_BYTES => Work::Unreadable(format!(
                "it has {} bytes; {EVENT_BYTES} are the most",
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
        // The fields are kept for the dead letter that it may become.
        let (whole, bytes) = match work {
            Work::Unreadable(_) => (fields.cut(), fields.memory() * ESCAPED),
            _ => (None, bytes),
        };
        let (stream, provenance) = (subscription.stream, self.provenance());
        let origin = Origin::Entry { stream, id, fields, provenance };
        let mut job = Job::new(work, origin, trace);
        job.whole = whole;
        (job, bytes)
    }
}
