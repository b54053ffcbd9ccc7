//! One history: the plan of a seed from its beginning to the check of its end.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use common::simulation::{plant, process, set_environment};
use tokio::{
    sync::mpsc,
    task::{LocalSet, spawn_local},
    time::sleep,
};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    clients::Clients,
    coverage::Coverage,
    gallery::Bug,
    network::{self, Outside},
    operator, oracle,
    plan::{Fault, Plan},
    processes::Processes,
    redis::patch_scripts,
    story::LogLines,
    world::World,
};

/// The interval between two looks whether all work has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The number of looks in a row that find no work before the end is checked.
const QUIET_LOOKS: u32 = 3;
/// The time within which each service notices a loss of data, or of its consumer. A failure counts if it is
/// still there after this time.
const LOSS_NOTICED: Duration = Duration::from_secs(10);
/// The time after the last fault within which all work ends, as a multiple of the longest interval of
/// the services.
const PATIENCE: u32 = 40;

/// The end of a history.
#[derive(Clone, PartialEq, Debug)]
pub struct End {
    /// The digest of all bytes on all connections, and their times.
    pub digest: u64,
    /// The number of commands.
    pub commands: u64,
    /// The number of faults that were due, those that were left out included.
    pub ordinals: u64,
    /// The virtual time of the history.
    pub elapsed: Duration,
    /// The number of faults of each kind.
    pub faults: BTreeMap<Fault, u64>,
    /// The largest number of decisions about one input, rounded up to a bucket of the histogram.
    pub tries: u64,
    /// The failure, if there is one.
    pub failure: Option<String>,
    /// The story, if it was recorded.
    pub story: Vec<String>,
}

/// How a history runs, besides its plan.
#[derive(Clone, Copy, Default, Debug)]
pub struct Setup {
    /// Whether it records a story.
    pub tells: bool,
    /// The bug that is planted.
    pub bug: Option<&'static Bug>,
}

/// Runs a history.
pub fn run(plan: &Plan, setup: Setup, coverage: Option<Rc<Coverage>>) -> End {
    fastrand::seed(plan.seed);
    plant(setup.bug.map_or("", |bug| bug.name));
    let patches = setup.bug.map_or(&[][..], |bug| bug.patches);
    patch_scripts(
        patches.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
    );
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    let local = LocalSet::new();
    let plan = plan.clone();
    let end = local.block_on(&runtime, async move {
        let (crashes, crashed) = mpsc::unbounded_channel();
        let world = Rc::new(World::new(plan, crashes, setup.tells));
        let _logs = setup.tells.then(|| tell_logs(&world));
        let (outside, dials) = Outside::new(Rc::clone(&world), coverage);
        set_environment(Some(outside));
        spawn_local(network::accept(Rc::clone(&world), dials));
        let processes = Processes::start(&world, crashed);
        let clients = Clients::start(&world, &processes);
        operator::start(&world, &processes);
        let failure = live(&world, &clients).await;
        let tries = processes.most_tries();
        let limit = world.plan.tries_max.filter(|limit| tries > *limit);
        let starved =
            limit.map(|limit| format!("an input was decided {tries} times; the limit is {limit}"));
        let failure = failure.or(starved);
        if let Some(failure) = &failure {
            world.tell("ORACLE", || failure.clone());
        }
        End {
            digest: world.digest_so_far(),
            commands: world.commands(),
            ordinals: world.ordinals(),
            elapsed: world.elapsed(),
            faults: world.faults.take(),
            tries,
            failure,
            story: world.take_story(),
        }
    });
    drop(local);
    drop(runtime);
    set_environment(None);
    end
}

/// Lives through a history; the failure at its end.
async fn live(world: &Rc<World>, clients: &Clients) -> Option<String> {
    sleep(Duration::from_millis(300 + world.plan.millis)).await;
    world.is_faulty.set(false);
    operator::recover(world);
    world.tell("operator", || "FAULTS STOP".to_owned());
    let scale = &world.plan.scale;
    let longest = scale.claim_idle_millis.max(scale.resend_after_millis).max(1_000);
    // Clocks that differ delay what is due.
    let longest = longest + 500;
    let patience = Duration::from_millis(longest) * PATIENCE;
    // A service notices a loss when its connections end, at the latest after their timeouts.
    let notice = if world.has_lost_data() { LOSS_NOTICED } else { Duration::ZERO };
    let earliest = world.elapsed() + notice;
    let deadline = earliest + patience + LOSS_NOTICED;
    let (mut quiet, mut is_confirmed) = (0, false);
    loop {
        sleep(LOOK_INTERVAL).await;
        if let Some(failure) = world.failure.borrow().clone() {
            return Some(failure);
        }
        let unfinished = oracle::unfinished(world);
        quiet = if unfinished.is_none() { quiet + 1 } else { 0 };
        if quiet >= QUIET_LOOKS && world.elapsed() >= earliest {
            match oracle::check(world, clients).await {
                // An instance may still notice what happened to its pending entries.
                Some(Some(_)) if !is_confirmed => {
                    is_confirmed = true;
                    sleep(LOSS_NOTICED).await;
                }
                Some(verdict) => return verdict,
                None => quiet = 0,
            }
        }
        if world.elapsed() > deadline {
            let unfinished = unfinished.unwrap_or_else(|| "events are under way".to_owned());
            return Some(format!("work does not end: {unfinished}"));
        }
    }
}

/// Adds log lines to the story until the guard is dropped.
fn tell_logs(world: &Rc<World>) -> tracing::subscriber::DefaultGuard {
    thread_local! {
        static TELLER: std::cell::RefCell<Option<Rc<World>>> = const { std::cell::RefCell::new(None) };
    }
    TELLER.set(Some(Rc::clone(world)));
    let layer = LogLines(|line| {
        if let Some(world) = TELLER.with_borrow(Clone::clone) {
            world.tell(&world.name(process()), || line);
        }
    });
    let filter = tracing_subscriber::filter::LevelFilter::INFO;
    tracing::subscriber::set_default(tracing_subscriber::registry().with(filter).with(layer))
}
