//! Validates access tokens: signed JWTs (RFC 7519, RFC 9068). No IO, no clock.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::contract::ids::CustomerId;
use serde_json::Value;

use super::{
    json::Members,
    jwks::{Algorithm, KeySet},
    scopes::Scopes,
};

/// The maximum length of a token, in bytes.
pub const TOKEN_LIMIT: usize = 8 * 1024;
/// The maximum length of a token's encoded header, in bytes.
const HEADER_LIMIT: usize = 2 * 1024;
/// The maximum length of a subject, in bytes.
const SUBJECT_LIMIT: usize = 255;
/// The tolerated difference between the provider's clock and this one, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;
/// The accepted types of tokens, in lower case; the type is optional. Other types, such as ID tokens and
/// logout tokens, are not meant for an API.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// The expected claims of tokens.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// The issuer.
    pub issuer: String,
    /// The audience.
    pub audience: String,
    /// The accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The claim with the id of the calling customer, if the caller is a customer.
    pub customer_claim: String,
    /// The claim with the scopes; `None` stands for `scope` or `scp`.
    pub scope_claim: Option<String>,
}

/// The claims of a valid token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// The provider's name for the caller.
    pub subject: Box<str>,
    /// The scopes of the caller.
    pub scopes: Scopes,
    /// The calling customer, if the caller is a customer.
    pub customer: Option<CustomerId>,
    /// When the token expires, in seconds since 1970.
    pub expires: u64,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// The reason why a token is invalid.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum TokenError {
            $($(#[$doc])* $name,)*
        }

        impl TokenError {
            /// The text for clients, which contains nothing of the token.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    /// The token is longer than [`TOKEN_LIMIT`].
    TooLong = "the token is longer than 8 KiB";
    /// The token is not three parts in base64url, the first two of them JSON objects.
    Malformed = "the token is not a signed JWT";
    /// The token is not signed, or with an algorithm that is not accepted.
    Algorithm = "the token is not signed with an accepted algorithm";
    /// The token is a JWT of another type.
    Type = "the token is not an access token";
    /// The header requires an extension that is not supported here.
    Critical = "the header of the token requires an extension that is not supported here";
    /// No known key has the name in the header, or the header has no name and there are several keys.
    UnknownKey = "the token is signed with a key that the issuer does not have";
    /// The signature does not match the key.
    Signature = "the signature of the token is wrong";
    /// The token has another issuer.
    Issuer = "the token has another issuer";
    /// The token has another audience.
    Audience = "the token has another audience";
    /// The token has no time of expiry, or a time is not a number.
    Times = "the token has no valid time of expiry";
    /// The token has expired.
    Expired = "the token has expired";
    /// The token becomes valid later.
    NotYet = "the token is not valid yet";
    /// The token names no subject.
    Subject = "the token has no valid subject (sub)";
    /// The token does not belong to this attempt to sign in.
    Nonce = "the token belongs to another attempt to sign in";
    /// The scopes are neither a string nor a list of strings.
    Scope = "the scopes of the token are neither a string nor a list of strings";
    /// The customer is not a valid id.
    Customer = "the customer in the token is not a valid customer id";
}

/// Validates a token; `now` is in seconds since 1970.
///
/// # Errors
///
/// The reason why the token is invalid. After [`TokenError::UnknownKey`] newer keys may help.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expectations,
    now: u64,
) -> Result<Claims, TokenError> {
    claims(&signed(token, keys, expected)?, expected, now)
}

/// The content of a token that the issuer signed, for any purpose.
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
    // No part contains another dot, which is not a character of base64url.
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

/// The algorithm in the header, if it is accepted.
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
    // Keycloak puts the type of the token there.
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

/// The time of expiry, if the token is valid now.
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

/// The scopes, separated by spaces (RFC 8693), or as a list, the form of some providers.
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

/// The customer id. An invalid claim is an error, so that its bearer never accesses all customers.
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
