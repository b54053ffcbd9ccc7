//! Validates access tokens: signed JWTs (RFC 7519, RFC 9068). jsonwebtoken verifies the signature, the
//! issuer, the audience, `exp` and `nbf`; the checks that it does not make are here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::contract::ids::CustomerId;
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use serde_json::Value;

use super::{
    json::Members,
    jwks::{self, KeySet},
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

/// Validates a token. `now` is in seconds since 1970; jsonwebtoken reads the system's clock itself.
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
    let claims = decode(token, keys, expected, &expected.audience, now)?;
    // Keycloak puts the type of the token there.
    if matches!(claims.text("typ"), Some("ID" | "Refresh" | "Logout")) {
        return Err(TokenError::Type);
    }
    let subject = claims.text("sub").filter(|it| (1..=SUBJECT_LIMIT).contains(&it.len()));
    Ok(Claims {
        subject: subject.ok_or(TokenError::Subject)?.into(),
        scopes: scopes(&claims, expected.scope_claim.as_deref())?,
        customer: claims.get(&expected.customer_claim).map(customer).transpose()?,
        expires: time(&claims, "exp")?.ok_or(TokenError::Times)?,
    })
}

/// The content of a token that the issuer signed for this audience, and that is valid now.
pub(super) fn decode(
    token: &str,
    keys: &KeySet,
    expected: &Expectations,
    audience: &str,
    now: u64,
) -> Result<Members, TokenError> {
    if token.len() > TOKEN_LIMIT {
        return Err(TokenError::TooLong);
    }
    let (header, _) = token.split_once('.').ok_or(TokenError::Malformed)?;
    if header.len() > HEADER_LIMIT {
        return Err(TokenError::Malformed);
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
    let header: Members = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    let algorithm = algorithm(&header, expected)?;
    let kid = match header.get("kid") {
        Some(kid) => Some(kid.as_str().ok_or(TokenError::Malformed)?),
        None => None,
    };
    let key = keys.find(kid, algorithm).ok_or(TokenError::UnknownKey)?;
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[&expected.issuer]);
    validation.set_audience(&[audience]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECONDS;
    let token = jsonwebtoken::decode::<Members>(token, key.material(), &validation);
    let claims = token.map_err(|error| refusal(error.kind()))?.claims;
    // jsonwebtoken takes a list of issuers as well.
    if claims.text("iss").is_none() {
        return Err(TokenError::Issuer);
    }
    // jsonwebtoken's leeway is a second longer.
    let expires = time(&claims, "exp")?.ok_or(TokenError::Times)?;
    if now >= expires.saturating_add(LEEWAY_SECONDS) {
        return Err(TokenError::Expired);
    }
    if time(&claims, "iat")?.is_some_and(|issued| issued > now.saturating_add(LEEWAY_SECONDS)) {
        return Err(TokenError::NotYet);
    }
    Ok(claims)
}

fn refusal(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYet,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            match claim.as_str() {
                "iss" => TokenError::Issuer,
                "aud" => TokenError::Audience,
                "sub" => TokenError::Subject,
                _ => TokenError::Times,
            }
        }
        _ => TokenError::Malformed,
    }
}

/// The algorithm in the header, if it is accepted.
fn algorithm(header: &Members, expected: &Expectations) -> Result<Algorithm, TokenError> {
    let named = header.text("alg").ok_or(TokenError::Algorithm)?;
    let algorithm = jwks::algorithm(named).map_err(|_| TokenError::Algorithm)?;
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
