//! chromedriver, and the browser that it starts: processes that end with the test.

use std::{path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::json;
use stack::{
    ServiceProcess, ports,
    process::{Output, ServiceCommand},
    provision,
};
use system_tests::eventually;
use tempfile::TempDir;
use thirtyfour::{
    BrowserCapabilitiesHelper as _, ChromeCapabilities, ChromiumLikeCapabilities as _,
    DesiredCapabilities, LoggingPrefsLogLevel, WebDriver,
    error::{WebDriverErrorInner, WebDriverResult},
};

/// The timeout of steps that usually take a moment: browsers are heavy, and machines that run tests are
/// busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A WebDriver server of one test, with one browser.
pub(crate) struct Driver {
    /// The browser's session.
    pub(crate) web: WebDriver,
    process: ServiceProcess,
    /// The browser's profile, which is deleted after the end of the processes.
    _dir: TempDir,
}

impl Driver {
    /// A browser that runs scripts or does not.
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
        let mut process = ServiceProcess::spawn(command).unwrap_or_else(|error| panic!("{error}"));
        let url = format!("http://127.0.0.1:{port}");
        let wanted =
            capabilities(&browser.chromium, dir.path(), runs_scripts).expect("capabilities");
        let client = http_client();
        let web = eventually("chromedriver is ready", TIMEOUT, async || {
            assert!(process.is_running(), "chromedriver ended: {}", process.logs());
            match WebDriver::builder(&url, wanted.clone()).client(client.clone()).await {
                Ok(web) => Ok(web),
                // Nothing listens yet.
                Err(error) if matches!(*error, WebDriverErrorInner::HttpError(_)) => {
                    Err(error.to_string())
                }
                Err(error) => panic!("no browser: {error}"),
            }
        })
        .await;
        Self { web, process, _dir: dir }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The drop of an open session would wait in vain: its request needs the thread that waits.
        let _ = self.web.clone().leak();
        // The browser is in the same process group. Otherwise it would outlive a killed chromedriver.
        let _ = killpg(Pid::from_raw(self.process.pid().cast_signed()), Signal::SIGKILL);
    }
}

/// A client that uses no proxy, because chromedriver is on this machine.
fn http_client() -> reqwest::Client {
    // A client must have a provider even if it never uses TLS. An error means that another test was faster.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(2 * TIMEOUT);
    client.build().expect("a client")
}

fn capabilities(
    chromium: &Path,
    dir: &Path,
    runs_scripts: bool,
) -> WebDriverResult<ChromeCapabilities> {
    let mut wanted = DesiredCapabilities::chrome();
    wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
    wanted.set_browser_option("binary", chromium)?;
    for argument in [
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
        &format!("--user-data-dir={}", dir.join("profile").display()),
    ] {
        wanted.add_arg(argument)?;
    }
    if !runs_scripts {
        let block = 2;
        let settings = json!({ "managed_default_content_settings": { "javascript": block } });
        wanted.add_experimental_option("prefs", json!({ "profile": settings }))?;
    }
    Ok(wanted)
}
