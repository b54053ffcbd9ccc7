//! The event flow at a moment: the streams, the groups that read them, and their rates.

use std::time::Duration;

use common::{
    connection::lag::{GroupFacts, Lag, StreamFacts},
    schema::{
        entry_id::EntryId,
        stream::{Stream, Topic},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

/// A sample of the event flow.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(crate) struct Flow {
    /// The time of the sample, in milliseconds since 1970.
    #[schema(example = 1_767_225_600_000_u64)]
    pub at: u64,
    /// The streams that services read, in the order of an order's life.
    pub streams: Vec<StreamFlow>,
    /// The dead letters of each topic.
    pub dead: Vec<DeadLetters>,
}

/// The flow of a stream.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(crate) struct StreamFlow {
    /// The key of the stream.
    #[schema(example = "events:{order}_created")]
    pub stream: &'static str,
    /// The topic of the stream.
    #[schema(example = "order")]
    pub topic: &'static str,
    /// The number of entries in the stream.
    #[schema(example = 10)]
    pub length: u64,
    /// Appended entries per second; unknown in the first sample and with Redis 6.2.
    #[schema(example = 1.5)]
    pub rate: Option<f64>,
    /// The consumer groups of the stream.
    pub groups: Vec<GroupFlow>,
    /// The number of entries that were ever appended.
    #[serde(skip)]
    #[schema(ignore)]
    added: Option<u64>,
}

/// The progress of a consumer group on a stream.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(crate) struct GroupFlow {
    /// The name of the group, which is that of its service.
    #[schema(example = "inventory_service")]
    pub group: &'static str,
    /// The number of entries that are not delivered to the group yet.
    #[schema(example = 0)]
    pub lag: u64,
    /// Whether `lag` is an estimate, because Redis does not count it, or not reliably (before Redis 7.0,
    /// after entries were deleted, and after a restart from an append-only file).
    #[schema(example = false)]
    pub lag_is_estimate: bool,
    /// The number of entries that are delivered and not acknowledged.
    #[schema(example = 0)]
    pub pending: u64,
    /// Delivered entries per second; unknown in the first sample and with Redis 6.2.
    #[schema(example = 1.5)]
    pub rate: Option<f64>,
    /// The number of instances that read the stream in the last day; 0 if the service never ran.
    #[schema(example = 1)]
    pub consumers: u64,
    /// The number of entries that were ever delivered.
    #[serde(skip)]
    #[schema(ignore)]
    read: Option<u64>,
}

/// The dead letters of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    /// The topic whose owner could not handle the entries.
    #[schema(example = "order")]
    pub topic: &'static str,
    /// The number of dead letters.
    #[schema(example = 0)]
    pub count: u64,
}

/// The answer of XINFO for a stream and its groups, each with its lag.
pub(super) type StreamAndGroups = (StreamFacts, Vec<(GroupFacts, Lag)>);

impl Flow {
    /// Sets the rates from an earlier sample of this age.
    pub(super) fn compare(&mut self, before: &Self, time: Duration) {
        let rate = |now: Option<u64>, before: Option<u64>| {
            // An emptied stream counts from the beginning.
            let count = u32::try_from(now?.checked_sub(before?)?).ok()?;
            Some((f64::from(count) / time.as_secs_f64() * 10.0).round() / 10.0)
        };
        for (stream, old) in self.streams.iter_mut().zip(&before.streams) {
            stream.rate = rate(stream.added, old.added);
            for (group, old) in stream.groups.iter_mut().zip(&old.groups) {
                group.rate = rate(group.read, old.read);
            }
        }
    }
}

impl StreamFlow {
    pub(super) fn new(stream: Stream, (facts, groups): &StreamAndGroups) -> Self {
        let group = |reader: &Topic| {
            let name = reader.service();
            let found = groups.iter().find(|(group, _)| group.name == name);
            found.map_or_else(
                || GroupFlow::absent(name, facts.length),
                |(group, lag)| GroupFlow::new(name, group, *lag),
            )
        };
        Self {
            stream: stream.key(),
            topic: stream.topic().name(),
            length: facts.length,
            rate: None,
            groups: stream.readers().iter().map(group).collect(),
            added: facts.added,
        }
    }
}

