//! chromedriver, and the browser that it starts: processes that end with the test.

use std::{path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use stack::{
    ServiceProcess, ports,
    process::{Output, ServiceCommand},
    provision,
};
use system_tests::{Client, eventually};
use tempfile::TempDir;

/// The timeout of steps that usually take a moment: browsers are heavy, and machines that run tests are
/// busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A WebDriver server of one test.
pub(crate) struct Driver {
    process: ServiceProcess,
    url: String,
    capabilities: Value,
    /// The browser's profile, which is deleted after the end of the processes.
    _dir: TempDir,
}

impl Driver {
    /// A ready server, for browsers with or without scripts.
    pub(crate) async fn start(runs_scripts: bool) -> Self {
        let browser = tokio::task::spawn_blocking(provision::browser).await.expect("no panic");
        let browser = browser.unwrap_or_else(|error| panic!("{error}"));
        let dir = tempfile::Builder::new().prefix("browser-").tempdir().expect("a directory");
        let port = ports::free();
        let log = Output::File(dir.path().join("chromedriver.log"));
        let command = ServiceCommand::new("chromedriver", &browser.chromedriver, log)
            .args([format!("--port={port}")])
            .env("HOME", dir.path().to_string_lossy())
            .env("TZ", "UTC");
        let process = ServiceProcess::spawn(command).unwrap_or_else(|error| panic!("{error}"));
        let mut driver = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            capabilities: capabilities(&browser.chromium, dir.path(), runs_scripts),
            _dir: dir,
        };
        driver.wait_ready().await;
        driver
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The capabilities of the browser.
    pub(crate) fn capabilities(&self) -> fantoccini::wd::Capabilities {
        self.capabilities.as_object().expect("an object").clone()
    }

    async fn wait_ready(&mut self) {
        let (client, url) = (Client::default(), format!("{}/status", self.url));
        let process = &mut self.process;
        eventually("chromedriver is ready", TIMEOUT, async || {
            assert!(process.is_running(), "chromedriver ended: {}", process.logs());
            let answer = client.get(&url).await?;
            match &answer.json()["value"]["ready"] {
                Value::Bool(true) => Ok(()),
                _ => Err(answer.text()),
            }
        })
        .await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The browser is in the same process group. Otherwise it would outlive a killed chromedriver.
        let _ = killpg(Pid::from_raw(self.process.pid().cast_signed()), Signal::SIGKILL);
    }
}

fn capabilities(chromium: &Path, dir: &Path, runs_scripts: bool) -> Value {
    let profile = format!("--user-data-dir={}", dir.join("profile").display());
    let block = 2;
    let settings = if runs_scripts { json!({}) } else { json!({ "javascript": block }) };
    json!({
        "goog:loggingPrefs": { "browser": "ALL" },
        "timeouts": { "script": 60_000, "pageLoad": 60_000 },
        "goog:chromeOptions": {
            "binary": chromium,
            "args": [
                "--headless=new",
                // Tests run as root in containers, with a small /dev/shm.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                // Letters without coloured edges, as on most screens.
                "--disable-lcd-text",
                "--lang=en-US",
                // The browser ends with the pipe, even if chromedriver is killed.
                "--remote-debugging-pipe",
                profile,
            ],
            "prefs": { "profile": { "managed_default_content_settings": settings } },
        },
    })
}
