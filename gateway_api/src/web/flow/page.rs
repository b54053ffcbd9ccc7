//! `GET /flow` as a page: where events wait, at a glance and in numbers.

use axum::response::Response;
use common::contract::events::{Stream, Topic};
use maud::{Markup, html};

use super::picture::{self, Party};
use crate::{
    upstream::flow_sampler::{Flow, GroupFlow, StreamFlow},
    web::{
        format::{self, Grouped},
        layout::{self, Frame},
    },
};

/// All streams from one service to another, with what is under way on them.
pub(super) struct Arrow {
    pub(super) from: Party,
    pub(super) to: Party,
    names: Vec<&'static str>,
    /// Not delivered, or not acknowledged.
    pub(super) waiting: u64,
    /// Events a second, where it is known of any of the streams.
    rate: Option<f64>,
}

/// How an arrow looks.
pub(super) struct Weight {
    /// `calm`, `busy`, `behind` or `stuck`.
    pub(super) level: &'static str,
    /// 0 to 4, by what waits.
    pub(super) thickness: u32,
    /// 0 to 3, by the rate.
    pub(super) speed: u32,
}

/// From the least to the most grave.
const LEVELS: [(&str, &str); 4] = [
    ("calm", "nothing to do"),
    ("busy", "events move"),
    ("behind", "a thousand wait"),
    ("stuck", "some wait, none are taken"),
];

