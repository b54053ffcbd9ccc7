//! Shrinks the plan of a failing history: takes away what the failure does not need.

use std::collections::BTreeSet;

use crate::{
    history::{End, Setup, run},
    plan::{Fault, Plan},
};

/// The number of histories that a shrinker runs at most.
const RUNS_MAX: u32 = 300;

/// The number of words by which failures are compared.
const WORDS: usize = 6;

/// Shrinks a plan whose history fails. The result fails in the same way.
pub fn shrink(plan: &Plan, setup: Setup) -> Plan {
    let End { failure, ordinals, .. } = run(plan, Setup { tells: false, ..setup }, None);
    let Some(failure) = failure else { return plan.clone() };
    let kind = kind(&failure);
    let mut shrinker = Shrinker { plan: plan.clone(), setup, kind, runs: 0, ordinals };
    shrinker.take_away_kinds();
    shrinker.simplify();
    shrinker.take_away_orders();
    shrinker.take_away_faults();
    shrinker.plan
}

/// The first words of a failure, without ids and numbers.
fn kind(failure: &str) -> Vec<String> {
    let is_plain = |word: &&str| !word.contains(|it: char| it.is_ascii_digit());
    failure.split_whitespace().filter(is_plain).take(WORDS).map(str::to_owned).collect()
}

struct Shrinker {
    plan: Plan,
    setup: Setup,
    /// The kind of the failure.
    kind: Vec<String>,
    runs: u32,
    /// The number of faults of the last failing history.
    ordinals: u64,
}

impl Shrinker {
    fn fails(&mut self, plan: &Plan) -> bool {
        self.runs += 1;
        let end = run(plan, Setup { tells: false, ..self.setup }, None);
        let is_same = end.failure.is_some_and(|failure| kind(&failure) == self.kind);
        if is_same {
            self.ordinals = end.ordinals;
        }
        is_same
    }

    /// Keeps a smaller plan if it still fails.
    fn attempt(&mut self, plan: Plan) -> bool {
        let keeps = self.runs < RUNS_MAX && self.fails(&plan);
        if keeps {
            self.plan = plan;
        }
        keeps
    }

    fn take_away_kinds(&mut self) {
        for fault in self.plan.faults.clone() {
            let mut faults = self.plan.faults.clone();
            faults.remove(&fault);
            self.attempt(Plan { faults, ..self.plan.clone() });
        }
    }

    fn simplify(&mut self) {
        self.attempt(Plan { instances: 1, ..self.plan.clone() });
        self.attempt(Plan { isolated: false, loses_at: None, ..self.plan.clone() });
        if self.plan.faults.iter().all(|fault| *fault == Fault::ClocksApart) {
            self.attempt(Plan { faults: BTreeSet::new(), ..self.plan.clone() });
        }
    }

    fn take_away_orders(&mut self) {
        let orders = (0..self.plan.orders).collect();
        self.take_away(orders, |plan, gone| plan.without_orders.extend(gone));
    }

    fn take_away_faults(&mut self) {
        let faults: Vec<u64> = (0..self.ordinals).collect();
        self.take_away(faults, |plan, gone| plan.without.extend(gone));
    }

    /// Takes away parts, half of them at once, then smaller runs of them.
    fn take_away<T: Copy>(&mut self, parts: Vec<T>, without: impl Fn(&mut Plan, &[T])) {
        let mut size = parts.len().div_ceil(2);
        let mut left = parts;
        while size > 0 && !left.is_empty() {
            let mut kept = Vec::new();
            for run in left.chunks(size) {
                let mut plan = self.plan.clone();
                without(&mut plan, run);
                if !self.attempt(plan) {
                    kept.extend_from_slice(run);
                }
            }
            left = kept;
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}
