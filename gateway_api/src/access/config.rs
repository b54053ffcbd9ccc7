//! Configuration of tokens and of sign-in.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use common::{config_error::ConfigError, pem, process::auth::AuthConfig};
use jsonwebtoken::Algorithm;

use super::{
    sign_in::config::SignInConfig,
    tokens::{
        fetch::ProviderUrl,
        jwks::{self, KeySet},
        token::Expectations,
    },
};

/// The options of authentication.
#[derive(Args, Clone, Debug)]
pub struct OidcConfig {
    #[command(flatten)]
    pub(super) auth: AuthConfig,
    /// Issuer of the tokens: the OpenID provider's URL, exactly as in the claim iss
    #[arg(long, env)]
    pub(super) oidc_issuer: Option<String>,
    /// Required audience of the tokens
    #[arg(long, env)]
    oidc_audience: Option<String>,
    /// File with the issuer's keys (JWKS), read instead of the provider's key set; reloaded on change
    #[arg(long, env)]
    pub(super) oidc_jwks_file: Option<PathBuf>,
    /// Certificate authorities (PEM) that are trusted for the provider, instead of the system's
    #[arg(long, env)]
    pub(super) oidc_ca: Option<PathBuf>,
    /// Accepted signature algorithms
    #[arg(
        long,
        env,
        value_delimiter = ',',
        value_parser = jwks::algorithm,
        default_value = "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA"
    )]
    auth_algorithms: Vec<Algorithm>,
    /// Claim with the customer id; a caller whose token lacks the claim is not a customer
    #[arg(long, env, default_value = "customer_id", value_parser = claim)]
    auth_customer_claim: String,
    /// Claim with the scopes, separated by spaces or as a list [default: scope, or else scp]
    #[arg(long, env, value_parser = claim)]
    auth_scope_claim: Option<String>,
    #[command(flatten)]
    pub(super) sign_in: SignInConfig,
}

fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 100 {
        return Err("1 to 100 characters".to_owned());
    }
    Ok(text.to_owned())
}

impl OidcConfig {
    /// The secret that the gateway and order_service share.
    pub fn auth(&self) -> &AuthConfig {
        &self.auth
    }

    /// Checks the configuration, for a gateway that listens there.
    ///
    /// # Errors
    ///
    /// An option is missing, or options contradict each other.
    pub fn check(&self, http: SocketAddr) -> Result<(), ConfigError> {
        self.auth.check(http)?;
        if self.auth.is_off() {
            return Ok(());
        }
        let needed = |variable, value: &Option<String>, what: &str| match value.as_deref() {
            Some("") | None => Err(ConfigError::of(
                variable,
                format!("{what}; AUTH_MODE=required needs it (AUTH_MODE=off admits all callers)"),
            )),
            Some(_) => Ok(()),
        };
        needed("OIDC_ISSUER", &self.oidc_issuer, "set the issuer of the tokens")?;
        needed("OIDC_AUDIENCE", &self.oidc_audience, "set the audience of the tokens")?;
        match &self.oidc_jwks_file {
            Some(path) => {
                let file = |reason: String| {
                    ConfigError::of("OIDC_JWKS_FILE", format!("{}: {reason}", path.display()))
                };
                let json = std::fs::read(path).map_err(|error| file(error.to_string()))?;
                KeySet::parse(&json).map_err(|reason| file(reason.to_owned()))?;
            }
            None => {
                let issuer: Result<ProviderUrl, _> = self.issuer().parse();
                issuer.map_err(|reason| ConfigError::of("OIDC_ISSUER", reason))?;
            }
        }
        if let Some(path) = &self.oidc_ca {
            pem::authorities(path)
                .map_err(|error| ConfigError::of("OIDC_CA", error.to_string()))?;
        }
        self.sign_in.check(self.oidc_jwks_file.is_some())
    }

    pub(super) fn issuer(&self) -> String {
        self.oidc_issuer.clone().unwrap_or_default()
    }

    /// The expected claims of tokens.
    pub(super) fn expectations(&self) -> Expectations {
        Expectations {
            issuer: self.issuer(),
            audience: self.oidc_audience.clone().unwrap_or_default(),
            algorithms: self.auth_algorithms.clone(),
            customer_claim: self.auth_customer_claim.clone(),
            scope_claim: self.auth_scope_claim.clone(),
        }
    }
}
