//! The structure of the code: the imports between the rooms of `common`, the purity of pure files, and
//! the picture in the README.

#[path = "architecture/imports.rs"]
mod imports;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::{
    contract::streams,
    schema::stream::{Stream, Writer},
};

use self::imports::{
    assert_no_circles, assert_rooms_import_only_lower_ones, files, imports, sources,
};

/// The rooms and the single files below them, from the bottom up: each imports only those before
/// it.
const ROOMS: [&str; 18] = [
    "simulation",
    "planted",
    "clock",
    "random",
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
const PURE: [&str; 41] = [
    "common/src/decision/mod.rs",
    "common/src/decision/changes.rs",
    "common/src/decision/error.rs",
    "common/src/decision/reads.rs",
    "common/src/decision/stored.rs",
    "common/src/decision/world.rs",
    "common/src/decision/in_memory.rs",
    "common/src/contract/backorders.rs",
    "common/src/contract/definitions.rs",
    "common/src/contract/entities.rs",
    "common/src/contract/excerpt.rs",
    "common/src/contract/keys.rs",
    "common/src/contract/messages.rs",
    "common/src/contract/order.rs",
    "common/src/contract/order_routes.rs",
    "common/src/contract/order_status.rs",
    "common/src/contract/route.rs",
    "common/src/contract/streams.rs",
    "common/src/contract/events.rs",
    "common/src/schema/mod.rs",
    "common/src/schema/entity.rs",
    "common/src/schema/entry_id.rs",
    "common/src/schema/json.rs",
    "common/src/schema/keys.rs",
    "common/src/schema/stored_form.rs",
    "common/src/schema/stream.rs",
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
const IMPURE: [&str; 16] = [
    "async ",
    "tokio::",
    "redis::",
    "axum::",
    "SystemTime",
    "now_millis",
    "Instant",
    "fastrand::",
    "new_v4",
    "new_id",
    "std::env",
    "std::fs",
    "std::net",
    "http::",
    "connection::",
    "engine::",
];

const CRATES: [&str; 6] = [
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

/// The files of inventory_service from the bottom up: each imports only those before it.
const INVENTORY: [&str; 10] = [
    "reservation/entity",
    "unit_of_work",
    "backorders/queue",
    "backorders/fill",
    "backorders",
    "reservation/release",
    "reservation/reserve",
    "reservation/ship",
    "reservation",
    "stock",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_room_of_common_imports_only_rooms_below_it() {
    assert_rooms_import_only_lower_ones(&ROOMS, &files("common/src"));
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
                "{path}: {line:?} is not pure; return a description of the effect instead"
            );
        }
    }
}

#[test]
fn only_the_clock_reads_the_time_of_day() {
    for service in CRATES {
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
fn only_the_simulation_builds_the_seam_into_common() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    let members = workspace.split("members = [").nth(1).and_then(|it| it.split(']').next());
    let members = members.expect("members").split('"').skip(1).step_by(2);
    let enables = |member: &&str| {
        let manifest = root().join(member).join("Cargo.toml");
        let text = fs::read_to_string(manifest).expect("a manifest");
        let is_common = *member == "common";
        text.contains("common/simulation") || !is_common && text.contains("\"simulation\"]")
    };
    assert_eq!(members.filter(enables).collect::<Vec<_>>(), ["simulation"]);
    assert!(!workspace.contains("common/simulation"), "a default of the workspace");
}

#[test]
fn the_rooms_of_the_engine_know_nothing_of_the_shop() {
    for (module, file) in files("common/src") {
        let forbidden = match module.first().map(String::as_str) {
            Some(room) if ENGINE.contains(&room) => &SHOP[..],
            // It names the secret that the gateway and order_service share.
            Some("process") => &SHOP[..1],
            _ => continue,
        };
        for line in file.code.lines() {
            let found = forbidden.iter().find(|word| line.contains(**word));
            assert!(
                found.is_none(),
                "{}: {found:?} belongs to the shop; take it as a value, as schema::stream has it: {line}",
                file.path.display()
            );
        }
    }
}

#[test]
fn a_file_of_inventory_service_imports_only_files_below_it() {
    let files = files("inventory_service/src");
    let rank = |module: &[String]| INVENTORY.iter().position(|name| *name == module.join("/"));
    for (module, file) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let own = rank(module).unwrap_or_else(|| {
            panic!("{}: name it in INVENTORY of this test", file.path.display())
        });
        for (imported, names) in imports(module, &files) {
            assert!(
                rank(&imported).is_some_and(|other| other < own),
                "{} imports {names:?} from {}, which is above it; move what it needs down, or hand it \
                 over as an argument",
                file.path.display(),
                imported.join("/")
            );
        }
        // Methods are called without an import: shared ones belong to the file of their type.
        let has_type = file.code.contains("struct UnitOfWork");
        for methods in file.code.split("impl UnitOfWork").skip(1).filter(|_| !has_type) {
            let methods = methods.split("\n}").next().unwrap_or_default();
            let is_shared = ["pub ", "pub("].iter().any(|it| methods.contains(it));
            assert!(!is_shared, "{}: make it a function", file.path.display());
        }
    }
}

#[test]
fn files_of_the_services_do_not_import_each_other_in_a_circle() {
    for folder in WITHOUT_CIRCLES {
        assert_no_circles(&files(folder));
    }
}

/// An arrow of the README's picture: from a service, to a service, with its label.
type Arrow = (String, String, String);

/// The arrows between services in a Mermaid flowchart; `a & b --> c & d` is four arrows.
fn arrows(picture: &str) -> Vec<Arrow> {
    let names = |nodes: &str| -> Vec<String> {
        let names = nodes.split('&').map(str::trim).filter(|name| CRATES.contains(name));
        names.map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for line in picture.lines() {
        let Some((from, rest)) = line.split_once(" -") else { continue };
        let (label, to) = rest.rsplit_once("> ").expect("an arrow");
        let label = label.trim_matches(|it| "-. \"".contains(it));
        for from in names(from) {
            found.extend(names(to).into_iter().map(|to| (from.clone(), to, label.to_owned())));
        }
    }
    found
}

#[test]
fn the_picture_in_the_readme_shows_the_readers_of_each_stream() {
    let writer = |stream: Stream| match stream.writer() {
        Writer::Clients => "gateway_api",
        Writer::Owner => stream.topic().service(),
    };
    let mut due = BTreeSet::new();
    for stream in streams::ALL {
        let readers = stream.readers().iter().map(|reader| reader.service());
        let others = readers.filter(|reader| *reader != writer(stream));
        due.extend(others.map(|reader| (writer(stream).to_owned(), reader.to_owned())));
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, picture) = readme.split_once("```mermaid\n").expect("a picture");
    let arrows = arrows(picture.split_once("```").expect("its end").0);
    let shown = arrows.iter().filter(|(_, _, label)| label != "HTTP");
    let shown: BTreeSet<_> = shown.map(|(from, to, _)| (from.clone(), to.clone())).collect();
    assert_eq!(shown, due, "the picture has, and contract/streams.rs has");
    for (from, to, label) in arrows.iter().filter(|(_, _, label)| label.starts_with("events:")) {
        let stream = streams::ALL.into_iter().find(|stream| stream.key() == label);
        let stream = stream.unwrap_or_else(|| panic!("the picture names no stream: {label}"));
        let reads = stream.readers().iter().any(|reader| reader.service() == to);
        assert!(writer(stream) == from && reads, "{label} does not lead from {from} to {to}");
    }
}
