//! Encrypted and authenticated texts that browsers keep for the gateway.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::secret::{ExposeSecret as _, Secret};

/// The purpose of a text: a text of one purpose cannot be opened for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A session.
    Session,
    /// An attempt to sign in.
    Attempt,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"orders session 1",
            Self::Attempt => b"orders sign-in attempt 1",
        }
    }
}

/// Seals with the first key and opens with each, so that keys can be rotated while gateways run.
pub(super) struct Sealer(Vec<[LessSafeKey; 2]>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(secret)")
    }
}

impl Sealer {
    /// Keys derived from these secrets: gateways with the same secrets open each other's texts.
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let keys = |secret: &Secret| [Purpose::Session, Purpose::Attempt].map(|it| key(secret, it));
        Self(secrets.iter().map(keys).collect())
    }

    /// Seals a text, in base64url. AES-256-GCM with random nonces is safe for 2^32 texts.
    pub(super) fn seal(&self, purpose: Purpose, text: &str) -> String {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system has random numbers");
        let mut sealed = text.as_bytes().to_vec();
        let keys = self.0.first().expect("there is a secret");
        keys[purpose as usize]
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .expect("the text is short");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed[..]].concat())
    }

    /// Opens a text that was sealed for this purpose with one of the keys; `None` if it was changed.
    pub(super) fn open(&self, purpose: Purpose, sealed: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|keys| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = sealed.to_vec();
            let text = keys[purpose as usize].open_in_place(nonce, Aad::empty(), &mut text).ok()?;
            String::from_utf8(text.to_vec()).ok()
        })
    }
}

/// Each purpose has a key of its own.
fn key(secret: &Secret, purpose: Purpose) -> LessSafeKey {
    let salt = Salt::new(HKDF_SHA256, b"orders gateway cookies");
    let derived = salt.extract(secret.expose_secret().as_bytes());
    let label = [purpose.label()];
    let key = derived.expand(&label, &AES_256_GCM).expect("a key is short");
    LessSafeKey::new(UnboundKey::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secrets: &[&str]) -> Sealer {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::from(*text)).collect();
        Sealer::new(&secrets)
    }

    #[test]
    fn a_sealed_text_opens_only_unchanged_with_its_purpose_and_key() {
        let one = sealer(&["one"]);
        let sealed = one.seal(Purpose::Session, "text");
        assert_eq!(one.open(Purpose::Session, &sealed).as_deref(), Some("text"));
        assert_ne!(sealed, one.seal(Purpose::Session, "text"));
        assert_eq!(one.open(Purpose::Attempt, &sealed), None);
        assert_eq!(sealer(&["two"]).open(Purpose::Session, &sealed), None);
        assert_eq!(
            sealer(&["two", "one"]).open(Purpose::Session, &sealed).as_deref(),
            Some("text")
        );
        for index in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(one.open(Purpose::Session, &changed), None, "{index}");
        }
        for nothing in ["", "AAAA", "!", &sealed[..20], &sealed[1..]] {
            assert_eq!(one.open(Purpose::Session, nothing), None, "{nothing}");
        }
        assert!(!format!("{one:?}").contains("one"));
    }
}
