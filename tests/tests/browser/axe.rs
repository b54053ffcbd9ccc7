//! axe-core, which checks pages for barriers for people with disabilities. It is downloaded from a package
//! on PyPI into cargo's target directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use stack::provision;
use tokio::sync::OnceCell;

use crate::tab::Tab;

/// The package of axe-core, and the hash of its file.
const PACKAGE: &str = "axe-playwright-python==0.1.8";
const SHA256: &str = "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8";
const FILE: &str = "axe_playwright_python/axe.min.js";

/// Returns only certain violations, each with its element and its reason.
const CHECK: &str = "const done = arguments[arguments.length - 1]; \
    axe.run().then( \
        (found) => done(found.violations.flatMap(({ id, nodes }) => \
            nodes.map((node) => `${id} at ${node.target}: ${node.failureSummary}`))), \
        (error) => done([String(error)]));";

/// Asserts that axe-core finds no violation on the page in its present state.
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

/// The path of the script, which is downloaded if necessary.
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
        // Renamed when complete; another process may have been faster.
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
