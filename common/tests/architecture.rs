//! The structure of the code: the imports between the rooms of `common`, and the purity of pure
//! files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms and the single files below them, from the bottom up: each imports only those before
/// it.
const ROOMS: [&str; 15] = [
    "clock",
    "config_error",
    "trace_context",
    "pem",
    "secret",
    "text",
    "logs",
    "schema",
    "contract",
    "decision",
    "connection",
    "http",
    "engine",
    "consumer",
    "process",
];

/// The rooms of the engine, which must not name a topic, stream or entity of the shop: a service
/// declares those as values.
const ENGINE: [&str; 5] = ["schema", "decision", "connection", "engine", "consumer"];

/// The names that code of those rooms must not contain.
const SHOP: [&str; 9] = [
    "contract",
    "OrderId",
    "{order}",
    "{inventory}",
    "{account}",
    "order_service",
    "inventory_service",
    "account_service",
    "msg_service",
];

/// The files with decisions. They get the time as an argument, and others perform their effects.
const PURE: [&str; 28] = [
    "common/src/decision/mod.rs",
    "common/src/decision/changes.rs",
    "common/src/decision/reads.rs",
    "common/src/decision/stored.rs",
    "common/src/decision/world.rs",
    "common/src/decision/in_memory.rs",
    "common/src/contract/backorders.rs",
    "common/src/contract/entities.rs",
    "common/src/contract/messages.rs",
    "common/src/contract/order.rs",
    "common/src/contract/streams.rs",
    "common/src/contract/events.rs",
    "order_service/src/order.rs",
    "order_service/src/order/input.rs",
    "order_service/src/order/overdue.rs",
    "order_service/src/order/results.rs",
    "order_service/src/history.rs",
    "order_service/src/progress.rs",
    "inventory_service/src/stock.rs",
    "inventory_service/src/unit_of_work.rs",
    "inventory_service/src/backorders/fill.rs",
    "inventory_service/src/backorders/queue.rs",
    "inventory_service/src/reservation/mod.rs",
    "inventory_service/src/reservation/reserve.rs",
    "inventory_service/src/reservation/release.rs",
    "inventory_service/src/reservation/ship.rs",
    "account_service/src/wallet.rs",
    "msg_service/src/notification.rs",
];

/// The names that pure files must not contain.
const IMPURE: [&str; 8] =
    ["async ", "tokio::", "redis::", "axum::", "SystemTime", "Instant", "fastrand::", "std::net"];

const SERVICES: [&str; 6] = [
    "common",
    "gateway_api",
    "order_service",
    "inventory_service",
    "account_service",
    "msg_service",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust files below a folder, by their paths from the root.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let path = folder.join(entry.expect("an entry").file_name());
        if root().join(&path).is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(root().join(&path)).expect("a source");
            found.push((path, text));
        }
    }
    found
}

/// The first names behind `crate::`, including those of a group in braces. Comments are skipped.
fn imported(source: &str) -> BTreeSet<String> {
    let code: Vec<&str> = source.lines().filter(|it| !it.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => names.extend(first_name(after)),
            Some(group) => {
                let mut depth = 0;
                let mut expects_name = true;
                for (place, character) in group.char_indices() {
                    match character {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expects_name = true,
                        _ if depth == 0 && expects_name && character.is_alphabetic() => {
                            names.extend(first_name(&group[place..]));
                            expects_name = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn names_behind_crate_are_found_also_in_groups() {
    let source =
        "use crate::{\n  a::{b, c},\n  d,\n  e::F,\n};\n// crate::no\nfn f() { crate::g::h() }";
    assert_eq!(Vec::from_iter(imported(source)), ["a", "d", "e", "g"]);
}

#[test]
fn a_room_of_common_imports_only_rooms_below_it() {
    let rank = |name: &str| ROOMS.iter().position(|room| *room == name);
    for (path, source) in sources(Path::new("common/src")) {
        let room = path.components().nth(2).expect("a room").as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs");
        if room == "lib" {
            continue;
        }
        let own = rank(room).unwrap_or_else(|| {
            panic!("{}: put it into a room, or name it in ROOMS of this test", path.display())
        });
        for name in imported(&source) {
            let Some(other) = rank(&name) else { continue };
            assert!(
                other <= own,
                "{}: {room} imports {name}, which is above it; move what it needs down, or hand it over \
                 as an argument",
                path.display()
            );
        }
    }
}

#[test]
fn files_that_decide_contain_no_io_and_no_clock() {
    for path in PURE {
        let source = fs::read_to_string(root().join(path)).unwrap_or_else(|error| {
            panic!("{path}: {error}; name its successor in PURE of this test")
        });
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let found = IMPURE.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{path}: {line:?} is not pure; return what should happen instead"
            );
        }
    }
}

#[test]
fn only_the_clock_reads_the_time_of_day() {
    for service in SERVICES {
        for (path, source) in sources(&Path::new(service).join("src")) {
            let is_clock = path.ends_with("common/src/clock.rs");
            assert!(
                is_clock || !source.contains("SystemTime::now"),
                "{}: ask common::clock for the time",
                path.display()
            );
        }
    }
}

#[test]
fn the_rooms_of_the_engine_know_nothing_of_the_shop() {
    for (path, source) in sources(Path::new("common/src")) {
        let room = path.components().nth(2).expect("a room").as_os_str().to_str().unwrap();
        if !ENGINE.contains(&room.trim_end_matches(".rs")) {
            continue;
        }
        // Tests may use examples from the shop.
        let code = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let found = SHOP.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{}: {found:?} belongs to the shop; take it as a value, as schema::stream has it: {line}",
                path.display()
            );
        }
    }
}
