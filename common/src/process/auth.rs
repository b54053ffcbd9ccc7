//! The authentication mode of callers, and the secret between the gateway and order_service.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use crate::{
    config_error::ConfigError,
    secret::{self, ExposeSecret as _, Secret},
};

/// The minimum length of a secret between services, in characters.
const SECRET_LENGTH: usize = 16;
/// The maximum length, so that it fits into a header.
const SECRET_LIMIT: usize = 512;

/// The authentication mode of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// Every caller must authenticate.
    Required,
    /// Every caller may do everything: for a demo.
    Off,
}

/// The authentication settings of the gateway and order_service.
#[derive(Args, Clone, Debug)]
pub struct AuthConfig {
    /// Whether callers must authenticate: required, or off for a demo
    #[arg(long, env, default_value = "required")]
    pub auth_mode: AuthMode,
    /// Whether AUTH_MODE=off may listen on an address that is not loopback: true or false [default:
    /// only in a container]
    #[arg(long, env, value_parser = clap::value_parser!(bool))]
    auth_off_anywhere: Option<bool>,
    /// The secret that the gateway sends to order_service, at least 16 characters. With several,
    /// separated by commas, the gateway sends the first and order_service accepts each
    #[arg(long, env, hide_env_values = true)]
    order_service_secret: Option<Secret>,
    /// A file with the secret, or with one secret per line
    #[arg(long, env)]
    order_service_secret_file: Option<PathBuf>,
}

impl AuthConfig {
    /// Whether every caller may do everything.
    pub fn is_off(&self) -> bool {
        self.auth_mode == AuthMode::Off
    }

    /// Checks the settings for a service that listens on this address.
    ///
    /// # Errors
    ///
    /// Unauthenticated callers could reach the address; or a required secret is missing or invalid.
    pub fn check(&self, http: SocketAddr) -> Result<(), ConfigError> {
        let secrets = self.secrets()?;
        if self.is_off() {
            return self.check_reach(http, Path::new("/"));
        }
        if secrets.is_empty() {
            let reason = "with AUTH_MODE=required the gateway and order_service need it (or \
                          ORDER_SERVICE_SECRET_FILE): the same for both";
            return Err(ConfigError::of("ORDER_SERVICE_SECRET", reason));
        }
        Ok(())
    }

    fn check_reach(&self, http: SocketAddr, root: &Path) -> Result<(), ConfigError> {
        let allowed = self.auth_off_anywhere.unwrap_or_else(|| is_container(root));
        if http.ip().is_loopback() || allowed {
            return Ok(());
        }
        let reason = "off gives full access to every client of HTTP_ADDR, which is not a loopback address; \
                      listen on 127.0.0.1, or set AUTH_OFF_ANYWHERE=true to allow that";
        Err(ConfigError::of("AUTH_MODE", reason))
    }

    /// The secrets between the gateway and order_service; the first one is the one to send.
    ///
    /// # Errors
    ///
    /// A secret is too short, too long or contains invalid characters; or the file cannot be read.
    pub fn secrets(&self) -> Result<Vec<Secret>, ConfigError> {
        let (variable, file) = ("ORDER_SERVICE_SECRET", "ORDER_SERVICE_SECRET_FILE");
        let given = secret::given(
            (variable, self.order_service_secret.as_ref()),
            (file, self.order_service_secret_file.as_deref()),
        )?;
        let Some(given) = given else { return Ok(Vec::new()) };
        let variable = if self.order_service_secret.is_some() { variable } else { file };
        let texts = given.expose_secret().split([',', '\n', '\r']).map(str::trim);
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        let fits = |text: &&str| {
            (SECRET_LENGTH..=SECRET_LIMIT).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if texts.is_empty() || !texts.iter().all(fits) {
            let reason = format!(
                "a secret is {SECRET_LENGTH} to {SECRET_LIMIT} printable ASCII characters without \
                 spaces and commas"
            );
            return Err(ConfigError::of(variable, reason));
        }
        Ok(texts.into_iter().map(Secret::from).collect())
    }
}

/// Whether this process runs in a container, where the container's network determines who reaches
/// its ports.
fn is_container(root: &Path) -> bool {
    let marks = [".dockerenv", "run/.containerenv", "var/run/secrets/kubernetes.io"];
    if marks.iter().any(|mark| root.join(mark).exists()) {
        return true;
    }
    let groups = fs::read_to_string(root.join("proc/1/cgroup")).unwrap_or_default();
    ["docker", "kubepods", "containerd", "libpod", "lxc"].iter().any(|name| groups.contains(name))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn config(mode: AuthMode, anywhere: Option<bool>, secret: Option<&str>) -> AuthConfig {
        AuthConfig {
            auth_mode: mode,
            auth_off_anywhere: anywhere,
            order_service_secret: secret.map(Secret::from),
            order_service_secret_file: None,
        }
    }

    #[test]
    fn off_listens_on_loopback_in_a_container_or_with_the_setting() {
        let root = std::env::temp_dir().join(format!("root-{}", std::process::id()));
        fs::create_dir_all(root.join("proc/1")).unwrap();
        let reached = |address: &str, anywhere| {
            let config = config(AuthMode::Off, anywhere, None);
            config.check_reach(address.parse().unwrap(), &root).map_err(|error| error.variable)
        };
        let refused = Err(Cow::Borrowed("AUTH_MODE"));
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert_eq!(reached(address, None), Ok(()), "{address}");
            assert_eq!(reached(address, Some(false)), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.168.1.1:1"] {
            assert_eq!(reached(address, None), refused.clone(), "{address}");
            assert_eq!(reached(address, Some(false)), refused.clone(), "{address}");
            assert_eq!(reached(address, Some(true)), Ok(()), "{address}");
        }
        fs::write(root.join("proc/1/cgroup"), "12:cpu:/user.slice\n").unwrap();
        assert_eq!(reached("0.0.0.0:1", None), refused.clone());
        fs::write(root.join("proc/1/cgroup"), "12:cpu:/docker/0123\n").unwrap();
        assert_eq!(reached("0.0.0.0:1", None), Ok(()));
        assert_eq!(reached("0.0.0.0:1", Some(false)), refused.clone(), "the setting forbids it");
        fs::remove_file(root.join("proc/1/cgroup")).unwrap();
        fs::write(root.join(".dockerenv"), "").unwrap();
        assert_eq!(reached("0.0.0.0:1", None), Ok(()));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn required_needs_a_secret_and_accepts_several() {
        let there = "127.0.0.1:1".parse().unwrap();
        let error = |secret| config(AuthMode::Required, None, secret).check(there).unwrap_err();
        assert_eq!(error(None).variable, "ORDER_SERVICE_SECRET");
        for unfit in ["short", "sixteen letters ü", "a b c d e f g h i j", ",", &"x".repeat(513)] {
            let error = error(Some(unfit));
            assert_eq!(error.variable, "ORDER_SERVICE_SECRET");
            assert!(unfit == "," || !error.reason.contains(unfit), "{error}");
        }
        let two = config(AuthMode::Required, None, Some("new-0123456789abc, old-0123456789abc\n"));
        let secrets = two.secrets().unwrap();
        let secrets: Vec<&str> = secrets.iter().map(Secret::expose_secret).collect();
        assert_eq!(secrets, ["new-0123456789abc", "old-0123456789abc"]);
        assert!(!format!("{two:?}").contains("0123"), "{two:?}");
    }
}
