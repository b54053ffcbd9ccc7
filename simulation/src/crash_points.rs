//! Exhaustive crashes: in a history without other faults, one process crashes before or after one
//! command, for every command.

use std::collections::BTreeSet;

use crate::{
    history::{End, Setup, run},
    plan::{Course, CrashPoint, Moment, Plan, Scale, Scenario},
    runner::in_parallel,
};

/// The plan whose commands are the crash points of a course.
pub fn plan(course: Course, seed: u64, orders: usize) -> Plan {
    Plan {
        scenario: Scenario::Only(course),
        isolated: false,
        instances: 1,
        answers_acl: false,
        scale: Scale::quick(),
        faults: BTreeSet::new(),
        millis: 600,
        ..Plan::of_seed(seed, orders)
    }
}

/// Crashes at each `step`-th command of a history, from this one on; the number of points, and the
/// failures. A failure without a point is one of the history without a crash.
pub fn exhaust(
    plan: &Plan,
    (first, step): (u64, usize),
    threads: usize,
    setup: Setup,
) -> (usize, Vec<(Option<CrashPoint>, String)>) {
    let End { commands, failure, .. } = run(plan, setup, None);
    if let Some(failure) = failure {
        return (0, vec![(None, failure)]);
    }
    let points = (first..=commands).step_by(step);
    let points =
        points.flat_map(|command| Moment::ALL.map(|moment| CrashPoint { command, moment }));
    let (mut number, mut failures) = (0, Vec::new());
    let crash = |point: &CrashPoint| {
        run(&Plan { crash_at: Some(*point), ..plan.clone() }, setup, None).failure
    };
    in_parallel(threads, points, crash, |point, failure| {
        number += 1;
        failures.extend(failure.map(|failure| (Some(point), failure)));
        setup.bug.is_none() || failures.is_empty()
    });
    (number, failures)
}
