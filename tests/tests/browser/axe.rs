//! axe-core, which looks for what people with disabilities stumble over. It comes from a package on
//! PyPI into cargo's target directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use stack::provision;
use tokio::sync::OnceCell;

use crate::tab::Tab;

/// The package that has it, and what its file must be.
const PACKAGE: &str = "axe-playwright-python==0.1.8";
const SHA256: &str = "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8";
const FILE: &str = "axe_playwright_python/axe.min.js";

/// Counts only what is certainly wrong, with where it is and what is wrong with it.
const CHECK: &str = "const done = arguments[arguments.length - 1]; \
    axe.run().then( \
        (found) => done(found.violations.flatMap(({ id, nodes }) => \
            nodes.map((node) => `${id} at ${node.target}: ${node.failureSummary}`))), \
        (error) => done([String(error)]));";

/// The page as it is now has nothing that axe-core objects to.
pub(crate) async fn assert_accessible(tab: &Tab, what: &str) {
    tab.run(script().await).await;
    let violations = tab.run_async(CHECK).await;
    assert_eq!(violations, serde_json::json!([]), "{what}: {violations:#}");
}

async fn script() -> &'static str {
    static SCRIPT: OnceCell<String> = OnceCell::const_new();
    let read = || async {
        let read = tokio::task::spawn_blocking(|| fs::read_to_string(provide()?));
        let script = read.await.expect("no panic");
        script.unwrap_or_else(|error| panic!("axe-core cannot be had: {error}"))
    };
    SCRIPT.get_or_init(read).await
}

/// Where the script is, after it was downloaded if need be.
fn provide() -> io::Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = target.join(PACKAGE.replace("==", "-"));
    if !kept.join(FILE).is_file() {
        fs::create_dir_all(target)?;
        let python = provision::python_with_pip().map_err(io::Error::other)?;
        let scratch = tempfile::tempdir_in(target)?;
        let (wheels, unpacked) = (scratch.path().join("wheels"), scratch.path().join("unpacked"));
        let wanted = scratch.path().join("wanted.txt");
        fs::write(&wanted, format!("{PACKAGE} --hash=sha256:{SHA256}\n"))?;
        let mut download = Command::new(&python);
        download.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
        download.args(["--no-deps", "--only-binary=:all:", "--require-hashes"]);
        run(download.arg("--dest").arg(&wheels).arg("--requirement").arg(&wanted))?;
        let wheel = fs::read_dir(&wheels)?.next().ok_or(io::ErrorKind::NotFound)??.path();
        run(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
        // Whole or not at all; another process may have been faster.
        let _ = fs::rename(&unpacked, &kept);
    }
    Ok(kept.join(FILE))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}
