//! The commands of the command line. Each prints what it finds, and returns whether all is well.
#![expect(clippy::print_stdout, reason = "the results of a command line tool")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    contention, coverage,
    crash_points::{self, exhaust},
    gallery::{self, BUGS, Bug, Found},
    history::{End, Setup, run},
    plan::{Course, CrashPoint, Fault, Plan},
    runner::in_parallel,
    shrink::shrink,
    story,
};

/// The number of failures that are described; the rest is counted.
const FAILURES_SHOWN: usize = 10;
/// The distance of the new seeds of two runs that begin a second apart.
const SEEDS_PER_SECOND: u64 = 1 << 20;
/// The number of histories under constant load.
pub const CONTENTION_SEEDS: u64 = 5;
/// The longest description of a failure in a table.
const FAILURE_WIDTH: usize = 90;

/// The histories of one call.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The number of seeds.
    pub count: u64,
    /// The number of orders of each history.
    pub orders: usize,
    /// Whether each history runs twice.
    pub twice: bool,
}

/// Runs the histories of many seeds; by default of new ones.
pub fn seeds(from: Option<u64>, share: Share, threads: usize) -> bool {
    let began = Instant::now();
    let from = from.unwrap_or_else(new_seed);
    println!("seeds from {from}, {} of them, {} orders each", share.count, share.orders);
    let (mut failures, mut commands, mut elapsed) = (0_usize, 0, Duration::ZERO);
    let mut faults: BTreeMap<Fault, u64> = BTreeMap::new();
    let compute = |seed: &u64| {
        let plan = Plan::of_seed(*seed, share.orders);
        let end = run(&plan, Setup::default(), None);
        let differs = share.twice && run(&plan, Setup::default(), None) != end;
        (end, differs)
    };
    in_parallel(threads, from..from + share.count, compute, |seed, (end, differs)| {
        let End { failure, .. } = &end;
        let failure = match differs {
            true => Some("two runs differ".to_owned()),
            false => failure.clone(),
        };
        if let Some(failure) = failure {
            failures += 1;
            if failures <= FAILURES_SHOWN {
                describe(seed, share.orders, &failure);
            }
        }
        commands += end.commands;
        elapsed += end.elapsed;
        for (fault, times) in end.faults {
            *faults.entry(fault).or_default() += times;
        }
        true
    });
    let took = began.elapsed().as_secs_f64();
    let faults: Vec<String> =
        faults.iter().map(|(fault, times)| format!("{fault} {times}")).collect();
    println!(
        "{} histories, {failures} failed, {took:.1} s, {:.1} per second; {commands} commands, {} s of \
         simulated time; faults: {}",
        share.count,
        share.count as f64 / took,
        elapsed.as_secs(),
        faults.join(", ")
    );
    failures == 0
}

/// Describes a failing seed, and whether it fails at true scale as well.
fn describe(seed: u64, orders: usize, failure: &str) {
    println!("seed {seed}: {failure}");
    let plan = Plan::of_seed(seed, orders).at_true_scale();
    match run(&plan, Setup::default(), None).failure {
        Some(failure) => println!("  also with the sizes and intervals of production: {failure}"),
        None => println!("  only with the sizes and intervals of this seed"),
    }
    println!("  cargo simulate replay {seed} --orders {orders} --shrink");
}

/// The first seed of a run without a given one.
#[expect(clippy::disallowed_methods, reason = "each run has new seeds, and prints them")]
fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() * SEEDS_PER_SECOND)
}

/// The form of a story.
#[derive(Clone, Copy, Debug)]
pub struct Telling {
    /// Whether what the failure does not need is taken away.
    pub shrink: bool,
    /// Whether sizes and intervals are those of production.
    pub true_scale: bool,
    /// Whether all commands are shown.
    pub all: bool,
    /// Whether the named bug only chooses the histories.
    pub without: bool,
}

/// Tells the story of one seed.
pub fn replay(seed: u64, orders: usize, telling: Telling, bug: Option<&str>) -> bool {
    let known = |name: &str| BUGS.iter().find(|it| it.name == name);
    let planted: Option<&'static Bug> = match bug.map(known) {
        Some(None) => {
            println!("there is no such bug; `cargo gallery` lists all of them");
            return false;
        }
        planted => planted.flatten(),
    };
    let setup = Setup { tells: false, bug: planted.filter(|_| !telling.without) };
    let mut plan = planted.map_or_else(|| Plan::of_seed(seed, orders), |bug| bug.bias.plan(seed));
    if telling.true_scale {
        plan = plan.at_true_scale();
    }
    if telling.shrink {
        plan = shrink(&plan, setup);
    }
    tell(&plan, setup, telling.all)
}

