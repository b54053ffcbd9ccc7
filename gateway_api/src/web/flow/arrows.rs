//! The streams between the services as arrows: writers, readers and backlogs.

use common::{
    contract::streams::{self, topics},
    schema::stream::{Stream, Topic, Writer},
};

use crate::{
    upstream::flow::{Flow, GroupFlow, StreamFlow},
    web::format::Grouped,
};

/// A writer or a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Party {
    /// The gateway, for clients.
    Gateway,
    /// The owner of a topic.
    Owner(Topic),
}

impl Party {
    /// The writer of a stream.
    pub(super) const fn writing(stream: Stream) -> Self {
        match stream.writer() {
            Writer::Clients => Self::Gateway,
            Writer::Owner => Self::Owner(stream.topic()),
        }
    }

    /// The service.
    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::Gateway => "gateway_api",
            Self::Owner(topic) => topic.service(),
        }
    }
}

/// All streams from one service to another, with their backlog and rate.
pub(super) struct Arrow {
    pub(super) from: Party,
    pub(super) to: Party,
    pub(super) names: Vec<&'static str>,
    /// The backlog: entries that are not delivered or not acknowledged.
    pub(super) waiting: u64,
    /// Events per second, if known for one of the streams.
    rate: Option<f64>,
}

/// The appearance of an arrow.
pub(super) struct Weight {
    /// `calm`, `busy`, `behind` or `stuck`.
    pub(super) level: &'static str,
    /// 0 to 4, by the backlog.
    pub(super) thickness: u32,
    /// 0 to 3, by the rate.
    pub(super) speed: u32,
}

/// In the order of severity.
pub(super) const LEVELS: [(&str, &str); 4] = [
    ("calm", "no backlog"),
    ("busy", "events in flight"),
    ("behind", "a backlog of a thousand"),
    ("stuck", "a backlog, and no progress"),
];

impl Weight {
    pub(super) fn of(waiting: u64, rate: Option<f64>) -> Self {
        let level = match (waiting, rate) {
            (0, Some(rate)) if rate > 0.0 => "busy",
            (0, _) => "calm",
            // There is a backlog, and no entry was delivered for a second.
            (_, Some(rate)) if rate <= 0.0 => "stuck",
            (1_000.., _) => "behind",
            _ => "busy",
        };
        let speed = match rate.unwrap_or(0.0) {
            rate if rate <= 0.0 => 0,
            rate if rate < 10.0 => 1,
            rate if rate < 500.0 => 2,
            _ => 3,
        };
        let thickness = waiting.checked_ilog10().map_or(0, |digits| (digits + 1).min(4));
        Self { level, thickness, speed }
    }
}

impl Arrow {
    /// The name of the arrow for the script.
    pub(super) fn name(&self) -> String {
        arrow_name(self.from, self.to)
    }

    pub(super) fn weight(&self) -> Weight {
        Weight::of(self.waiting, self.rate)
    }

    pub(super) fn streams(&self) -> String {
        self.names.join(" · ")
    }

    pub(super) fn waiting_text(&self) -> String {
        Grouped(self.waiting).to_string()
    }

    pub(super) fn rate_text(&self) -> String {
        rate_text(self.rate)
    }
}

pub(super) fn arrow_name(from: Party, to: Party) -> String {
    format!("{}>{}", from.service(), to.service())
}

/// `1,200/s`, `0.5/s`, or `–/s` while the rate is not known.
pub(super) fn rate_text(rate: Option<f64>) -> String {
    match rate {
        None => "–/s".to_owned(),
        Some(0.0) => "0/s".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}/s"),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is rounded"
        )]
        Some(rate) => format!("{}/s", Grouped(rate.round() as u64)),
    }
}

/// The number of a topic's dead letters.
pub(super) fn dead_letters(flow: &Flow, topic: Topic) -> u64 {
    flow.dead.iter().filter(|dead| dead.topic == topic.name()).map(|dead| dead.count).sum()
}

/// The backlog of a service on a stream.
pub(super) fn waiting(group: &GroupFlow) -> u64 {
    group.lag.saturating_add(group.pending)
}

/// A stream and one of its readers.
pub(super) struct Reading<'a> {
    pub(super) stream: Stream,
    pub(super) flow: &'a StreamFlow,
    pub(super) group: &'a GroupFlow,
    pub(super) from: Party,
    pub(super) to: Party,
}

pub(super) fn readings(flow: &Flow) -> Vec<Reading<'_>> {
    let mut readings = Vec::new();
    for of_stream in &flow.streams {
        let stream = streams::ALL.into_iter().find(|it| it.key() == of_stream.stream);
        let Some(stream) = stream else { continue };
        for group in &of_stream.groups {
            let reader = topics::ALL.into_iter().find(|it| it.service() == group.group);
            let Some(reader) = reader else { continue };
            readings.push(Reading {
                stream,
                flow: of_stream,
                group,
                from: Party::writing(stream),
                to: Party::Owner(reader),
            });
        }
    }
    readings
}

pub(super) fn arrows(readings: &[Reading<'_>]) -> Vec<Arrow> {
    let mut arrows: Vec<Arrow> = Vec::new();
    for reading in readings {
        let name = action(reading.stream);
        let (waiting, rate) = (waiting(reading.group), reading.group.rate);
        let known = arrows.iter_mut().find(|it| (it.from, it.to) == (reading.from, reading.to));
        match known {
            Some(arrow) => {
                arrow.names.push(name);
                arrow.waiting = arrow.waiting.saturating_add(waiting);
                arrow.rate = arrow.rate.map_or(rate, |sum| Some(sum + rate.unwrap_or(0.0)));
            }
            None => arrows.push(Arrow {
                from: reading.from,
                to: reading.to,
                names: vec![name],
                waiting,
                rate,
            }),
        }
    }
    arrows
}

/// The name of a stream without its topic.
pub(super) fn action(stream: Stream) -> &'static str {
    stream.key().split_once('_').map_or(stream.key(), |(_, action)| action)
}

/// The state of a service over all its streams: the worst level and the total backlog.
pub(super) fn standing(arrows: &[Arrow], party: Party) -> (&'static str, u64) {
    let rank = |level: &&str| LEVELS.iter().position(|(it, _)| it == level);
    let theirs = || arrows.iter().filter(|arrow| arrow.to == party);
    let level = theirs().map(|arrow| arrow.weight().level).max_by_key(rank);
    (level.unwrap_or("calm"), theirs().map(|arrow| arrow.waiting).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_shows_its_worst_backlog() {
        let looks = |waiting, rate| {
            let Weight { level, thickness, speed } = Weight::of(waiting, rate);
            (level, thickness, speed)
        };
        assert_eq!(looks(0, None), ("calm", 0, 0));
        assert_eq!(looks(0, Some(0.0)), ("calm", 0, 0));
        assert_eq!(looks(0, Some(0.5)), ("busy", 0, 1));
        assert_eq!(looks(7, Some(90.0)), ("busy", 1, 2));
        assert_eq!(looks(7, None), ("busy", 1, 0));
        assert_eq!(looks(2_000, Some(900.0)), ("behind", 4, 3));
        assert_eq!(looks(1, Some(0.0)), ("stuck", 1, 0));
        assert_eq!(looks(1_000_000, Some(0.0)), ("stuck", 4, 0));
    }
}
