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
const PURE: [&str; 29] = [
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
    "common/src/contract/order_routes.rs",
    "common/src/contract/route.rs",
    "common/src/contract/streams.rs",
    "common/src/contract/events.rs",
    "order_service/src/order.rs",
    "order_service/src/order/input.rs",
    "order_service/src/order/overdue.rs",
    "order_service/src/order/results.rs",
    "order_service/src/history.rs",
    "inventory_service/src/stock.rs",
    "inventory_service/src/unit_of_work.rs",
    "inventory_service/src/backorders/fill.rs",
    "inventory_service/src/backorders/queue.rs",
    "inventory_service/src/reservation/entity.rs",
    "inventory_service/src/reservation/release.rs",
    "inventory_service/src/reservation/reserve.rs",
    "inventory_service/src/reservation/ship.rs",
    "account_service/src/wallet.rs",
    "msg_service/src/notification.rs",
];

/// The names that pure files must not contain.
const IMPURE: [&str; 11] = [
    "async ",
    "tokio::",
    "redis::",
    "axum::",
    "SystemTime",
    "Instant",
    "fastrand::",
    "std::net",
    "http::",
    "connection::",
    "engine::",
];

const SERVICES: [&str; 6] = [
    "common",
    "gateway_api",
    "order_service",
    "inventory_service",
    "account_service",
    "msg_service",
];

/// The crates whose files must not import each other in a circle.
const WITHOUT_CIRCLES: [&str; 6] = [
    "common/src",
    "order_service/src",
    "inventory_service/src",
    "account_service/src",
    "msg_service/src",
    "tools/orderctl/src",
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

/// The paths of the `use` declarations of a file outside its tests, without braces.
fn used_paths(source: &str) -> Vec<String> {
    let code: Vec<&str> = source
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join(" ");
    let declarations = code.split("use ").skip(1).filter_map(|it| it.split_once(';'));
    declarations.flat_map(|(tree, _)| expanded(tree.trim())).collect()
}

/// All paths of a tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((prefix, group)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for character in group.chars() {
        match character {
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(character == '{') - i32::from(character == '}');
                parts.last_mut().expect("a part").push(character);
            }
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    let paths = parts.flat_map(|part| expanded(part.trim()));
    paths.map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// The name of a file as a path of modules from the root of its crate.
fn module(path: &Path, folder: &str) -> Vec<String> {
    let path = path.strip_prefix(folder).expect("a file of the crate").with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| !matches!(name.as_str(), "mod" | "lib" | "main")).collect()
}

#[test]
fn files_of_the_services_do_not_import_each_other_in_a_circle() {
    for folder in WITHOUT_CIRCLES {
        let files = sources(Path::new(folder));
        let files = files.iter().filter(|(path, _)| !path.iter().any(|name| name == "tests"));
        let files: Vec<_> = files.map(|(path, text)| (module(path, folder), text)).collect();
        let mut imports: BTreeSet<(Vec<String>, Vec<String>)> = BTreeSet::new();
        for (own, text) in &files {
            for used in used_paths(text) {
                let names: Vec<String> = used.split("::").map(str::to_owned).collect();
                let mut full = match names[0].as_str() {
                    "crate" => names[1..].to_vec(),
                    "self" => [own, &names[1..]].concat(),
                    "super" => [&own[..own.len().saturating_sub(1)], &names[1..]].concat(),
                    _ => continue,
                };
                while !full.is_empty() && !files.iter().any(|(name, _)| *name == full) {
                    full.pop();
                }
                if full != *own {
                    imports.insert((own.clone(), full));
                }
            }
        }
        // Files that only others import, or that import no other, are in no circle.
        loop {
            let before = imports.len();
            let importers: BTreeSet<Vec<String>> = imports.iter().map(|it| it.0.clone()).collect();
            let used: BTreeSet<Vec<String>> = imports.iter().map(|it| it.1.clone()).collect();
            imports.retain(|it| importers.contains(&it.1) && used.contains(&it.0));
            if imports.len() == before {
                break;
            }
        }
        let circle: Vec<String> = imports
            .iter()
            .map(|(file, used)| format!("{} -> {}", file.join("::"), used.join("::")))
            .collect();
        assert!(
            circle.is_empty(),
            "{folder}: these files import each other in a circle; move what both need into a file below \
             them, or hand it over as an argument: {circle:#?}"
        );
    }
}

#[test]
fn trees_of_imports_are_expanded() {
    let source = "use crate::{\n  a::{b, c},\n  d,\n};\n// use crate::no;\nuse super::e;\n";
    assert_eq!(used_paths(source), ["crate::a::b", "crate::a::c", "crate::d", "super::e"]);
}
