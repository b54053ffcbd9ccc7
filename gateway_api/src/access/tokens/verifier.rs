//! Verifies tokens with the keys of the provider.

use std::sync::Arc;

use common::{
    clock::now_millis,
    http::problem::{Challenge, Problem},
};
use tracing::debug;

use super::{
    identity,
    jwks::KeySet,
    provider::Provider,
    token::{self, Claims, Expectations, TokenError},
};

/// Verifies access tokens and ID tokens.
#[derive(Debug)]
pub struct TokenVerifier {
    provider: Arc<Provider>,
    expected: Expectations,
}

impl TokenVerifier {
    /// Verifies the tokens of this provider.
    pub(crate) fn new(provider: Arc<Provider>, expected: Expectations) -> Self {
        Self { provider, expected }
    }

    /// The OpenID provider.
    pub(crate) fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The audience that tokens must name.
    pub(crate) fn audience(&self) -> &str {
        &self.expected.audience
    }

    /// The claims of an access token.
    ///
    /// # Errors
    ///
    /// 401: the token is invalid. 503: the keys are not known.
    pub(crate) async fn claims(&self, token: &str) -> Result<Claims, Problem> {
        self.checked(|keys: &KeySet| token::verify(token, keys, &self.expected, now())).await
    }

    /// The display name of a user who signed in, from the ID token for this client and attempt.
    ///
    /// # Errors
    ///
    /// As [`TokenVerifier::claims`].
    pub(crate) async fn identity(
        &self,
        token: &str,
        client: &str,
        nonce: &str,
    ) -> Result<String, Problem> {
        let verify =
            |keys: &KeySet| identity::verify(token, keys, &self.expected, (client, nonce), now());
        self.checked(verify).await
    }

    /// The content of a token, verified again with newer keys if its key is unknown.
    async fn checked<T>(
        &self,
        verify: impl Fn(&KeySet) -> Result<T, TokenError>,
    ) -> Result<T, Problem> {
        let keys = self.provider.keys()?;
        let checked = match verify(&keys) {
            Err(TokenError::UnknownKey) => match self.provider.keys_after(&keys).await? {
                Some(keys) => verify(&keys),
                None => Err(TokenError::UnknownKey),
            },
            checked => checked,
        };
        checked.map_err(|error| {
            debug!("a token was refused: {}", error.text());
            invalid_token(error.text())
        })
    }
}

fn invalid_token(why: &str) -> Problem {
    Problem::unauthenticated(why).challenging(Challenge::ValidToken)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    now_millis() / 1_000
}
