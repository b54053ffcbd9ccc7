//! The address of a Redis server, and the credentials for it: the user's password and TLS.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use clap::Args;
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use rustls::ClientConfig;

use crate::{
    config_error::ConfigError,
    pem::{self, PemError},
    secret::{self, ExposeSecret as _, Secret},
};

/// The Redis user of clients without a user name.
pub(crate) const DEFAULT_USER: &str = "default";

/// The validated URL of a Redis server; its password is never shown.
#[derive(Clone)]
pub struct RedisUrl {
    text: String,
    addr: ConnectionAddr,
    settings: RedisConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The message of the library may repeat the URL with the password.
        let info = text.into_connection_info().map_err(|_| {
            "not a URL of a Redis, such as redis://user:password@host:6379, rediss://host:6379 (with TLS) or \
             redis+unix:///path/to/socket"
                .to_owned()
        })?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err("`#insecure` is not supported: the server's certificate is always checked"
                .to_owned());
        }
        // The server does not need the library's name, and the command would require a permission.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self { text: text.to_owned(), addr: info.addr().clone(), settings, tls: None })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl RedisUrl {
    /// The same URL with credentials of [`RedisAccess`]: its password if the URL has a user name
    /// and no password, its certificates for `rediss://`.
    ///
    /// # Errors
    ///
    /// The user has no password.
    pub fn with(&self, access: &Access) -> Result<Self, ConfigError> {
        let mut url = self.clone();
        if url.wants_password() {
            let password = access.password.as_ref().ok_or_else(|| {
                let user = self.user();
                let reason = format!(
                    "the URL of the Redis at {self} has the user name {user} and no password: \
                     give it here or in REDIS_PASSWORD_FILE"
                );
                ConfigError::of("REDIS_PASSWORD", reason)
            })?;
            url.settings = url.settings.set_password(password.expose_secret());
        }
        if url.is_tls() && url.tls.is_none() {
            url.tls.clone_from(&access.tls);
        }
        Ok(url)
    }

    /// The name of the user in the URL; `default` if it has none.
    pub fn user(&self) -> &str {
        self.settings.username().unwrap_or(DEFAULT_USER)
    }

    /// Whether the URL contains a password.
    pub fn has_password(&self) -> bool {
        self.settings.password().is_some()
    }

    fn wants_password(&self) -> bool {
        self.settings.username().is_some() && self.settings.password().is_none()
    }

    /// Whether the scheme is `rediss://`.
    pub fn is_tls(&self) -> bool {
        matches!(self.addr, ConnectionAddr::TcpTls { .. })
    }

    pub(crate) fn addr(&self) -> &ConnectionAddr {
        &self.addr
    }

    pub(crate) fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// The TLS configuration; the default configuration without settings.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        match &self.tls {
            Some(tls) => Ok(Arc::clone(tls)),
            None => RedisAccess::default().client(),
        }
    }
}

/// The configured credentials for Redis.
#[derive(Args, Clone, Debug, Default)]
pub struct RedisAccess {
    /// The password for Redis, for URLs with a user name and no password (a variable or a file;
    /// as a flag, which other users of the machine can see, it is refused)
    #[arg(long, env, hide_env_values = true, value_name = "PASSWORD")]
    pub redis_password: Option<Secret>,
    /// The file with the password
    #[arg(long, env, value_name = "FILE")]
    pub redis_password_file: Option<PathBuf>,
    /// With rediss:// URLs, the file (PEM) with the certificate authorities that may sign the
    /// certificate of Redis [default: those of the system]
    #[arg(long, env, value_name = "FILE")]
    pub redis_tls_ca: Option<PathBuf>,
    /// With rediss:// URLs, the file (PEM) with the client certificate, followed by intermediate
    /// ones
    #[arg(long, env, value_name = "FILE")]
    pub redis_tls_cert: Option<PathBuf>,
    /// The file (PEM) with its private key
    #[arg(long, env, value_name = "FILE")]
    pub redis_tls_key: Option<PathBuf>,
}

/// The credentials for Redis: passwords and certificates, read and validated.
#[derive(Clone, Debug, Default)]
pub struct Access {
    password: Option<Secret>,
    tls: Option<Arc<ClientConfig>>,
}

impl RedisAccess {
    /// Reads the files of the settings, for these servers.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is invalid; or a setting applies to none of the servers, so that a
    /// connection would be less protected than the operator believes.
    pub fn for_servers<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a RedisUrl> + Clone,
    ) -> Result<Access, ConfigError> {
        let password = secret::given(
            ("REDIS_PASSWORD", self.redis_password.as_ref()),
            ("REDIS_PASSWORD_FILE", self.redis_password_file.as_deref()),
        )?;
        if password.is_some() && !servers.clone().into_iter().any(RedisUrl::wants_password) {
            let variable =
                self.redis_password.as_ref().map_or("REDIS_PASSWORD_FILE", |_| "REDIS_PASSWORD");
            let reason = "it is for a URL of a Redis that has a user name and no password, such as \
                          redis://order@host:6379, and there is none";
            return Err(ConfigError::of(variable, reason));
        }
        let tls = servers.into_iter().any(RedisUrl::is_tls);
        let given = [
            ("REDIS_TLS_CA", &self.redis_tls_ca),
            ("REDIS_TLS_CERT", &self.redis_tls_cert),
            ("REDIS_TLS_KEY", &self.redis_tls_key),
        ];
        if let (false, Some((variable, _))) = (tls, given.iter().find(|(_, file)| file.is_some())) {
            return Err(ConfigError::of(
                *variable,
                "it is for URLs that begin with rediss://, and there is none",
            ));
        }
        let tls = if tls { Some(self.client()?) } else { None };
        Ok(Access { password, tls })
    }

    /// The TLS client configuration.
    fn client(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        let roots = match &self.redis_tls_ca {
            Some(file) => pem::authorities(file).map_err(|error| bad("REDIS_TLS_CA", &error))?,
            None => pem::system_authorities().map_err(|error| bad("REDIS_TLS_CA", &error))?,
        };
        let client = ClientConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has all of them")
            .with_root_certificates(roots);
        let client = match (&self.redis_tls_cert, &self.redis_tls_key) {
            (None, None) => client.with_no_client_auth(),
            (Some(_), None) => {
                return Err(ConfigError::of(
                    "REDIS_TLS_KEY",
                    "REDIS_TLS_CERT is set; name the file of its key as well",
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError::of(
                    "REDIS_TLS_CERT",
                    "REDIS_TLS_KEY is set; name the file of its certificate as well",
                ));
            }
            (Some(chain), Some(key)) => {
                let chain =
                    pem::certificates(chain).map_err(|error| bad("REDIS_TLS_CERT", &error))?;
                let file = key.display();
                let key = pem::private_key(key).map_err(|error| bad("REDIS_TLS_KEY", &error))?;
                client.with_client_auth_cert(chain, key).map_err(|error| {
                    let reason = format!(
                        "{file}: it does not match the certificate of REDIS_TLS_CERT: {error}"
                    );
                    ConfigError::of("REDIS_TLS_KEY", reason)
                })?
            }
        };
        Ok(Arc::new(client))
    }
}

fn bad(variable: &'static str, error: &PemError) -> ConfigError {
    ConfigError::of(variable, error.to_string())
}
