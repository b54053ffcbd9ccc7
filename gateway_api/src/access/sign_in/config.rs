//! Configuration of sign-in.

use std::path::{Path, PathBuf};

use clap::Args;
use common::{
    config_error::ConfigError,
    secret::{self, ExposeSecret as _, Secret},
};

use super::origin::PublicUrl;

/// The minimum length of a secret that seals sessions, in characters.
const SECRET_LENGTH: usize = 32;

/// The options of sign-in: all must be set, or none. (Only some providers require a client secret.)
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SignInConfig {
    /// Client id of the gateway at the provider, for sign-in with a browser
    #[arg(long, env)]
    oidc_client_id: Option<String>,
    /// Client secret, if the provider requires one
    #[arg(long, env, hide_env_values = true)]
    oidc_client_secret: Option<Secret>,
    /// File with OIDC_CLIENT_SECRET
    #[arg(long, env)]
    oidc_client_secret_file: Option<PathBuf>,
    /// Scopes that sign-in requests; the provider may grant fewer
    #[arg(
        long,
        env,
        default_value = "openid orders:write orders:read report:read customers:write inventory:write admin"
    )]
    oidc_scopes: String,
    /// Secret that seals session cookies, at least 32 characters, the same for all gateways. Several,
    /// separated by commas: the first seals, each opens
    #[arg(long, env, hide_env_values = true)]
    session_secret: Option<Secret>,
    /// File with SESSION_SECRET, or with one secret on each line
    #[arg(long, env)]
    session_secret_file: Option<PathBuf>,
    /// Address of the gateway for browsers, e.g. https://orders.example
    #[arg(long, env)]
    public_url: Option<String>,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) client: String,
    pub(super) client_secret: Option<Secret>,
    pub(super) scopes: String,
    pub(super) secrets: Vec<Secret>,
    pub(super) public: PublicUrl,
}

impl SignInConfig {
    /// Checks the configuration. `keys_in_file`: there is no provider for sign-in.
    ///
    /// # Errors
    ///
    /// An option is missing, or options contradict each other.
    pub(crate) fn check(&self, keys_in_file: bool) -> Result<(), ConfigError> {
        match self.settings()? {
            Some(_) if keys_in_file => Err(ConfigError::of(
                "OIDC_JWKS_FILE",
                "browsers sign in with a provider, whose keys are not in a file; leave it out, or \
                 OIDC_CLIENT_ID",
            )),
            _ => Ok(()),
        }
    }

    /// The settings of sign-in; `None` if sign-in is not configured.
    ///
    /// # Errors
    ///
    /// An option is missing or invalid.
    pub(super) fn settings(&self) -> Result<Option<Settings>, ConfigError> {
        let client_secret = given(
            ("OIDC_CLIENT_SECRET", self.oidc_client_secret.as_ref()),
            ("OIDC_CLIENT_SECRET_FILE", self.oidc_client_secret_file.as_deref()),
        )?;
        let session_secret = given(
            ("SESSION_SECRET", self.session_secret.as_ref()),
            ("SESSION_SECRET_FILE", self.session_secret_file.as_deref()),
        )?;
        let client = self.oidc_client_id.as_deref().filter(|it| !it.is_empty());
        let public = self.public_url.as_deref().filter(|it| !it.is_empty());
        let all = [
            ("OIDC_CLIENT_ID", client.is_some()),
            ("SESSION_SECRET", session_secret.is_some()),
            ("PUBLIC_URL", public.is_some()),
        ];
        if client_secret.is_none() && all.iter().all(|(_, there)| !there) {
            return Ok(None);
        }
        if let Some((missing, _)) = all.into_iter().find(|(_, there)| !there) {
            let reason = "signing in needs OIDC_CLIENT_ID, SESSION_SECRET (or SESSION_SECRET_FILE) \
                          and PUBLIC_URL: all of them, or none";
            return Err(ConfigError::of(missing, reason));
        }
        let public = public.unwrap_or_default().parse();
        let public = public.map_err(|reason: String| ConfigError::of("PUBLIC_URL", reason))?;
        if self.oidc_scopes.split_whitespace().all(|scope| scope != "openid") {
            return Err(ConfigError::of("OIDC_SCOPES", "openid must be among them"));
        }
        Ok(Some(Settings {
            client: client.unwrap_or_default().to_owned(),
            client_secret,
            scopes: self.oidc_scopes.clone(),
            secrets: secrets(session_secret.as_ref())?,
            public,
        }))
    }
}

/// Treats an empty variable as unset, because docker-compose passes unset variables on as empty ones.
fn given(
    (variable, value): (&'static str, Option<&Secret>),
    file: (&'static str, Option<&Path>),
) -> Result<Option<Secret>, ConfigError> {
    secret::given((variable, value.filter(|it| !it.expose_secret().is_empty())), file)
}

fn secrets(given: Option<&Secret>) -> Result<Vec<Secret>, ConfigError> {
    let text = given.map_or("", Secret::expose_secret);
    let texts = text.split([',', '\n', '\r']).map(str::trim).filter(|text| !text.is_empty());
    let secrets: Vec<Secret> = texts.map(Secret::from).collect();
    if secrets.is_empty()
        || secrets.iter().any(|secret| secret.expose_secret().len() < SECRET_LENGTH)
    {
        let reason = format!("a secret has at least {SECRET_LENGTH} characters");
        return Err(ConfigError::of("SESSION_SECRET", reason));
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn config() -> SignInConfig {
        SignInConfig {
            oidc_client_id: Some("orders-web".to_owned()),
            session_secret: Some(SECRET.into()),
            public_url: Some("http://localhost:5000".to_owned()),
            oidc_scopes: "openid orders:read".to_owned(),
            ..SignInConfig::default()
        }
    }

    #[test]
    fn sign_in_is_configured_completely_or_not_at_all() {
        assert!(SignInConfig::default().settings().unwrap().is_none());
        assert!(config().settings().unwrap().is_some());
        let without = |change: fn(&mut SignInConfig)| {
            let mut config = config();
            change(&mut config);
            config.check(false).unwrap_err().variable
        };
        assert_eq!(without(|it| it.oidc_client_id = None), "OIDC_CLIENT_ID");
        assert_eq!(without(|it| it.oidc_client_id = Some(String::new())), "OIDC_CLIENT_ID");
        assert_eq!(without(|it| it.session_secret = None), "SESSION_SECRET");
        assert_eq!(without(|it| it.session_secret = Some("short".into())), "SESSION_SECRET");
        assert_eq!(without(|it| it.public_url = None), "PUBLIC_URL");
        let public =
            |it: &mut SignInConfig| it.public_url = Some("http://orders.example".to_owned());
        assert_eq!(without(public), "PUBLIC_URL");
        assert_eq!(without(|it| it.oidc_scopes = "orders:read".to_owned()), "OIDC_SCOPES");
        assert_eq!(config().check(true).unwrap_err().variable, "OIDC_JWKS_FILE");
        let only_secret =
            SignInConfig { oidc_client_secret: Some("x".into()), ..SignInConfig::default() };
        assert_eq!(only_secret.check(false).unwrap_err().variable, "OIDC_CLIENT_ID");
    }

    #[test]
    fn several_secrets_are_split_and_none_is_shown() {
        let mut config = config();
        config.session_secret = Some(format!("{SECRET}, another-{SECRET}").into());
        let settings = config.settings().unwrap().unwrap();
        assert_eq!(settings.secrets.len(), 2);
        assert!(!format!("{config:?}{settings:?}").contains(SECRET));
    }
}
