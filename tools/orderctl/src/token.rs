//! Tokens signed with a local key, for systems without an OpenID provider.

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use common::{
    clock::now_millis,
    contract::{ids::CustomerId, route::Scope},
};
use serde_json::json;
use stack::token_key::{self, TokenKey};

/// The longest validity of a token: a year, in seconds. A token cannot be revoked.
const TTL_MAX_SECONDS: u64 = 365 * 24 * 3_600;

/// The contents of a token.
#[derive(Args, Debug)]
pub struct TokenRequest {
    /// The customer of the token; without it, the token has no customer
    #[arg(long)]
    pub customer: Option<CustomerId>,
    /// The scopes; repeat or separate by commas
    // The gateway ignores unknown scopes, so a misspelt one would be noticed late.
    #[arg(long, required = true, value_delimiter = ',', value_parser = Scope::ALL.map(Scope::name))]
    pub scope: Vec<String>,
    /// The subject [default: customer-101 and the like, or operator]
    #[arg(long)]
    pub subject: Option<String>,
    /// Validity in seconds, a year at most
    #[arg(long, default_value_t = 3_600, value_parser = value_parser!(u64).range(1..=TTL_MAX_SECONDS))]
    pub ttl: u64,
    /// The issuer: the gateway's OIDC_ISSUER
    #[arg(long, env = "OIDC_ISSUER", default_value = token_key::ISSUER)]
    pub issuer: String,
    /// The audience: the gateway's OIDC_AUDIENCE
    #[arg(long, env = "OIDC_AUDIENCE", default_value = token_key::AUDIENCE)]
    pub audience: String,
    /// The key, created at first use; KEY.jwks.json beside it is for the gateway's OIDC_JWKS_FILE
    /// [default: the key in the stack's directory, which `cargo stack --auth` creates]
    #[arg(long)]
    pub key: Option<PathBuf>,
}

impl TokenRequest {
    /// A request for a token with these scopes and no customer, for a gateway of a stack.
    #[must_use]
    pub fn with_scopes(scopes: &[&str]) -> Self {
        Self {
            customer: None,
            scope: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            subject: None,
            ttl: 3_600,
            issuer: token_key::ISSUER.to_owned(),
            audience: token_key::AUDIENCE.to_owned(),
            key: None,
        }
    }
}

/// The token, signed with the key of the stack in this directory unless the request names another.
///
/// # Errors
///
/// The key cannot be read or created, or no stack has created one.
pub fn token(wanted: &TokenRequest, stack: &Path) -> anyhow::Result<String> {
    let key = match &wanted.key {
        Some(path) => TokenKey::read_or_make(path)?,
        None => key_of_stack(stack)?,
    };
    signed(wanted, &key)
}

/// The key of a stack. It is not created here, because no stack would know it.
fn key_of_stack(stack: &Path) -> anyhow::Result<TokenKey> {
    let path = token_key::key_path(stack);
    anyhow::ensure!(
        path.exists(),
        "there is no {}: start `cargo stack --auth`, which makes it, name the directory of one with \
         --stack, or a key of your own with --key",
        path.display()
    );
    Ok(TokenKey::read(&path)?)
}

/// The token, signed with this key.
pub(crate) fn signed(wanted: &TokenRequest, key: &TokenKey) -> anyhow::Result<String> {
    let now = now_millis() / 1_000;
    let subject = wanted.subject.clone().unwrap_or_else(|| match &wanted.customer {
        Some(customer) => format!("customer-{customer}"),
        None => "operator".to_owned(),
    });
    let mut claims = json!({
        "iss": wanted.issuer, "aud": wanted.audience, "sub": subject, "iat": now,
        "exp": now.saturating_add(wanted.ttl), "scope": wanted.scope.join(" "),
    });
    if let Some(customer) = &wanted.customer {
        claims["customer_id"] = json!(customer);
    }
    Ok(key.token(&claims)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        wanted: TokenRequest,
    }

    fn parsed(args: &[&str]) -> Result<TokenRequest, String> {
        let line = Line::try_parse_from([&["token"], args].concat());
        line.map(|line| line.wanted).map_err(|error| error.to_string())
    }

    /// A decoded part of a token.
    fn part(token: &str, number: usize) -> Value {
        let part = token.split('.').nth(number).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_unknown_scope_is_refused_with_the_list_of_scopes() {
        for scope in Scope::ALL.map(Scope::name) {
            assert_eq!(parsed(&["--scope", scope]).unwrap().scope, [scope]);
        }
        let two = parsed(&["--scope", "orders:write,orders:read"]).unwrap();
        assert_eq!(two.scope, ["orders:write", "orders:read"]);
        for wrong in ["orders:wirte", "orders:write,orders:wirte", "orders:write orders:read", ""] {
            let error = parsed(&["--scope", wrong]).unwrap_err();
            assert!(
                Scope::ALL.iter().all(|scope| error.contains(scope.name())),
                "{wrong:?}: {error}"
            );
        }
    }

    #[test]
    fn a_token_is_valid_for_a_second_at_least_and_a_year_at_most() {
        for (ttl, taken) in [("1", true), ("31536000", true), ("0", false), ("31536001", false)] {
            assert_eq!(parsed(&["--scope", "admin", "--ttl", ttl]).is_ok(), taken, "{ttl}");
        }
        let error = parsed(&["--scope", "admin", "--ttl", "18446744073709551615"]).unwrap_err();
        assert!(error.contains("--ttl"), "{error}");
    }

    #[test]
    fn no_key_is_made_where_there_is_no_stack() {
        let dir = tempfile::tempdir().unwrap();
        let mistyped = dir.path().join("dtaa");
        let wanted = TokenRequest::with_scopes(&["admin"]);
        let error = token(&wanted, &mistyped).unwrap_err().to_string();
        for word in ["dtaa/auth/token-key.pk8", "cargo stack --auth", "--stack", "--key"] {
            assert!(error.contains(word), "{error}");
        }
        assert!(!mistyped.exists());
    }

    #[test]
    fn a_token_names_its_key_and_its_scopes() {
        let dir = tempfile::tempdir().unwrap();
        let path = token_key::key_path(dir.path());
        let with_key = TokenRequest {
            key: Some(path.clone()),
            ..TokenRequest::with_scopes(&["orders:read", "admin"])
        };
        let made = token(&with_key, Path::new("nowhere")).unwrap();
        let later = token(&TokenRequest { key: None, ..with_key }, dir.path()).unwrap();
        let set: Value =
            serde_json::from_slice(&fs::read(token_key::jwks(&path)).unwrap()).unwrap();
        for token in [made, later] {
            assert_eq!(part(&token, 0)["kid"], set["keys"][0]["kid"]);
            assert_eq!(part(&token, 1)["scope"], "orders:read admin");
        }
    }
}
