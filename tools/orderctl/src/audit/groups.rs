//! How far the consumer groups are, and whether anything is under way.

use std::collections::BTreeSet;

use common::{
    connection::{
        lag::{GroupFacts, Lag, LagMeter, ServerFacts, StreamFacts},
        topology::Sources,
    },
    contract::{
        events::{Stream, Topic},
        ids::EntryId,
    },
};

use super::reading::Links;

/// How far a consumer group is in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stream.
    pub stream: Stream,
    /// The group.
    pub name: String,
    /// Entries that were delivered and not acknowledged.
    pub pending: u64,
    /// Entries that were not delivered yet.
    pub lag: Lag,
    /// Whether everything in the stream was delivered, and nothing came in meanwhile.
    pub at_end: bool,
}

/// Whether nothing waits in these groups.
pub fn is_quiet(groups: &[Group]) -> bool {
    groups.iter().all(|group| group.pending == 0 && group.at_end)
}

/// How far every group of the system is.
///
/// # Errors
///
/// Redis cannot be read.
pub async fn groups(sources: &Sources) -> anyhow::Result<Vec<Group>> {
    let mut links = Links::new(sources);
    let before = Looks::take(&mut links).await?;
    let after = Looks::take(&mut links).await?;
    Ok(before.and(after))
}

/// One look at every stream that has readers, one stream after the other.
///
/// A single look can be fooled, in whatever order it goes: the flow has circles. A failed payment
/// (`events:{account}_wallet`) frees stock that fills a waiting order, which publishes on
/// `events:{inventory}_check` again, and `events:{inventory}_line` feeds itself. So an event may move
/// on from a stream that was not looked at yet to one that already was.
///
/// Two looks cannot. Take a stream in which all groups had acknowledged everything at the first
/// look, and whose last entry was still the same at the second: in between nothing was added, so
/// nothing in it waited. If this holds for all streams, nothing waited anywhere from the end of the
/// first look to the beginning of the second; and as whoever acknowledges an event has already
/// written what follows from it, nothing was under way in any service either. What is read between
/// two such looks is one state: every write to what a service owns either comes from an event or,
/// at order_service's door, publishes one.
pub(super) struct Looks(Vec<Look>);

/// How far the groups of one stream are.
struct Look {
    stream: Stream,
    /// The last entry that was ever added; `None` if there is no stream.
    last: Option<EntryId>,
    groups: Vec<Group>,
}

impl Looks {
    pub(super) async fn take(links: &mut Links) -> anyhow::Result<Self> {
        let mut looks = Vec::new();
        let mut servers = Vec::new();
        for topic in Topic::ALL {
            servers.push((topic, links.server(topic).await?));
        }
        let read = Stream::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
        for stream in read {
            let server = servers.iter().find(|(topic, _)| *topic == stream.topic());
            let server = server.map(|(_, facts)| facts.clone()).unwrap_or_default();
            looks.push(look_at(links, stream, &server).await?);
        }
        Ok(Self(looks))
    }

    /// What this look and a later one come to: a group is where both of them saw it.
    pub(super) fn and(self, later: Self) -> Vec<Group> {
        let looks = self.0.into_iter().zip(later.0);
        looks.flat_map(|(before, after)| before.and(after)).collect()
    }
}

impl Look {
    fn and(self, later: Self) -> Vec<Group> {
        debug_assert_eq!(self.stream, later.stream, "looks go through the same streams");
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

async fn look_at(links: &mut Links, stream: Stream, server: &ServerFacts) -> anyhow::Result<Look> {
    let ask = |what| redis::cmd("XINFO").arg(what).arg(stream.key()).to_owned();
    let topic = stream.topic();
    let groups = links.find(topic, "XINFO GROUPS", ask("GROUPS")).await?;
    // Asked after the groups, so that an entry that came in between is not overlooked.
    let Some(found) = links.find(topic, "XINFO STREAM", ask("STREAM")).await? else {
        return Ok(Look { stream, last: None, groups: Vec::new() });
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
    Ok(Look { stream, last: Some(facts.last_generated), groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(last: u64, pending: u64, at_end: bool) -> Looks {
        let stream = Stream::InventoryCheck;
        let name = "account_service".to_owned();
        let groups = vec![Group { stream, name, pending, lag: Lag::Exact(0), at_end }];
        let last = format!("{last}-0").parse().ok();
        Looks(vec![Look { stream, last, groups }])
    }

    #[test]
    fn it_is_quiet_only_if_both_looks_saw_everything_acknowledged_and_nothing_came_in_between() {
        let quiet = |before: Looks, after: Looks| is_quiet(&before.and(after));
        assert!(quiet(look(5, 0, true), look(5, 0, true)));
        assert!(!quiet(look(5, 0, true), look(6, 0, true)), "an entry came and was handled");
        assert!(!quiet(look(5, 1, true), look(5, 0, true)), "it may have moved on to any stream");
        assert!(!quiet(look(5, 0, false), look(5, 0, true)));
        assert!(!quiet(look(5, 0, true), look(6, 0, false)));
    }
}
