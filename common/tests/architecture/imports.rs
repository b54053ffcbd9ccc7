//! The imports between the files of a crate, for the tests of the structure of the code in `common` and
//! `gateway_api`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The segments of a path in the code: its first one is `crate`, `self` or `super`, or an imported module.
type ModulePath = Vec<String>;

/// The files by their module paths: `access/gate.rs` is `["access", "gate"]`, `lib.rs` is `[]`.
pub(crate) type Files = BTreeMap<ModulePath, SourceFile>;

pub(crate) struct SourceFile {
    /// The path from the root of the repository.
    pub(crate) path: PathBuf,
    /// The code without comments and without its tests.
    pub(crate) code: String,
    /// The code of its tests without comments.
    tests: String,
}

impl SourceFile {
    fn new(path: PathBuf, source: &str) -> Self {
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let (code, tests) = text.split_once("\nmod tests {").unwrap_or((&text, ""));
        Self { path, code: code.to_owned(), tests: tests.to_owned() }
    }
}

/// The Rust files below a folder, by their paths from the root of the repository.
pub(crate) fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder)).expect("a folder") {
        let path = folder.join(entry.expect("an entry").file_name());
        if root.join(&path).is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a source");
            found.push((path, text));
        }
    }
    found
}

/// The files of a crate below this folder, without those that contain only tests.
pub(crate) fn files(folder: &str) -> Files {
    let mut files = Files::new();
    for (path, source) in sources(Path::new(folder)) {
        let below = path.strip_prefix(folder).expect("it is below").with_extension("");
        let names: Vec<&str> = below.iter().map(|name| name.to_str().expect("UTF-8")).collect();
        // `token_tests.rs` is the test module of `token.rs`.
        if names.iter().any(|name| *name == "tests" || name.ends_with("_tests")) {
            continue;
        }
        let names = names.into_iter().filter(|name| !matches!(*name, "mod" | "lib" | "main"));
        let module: ModulePath = names.map(str::to_owned).collect();
        // Beside a `lib.rs`, `main.rs` imports only the library.
        if path.ends_with("main.rs") && folder_has_lib(&path) {
            continue;
        }
        files.insert(module, SourceFile::new(path, &source));
    }
    files
}

fn folder_has_lib(main: &Path) -> bool {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(main).with_file_name("lib.rs");
    lib.is_file()
}

/// The paths that begin with this name, in `use` declarations with groups and elsewhere.
fn paths_from(code: &str, first: &str) -> Vec<ModulePath> {
    let start = format!("{first}::");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let is_within = |it: char| it.is_alphanumeric() || it == '_' || it == ':';
        if !code[..at].ends_with(is_within) {
            let mut rest = &code[at + start.len()..];
            branch(&mut rest, &[first.to_owned()], &mut paths);
        }
    }
    paths
}

/// Reads one branch of a tree of paths: `a::b`, or `a::{b, c::d}`.
fn branch(rest: &mut &str, before: &[String], paths: &mut Vec<ModulePath>) {
    *rest = rest.trim_start();
    let mut path = before.to_vec();
    if let Some(group) = rest.strip_prefix('{') {
        *rest = group.trim_start();
        while !rest.starts_with('}') && !rest.is_empty() {
            branch(rest, &path, paths);
            // An alias, and what separates the branches.
            *rest = rest.trim_start_matches(|it| it != ',' && it != '}');
            *rest = rest.trim_start_matches(',').trim_start();
        }
        *rest = rest.strip_prefix('}').unwrap_or(rest);
        return;
    }
    let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(rest.len());
    let name = &rest[..end];
    *rest = &rest[end..];
    if name != "self" && !name.is_empty() {
        path.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(more) if !more.starts_with('<') => {
            *rest = more;
            branch(rest, &path, paths);
        }
        _ => paths.push(path),
    }
}

/// The path from the crate's root, of a path in this module.
fn absolute(path: &[String], module: &[String]) -> ModulePath {
    let mut base = match path[0].as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        _ => module[..module.len().saturating_sub(1)].to_vec(),
    };
    for segment in &path[1..] {
        match segment.as_str() {
            "super" => drop(base.pop()),
            segment => base.push(segment.to_owned()),
        }
    }
    base
}

/// The module to which a path leads: its longest beginning that is one.
fn module_of<'f>(path: &[String], files: &'f Files) -> &'f [String] {
    let beginnings = (0..=path.len()).rev().map(|end| &path[..end]);
    let module = beginnings.into_iter().find_map(|it| files.get_key_value(it));
    module.map(|(module, _)| module.as_slice()).expect("the root is a module")
}

