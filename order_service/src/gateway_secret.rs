//! Authentication of the gateway by a shared secret.

use std::sync::Arc;

use aws_lc_rs::{
    hmac::{self, Key, Tag},
    rand::SystemRandom,
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use common::{
    http::{
        problem::{Challenge, Problem},
        request::GATEWAY_SECRET,
    },
    secret::{ExposeSecret as _, Secret},
};

/// The accepted secrets, as tags under a key of this process: comparing tags takes the same time for
/// every wrong secret.
#[derive(Debug)]
pub struct GatewaySecrets {
    key: Key,
    tags: Vec<Tag>,
}

impl GatewaySecrets {
    /// Accepts these secrets; without any, every request is accepted.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(secrets: &[Secret]) -> anyhow::Result<Self> {
        let key = Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let tag = |secret: &Secret| hmac::sign(&key, secret.expose_secret().as_bytes());
        let tags = secrets.iter().map(tag).collect();
        Ok(Self { key, tags })
    }

    fn accepts(&self, shown: &[u8]) -> bool {
        // All secrets are compared, whichever matches.
        let matching =
            self.tags.iter().filter(|tag| hmac::verify(&self.key, shown, tag.as_ref()).is_ok());
        self.tags.is_empty() || matching.count() > 0
    }
}

/// Passes requests of the gateway on, and answers 401 to all others.
pub(crate) async fn authenticate(
    State(secrets): State<Arc<GatewaySecrets>>,
    request: Request,
    next: Next,
) -> Response {
    let shown = request.headers().get(&GATEWAY_SECRET).map(|value| value.as_bytes());
    if secrets.accepts(shown.unwrap_or_default()) {
        return next.run(request).await;
    }
    Problem::unauthenticated("only the gateway is served here; send X-Gateway-Secret")
        .challenging(Challenge::GatewaySecret)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_accepted_and_nothing_else() {
        let secrets =
            GatewaySecrets::new(&["new-0123456789".into(), "old-0123456789".into()]).unwrap();
        for (shown, accepted) in [
            ("new-0123456789", true),
            ("old-0123456789", true),
            ("new-012345678", false),
            ("new-01234567890", false),
            ("NEW-0123456789", false),
            ("new-0123456789,old-0123456789", false),
            ("", false),
        ] {
            assert_eq!(secrets.accepts(shown.as_bytes()), accepted, "{shown}");
        }
        assert!(GatewaySecrets::new(&[]).unwrap().accepts(b""), "no secret is required");
        assert!(!format!("{secrets:?}").contains("0123"), "{secrets:?}");
    }
}
