//! Tokens from a key of one's own, where there is no OpenID provider.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use common::ids::CustomerId;
use ring::signature::Ed25519KeyPair;
use serde_json::json;
use stack::token_key;

/// What a token says.
#[derive(Args, Debug)]
pub struct Wanted {
    /// The customer whose token it is; without it, it is no customer's
    #[arg(long)]
    customer: Option<CustomerId>,
    /// What it allows: orders:write, orders:read, report:read, customers:write, inventory:write, admin
    #[arg(long, required = true, value_delimiter = ',')]
    scope: Vec<String>,
    /// Whose it is [default: customer-<customer>, or operator]
    #[arg(long)]
    subject: Option<String>,
    /// For how many seconds it is valid
    #[arg(long, default_value_t = 3_600)]
    ttl: u64,
    /// Who issues it: the gateway's OIDC_ISSUER
    #[arg(long, env = "OIDC_ISSUER", default_value = token_key::ISSUER)]
    issuer: String,
    /// For whom it is: the gateway's OIDC_AUDIENCE
    #[arg(long, env = "OIDC_AUDIENCE", default_value = token_key::AUDIENCE)]
    audience: String,
    /// The key, made at first use; jwks.json beside it is for the gateway's OIDC_JWKS_FILE
    /// [default: that of the stack's directory]
    #[arg(long)]
    key: Option<PathBuf>,
}

/// The token, signed with the key of the stack in this directory unless another is named.
///
/// # Errors
///
/// The key cannot be read or made.
pub fn token(wanted: &Wanted, stack: &Path) -> anyhow::Result<String> {
    let path = wanted.key.clone().unwrap_or_else(|| token_key::place(stack));
    let key = token_key::read_or_make(&path)?;
    let key = Ed25519KeyPair::from_pkcs8(&key)
        .ok()
        .with_context(|| format!("{} is no Ed25519 key in PKCS #8", path.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let subject = wanted.subject.clone().unwrap_or_else(|| match &wanted.customer {
        Some(customer) => format!("customer-{customer}"),
        None => "operator".to_owned(),
    });
    let mut claims = json!({
        "iss": wanted.issuer, "aud": wanted.audience, "sub": subject, "iat": now,
        "exp": now + wanted.ttl, "scope": wanted.scope.join(" "),
    });
    if let Some(customer) = &wanted.customer {
        claims["customer_id"] = json!(customer);
    }
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": token_key::KID });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    Ok(format!("{signed}.{}", encode(key.sign(signed.as_bytes()).as_ref())))
}
