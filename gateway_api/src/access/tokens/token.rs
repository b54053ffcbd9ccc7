//! Whether a token is good: a signed JWT (RFC 7519, RFC 9068). No IO, no clock.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::contract::ids::CustomerId;
use serde_json::Value;

use super::{
    json::Members,
    jwks::{Algorithm, KeySet},
    scope::Scopes,
};

/// The longest token, in bytes.
pub const TOKEN_LIMIT: usize = 8 * 1024;
/// The longest header of a token, in bytes as it is encoded.
const HEADER_LIMIT: usize = 2 * 1024;
/// The longest name of who calls, in bytes.
const SUBJECT_LIMIT: usize = 255;
/// How far the provider's clock may be from this one, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;
/// The kinds of token that are taken, in lower case; none need be named. Others, an ID token or a
/// logout token of a provider that names them, are not meant for an API.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// What tokens must say.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// Who issues them.
    pub issuer: String,
    /// For whom.
    pub audience: String,
    /// How they may be signed.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the customer who calls, if it is one.
    pub customer_claim: String,
    /// The claim that has the scopes; if there is none, `scope` or `scp`.
    pub scope_claim: Option<String>,
}

/// What a good token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// The provider's name for who calls.
    pub subject: Box<str>,
    /// What they may do.
    pub scopes: Scopes,
    /// The customer who calls, if it is one.
    pub customer: Option<CustomerId>,
    /// When the token expires, in seconds since 1970.
    pub expires: u64,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a token is not good.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum TokenError {
            $($(#[$doc])* $name,)*
        }

        impl TokenError {
            /// For people; nothing of the token is in it.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    /// It is longer than [`TOKEN_LIMIT`].
    TooLong = "the token is longer than 8 KiB";
    /// It is not three parts in base64url, the first two of them JSON objects.
    Malformed = "that is not a signed JWT";
    /// It is signed in a way that is not taken, or not at all.
    Algorithm = "the token is not signed with an algorithm that is taken here";
    /// It is a JWT of another kind.
    Type = "the token is not an access token";
    /// Its header asks for something that is not understood here.
    Critical = "the header of the token has something critical that is not understood here";
    /// No known key has the name that it gives, or it gives none and several could be meant.
    UnknownKey = "the token is signed with a key that the issuer does not have";
    /// The signature is not that of the key.
    Signature = "the signature of the token is wrong";
    /// Somebody else issued it.
    Issuer = "the token is of another issuer";
    /// It is for somebody else.
    Audience = "the token is for another audience";
    /// It has no time of expiry, or a time is no number.
    Times = "the token does not say until when it is valid";
    /// Its time is over.
    Expired = "the token has expired";
    /// Its time is still to come.
    NotYet = "the token is not valid yet";
    /// It does not say who calls.
    Subject = "the token does not say in sub who it is about";
    /// It is not that of this attempt to sign in.
    Nonce = "the token belongs to another attempt to sign in";
    /// Its scopes are neither text nor a list of texts.
    Scope = "the scopes of the token are neither text nor a list of texts";
    /// Its customer is none.
    Customer = "the customer that the token names is not the id of one";
}

/// Checks a token, now in seconds since 1970.
///
/// # Errors
///
/// Why it is not good. [`TokenError::UnknownKey`] may be because the keys are not the latest.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expectations,
    now: u64,
) -> Result<Claims, TokenError> {
    claims(&signed(token, keys, expected)?, expected, now)
}

/// What a token says that the issuer signed, whatever it is for.
pub(super) fn signed(
    token: &str,
    keys: &KeySet,
    expected: &Expectations,
) -> Result<Members, TokenError> {
    if token.len() > TOKEN_LIMIT {
        return Err(TokenError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if header.len() > HEADER_LIMIT {
        return Err(TokenError::Malformed);
    }
    let header = members(header)?;
    // No part has a dot in it any more: it is no character of base64url.
    let signature = decode(signature)?;
    let algorithm = algorithm(&header, expected)?;
    let kid = match header.get("kid") {
        Some(kid) => Some(kid.as_str().ok_or(TokenError::Malformed)?),
        None => None,
    };
    let key = keys.find(kid, algorithm).ok_or(TokenError::UnknownKey)?;
    if !key.has_signed(algorithm, signed.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    members(payload)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn members(part: &str) -> Result<Members, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Malformed)
}

/// How the token says that it is signed, if that is taken.
fn algorithm(header: &Members, expected: &Expectations) -> Result<Algorithm, TokenError> {
    let named = header.text("alg").ok_or(TokenError::Algorithm)?;
    let algorithm: Algorithm = named.parse().map_err(|_| TokenError::Algorithm)?;
    if !expected.algorithms.contains(&algorithm) {
        return Err(TokenError::Algorithm);
    }
    if header.get("crit").is_some() || header.get("b64").is_some() {
        return Err(TokenError::Critical);
    }
    let is_taken = |kind: &Value| {
        kind.as_str().is_some_and(|kind| TYPES.contains(&kind.to_ascii_lowercase().as_str()))
    };
    if header.get("typ").is_some_and(|kind| !is_taken(kind)) {
        return Err(TokenError::Type);
    }
    Ok(algorithm)
}

fn claims(claims: &Members, expected: &Expectations, now: u64) -> Result<Claims, TokenError> {
    check_issuer(claims, expected)?;
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => *one == expected.audience,
        Some(Value::Array(several)) => several.iter().any(|it| *it == *expected.audience),
        _ => false,
    };
    if !for_us {
        return Err(TokenError::Audience);
    }
    let expires = check_times(claims, now)?;
    // Keycloak says there what a token is for.
    if matches!(claims.text("typ"), Some("ID" | "Refresh" | "Logout")) {
        return Err(TokenError::Type);
    }
    let subject = claims.text("sub").filter(|it| (1..=SUBJECT_LIMIT).contains(&it.len()));
    Ok(Claims {
        subject: subject.ok_or(TokenError::Subject)?.into(),
        scopes: scopes(claims, expected.scope_claim.as_deref())?,
        customer: claims.get(&expected.customer_claim).map(customer).transpose()?,
        expires,
    })
}

pub(super) fn check_issuer(claims: &Members, expected: &Expectations) -> Result<(), TokenError> {
    if claims.text("iss") == Some(&expected.issuer) { Ok(()) } else { Err(TokenError::Issuer) }
}

/// When the token expires, if its time has come and is not over.
pub(super) fn check_times(claims: &Members, now: u64) -> Result<u64, TokenError> {
    let expires = time(claims, "exp")?.ok_or(TokenError::Times)?;
    if now >= expires.saturating_add(LEEWAY_SECONDS) {
        return Err(TokenError::Expired);
    }
    for begin in ["nbf", "iat"] {
        if time(claims, begin)?.is_some_and(|begin| begin > now.saturating_add(LEEWAY_SECONDS)) {
            return Err(TokenError::NotYet);
        }
    }
    Ok(expires)
}

/// A NumericDate: seconds since 1970, perhaps with a fraction.
fn time(claims: &Members, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds));
    }
    let seconds = value.as_f64().filter(|seconds| (0.0..1e15).contains(seconds));
    let seconds = seconds.ok_or(TokenError::Times)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 10^15"
    )]
    let whole = seconds as u64;
    Ok(Some(whole))
}

/// Text with spaces between them (RFC 8693), or a list, as some providers have it.
fn scopes(claims: &Members, claim: Option<&str>) -> Result<Scopes, TokenError> {
    let value = match claim {
        Some(claim) => claims.get(claim),
        None => claims.get("scope").or_else(|| claims.get("scp")),
    };
    match value {
        None => Ok(Scopes::default()),
        Some(Value::String(text)) => Ok(text.split(' ').collect()),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            Ok(texts.ok_or(TokenError::Scope)?.into_iter().collect())
        }
        Some(_) => Err(TokenError::Scope),
    }
}

/// A claim that names no customer is no reason to let its bearer reach those of all.
fn customer(claim: &Value) -> Result<CustomerId, TokenError> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => return Err(TokenError::Customer),
    };
    text.parse().map_err(|_| TokenError::Customer)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
