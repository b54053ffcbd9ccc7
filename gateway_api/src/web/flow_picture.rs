//! The picture of the flow: the services, and the streams between them as arrows.

use common::events::{Stream, Topic};
use maud::{Markup, html};

use super::{
    flow_page::{Arrow, Weight, dead_letters, standing},
    words::Grouped,
};
use crate::flow::Flow;

/// Who writes or reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Party {
    /// The gateway, for clients.
    Gateway,
    /// A topic's owner.
    Owner(Topic),
}

impl Party {
    /// Who writes a stream.
    pub(super) const fn writing(stream: Stream) -> Self {
        match stream {
            Stream::InventoryCreated
            | Stream::InventoryRestock
            | Stream::AccountCreated
            | Stream::AccountTopUp => Self::Gateway,
            _ => Self::Owner(stream.topic()),
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

const GATEWAY: Party = Party::Gateway;
const ORDER: Party = Party::Owner(Topic::Order);
const INVENTORY: Party = Party::Owner(Topic::Inventory);
const ACCOUNT: Party = Party::Owner(Topic::Account);
const MESSAGE: Party = Party::Owner(Topic::Message);

/// How large the box of a service is.
const BOX: (i32, i32) = (180, 84);

/// The left upper corner of each service's box.
const PLACES: [(Party, i32, i32); 5] = [
    (GATEWAY, 20, 288),
    (ORDER, 410, 40),
    (INVENTORY, 410, 536),
    (ACCOUNT, 790, 288),
    (MESSAGE, 1170, 288),
];

/// Where an arrow runs: its path, where and in which direction it ends, and where its label is.
struct Course {
    from: Party,
    to: Party,
    path: &'static str,
    end: (i32, i32, i32),
    label: (i32, i32, &'static str),
}

const fn course(
    from: Party,
    to: Party,
    path: &'static str,
    end: (i32, i32, i32),
    label: (i32, i32, &'static str),
) -> Course {
    Course { from, to, path, end, label }
}

/// Drawn by hand, so that no label lies on a line.
const COURSES: [Course; 13] = [
    course(
        GATEWAY,
        INVENTORY,
        "M130 372C130 540 250 594 396 594",
        (406, 594, 0),
        (172, 466, "start"),
    ),
    course(GATEWAY, ACCOUNT, "M200 330H776", (786, 330, 0), (212, 302, "start")),
    course(
        GATEWAY,
        MESSAGE,
        "M50 372C50 800 1270 800 1270 386",
        (1270, 376, -90),
        (650, 712, "middle"),
    ),
    course(ORDER, INVENTORY, "M470 124V522", (470, 532, 90), (458, 208, "end")),
    course(ORDER, ACCOUNT, "M590 82L892 279", (900, 284, 33), (752, 158, "start")),
    course(ORDER, MESSAGE, "M590 58C900 40 1260 90 1260 274", (1260, 284, 90), (950, 34, "start")),
    course(INVENTORY, ORDER, "M530 536V138", (530, 128, -90), (542, 282, "start")),
    course(
        INVENTORY,
        INVENTORY,
        "M446 536C446 484 424 484 424 522",
        (424, 532, 90),
        (412, 500, "end"),
    ),
    course(INVENTORY, ACCOUNT, "M580 536L812 381", (820, 376, -34), (700, 416, "end")),
    course(
        INVENTORY,
        MESSAGE,
        "M590 604C900 616 1240 560 1240 386",
        (1240, 376, -90),
        (800, 626, "start"),
    ),
    course(ACCOUNT, ORDER, "M820 288L588 133", (580, 128, 214), (690, 226, "end")),
    course(ACCOUNT, INVENTORY, "M900 372L602 574", (594, 580, 146), (766, 484, "start")),
    course(ACCOUNT, MESSAGE, "M970 330H1156", (1166, 330, 0), (1068, 288, "middle")),
];

/// The picture. The table below it says the same in words.
pub(super) fn picture(flow: &Flow, arrows: &[Arrow]) -> Markup {
    html! {
        svg.flow-picture #flow-picture viewBox="0 0 1370 740" role="img"
            aria-labelledby="flow-picture-title" {
            title #flow-picture-title {
                "The services and the streams between them; the table below has the numbers"
            }
            g.arrow.http {
                path.line d="M140 288C170 160 260 82 396 82" {}
                (head((406, 82, 0)))
                text x="206" y="128" text-anchor="end" { "orders (HTTP)" }
            }
            @for course in COURSES {
                @if let Some(arrow) = arrows.iter().find(|it| (it.from, it.to) == (course.from, course.to)) {
                    (drawn(&course, arrow))
                }
            }
            @for (party, x, y) in PLACES { (service(flow, party, (x, y), arrows)) }
        }
    }
}

fn drawn(course: &Course, arrow: &Arrow) -> Markup {
    let Weight { level, thickness, speed } = arrow.weight();
    let (x, y, anchor) = course.label;
    html! {
        g.arrow data-arrow=(arrow.name()) data-level=(level) data-thickness=(thickness)
            data-speed=(speed) {
            path.line d=(course.path) {}
            path.moving d=(course.path) {}
            (head(course.end))
            text x=(x) y=(y) text-anchor=(anchor) {
                tspan.streams { (arrow.streams()) }
                tspan.numbers x=(x) dy="19" {
                    tspan.waiting { (arrow.waiting_text()) } " waiting · "
                    tspan.rate { (arrow.rate_text()) }
                }
            }
        }
    }
}

fn head((x, y, degrees): (i32, i32, i32)) -> Markup {
    let transform = format!("translate({x} {y}) rotate({degrees})");
    html! { g transform=(transform) { path.head d="M0 0L-14 -7V7Z" {} } }
}

fn service(flow: &Flow, party: Party, (x, y): (i32, i32), arrows: &[Arrow]) -> Markup {
    let middle = x + BOX.0 / 2;
    let name = party.service();
    let (level, waiting) = standing(arrows, party);
    let dead = match party {
        Party::Gateway => 0,
        Party::Owner(topic) => dead_letters(flow, topic),
    };
    html! {
        g.service data-service=(name) data-level=(level) {
            rect x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="10" {}
            text.service-name x=(middle) y=(y + 34) text-anchor="middle" { (name) }
            text.service-state x=(middle) y=(y + 56) text-anchor="middle" {
                @if party == Party::Gateway {
                    "clients’ door"
                } @else {
                    tspan.waiting { (Grouped(waiting)) } " waiting"
                }
            }
            // In a place of its own: one sees at once that something could not be handled.
            g.dead visibility=[(dead == 0).then_some("hidden")] {
                rect x=(x + 22) y=(y + 62) width=(BOX.0 - 44) height="20" rx="10" {}
                text x=(middle) y=(y + 77) text-anchor="middle" {
                    tspan.count { (Grouped(dead)) } " dead letters"
                }
            }
        }
    }
}
