//! The picture of the flow: the services, and the streams between them as arrows.

use common::contract::streams::topics;
use maud::{Markup, html};

use super::arrows::{Arrow, Party, Weight, dead_letters, standing};
use crate::{
    upstream::flow::Flow,
    web::format::{self, Grouped},
};

const GATEWAY: Party = Party::Gateway;
const ORDER: Party = Party::Owner(topics::ORDER);
const INVENTORY: Party = Party::Owner(topics::INVENTORY);
const ACCOUNT: Party = Party::Owner(topics::ACCOUNT);
const MESSAGE: Party = Party::Owner(topics::MESSAGE);

/// The size of the box of a service.
const BOX_SIZE: (i32, i32) = (180, 84);

/// The left upper corner of each service's box.
const BOX_POSITIONS: [(Party, i32, i32); 5] = [
    (GATEWAY, 20, 244),
    (ORDER, 410, 26),
    (INVENTORY, 410, 462),
    (ACCOUNT, 790, 244),
    (MESSAGE, 1170, 244),
];

/// The course of an arrow: its path, the position and direction of its end, and the position of its label.
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

/// Placed by hand, so that no label covers a line.
const COURSES: [Course; 13] = [
    course(
        GATEWAY,
        INVENTORY,
        "M130 328C130 466 250 520 396 520",
        (406, 520, 0),
        (172, 405, "start"),
    ),
    course(GATEWAY, ACCOUNT, "M200 286H776", (786, 286, 0), (212, 258, "start")),
    course(
        GATEWAY,
        MESSAGE,
        "M50 328C50 726 1270 726 1270 339",
        (1270, 331, -90),
        (650, 653, "middle"),
    ),
    course(ORDER, INVENTORY, "M470 110V451", (470, 459, 90), (458, 179, "end")),
    course(ORDER, ACCOUNT, "M590 68L892 237", (900, 241, 29), (770, 121, "start")),
    course(ORDER, MESSAGE, "M590 44C900 26 1260 76 1260 233", (1260, 241, 90), (950, 20, "start")),
    course(INVENTORY, ORDER, "M530 462V121", (530, 113, -90), (542, 239, "start")),
    course(
        INVENTORY,
        INVENTORY,
        "M446 462C446 420 424 420 424 451",
        (424, 459, 90),
        (412, 433, "end"),
    ),
    course(INVENTORY, ACCOUNT, "M580 462L812 335", (820, 331, -29), (700, 364, "end")),
    course(
        INVENTORY,
        MESSAGE,
        "M590 530C900 542 1240 486 1240 339",
        (1240, 331, -90),
        (800, 552, "start"),
    ),
    course(ACCOUNT, ORDER, "M820 244L588 117", (580, 113, 209), (690, 193, "end")),
    course(ACCOUNT, INVENTORY, "M900 328L602 500", (594, 506, 150), (766, 420, "start")),
    course(ACCOUNT, MESSAGE, "M970 286H1156", (1166, 286, 0), (1068, 244, "middle")),
];

/// The diagram. The table below it has the same data.
pub(super) fn picture(flow: &Flow, arrows: &[Arrow]) -> Markup {
    html! {
        svg.flow-picture #flow-picture viewBox="0 0 1370 684" role="img"
            aria-labelledby="flow-picture-title" {
            title #flow-picture-title {
                "The services and the streams between them; the table below has the numbers"
            }
            g.arrow.http {
                path.line d="M140 244C170 140 260 68 396 68" {}
                (head((406, 68, 0)))
                text x="206" y="113" text-anchor="end" { "orders (HTTP)" }
            }
            @for course in COURSES {
                @if let Some(arrow) = arrows.iter().find(|it| (it.from, it.to) == (course.from, course.to)) {
                    (drawn(&course, arrow))
                }
            }
            @for (party, x, y) in BOX_POSITIONS { (service(flow, party, (x, y), arrows)) }
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
    let middle = x + BOX_SIZE.0 / 2;
    let name = party.service();
    let (level, waiting) = standing(arrows, party);
    let dead = match party {
        Party::Gateway => 0,
        Party::Owner(topic) => dead_letters(flow, topic),
    };
    html! {
        g.service data-service=(name) data-level=(level) {
            rect x=(x) y=(y) width=(BOX_SIZE.0) height=(BOX_SIZE.1) rx="10" {}
            text.service-name x=(middle) y=(y + 34) text-anchor="middle" { (name) }
            text.service-state x=(middle) y=(y + 56) text-anchor="middle" {
                @if party == Party::Gateway {
                    "public API"
                } @else {
                    tspan.waiting { (Grouped(waiting)) } " waiting"
                }
            }
            // At a position of its own, so that dead letters are seen at once.
            g.dead visibility=[(dead == 0).then_some("hidden")] {
                rect x=(x + 22) y=(y + 62) width=(BOX_SIZE.0 - 44) height="20" rx="10" {}
                text x=(middle) y=(y + 77) text-anchor="middle" {
                    tspan.count { (format::counted(dead, "dead letter")) }
                }
            }
        }
    }
}
