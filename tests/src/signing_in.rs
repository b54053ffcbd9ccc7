//! A system with sign-in at a real OpenID provider, Debian's glewlwyd.

use std::path::Path;

use stack::{
    Service, StackOptions,
    process::{Output, ServiceCommand, ServiceProcess},
};
use tempfile::TempDir;

use crate::{SOON, System, eventually, process::env};

/// The password of all users of the provider.
pub const PASSWORD: &str = "open-sesame";
/// The client secret of the gateway.
pub const CLIENT_SECRET: &str = "the-gateways-own-secret";
/// The secret that seals cookies.
pub const SESSION_SECRET: &str = "marker-session-secret-0123456789abcdef";
/// The secret of the gateway for order_service.
pub const BETWEEN_SECRET: &str = "marker-between-secret-0123456789";

/// The system, with the demo data, and its provider.
pub struct Site {
    /// The system.
    pub system: System,
    /// The provider.
    pub provider: Provider,
    /// The URL for browsers.
    pub url: String,
}

impl Site {
    /// Starts both.
    pub async fn start() -> Self {
        let port = stack::ports::free();
        let url = format!("http://127.0.0.1:{port}");
        let provider = Provider::start(&format!("{url}/sign-in/callback")).await;
        let both = [("AUTH_MODE", "required"), ("ORDER_SERVICE_SECRET", BETWEEN_SECRET)];
        let mut gateway = env(&both);
        gateway.extend(env(&[
            ("OIDC_ISSUER", &provider.issuer),
            ("OIDC_AUDIENCE", &provider.audience),
            ("OIDC_CLIENT_ID", "orders-web"),
            ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
            ("SESSION_SECRET", SESSION_SECRET),
            ("PUBLIC_URL", &url),
            ("LOG_LEVEL", "debug"),
        ]));
        let service_env = [(Service::Gateway, gateway), (Service::Order, env(&both))].into();
        let system = System::start_with(StackOptions {
            gateway_port: Some(port),
            seed_demo_data: true,
            service_env,
            ..StackOptions::default()
        })
        .await;
        Self { system, provider, url }
    }

    /// The address of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

/// The provider, which ends when this is dropped.
pub struct Provider {
    /// The issuer in its tokens.
    pub issuer: String,
    /// The audience of its tokens.
    pub audience: String,
    process: ServiceProcess,
    _directory: TempDir,
}

impl Provider {
    /// Starts the provider, with a client whose redirect address is this.
    pub async fn start(redirect_uri: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let directory = tempfile::tempdir().expect("a directory");
        let (data, log) = (directory.path().join("data"), directory.path().join("log"));
        let port = stack::ports::free().to_string();
        let script = root.join(".ci/openid-provider");
        let command = ServiceCommand::new("openid-provider", script, Output::File(log)).args([
            data.to_str().expect("plain"),
            &port,
            redirect_uri,
        ]);
        let mut process = ServiceProcess::spawn(command).unwrap_or_else(|error| panic!("{error}"));
        // The first start downloads it and its dependencies.
        let said = eventually("the provider is ready", SOON * 20, async || {
            let said = process.logs();
            if let Some(status) = process.exit_status() {
                panic!("the provider ended with {status}: {said}");
            }
            let ready = said.lines().find(|line| line.starts_with("ready ")).map(str::to_owned);
            ready.ok_or(said)
        })
        .await;
        let value = |name: &str| {
            let value = said.split(' ').find_map(|word| word.strip_prefix(name));
            value.expect("the variable has a value").to_owned()
        };
        Self {
            issuer: value("issuer="),
            audience: value("audience="),
            process,
            _directory: directory,
        }
    }
}

impl Drop for Provider {
    /// Stops the provider, so that it removes its temporary files; if it does not end, it is killed.
    fn drop(&mut self) {
        let _ = self.process.terminate().and_then(|()| self.process.wait(SOON).map(drop));
    }
}
