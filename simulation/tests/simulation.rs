//! The simulation itself: it repeats exactly, it finds the holes of earlier versions, and each bug that is
//! planted somewhere is in the gallery.
#![cfg(feature = "run")]

use std::{collections::BTreeSet, fs, path::Path};

use simulation::{
    commands::CONTENTION_SEEDS,
    contention,
    gallery::{BUGS, Found, HOLES, hunt},
    history::{Setup, run},
    plan::{Plan, Scale},
    redis::unmatched_patches,
    shrink::shrink,
};

/// The number of histories that are repeated.
const REPEATED: u64 = 50;

#[test]
fn a_history_repeats_byte_for_byte() {
    for seed in 1..=REPEATED {
        let plan = Plan::of_seed(seed, 20);
        let setup = Setup::default();
        assert_eq!(run(&plan, setup, None), run(&plan, setup, None), "seed {seed}");
    }
}

#[test]
fn a_story_changes_nothing() {
    for seed in 1..=5 {
        let plan = Plan::of_seed(seed, 20);
        let quiet = run(&plan, Setup::default(), None);
        let recorded = run(&plan, Setup { tells: true, bug: None }, None);
        assert_eq!(
            (quiet.digest, quiet.commands),
            (recorded.digest, recorded.commands),
            "seed {seed}"
        );
        assert!(recorded.story.len() > 100, "{:?}", recorded.story);
    }
}

#[test]
fn another_seed_is_another_history() {
    let digest = |seed| run(&Plan::of_seed(seed, 20), Setup::default(), None).digest;
    assert_ne!(digest(1), digest(2));
}

#[test]
fn the_holes_of_earlier_versions_stay_closed() {
    for hole in HOLES {
        for seed in 1..=hole.seeds {
            let failure = run(&hole.bias.plan(seed), Setup::default(), None).failure;
            assert_eq!(failure, None, "{}: seed {seed}", hole.what);
        }
        // The same histories find the hole when it is opened again.
        let bug = BUGS.iter().find(|bug| bug.name == hole.bug).expect("the bug is in the gallery");
        let found = (1..=hole.seeds).any(|seed| {
            let setup = Setup { tells: false, bug: Some(bug) };
            run(&hole.bias.plan(seed), setup, None).failure.is_some()
        });
        assert!(found, "{}: {} seeds do not find {:?}", hole.what, hole.seeds, hole.bug);
        assert_eq!(unmatched_patches(), Vec::<String>::new(), "{}", hole.bug);
    }
}

#[test]
fn a_failing_history_is_shrunk_and_still_fails() {
    let bug = BUGS.iter().find(|bug| bug.name == "a payment has no record").expect("a bug");
    let setup = Setup { tells: false, bug: Some(bug) };
    let plan = Plan::of_seed(1, 20);
    let shrunk = shrink(&plan, setup);
    assert!(shrunk.without_orders.len() >= 10, "{}", shrunk.describe());
    assert!(run(&shrunk, setup, None).failure.is_some(), "{}", shrunk.describe());
    assert_eq!(run(&shrunk, Setup::default(), None).failure, None, "{}", shrunk.describe());
}

#[test]
fn a_history_is_replayed_with_the_sizes_and_intervals_of_production() {
    let bug = BUGS.iter().find(|bug| bug.name == "a payment has no record").expect("a bug");
    let plan = Plan::of_seed(1, 20).at_true_scale();
    assert_eq!(plan.scale, Scale::production());
    assert_eq!(run(&plan, Setup::default(), None).failure, None);
    assert!(run(&plan, Setup { tells: false, bug: Some(bug) }, None).failure.is_some());
}

#[test]
fn no_instance_starves_under_constant_load() {
    for seed in 1..=CONTENTION_SEEDS {
        let end = run(&contention::plan(seed), Setup::default(), None);
        assert_eq!(end.failure, None, "seed {seed}");
    }
}

#[test]
fn a_bug_that_is_not_planted_is_reported() {
    static UNPLANTED: simulation::gallery::Bug = simulation::gallery::script(
        "a pattern that no script contains",
        &[("no script contains this", "")],
        1,
    );
    assert!(matches!(hunt(&UNPLANTED), Found::NotPlanted(_)));
}

#[test]
fn each_planted_bug_is_in_the_gallery_and_each_bug_is_planted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut planted = BTreeSet::new();
    let crates = ["common", "order_service", "inventory_service", "account_service", "msg_service"];
    for name in crates {
        collect(&root.join(name).join("src"), &mut planted);
    }
    let names = |in_rust: bool| {
        let bugs = BUGS.iter().filter(move |bug| bug.is_in_rust() == in_rust);
        bugs.map(|bug| bug.name.to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(planted, names(true));
    assert!(names(false).len() >= 10);
    assert!(BUGS.len() >= 30, "{}", BUGS.len());
}

/// Collects the names in `planted!("…")` below a folder.
fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            // A long condition may begin on the next line.
            for part in source.split("planted!(").skip(1) {
                let Some(name) = part.trim_start().strip_prefix('"') else { continue };
                names.insert(name.split('"').next().unwrap_or_default().to_owned());
            }
        }
    }
}
