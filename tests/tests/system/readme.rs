//! Runs the commands of the README and of the tour, and checks the links of all documents.
//!
//! A block of commands after `<!-- tested -->` is run unchanged, except for the gateway's address, and every
//! call in it must succeed. After `<!-- tested: STATUS -->` the order in the answer of its last call must
//! end with that status. Blocks share their variables.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use common::contract::{order::Order, order_status::OrderStatus};
use serde_json::Value;
use stack::StackOptions;
use system_tests::{SOON, System};

/// A block of commands, and the final status of its order, if it places one.
#[derive(Debug)]
struct Block {
    commands: String,
    status: Option<String>,
}

fn blocks(readme: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("<!-- tested").and_then(|it| it.strip_suffix("-->"))
        else {
            continue;
        };
        let status = mark.strip_prefix(':').map(|status| status.trim().to_owned());
        assert_eq!(lines.next(), Some("```sh"), "what follows {line:?}");
        let commands: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { commands: commands.join("\n"), status });
    }
    blocks
}

/// Runs the commands in a shell in which every call of curl must succeed; returns their output. `order` is
/// the variable with this name, before and after.
fn run(commands: &str, order: &mut String) -> String {
    let script = format!(
        "set -euo pipefail\ncurl() {{ command curl --silent --show-error --fail-with-body \
         --max-time 30 --write-out '\\n' \"$@\"; }}\norder={order}\n{commands}\n\
         printf '%s' \"$order\""
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{commands}\n{out}\n{err}\nIs curl installed?");
    let (said, last) = out.rsplit_once('\n').expect("every call ends its line");
    *order = last.to_owned();
    said.to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[tokio::test]
async fn the_commands_of_the_readme_work() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let blocks = blocks(&readme);
    assert!(!blocks.is_empty(), "README.md places no order");
    run_all(blocks).await;
}

#[tokio::test]
async fn the_commands_of_the_tour_work() {
    let tour = fs::read_to_string(root().join("docs/tour.md")).expect("docs/tour.md");
    let blocks = blocks(&tour);
    let tested = blocks.iter().filter_map(|block| block.status.as_deref());
    let tested: Vec<&str> = tested.collect();
    for status in OrderStatus::ALL {
        let shown = tested.contains(&status.name());
        let passes = status.is_underway() || status == OrderStatus::Completed;
        assert!(shown || passes, "the tour shows no order that ends {status:?}: {tested:?}");
    }
    run_all(blocks).await;
}

async fn run_all(blocks: Vec<Block>) {
    let options = StackOptions { seed_demo_data: true, ..StackOptions::default() };
    let system = System::start_with(options).await;
    let gateway = system.url();
    let mut order = String::new();
    for Block { commands, status } in blocks {
        assert!(commands.contains("http://localhost:5000"), "{commands}");
        let said = run(&commands.replace("http://localhost:5000", &gateway), &mut order);
        let body = said.lines().last().unwrap_or_default();
        let answer: Value = serde_json::from_str(body)
            .unwrap_or_else(|error| panic!("{commands}\nanswers no JSON: {error}: {said}"));
        if let Some(status) = status {
            let order: Order = serde_json::from_value(answer).expect("an order");
            assert_eq!(system.ended(&order).await.status.name(), status, "{commands}");
            system.quiet(SOON).await;
        } else if commands.contains("/report") {
            assert_eq!(answer["accounts"].as_array().map(Vec::len), Some(3), "{said}");
            assert_eq!(answer["inventory"].as_array().map(Vec::len), Some(5), "{said}");
        }
    }
    system.assert_balanced(SOON).await;
}

/// The documents by their paths from the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let of = |folder: &str| {
        let files = fs::read_dir(root().join(folder)).expect("a folder");
        let paths = files.map(|file| Path::new(folder).join(file.expect("a file").file_name()));
        paths.filter(|path| path.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>()
    };
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("a document");
        (path, text)
    };
    ["", "docs", "docs/design", "docs/how-to"].into_iter().flat_map(of).map(read).collect()
}

/// The path without `..` in it.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