/// The modules that a file imports, and what it takes from each.
pub(crate) fn imports(module: &[String], files: &Files) -> BTreeMap<ModulePath, BTreeSet<String>> {
    let code = &files[module].code;
    let starts = ["crate", "self", "super"].into_iter().flat_map(|it| paths_from(code, it));
    let direct: Vec<ModulePath> = starts.map(|path| absolute(&path, module)).collect();
    // Names behind an imported module: `use crate::docs;` and then `docs::openapi::limit()`.
    let through = direct.iter().filter(|path| files.contains_key(*path)).flat_map(|imported| {
        let name = imported.last().map_or("", String::as_str);
        let paths = if name.is_empty() { Vec::new() } else { paths_from(code, name) };
        paths.into_iter().map(|path| [imported.as_slice(), &path[1..]].concat())
    });
    let mut imports = BTreeMap::<ModulePath, BTreeSet<String>>::new();
    for path in direct.iter().cloned().chain(through) {
        let imported = module_of(&path, files);
        if imported != module {
            let taken = path.get(imported.len()).or(path.last()).cloned();
            imports.entry(imported.to_vec()).or_default().extend(taken);
        }
    }
    imports
}

/// Checks that each room imports only those before it in this list; so do the tests in it.
pub(crate) fn assert_rooms_import_only_lower_ones(rooms: &[&str], files: &Files) {
    let rank = |name: &str| rooms.iter().position(|room| *room == name);
    for (module, file) in files {
        let Some(room) = module.first() else { continue };
        let own = rank(room).unwrap_or_else(|| {
            panic!("{}: put it into a room, or name it in ROOMS of this test", file.path.display())
        });
        let by_tests = paths_from(&file.tests, "crate").into_iter();
        let by_tests = by_tests.map(|path| (path[1..].to_vec(), BTreeSet::new()));
        for (imported, names) in imports(module, files).into_iter().chain(by_tests) {
            let other = imported.first().map_or("lib", String::as_str);
            assert!(
                rank(other).is_some_and(|other| other <= own),
                "{}: {room} imports {names:?} from {other}, which is above it; move what it needs down, or \
                 hand it over as an argument",
                file.path.display()
            );
        }
    }
}

/// Checks that no files of a crate import each other in a circle.
pub(crate) fn assert_no_circles(files: &Files) {
    let imported = |module: &ModulePath| imports(module, files).into_keys().collect();
    let graph = files.keys().map(|module| (module.clone(), imported(module))).collect();
    if let Some(circle) = circle(&graph) {
        let arrows = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(from, to)| {
            let (path, names) = (&files[from].path, &imports(from, files)[to]);
            format!("{} takes {names:?} from {}", path.display(), files[to].path.display())
        });
        panic!(
            "files import each other in a circle: {}. Move what one of them takes into a file that \
             imports none of them, or hand it over as an argument",
            arrows.collect::<Vec<_>>().join(", ")
        );
    }
}

/// The modules of a circle of imports, if there is one: each imports the next, and the last the first.
fn circle(graph: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Option<Vec<ModulePath>> {
    fn visit(
        module: &ModulePath,
        graph: &BTreeMap<ModulePath, BTreeSet<ModulePath>>,
        way: &mut Vec<ModulePath>,
        done: &mut BTreeSet<ModulePath>,
    ) -> Option<Vec<ModulePath>> {
        if let Some(start) = way.iter().position(|it| it == module) {
            return Some(way[start..].to_vec());
        }
        if !done.insert(module.clone()) {
            return None;
        }
        way.push(module.clone());
        let found = graph[module].iter().find_map(|next| visit(next, graph, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| visit(module, graph, &mut Vec::new(), &mut done))
}

fn owned(segments: &[&str]) -> ModulePath {
    segments.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn paths_are_found_in_groups_and_in_expressions() {
    let source = "use crate::{\n  a::{self, B as C},\n  d,\n};\n// use crate::no;\n\
                  fn f() { crate::g::h::<u8>(); my_crate::i() }\nmod tests {\nuse crate::j;\n}";
    let file = SourceFile::new(PathBuf::new(), source);
    let expected =
        [&["crate", "a"][..], &["crate", "a", "B"], &["crate", "d"], &["crate", "g", "h"]];
    assert_eq!(paths_from(&file.code, "crate"), expected.map(owned));
    assert_eq!(paths_from(&file.tests, "crate"), [owned(&["crate", "j"])]);
    let module = owned(&["web", "order", "page"]);
    assert_eq!(absolute(&owned(&["super", "facts"]), &module), owned(&["web", "order", "facts"]));
    assert_eq!(absolute(&owned(&["super", "super", "x"]), &module), owned(&["web", "x"]));
}

#[test]
fn a_circle_is_found_from_each_of_its_files() {
    let module = |name: &str| owned(&[name]);
    let arrows = |arrows: &[(&str, &[&str])]| {
        let arrow = |(from, to): &(&str, &[&str])| {
            (module(from), to.iter().map(|it| module(it)).collect::<BTreeSet<_>>())
        };
        arrows.iter().map(arrow).collect::<BTreeMap<_, _>>()
    };
    let tree = arrows(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert_eq!(circle(&tree), None);
    let ring = arrows(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
    assert_eq!(circle(&ring), Some(vec![module("b"), module("c")]));
}
