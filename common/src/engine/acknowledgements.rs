//! Acknowledgements that wait for the next command, and those for the Redis of other topics.

use std::collections::BTreeMap;

use redis::{Pipeline, Value};

use super::{
    ACK_DELAY, ACKS_COMPONENT, Engine, Setback,
    acknowledger::{Acknowledger, xack},
};
use crate::{
    connection::replies::is_error,
    decision::Decider,
    schema::{entry_id::EntryId, stream::Stream},
};

impl<D: Decider> Engine<D> {
    pub(super) async fn flush_acks(&mut self) {
        match self.check_process().await {
            Ok(()) => {}
            Err(Setback::Moved) => {
                if let Err(error) = self.drop_lost(&mut Vec::new()).await {
                    self.component.failed(&error);
                    tokio::time::sleep(ACK_DELAY).await;
                }
                return;
            }
            Err(Setback::Link(error)) => {
                self.component.failed(&error);
                tokio::time::sleep(ACK_DELAY).await;
                return;
            }
        }
        let mut pipeline = Pipeline::with_capacity(4);
        let acked = self.own_acks(&mut pipeline);
        if !pipeline.is_empty() {
            match self.own.send(&pipeline).await {
                Ok(values) => self.check_acks(&acked, values),
                Err(error) => {
                    self.component.failed(&error);
                    self.restore_acks(acked);
                    tokio::time::sleep(ACK_DELAY).await;
                }
            }
        }
        self.ack_others();
    }

    /// Moves the acknowledgements for streams in the own Redis into the pipeline.
    pub(super) fn own_acks(&mut self, pipeline: &mut Pipeline) -> Vec<(Stream, Vec<EntryId>)> {
        let own = self.sources.index(D::TOPIC);
        let mut taken = Vec::new();
        let sources = &self.sources;
        self.acks.retain(|stream, ids| {
            let here = sources.index(stream.topic()) == own;
            if here {
                pipeline.add_command(xack(D::TOPIC, *stream, ids));
                taken.push((*stream, std::mem::take(ids)));
            }
            !here
        });
        taken
    }

    pub(super) fn restore_acks(&mut self, acks: Vec<(Stream, Vec<EntryId>)>) {
        for (stream, ids) in acks {
            self.acks.entry(stream).or_default().extend(ids);
        }
    }

    /// Checks the answers to acknowledgements. Unacknowledged entries are delivered again and find
    /// their idempotency records. After a refusal, an acknowledgement of an id that never exists
    /// finds out whether Redis accepts them again.
    pub(super) fn check_acks(&mut self, acked: &[(Stream, Vec<EntryId>)], answers: Vec<Value>) {
        let mut refused = None;
        for ((stream, _), answer) in acked.iter().zip(answers) {
            // After FLUSHALL there is no group, and nothing is pending in it.
            if is_error(&answer, "NOGROUP") {
                continue;
            }
            if let Err(error) = self.own.accept("XACK", answer) {
                self.acks.entry(*stream).or_default().push(EntryId::default());
                refused = Some(error);
            }
        }
        match refused {
            Some(error) => self.acks_component.failed(&error),
            None if !acked.is_empty() => self.acks_component.answered(),
            None => {}
        }
    }

    /// Sends the acknowledgements for the Redis of other topics, without waiting for the answers.
    pub(super) fn ack_others(&mut self) {
        let own = self.sources.index(D::TOPIC);
        let (here, elsewhere): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.acks)
            .into_iter()
            .partition(|(stream, _)| self.sources.index(stream.topic()) == own);
        self.acks = here;
        for (stream, ids) in elsewhere {
            let server = self.sources.index(stream.topic());
            let acknowledger = self.others.entry(server).or_insert_with(|| {
                let component = self.health.background_component(ACKS_COMPONENT);
                Acknowledger::start(self.sources.of(stream.topic()).clone(), D::TOPIC, component)
            });
            acknowledger.send(stream, ids);
        }
    }
}
