//! Validates ID tokens (OpenID Connect Core, section 3.1.3.7) and reads the display name of the user.

use serde_json::Value;

use super::{
    json::Members,
    jwks::KeySet,
    token::{Expectations, TokenError, decode},
};

/// The display name of the user, if the token belongs to this client and attempt; `now` is in seconds
/// since 1970. The signature is verified although the token came from the provider over TLS.
///
/// # Errors
///
/// The reason why the token is invalid.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expectations,
    (client, nonce): (&str, &str),
    now: u64,
) -> Result<String, TokenError> {
    let claims = decode(token, keys, expected, client, now)?;
    if !is_for(&claims, client) {
        return Err(TokenError::Audience);
    }
    // Keycloak puts the type of the token there.
    if claims.text("typ").is_some_and(|kind| kind != "ID") {
        return Err(TokenError::Type);
    }
    if claims.text("nonce") != Some(nonce) {
        return Err(TokenError::Nonce);
    }
    let subject = claims.text("sub").filter(|it| !it.is_empty()).ok_or(TokenError::Subject)?;
    let named = ["name", "preferred_username"].into_iter().find_map(|name| claims.text(name));
    Ok(named.filter(|it| !it.is_empty()).unwrap_or(subject).to_owned())
}

/// Whether the token, which has this client in its audience, was issued for it, and not for another one that
/// passed it on.
fn is_for(claims: &Members, client: &str) -> bool {
    match claims.text("azp") {
        Some(to) => to == client,
        None => claims.get("aud").and_then(Value::as_array).is_none_or(|all| all.len() == 1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_token_is_for_the_client_that_asked() {
        for (claims, passes) in [
            (json!({ "aud": "web" }), true),
            (json!({ "aud": ["web"], "azp": "web" }), true),
            (json!({ "aud": ["web", "api"], "azp": "web" }), true),
            (json!({ "aud": ["web", "api"] }), false),
            (json!({ "aud": "web", "azp": "other" }), false),
            (json!({ "aud": ["web", "api"], "azp": "api" }), false),
        ] {
            let members: Members = serde_json::from_value(claims.clone()).unwrap();
            assert_eq!(is_for(&members, "web"), passes, "{claims}");
        }
    }
}