/// The files of the repository by their paths from the root, with their texts; other bytes are replaced.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(root().join(folder)).expect("a folder") {
        let file = file.expect("a file");
        let path = folder.join(file.file_name());
        let name = path.to_str().expect("UTF-8").to_owned();
        if matches!(name.as_str(), "target" | ".git") {
            continue;
        }
        if file.file_type().expect("a type").is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(root().join(&path)).expect("a file");
            found.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    found
}

/// The anchors of a document's headings on GitHub.
fn anchors(document: &str) -> Vec<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect()
    };
    headings.map(anchor).collect()
}

/// The targets of `[…](target)` and of pictures.
fn links(document: &str) -> Vec<&str> {
    let of = |before: &str, end: char| {
        let parts = document.split(before).skip(1).collect::<Vec<_>>();
        parts.into_iter().filter_map(move |part| part.split_once(end)).map(|(link, _)| link)
    };
    of("](", ')').chain(of("src=\"", '"')).chain(of("srcset=\"", '"')).collect()
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut checked = 0;
    for (path, document) in &documents {
        let folder = path.parent().expect("a folder");
        for link in links(document).into_iter().filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() { path.clone() } else { folder.join(target) };
            let target = plain(&target);
            assert!(root().join(&target).exists(), "{}: {link} leads nowhere", path.display());
            if !anchor.is_empty() {
                let headings = anchors(&documents[&target]);
                assert!(headings.iter().any(|it| it == anchor), "{}: {link}", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

/// The words in backticks, outside of blocks.
fn code(document: &str) -> Vec<&str> {
    let prose = document.split("```").step_by(2);
    let words = prose.flat_map(|text| text.split('`').skip(1).step_by(2));
    words.filter(|word| !word.contains(char::is_whitespace)).collect()
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn each_path(word: &str) -> Vec<String> {
    let parts = word.split_once('{').and_then(|(before, rest)| {
        let (names, after) = rest.split_once('}')?;
        Some(names.split(',').map(|name| format!("{before}{}{after}", name.trim())).collect())
    });
    parts.unwrap_or_else(|| vec![word.to_owned()])
}

#[test]
fn files_and_tests_that_the_documents_name_exist() {
    let files = files(Path::new(""));
    let sources = files.iter().filter(|(path, _)| !path.ends_with(".md"));
    let sources: Vec<(String, &str)> =
        sources.map(|(path, text)| (format!("/{path}"), text.as_str())).collect();
    let documents = documents();
    let (mut paths, mut names) = (0, 0);
    for (document, text) in &documents {
        for word in code(text) {
            let (path, name) = word.rsplit_once("::").unwrap_or((word, word));
            let is_file =
                [".rs", ".lua", ".acl", ".md", ".toml"].iter().any(|it| path.ends_with(it));
            let is_source = is_file || (path.contains("/src/") || path.contains("/tests/"));
            if is_source && !path.contains(['*', '<', '=', ':']) {
                for path in each_path(path.trim_end_matches('/')) {
                    let (at_end, inside) = (format!("/{path}"), format!("/{path}/"));
                    let is_there =
                        |(it, _): &&(String, &str)| it.ends_with(&at_end) || it.contains(&inside);
                    let is_document = documents.contains_key(Path::new(&path));
                    let found: Vec<_> = sources.iter().filter(is_there).collect();
                    assert!(
                        !found.is_empty() || is_document,
                        "{}: there is no {path}",
                        document.display()
                    );
                    if name != word {
                        let function = format!("fn {name}(");
                        let is_defined = found.iter().any(|(_, text)| text.contains(&function));
                        assert!(is_defined, "{}: no {name} in {path}", document.display());
                    }
                    paths += 1;
                }
            }
            let is_name =
                name.len() > 25 && name.chars().all(|it| it.is_ascii_lowercase() || it == '_');
            if is_name {
                let is_there = sources.iter().any(|(_, text)| text.contains(name));
                assert!(is_there, "{}: nothing is called {name}", document.display());
                names += 1;
            }
        }
    }
    assert!(paths > 100 && names > 100, "only {paths} paths and {names} names were found");
}