fn tell(plan: &Plan, setup: Setup, all: bool) -> bool {
    println!("{}", plan.describe());
    let end = run(plan, Setup { tells: true, ..setup }, None);
    for line in end.story.iter().filter(|line| all || story::is_telling(line)) {
        println!("{line}");
    }
    match &end.failure {
        Some(failure) => println!("FAILED: {failure}"),
        None => println!("all is well after {:.3} s", end.elapsed.as_secs_f64()),
    }
    end.failure.is_none()
}

/// The crash points of one call.
#[derive(Clone, Copy, Debug)]
pub struct Points {
    /// The only course, if it is one.
    pub course: Option<Course>,
    /// The seed of the histories; by default a new one.
    pub seed: Option<u64>,
    /// The number of orders of each history.
    pub orders: usize,
    /// The distance of the commands at which a process crashes.
    pub step: usize,
}

/// Lets a process crash at each command of quiet histories: before it, after it, and after everything
/// that was written with it.
pub fn crash_points(points: Points, threads: usize) -> bool {
    let Points { course, seed, orders, step } = points;
    let mut is_well = true;
    let seed = seed.unwrap_or_else(new_seed);
    // Each new seed begins at another command.
    let first = 1 + seed / SEEDS_PER_SECOND % step as u64;
    println!("seed {seed}: each {step}. command from number {first}");
    for course in Course::ALL.into_iter().filter(|it| course.is_none_or(|only| only == *it)) {
        let began = Instant::now();
        let plan = crash_points::plan(course, seed, orders);
        let (points, failures) = exhaust(&plan, (first, step), threads, Setup::default());
        let took = began.elapsed().as_secs_f64();
        println!("{course}: {points} crash points, {} failed, {took:.1} s", failures.len());
        for (point, failure) in failures.iter().take(FAILURES_SHOWN) {
            println!("  {point:?}: {failure}");
        }
        is_well &= failures.is_empty();
    }
    is_well
}

/// Tells the story of one crash.
pub fn crash_story(course: Course, seed: u64, orders: usize, point: CrashPoint) -> bool {
    let plan = Plan { crash_at: Some(point), ..crash_points::plan(course, seed, orders) };
    tell(&plan, Setup::default(), false)
}

/// Plants bugs and finds each of them.
pub fn gallery(name: &str, threads: usize) -> bool {
    let (began, mut survivors) = (Instant::now(), 0);
    let bugs: Vec<&'static Bug> = BUGS.iter().filter(|bug| bug.name.contains(name)).collect();
    let hunt = |bug: &&'static Bug| (gallery::hunt(bug), Instant::now());
    in_parallel(threads, bugs.iter().copied(), hunt, |bug, (found, _)| {
        match found {
            Found::By { run, failure } => {
                let failure: String = failure.chars().take(FAILURE_WIDTH).collect();
                println!("{:<62} {run:>3} of {:>3}  {failure}", bug.name, bug.budget);
            }
            Found::AlsoWithout { run, failure } => {
                survivors += 1;
                println!("{:<62} history {run} fails WITHOUT it: {failure}", bug.name);
            }
            Found::Never => {
                survivors += 1;
                println!("{:<62} SURVIVES {} histories", bug.name, bug.budget);
            }
            Found::NotPlanted(pattern) => {
                survivors += 1;
                println!("{:<62} IS NOT PLANTED: no script contains {pattern:?}", bug.name);
            }
        }
        true
    });
    let took = began.elapsed().as_secs_f64();
    println!("{} planted bugs, {survivors} survive, {took:.1} s", bugs.len());
    survivors == 0
}

/// The number of pairs that may remain without a decision.
const UNMET_MAX: usize = 15;

/// Lists the pairs of state and event that no decision met. They are few.
pub fn coverage(count: u64, threads: usize) -> bool {
    let report = coverage::measure(count, threads);
    for ((topic, state, event), why) in &report.rare {
        println!("not met: {topic:<10} {state:<18} {event:<28} {why}");
    }
    for (topic, state, event) in &report.unmet {
        println!("NOT MET: {topic:<10} {state:<18} {event}");
    }
    println!(
        "{} pairs of state and event were met, {} were not (at most {UNMET_MAX} may be); {} more would \
         need a loss of data",
        report.met,
        report.unmet.len(),
        report.rare.len()
    );
    report.unmet.len() <= UNMET_MAX
}

/// Runs several instances under constant load, and checks that none starves.
pub fn contention() -> bool {
    let mut is_well = true;
    for seed in 1..=CONTENTION_SEEDS {
        let began = Instant::now();
        let End { failure, commands, tries, .. } =
            run(&contention::plan(seed), Setup::default(), None);
        let took = began.elapsed().as_secs_f64();
        let result = failure.clone().unwrap_or_else(|| "all is well".to_owned());
        println!(
            "seed {seed}: {commands} commands, at most {tries} decisions about one input, {took:.1} s: {result}"
        );
        is_well &= failure.is_none();
    }
    is_well
}
