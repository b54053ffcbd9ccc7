//! The README's commands, tried.
//!
//! A block of commands after `<!-- tested -->` is run as it stands, but for the gateway's address,
//! and every call in it must succeed. After `<!-- tested: STATUS -->` the order that its last call
//! answers must end with that status. A block knows the variables of the ones before it.

use std::{path::Path, process::Command};

use common::entities::{Order, OrderStatus};
use serde_json::Value;
use stack::StackOptions;
use system_tests::{SOON, System};

/// A block of commands and how its order ends, if it is to place one.
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

/// Runs the commands in a shell in which every call of curl has to succeed; gives what they print.
/// `order` is the variable of that name, before and after.
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

#[tokio::test]
async fn the_commands_of_the_readme_do_what_it_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&readme).expect("README.md");
    let blocks = blocks(&readme);
    let tested = blocks.iter().filter_map(|block| block.status.as_deref());
    let tested: Vec<&str> = tested.collect();
    for status in OrderStatus::ALL {
        let shown = tested.contains(&status.name());
        let passes = status.is_underway() || status == OrderStatus::Completed;
        assert!(shown || passes, "README.md shows no order that ends {status:?}: {tested:?}");
    }

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
