//! Exhaustive crashes: in a history without other faults, one process crashes before or after one
//! command, for every command.

use std::collections::BTreeSet;

use crate::{
    history::{Setup, run},
    plan::{Course, CrashPoint, Plan, Scale, Scenario},
    runner::in_parallel,
};

/// The plan whose commands are the crash points of a course.
pub fn plan(course: Course, orders: usize) -> Plan {
    Plan {
        scenario: Scenario::Only(course),
        isolated: false,
        instances: 1,
        answers_acl: false,
        scale: Scale::quick(),
        faults: BTreeSet::new(),
        millis: 600,
        crash_at: Some(CrashPoint { command: 0, after: false }),
        ..Plan::of_seed(1, orders)
    }
}

/// Crashes at each point of a course; the number of points, and the failures.
pub fn exhaust(
    course: Course,
    orders: usize,
    step: usize,
    threads: usize,
    setup: Setup,
) -> (usize, Vec<(CrashPoint, String)>) {
    let plan = plan(course, orders);
    let commands = run(&plan, setup, None).commands;
    // Number 0 stands for no crash.
    let points = (1..=commands).step_by(step);
    let points =
        points.flat_map(|command| [false, true].map(|after| CrashPoint { command, after }));
    let (mut number, mut failures) = (0, Vec::new());
    let crash = |point: &CrashPoint| {
        run(&Plan { crash_at: Some(*point), ..plan.clone() }, setup, None).failure
    };
    in_parallel(threads, points, crash, |point, failure| {
        number += 1;
        failures.extend(failure.map(|failure| (point, failure)));
        setup.bug.is_none() || failures.is_empty()
    });
    (number, failures)
}