impl Weight {
    fn of(waiting: u64, rate: Option<f64>) -> Self {
        let level = match (waiting, rate) {
            (0, Some(rate)) if rate > 0.0 => "busy",
            (0, _) => "calm",
            // Something waits, and nothing was taken for a second.
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
    /// Names it for the script.
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

fn arrow_name(from: Party, to: Party) -> String {
    format!("{}>{}", from.service(), to.service())
}

/// `1,200/s`, `0.5/s`, `–/s` while it is not known.
fn rate_text(rate: Option<f64>) -> String {
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

/// How many events the owner of a topic could not handle.
pub(super) fn dead_letters(flow: &Flow, topic: Topic) -> u64 {
    flow.dead.iter().filter(|dead| dead.topic == topic.name()).map(|dead| dead.count).sum()
}

/// What waits for a service on a stream.
fn waiting(group: &GroupFlow) -> u64 {
    group.lag.saturating_add(group.pending)
}

/// A stream and one of its readers.
struct Reading<'a> {
    stream: Stream,
    flow: &'a StreamFlow,
    group: &'a GroupFlow,
    from: Party,
    to: Party,
}

fn readings(flow: &Flow) -> Vec<Reading<'_>> {
    let mut readings = Vec::new();
    for of_stream in &flow.streams {
        let stream = Stream::ALL.into_iter().find(|it| it.key() == of_stream.stream);
        let Some(stream) = stream else { continue };
        for group in &of_stream.groups {
            let reader = Topic::ALL.into_iter().find(|it| it.service() == group.group);
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

fn arrows(readings: &[Reading<'_>]) -> Vec<Arrow> {
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

/// What a stream tells: its name without its topic.
fn action(stream: Stream) -> &'static str {
    stream.key().split_once('_').map_or(stream.key(), |(_, action)| action)
}

/// The page.
pub(crate) fn show(flow: &Flow) -> Response {
    let frame =
        Frame { title: "Flow", kind: "flow", place: "/flow", skip_to: "main", position: None };
    layout::page(&frame, &content(flow))
}

fn content(flow: &Flow) -> Markup {
    let readings = readings(flow);
    let arrows = arrows(&readings);
    html! {
        div.page-head {
            h1 { "Flow" }
            (layout::live_line(&format::utc(flow.at)))
        }
        section.card aria-labelledby="picture-heading" {
            header.card-head {
                h2 #picture-heading { "Where events wait" }
                ul.legend {
                    @for (level, meaning) in LEVELS {
                        li { span.level data-level=(level) { (level) } " " (meaning) }
                    }
                }
            }
            (summary(&arrows))
            p.hint.scroll-hint { "The picture is wider than the screen: move it sideways." }
            div.scroll role="region" aria-label="Picture of the flow" tabindex="0" {
                (picture::picture(flow, &arrows))
            }
        }
        section.card aria-labelledby="streams-heading" {
            header.card-head {
                h2 #streams-heading { "Streams and their readers" }
                p.hint { "Waiting is what was not delivered yet, and what was delivered and is in hand. A number with ~ is an estimate." }
            }
            div.scroll role="region" aria-label="Table of the streams" tabindex="0" {
                (table(&readings))
            }
        }
        section.card aria-labelledby="dead-heading" {
            header.card-head {
                h2 #dead-heading { "Dead letters" }
                p.hint { "Events that a service could not handle." }
            }
            ul.dead-letters {
                @for topic in Topic::ALL {
                    @let count = dead_letters(flow, topic);
                    li data-dead=(topic.name()) data-service=(topic.service()) data-some=(count > 0) {
                        b { (Grouped(count)) } " of " (topic.service()) ", in "
                        span.mono { (Stream::Dead(topic)) }
                    }
                }
            }
        }
    }
}

/// The services in a few lines, where there is no room for the whole picture.
fn summary(arrows: &[Arrow]) -> Markup {
    html! {
        ul.flow-summary {
            @for topic in Topic::ALL {
                @let (level, waiting) = standing(arrows, Party::Owner(topic));
                li data-summary=(topic.service()) {
                    span.mono { (topic.service()) } " "
                    span.sub { b.waiting { (Grouped(waiting)) } " waiting" } " "
                    span.level data-level=(level) { (level) }
                }
            }
        }
    }
}

/// How a service gets on with all that it reads: its worst level, and what waits for it.
pub(super) fn standing(arrows: &[Arrow], party: Party) -> (&'static str, u64) {
    let rank = |level: &&str| LEVELS.iter().position(|(it, _)| it == level);
    let theirs = || arrows.iter().filter(|arrow| arrow.to == party);
    let level = theirs().map(|arrow| arrow.weight().level).max_by_key(rank);
    (level.unwrap_or("calm"), theirs().map(|arrow| arrow.waiting).sum())
}

fn table(readings: &[Reading<'_>]) -> Markup {
    html! {
        table.flow-table #flow-table {
            caption.visually-hidden { "What waits on each stream for each of its readers" }
            thead {
                tr {
                    th scope="col" { "Stream" }
                    th scope="col" { "From" }
                    th scope="col" { "To" }
                    th.num scope="col" { "Not delivered" }
                    th.num scope="col" { "In hand" }
                    th.num scope="col" { "Rate" }
                    th.num scope="col" { "Entries" }
                    th.num scope="col" { "Instances" }
                    th scope="col" { "State" }
                }
            }
            tbody {
                @for reading in readings {
                    @let group = reading.group;
                    tr data-stream=(reading.flow.stream) data-group=(group.group)
                        data-arrow=(arrow_name(reading.from, reading.to)) {
                        th.mono scope="row" { (reading.flow.stream) }
                        td { (reading.from.service()) }
                        td { (reading.to.service()) }
                        td.num.f-lag {
                            @if group.lag_is_estimate { "~" }
                            (Grouped(group.lag))
                        }
                        td.num.f-pending { (Grouped(group.pending)) }
                        td.num.f-rate { (rate_text(group.rate)) }
                        td.num.f-length { (Grouped(reading.flow.length)) }
                        td.num.f-consumers { (Grouped(group.consumers)) }
                        td.f-level {
                            @let level = Weight::of(waiting(group), group.rate).level;
                            span.level data-level=(level) { (level) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_shows_where_it_hurts() {
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

    #[test]
    fn every_reading_of_a_stream_is_in_the_picture_and_in_the_table() {
        let flow = Flow::everywhere(3, 0.0);
        let text = content(&flow).into_string();
        let readers: usize = Stream::ALL.iter().map(|stream| stream.readers().len()).sum();
        assert_eq!(text.matches("<tr data-stream=").count(), readers);
        let is_drawn = |arrow: &&Arrow| {
            let name = arrow.name().replace('>', "&gt;");
            text.contains(&format!("<g class=\"arrow\" data-arrow=\"{name}\""))
        };
        let arrows = arrows(&readings(&flow));
        let drawn: usize = arrows.iter().filter(is_drawn).map(|arrow| arrow.names.len()).sum();
        assert_eq!(drawn, readers, "every arrow has a course");
        assert!(text.contains("data-level=\"stuck\"") && text.contains("dead letters"), "{text}");
    }
}
