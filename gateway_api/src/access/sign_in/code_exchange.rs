//! Exchanges a code for tokens at the provider (OpenID Connect Core, section 3.1.3).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{
    http::problem::Problem,
    secret::{ExposeSecret as _, Secret},
};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use tracing::warn;
use url::form_urlencoded::{self, byte_serialize};

use super::session::Attempt;
use crate::access::tokens::{
    fetch::{Fetcher, ProviderUrl},
    provider::Metadata,
};

/// The answer of the provider.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) access_token: String,
    pub(super) token_type: String,
    pub(super) id_token: Option<String>,
}

/// The exchange of a code for tokens, with the credentials of the client.
#[derive(Clone, Copy)]
pub(super) struct CodeExchange<'a> {
    pub(super) client: &'a str,
    pub(super) secret: Option<&'a Secret>,
    pub(super) redirect_uri: &'a str,
    pub(super) resource: Option<&'a str>,
}

impl CodeExchange<'_> {
    /// Exchanges the code of an attempt for tokens.
    ///
    /// # Errors
    ///
    /// 503: the provider cannot be reached. 400: the provider does not accept the code.
    pub(super) async fn redeem(
        self,
        metadata: &Metadata,
        fetcher: &Fetcher,
        code: &str,
        attempt: &Attempt,
    ) -> Result<Tokens, Problem> {
        let endpoint = endpoint(metadata.token_endpoint.as_ref(), "token_endpoint")?;
        let answer =
            fetcher.post_form(endpoint, self.form(code, &attempt.verifier), self.credentials());
        let (status, body) = answer.await.map_err(|error| {
            warn!("signing in failed: {endpoint}: {error}");
            Problem::unavailable("the sign-in provider does not answer")
        })?;
        if status != StatusCode::OK {
            let reason = error_code(&body);
            warn!("signing in failed: {endpoint} answers {status}: {reason}");
            return Err(if status.is_server_error() {
                Problem::unavailable("the sign-in provider does not answer")
            } else {
                Problem::sign_in_failed(format!(
                    "the provider does not accept its own code ({reason}); sign in again"
                ))
            });
        }
        let tokens: Option<Tokens> = serde_json::from_slice(&body).ok();
        tokens.filter(|it| it.token_type.eq_ignore_ascii_case("bearer")).ok_or_else(|| {
            warn!("signing in failed: {endpoint} gives no bearer token");
            Problem::sign_in_failed("the provider returned no usable token")
        })
    }

    fn form(self, code: &str, verifier: &str) -> String {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.redirect_uri),
            ("code_verifier", verifier),
        ];
        if self.secret.is_none() {
            fields.push(("client_id", self.client));
        }
        fields.extend(self.resource.map(|resource| ("resource", resource)));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
    }

    /// `client_secret_basic`, which every provider must support; id and secret are encoded first
    /// (RFC 6749, section 2.3.1).
    fn credentials(self) -> Option<HeaderValue> {
        let secret = self.secret?.expose_secret();
        let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encode(self.client), encode(secret));
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).expect("ASCII");
        value.set_sensitive(true);
        Some(value)
    }
}

/// The provider's endpoint, if it has one.
///
/// # Errors
///
/// 503: its discovery document does not name the endpoint.
pub(super) fn endpoint<'a>(
    address: Option<&'a ProviderUrl>,
    name: &str,
) -> Result<&'a ProviderUrl, Problem> {
    address.ok_or_else(|| {
        warn!("sign-in is not possible: the provider's discovery document has no {name}");
        Problem::unavailable("the provider does not support sign-in at the moment")
    })
}

/// The `error` of an answer, if it has the form of an error code: other texts are not shown or logged.
fn error_code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let refusal: Option<ErrorBody> = serde_json::from_slice(body).ok();
    plain_code(refusal.as_ref().map_or("", |it| &it.error)).to_owned()
}

/// An error code of OAuth 2, or a text for its absence.
pub(super) fn plain_code(code: &str) -> &str {
    let plain = (1..=40).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if plain { code } else { "without a reason" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_a_secret_shows_it_in_the_header_and_one_without_names_itself() {
        let secret = "p:ß word".into();
        let exchange = CodeExchange {
            client: "orders web",
            secret: Some(&secret),
            redirect_uri: "http://localhost/cb",
            resource: Some("https://orders.example/api"),
        };
        let form = "grant_type=authorization_code&code=c%26d&redirect_uri=http%3A%2F%2Flocalhost%2Fcb\
                    &code_verifier=v";
        let resource = "&resource=https%3A%2F%2Forders.example%2Fapi";
        assert_eq!(exchange.form("c&d", "v"), format!("{form}{resource}"));
        let header = exchange.credentials().unwrap();
        let pair = STANDARD.encode("orders+web:p%3A%C3%9F+word");
        assert_eq!(header.to_str().unwrap(), format!("Basic {pair}"));
        assert!(header.is_sensitive());
        let public = CodeExchange { secret: None, resource: None, ..exchange };
        assert_eq!(public.form("c&d", "v"), format!("{form}&client_id=orders+web"));
        assert!(public.credentials().is_none());
    }

    #[test]
    fn only_the_error_code_of_a_provider_is_repeated() {
        assert_eq!(error_code(br#"{"error":"invalid_grant"}"#), "invalid_grant");
        for other in [&br#"{"error":"<b>"}"#[..], b"{}", b"", br#"{"error":"Call 0900 now"}"#] {
            assert_eq!(error_code(other), "without a reason");
        }
    }
}
