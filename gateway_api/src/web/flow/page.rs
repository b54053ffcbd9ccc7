//! `GET /flow` as a page: the backlogs of the services, as a diagram and in numbers.

use common::contract::streams::topics;
use maud::{Markup, html};

use super::{
    arrows::{
        Arrow, LEVELS, Party, Reading, Weight, arrow_name, arrows, dead_letters, rate_text,
        readings, standing, waiting,
    },
    picture,
};
use crate::{
    upstream::flow::Flow,
    web::{
        format::{self, Grouped},
        layout::{self, Frame, Page},
    },
};

/// The page.
pub(crate) fn page(flow: &Flow) -> Page {
    let frame = Frame {
        title: "Flow".to_owned(),
        kind: "flow",
        nav: "/flow",
        skip_to: "main",
        position: None,
    };
    Page { frame, content: content(flow) }
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
                h2 #picture-heading { "Backlogs" }
                ul.legend {
                    @for (level, meaning) in LEVELS {
                        li { span.level data-level=(level) { (level) } " " (meaning) }
                    }
                }
            }
            (summary(&arrows))
            p.hint.scroll-hint { "The diagram is wider than the screen: scroll sideways." }
            div.scroll role="region" aria-label="Diagram of the flow" tabindex="0" {
                (picture::picture(flow, &arrows))
            }
        }
        section.card aria-labelledby="streams-heading" {
            header.card-head {
                h2 #streams-heading { "Streams and their readers" }
                p.hint {
                    "The backlog consists of entries that are not delivered yet and of pending entries, "
                    "which are delivered and not acknowledged. A number with ~ is an estimate."
                }
            }
            div.scroll role="region" aria-label="Table of the streams" tabindex="0" {
                (table(&readings))
            }
        }
        section.card aria-labelledby="dead-heading" {
            header.card-head {
                h2 #dead-heading { "Dead letters" }
                p.hint { "Entries that a service could not handle." }
            }
            ul.dead-letters {
                @for topic in topics::ALL {
                    @let count = dead_letters(flow, topic);
                    li data-dead=(topic.name()) data-service=(topic.service()) data-some=(count > 0) {
                        b { (Grouped(count)) } " of " (topic.service()) ", in "
                        span.mono { (topic.dead_letters()) }
                    }
                }
            }
        }
    }
}

/// The services in a few lines, for screens without room for the diagram.
fn summary(arrows: &[Arrow]) -> Markup {
    html! {
        ul.flow-summary {
            @for topic in topics::ALL {
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

fn table(readings: &[Reading<'_>]) -> Markup {
    html! {
        table.flow-table #flow-table {
            caption.visually-hidden { "The backlog of each reader of each stream" }
            thead {
                tr {
                    th scope="col" { "Stream" }
                    th scope="col" { "From" }
                    th scope="col" { "To" }
                    th.num scope="col" { "Not delivered" }
                    th.num scope="col" { "Pending" }
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
    use common::contract::streams;

    #[test]
    fn every_reading_of_a_stream_is_in_the_picture_and_in_the_table() {
        let flow = Flow::everywhere(3, 0.0);
        let text = content(&flow).into_string();
        let readers: usize = streams::ALL.iter().map(|stream| stream.readers().len()).sum();
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