impl GroupFlow {
    /// The group of a service that never ran, which will begin with the first entry.
    fn absent(group: &'static str, length: u64) -> Self {
        Self {
            group,
            lag: length,
            lag_is_estimate: false,
            pending: 0,
            rate: None,
            consumers: 0,
            read: None,
        }
    }

    fn new(group: &'static str, facts: &GroupFacts, lag: Lag) -> Self {
        // Redis does not count before the first delivery.
        let unread = facts.lag.is_some() && facts.delivered == EntryId::default();
        Self {
            group,
            lag: lag.entries(),
            lag_is_estimate: lag.is_estimate(),
            pending: facts.pending,
            rate: None,
            consumers: facts.consumers,
            read: facts.read.or(unread.then_some(0)),
        }
    }
}

#[cfg(test)]
impl Flow {
    /// A flow with this backlog and this rate for each reader of each stream.
    pub(crate) fn everywhere(waiting: u64, rate: f64) -> Self {
        use common::contract::streams::{self, topics};
        let streams = streams::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
        let streams = streams.map(|stream| {
            let mut flow = StreamFlow::new(stream, &StreamAndGroups::default());
            for group in &mut flow.groups {
                (group.lag, group.rate) = (waiting, Some(rate));
            }
            flow
        });
        let dead = topics::ALL.map(|topic| DeadLetters { topic: topic.name(), count: waiting });
        Self { at: 0, streams: streams.collect(), dead: dead.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::contract::streams;

    fn stream(length: u64, added: Option<u64>) -> StreamFacts {
        StreamFacts { length, added, ..StreamFacts::default() }
    }

    fn group(read: Option<u64>, lag: Lag) -> (GroupFacts, Lag) {
        let facts = GroupFacts {
            name: "order_service".to_owned(),
            consumers: 2,
            pending: 3,
            read,
            lag: Some(lag.entries()),
            ..GroupFacts::default()
        };
        (facts, lag)
    }

    #[test]
    fn a_stream_shows_its_readers_also_those_that_never_ran() {
        let facts = (stream(7, Some(9)), vec![group(Some(5), Lag::Estimate(4))]);
        let flow = StreamFlow::new(streams::ACCOUNT_WALLET, &facts);
        let [order, inventory, message] = &flow.groups[..] else { panic!("{flow:?}") };
        assert_eq!((order.group, order.lag, order.pending), ("order_service", 4, 3));
        assert_eq!((order.consumers, order.read), (2, Some(5)));
        assert!(order.lag_is_estimate && !inventory.lag_is_estimate);
        for absent in [inventory, message] {
            assert_eq!((absent.lag, absent.pending, absent.consumers), (7, 0, 0));
        }
        let flow = StreamFlow::new(streams::ORDER_COMPLETED, &StreamAndGroups::default());
        assert_eq!((flow.length, flow.added, flow.groups[0].lag), (0, None, 0));
    }

    #[test]
    fn rates_count_the_difference_and_are_unknown_after_a_counter_reset() {
        let at = |added: u64, read: Option<u64>| {
            let facts = (stream(0, Some(added)), vec![group(read, Lag::Exact(0))]);
            let stream = StreamFlow::new(streams::INVENTORY_CHECK, &facts);
            Flow { at: 0, streams: vec![stream], dead: Vec::new() }
        };
        let rates = |before: &Flow, mut now: Flow| {
            now.compare(before, Duration::from_secs(2));
            let groups = &now.streams[0].groups;
            (now.streams[0].rate, groups.iter().map(|group| group.rate).collect::<Vec<_>>())
        };
        let first = at(0, None);
        let second = at(3, Some(4));
        assert_eq!(rates(&first, second.clone()), (Some(1.5), vec![None, Some(2.0), None]));
        assert_eq!(rates(&second, first), (None, vec![None, None, None]));
    }
}
