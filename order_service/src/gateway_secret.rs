//! Only the gateway gets in: it shows a secret.

use std::sync::Arc;

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
    secret::Secret,
};
use ring::{
    hmac::{self, Key, Tag},
    rand::SystemRandom,
};

/// The secrets that are taken, as tags under a key of this process: comparing tags takes as long
/// for any that is wrong.
#[derive(Debug)]
pub struct Secrets {
    key: Key,
    tags: Vec<Tag>,
}

impl Secrets {
    /// Those that are taken; if there are none, nobody is asked for one.
    ///
    /// # Errors
    ///
    /// The system gives no random numbers.
    pub fn new(secrets: &[Secret]) -> anyhow::Result<Self> {
        let key = Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let tag = |secret: &Secret| hmac::sign(&key, secret.expose().as_bytes());
        let tags = secrets.iter().map(tag).collect();
        Ok(Self { key, tags })
    }

    fn take(&self, shown: &[u8]) -> bool {
        // All are looked at, whichever fits.
        let fitting =
            self.tags.iter().filter(|tag| hmac::verify(&self.key, shown, tag.as_ref()).is_ok());
        self.tags.is_empty() || fitting.count() > 0
    }
}

/// Lets the gateway in, or answers 401.
pub(crate) async fn admit(
    State(secrets): State<Arc<Secrets>>,
    request: Request,
    next: Next,
) -> Response {
    let shown = request.headers().get(&GATEWAY_SECRET).map(|value| value.as_bytes());
    if secrets.take(shown.unwrap_or_default()) {
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
    fn each_of_the_secrets_is_taken_and_nothing_else() {
        let secrets = Secrets::new(&["new-0123456789".into(), "old-0123456789".into()]).unwrap();
        for (shown, taken) in [
            ("new-0123456789", true),
            ("old-0123456789", true),
            ("new-012345678", false),
            ("new-01234567890", false),
            ("NEW-0123456789", false),
            ("new-0123456789,old-0123456789", false),
            ("", false),
        ] {
            assert_eq!(secrets.take(shown.as_bytes()), taken, "{shown}");
        }
        assert!(Secrets::new(&[]).unwrap().take(b""), "nobody is asked");
        assert!(!format!("{secrets:?}").contains("0123"), "{secrets:?}");
    }
}
