//! The progress of the consumer groups, and whether the system is quiet.

use std::collections::BTreeSet;

use common::{
    connection::{
        lag::{GroupFacts, Lag, LagMeter, ServerFacts, StreamFacts},
        topology::Sources,
    },
    contract::streams::{self, topics},
    schema::{entry_id::EntryId, stream::Stream},
};

use super::reading::Links;

/// The progress of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stream.
    pub stream: Stream,
    /// The group.
    pub name: String,
    /// The length of the pending entries list.
    pub pending: u64,
    /// The number of entries that were not delivered yet.
    pub lag: Lag,
    /// Whether every entry was delivered, and none was added meanwhile.
    pub at_end: bool,
}

/// Whether these groups have no work.
pub fn is_quiet(groups: &[Group]) -> bool {
    groups.iter().all(|group| group.pending == 0 && group.at_end)
}

/// The progress of every group of the system.
///
/// # Errors
///
/// Redis cannot be read.
pub async fn groups(sources: &Sources) -> anyhow::Result<Vec<Group>> {
    let mut links = Links::new(sources);
    let before = Observations::take(&mut links).await?;
    let after = Observations::take(&mut links).await?;
    Ok(before.and(after))
}

/// One observation of every stream that has readers, one stream after the other.
///
/// A single observation can be wrong, in any order of streams, because the flow has circles. A failed
/// payment (`events:{account}_wallet`) releases stock that fills a waiting order, which publishes on
/// `events:{inventory}_check` again, and `events:{inventory}_line` feeds itself. So an event may move on
/// from a stream that is still to be observed to one that already was.
///
/// Two observations cannot be wrong. Take a stream in which all groups had acknowledged everything at the
/// first observation, and whose last entry was still the same at the second: nothing was added in between,
/// so nothing in it waited. If this holds for all streams, nothing waited anywhere from the end of the
/// first observation to the beginning of the second; and since a service acknowledges an event only after
/// it has written its effects, nothing was under way in any service either. Data that is read between two
/// such observations is one state: every write of a service comes from an event or, in order_service's
/// HTTP API, publishes one.
pub(super) struct Observations(Vec<Observation>);

/// The progress of the groups of one stream.
struct Observation {
    stream: Stream,
    /// The last entry that was ever added; `None` if there is no stream.
    last: Option<EntryId>,
    groups: Vec<Group>,
}

impl Observations {
    pub(super) async fn take(links: &mut Links) -> anyhow::Result<Self> {
        let mut observations = Vec::new();
        let mut servers = Vec::new();
        for topic in topics::ALL {
            servers.push((topic, links.server(topic).await?));
        }
        let read = streams::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
        for stream in read {
            let server = servers.iter().find(|(topic, _)| *topic == stream.topic());
            let server = server.map(|(_, facts)| facts.clone()).unwrap_or_default();
            observations.push(observe(links, stream, &server).await?);
        }
        Ok(Self(observations))
    }

    /// Combines this observation with a later one.
    pub(super) fn and(self, later: Self) -> Vec<Group> {
        let observations = self.0.into_iter().zip(later.0);
        observations.flat_map(|(before, after)| before.and(after)).collect()
    }
}

impl Observation {
    fn and(self, later: Self) -> Vec<Group> {
        debug_assert_eq!(self.stream, later.stream, "both observe the same streams");
        let stood_still = self.last == later.last;
        let groups = later.groups.into_iter().map(|after| {
            let before = self.groups.iter().find(|before| before.name == after.name);
            let (pending, at_end) = before.map_or((0, false), |it| (it.pending, it.at_end));
            Group {
                pending: after.pending.max(pending),
                at_end: after.at_end && at_end && stood_still,
                ..after
            }
        });
        groups.collect()
    }
}

async fn observe(
    links: &mut Links,
    stream: Stream,
    server: &ServerFacts,
) -> anyhow::Result<Observation> {
    let ask = |what| redis::cmd("XINFO").arg(what).arg(stream.key()).to_owned();
    let topic = stream.topic();
    let groups = links.find(topic, "XINFO GROUPS", ask("GROUPS")).await?;
    // Read after the groups, so that an entry added in between is not overlooked.
    let Some(found) = links.find(topic, "XINFO STREAM", ask("STREAM")).await? else {
        return Ok(Observation { stream, last: None, groups: Vec::new() });
    };
    let facts = StreamFacts::from_reply(found);
    let mut missing: BTreeSet<&str> =
        stream.readers().iter().map(|reader| reader.service()).collect();
    let mut lags = LagMeter::default();
    let group = |found: GroupFacts| {
        missing.remove(found.name.as_str());
        let lag = lags.lag(server, stream.key(), &facts, &found);
        let GroupFacts { name, pending, .. } = found;
        Group { stream, name, pending, lag, at_end: lag == Lag::Exact(0) }
    };
    let groups = groups.map(GroupFacts::from_reply).unwrap_or_default();
    let mut groups: Vec<Group> = groups.into_iter().map(group).collect();
    for name in missing {
        let (name, lag) = (name.to_owned(), Lag::Exact(facts.length));
        groups.push(Group { stream, name, pending: 0, lag, at_end: facts.length == 0 });
    }
    Ok(Observation { stream, last: Some(facts.last_generated), groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(last: u64, pending: u64, at_end: bool) -> Observations {
        let stream = streams::INVENTORY_CHECK;
        let name = "account_service".to_owned();
        let groups = vec![Group { stream, name, pending, lag: Lag::Exact(0), at_end }];
        let last = format!("{last}-0").parse().ok();
        Observations(vec![Observation { stream, last, groups }])
    }

    #[test]
    fn it_is_quiet_only_if_two_observations_are_equal_and_acknowledged() {
        let quiet = |before: Observations, after: Observations| is_quiet(&before.and(after));
        assert!(quiet(look(5, 0, true), look(5, 0, true)));
        assert!(!quiet(look(5, 0, true), look(6, 0, true)), "an entry was added and handled");
        assert!(!quiet(look(5, 1, true), look(5, 0, true)), "it may have moved on to any stream");
        assert!(!quiet(look(5, 0, false), look(5, 0, true)));
        assert!(!quiet(look(5, 0, true), look(6, 0, false)));
    }
}
