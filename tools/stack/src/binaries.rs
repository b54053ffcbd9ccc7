//! Builds the five service binaries, and examples, with cargo.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;

use crate::{Error, Service};

/// The build profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Fast to build: for tests.
    #[default]
    Debug,
    /// Fast to run: for use and measurements.
    Release,
}

/// Builds the outdated binaries and returns their directory. Runs once per process and profile;
/// concurrent callers wait and get the same result. Compiler output goes to standard error.
///
/// # Errors
///
/// [`Error::Build`]: cargo failed, or built no binary of a service.
pub fn build(profile: Profile) -> Result<PathBuf, Error> {
    static BUILT: Mutex<BTreeMap<Profile, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(profile).or_insert_with(|| build_services(profile)).clone().map_err(Error::Build)
}

/// Builds an example of a package, unoptimized, and returns its executable.
///
/// # Errors
///
/// [`Error::Build`]: cargo failed, or built no such example.
pub fn build_example(package: &str, name: &str) -> Result<PathBuf, Error> {
    let executables =
        run_cargo(&["--package", package, "--example", name]).map_err(Error::Build)?;
    let found = executables.into_iter().find(|file| file.ends_with(name));
    found.ok_or_else(|| Error::Build(format!("cargo built no example {name}")))
}

/// The root of the workspace: above the crate that cargo is running, or else where this crate was
/// compiled.
fn workspace_root() -> Option<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let candidates = [here, Some(env!("CARGO_MANIFEST_DIR").into())];
    let is_root = |dir: &&Path| dir.join("tools/stack/Cargo.toml").is_file();
    candidates
        .into_iter()
        .flatten()
        .find_map(|dir| dir.ancestors().find(is_root).map(Path::to_owned))
}

fn build_services(profile: Profile) -> Result<PathBuf, String> {
    let packages = Service::ALL.into_iter().flat_map(|service| ["--package", service.name()]);
    let release = (profile == Profile::Release).then_some("--release");
    let executables =
        run_cargo(&["--bins"].into_iter().chain(packages).chain(release).collect::<Vec<_>>())?;
    let missing = Service::ALL
        .into_iter()
        .find(|service| !executables.iter().any(|file| file.ends_with(service.name())));
    match (missing, executables.first().and_then(|file| file.parent())) {
        (None, Some(dir)) => Ok(dir.to_owned()),
        (missing, _) => {
            let name = missing.map_or("any service", Service::name);
            Err(format!("cargo built no binary of {name}"))
        }
    }
}

/// Runs `cargo build` with further arguments and returns the executables.
fn run_cargo(arguments: &[&str]) -> Result<Vec<PathBuf>, String> {
    let root = workspace_root().ok_or("the workspace with their sources is not where it was")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    cargo.args(arguments);
    // Cargo's variables about the running crate would make the build scripts that watch them run
    // again.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            cargo.env_remove(&key);
        }
    }
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo ended with {}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    Ok(messages.filter_map(|message| message.executable).collect())
}

/// The relevant member of cargo's messages; most messages lack it.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}
