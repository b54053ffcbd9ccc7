//! The keys that sign tokens (JSON Web Key Sets, RFC 7517).

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, agree_ephemeral},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::{ed25519, json::Members};

/// The maximum number of keys that are read.
const KEY_LIMIT: usize = 100;
/// The minimum and maximum length of an RSA key, in bytes.
const RSA_LENGTH: usize = 2_048 / 8;
const RSA_LENGTH_LIMIT: usize = 8_192 / 8;
/// The maximum length of an RSA exponent, in bytes.
const EXPONENT_LENGTH: usize = 5;

/// Signature algorithms of tokens: all with private keys, none with a secret that the gateway would know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// RSA, PKCS #1, SHA-256.
    Rs256,
    /// RSA, PKCS #1, SHA-384.
    Rs384,
    /// RSA, PKCS #1, SHA-512.
    Rs512,
    /// RSA, PSS, SHA-256.
    Ps256,
    /// RSA, PSS, SHA-384.
    Ps384,
    /// RSA, PSS, SHA-512.
    Ps512,
    /// ECDSA with P-256.
    Es256,
    /// ECDSA with P-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in tokens and keys (RFC 7518).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected some of {names}")
        })
    }
}

/// The reason why a member of a key set is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PassedOver {
    /// The key has another purpose than signatures of tokens, or an unsupported type.
    Other,
    /// The key is for signatures but unsafe: too short, not a point of its curve, or of small order.
    Unsuitable,
}

/// A public key that verifies tokens.
#[derive(Clone, Debug)]
pub struct Key {
    kid: Option<Box<str>>,
    /// The only algorithm of the key, if it names one.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    /// Parses the parameters of a key of a supported type; `None` if it is unsafe or incomplete.
    fn of(jwk: &Members) -> Option<Self> {
        let bytes = |name| URL_SAFE_NO_PAD.decode(jwk.text(name)?).ok();
        let point = |length, curve| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            // Uncompressed, as in SEC 1.
            let point = [&[4], &x[..], &y[..]].concat();
            ((x.len(), y.len()) == (length, length) && is_on(curve, &point)).then_some(point)
        };
        Some(match (jwk.text("kty")?, jwk.text("crv")) {
            ("RSA", _) => {
                let unsigned = |bytes: Vec<u8>| {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    bytes[zeros..].to_vec()
                };
                let (n, e) = (unsigned(bytes("n")?), unsigned(bytes("e")?));
                is_rsa_key(&n, &e).then_some(Self::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => Self::P256(point(32, &ECDH_P256)?),
            ("EC", Some("P-384")) => Self::P384(point(48, &ECDH_P384)?),
            ("OKP", Some("Ed25519")) => {
                Self::Ed25519(bytes("x").filter(|bytes| ed25519::is_key(bytes))?)
            }
            _ => return None,
        })
    }
}

impl Key {
    /// The key of a member of `keys`.
    fn of(jwk: &Members) -> Result<Self, PassedOver> {
        let (kid, algorithm) = Self::described(jwk).ok_or(PassedOver::Other)?;
        let material = Material::of(jwk).ok_or(PassedOver::Unsuitable)?;
        let key = Self { kid, algorithm, material };
        let fits = key.algorithm.is_none_or(|algorithm| key.is_of_type(algorithm));
        if fits { Ok(key) } else { Err(PassedOver::Other) }
    }

    /// The name and the only algorithm of a signature key of a supported type.
    fn described(jwk: &Members) -> Option<(Option<Box<str>>, Option<Algorithm>)> {
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = |operations: &Vec<Value>| operations.iter().any(|it| it == "verify");
            operations.as_array().filter(|it| verifies(it))?;
        }
        let kind = (jwk.text("kty")?, jwk.text("crv"));
        let is_known =
            matches!(kind, ("RSA", _) | ("EC", Some("P-256" | "P-384")) | ("OKP", Some("Ed25519")));
        let algorithm = match jwk.get("alg") {
            Some(name) => Some(name.as_str()?.parse().ok()?),
            None => None,
        };
        let kid = match jwk.get("kid") {
            Some(kid) => Some(kid.as_str()?.into()),
            None => None,
        };
        is_known.then_some((kid, algorithm))
    }

    fn is_of_type(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self.material {
            Material::Rsa { .. } => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
        }
    }

    /// Whether the key accepts this algorithm.
    fn serves(&self, algorithm: Algorithm) -> bool {
        self.is_of_type(algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether the key made this signature with this algorithm.
    pub(super) fn has_signed(&self, algorithm: Algorithm, text: &[u8], signature: &[u8]) -> bool {
        let by = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(text, signature).is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => {
                let how = rsa(algorithm);
                how.is_some_and(|how| {
                    RsaPublicKeyComponents { n, e }.verify(how, text, signature).is_ok()
                })
            }
            Material::P256(point) => by(&ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => by(&ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(point) => by(&ED25519, point),
        }
    }
}

/// Whether ring accepts such a key; a key that ring rejects verifies nothing.
fn is_rsa_key(n: &[u8], e: &[u8]) -> bool {
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let is_long = n.len() > RSA_LENGTH || n.len() == RSA_LENGTH && n[0] >= 0x80;
    let is_exponent = is_odd(e) && e != [1] && e.len() <= EXPONENT_LENGTH;
    is_long && n.len() <= RSA_LENGTH_LIMIT && is_odd(n) && is_exponent
}

/// Whether the point is on the curve, found by a key agreement, which fails for other points. All points
/// of these curves have the order of the curve, except the one at infinity, which has no such encoding.
fn is_on(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    let key = EphemeralPrivateKey::generate(curve, &SystemRandom::new());
    let point = agreement::UnparsedPublicKey::new(curve, point);
    key.is_ok_and(|key| agree_ephemeral(key, &point, |_| ()).is_ok())
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}

/// All keys of a provider.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    unsuitable: usize,
}

impl KeySet {
    /// Parses a key set. Keys with another purpose and unusable keys are ignored.
    ///
    /// # Errors
    ///
    /// The text is not a key set, or none of its keys can be used.
    pub fn parse(json: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|_| "the document is not a JSON Web Key Set")?;
        let members = document
            .keys
            .into_iter()
            .take(KEY_LIMIT)
            .filter_map(|key| Members::deserialize(key).ok());
        let mut set = Self::default();
        for jwk in members {
            match Key::of(&jwk) {
                Ok(key) => set.keys.push(key),
                Err(PassedOver::Unsuitable) => set.unsuitable += 1,
                Err(PassedOver::Other) => {}
            }
        }
        if set.keys.is_empty() {
            return Err("the key set has no usable key for signatures of tokens");
        }
        Ok(set)
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of keys that were ignored because they are unsafe.
    pub(super) fn unsuitable(&self) -> usize {
        self.unsuitable
    }

    /// The key with this name for this algorithm; if a token names no key, the only one of the set.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut serving = self.keys.iter().filter(|key| key.serves(algorithm));
        match kid {
            Some(kid) => serving.find(|key| key.kid.as_deref() == Some(kid)),
            None => serving.next().filter(|_| serving.next().is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _,
    };
    use serde_json::json;

    use super::*;

    fn found(jwk: &Value, kid: Option<&str>, algorithm: Algorithm) -> bool {
        let set = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes());
        set.is_ok_and(|set| set.find(kid, algorithm).is_some())
    }

    fn text(length: usize, first: u8) -> String {
        let mut bytes = vec![1; length];
        bytes[0] = first;
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn a_key_serves_only_what_it_is_for() {
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": text(32, 1) });
        let with = |changes: Value| {
            let mut jwk = ed.clone();
            jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            found(&jwk, Some("k"), Algorithm::EdDsa)
        };
        assert!(with(json!({})));
        assert!(with(json!({ "use": "sig", "alg": "EdDSA", "key_ops": ["verify"] })));
        for changes in [
            json!({ "use": "enc" }),
            json!({ "use": ["sig"] }),
            json!({ "alg": "ES256" }),
            json!({ "alg": "HS256" }),
            json!({ "alg": 1 }),
            json!({ "key_ops": ["sign"] }),
            json!({ "key_ops": "verify" }),
            json!({ "kty": "EC" }),
            json!({ "kty": "oct" }),
            json!({ "crv": "X25519" }),
            json!({ "x": text(31, 1) }),
            json!({ "x": text(32, 1) + "=" }),
            json!({ "kid": 7 }),
        ] {
            assert!(!with(changes.clone()), "{changes}");
        }
        assert!(!found(&ed, Some("k"), Algorithm::Es256));
        assert!(!found(&ed, Some("other"), Algorithm::EdDsa));
        assert!(found(&ed, None, Algorithm::EdDsa), "it is the only one");
    }

    #[test]
    fn short_rsa_keys_and_points_of_another_curve_are_passed_over() {
        let rsa = |n: String| json!({ "kty": "RSA", "n": n, "e": "AQAB" });
        for (n, fits) in [
            (text(256, 0x80), true),
            (text(257, 0), false),
            (text(256, 0x7f), false),
            (text(128, 0x80), false),
            (text(512, 0x80), true),
        ] {
            assert_eq!(found(&rsa(n.clone()), None, Algorithm::Rs256), fits, "{n}");
            assert_eq!(found(&rsa(n), None, Algorithm::Ps512), fits);
        }
        let mut with_a_zero_in_front = vec![0, 0x80];
        with_a_zero_in_front.extend([1; 255]);
        assert!(found(&rsa(URL_SAFE_NO_PAD.encode(with_a_zero_in_front)), None, Algorithm::Rs256));
        let mut even = vec![1; 256];
        (even[0], even[255]) = (0x80, 2);
        assert!(!found(&rsa(URL_SAFE_NO_PAD.encode(even)), None, Algorithm::Rs256));
        assert!(!found(&rsa(text(1_025, 0x80)), None, Algorithm::Rs256));
        for (e, fits) in [("AQAB", true), ("Aw", true), ("AQ", false), ("Ag", false), ("", false)] {
            let key = json!({ "kty": "RSA", "n": text(256, 0x80), "e": e });
            assert_eq!(found(&key, None, Algorithm::Rs256), fits, "{e}");
        }
        for (crv, curve, algorithm, length) in [
            ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256, 32),
            ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384, 48),
        ] {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref(), &random).unwrap();
            let (x, y) = pair.public_key().as_ref()[1..].split_at(length);
            let ec = |crv: &str, x: &[u8], y: &[u8]| {
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                json!({ "kty": "EC", "crv": crv, "x": x, "y": y })
            };
            assert!(found(&ec(crv, x, y), None, algorithm));
            let (mut beside, zero) = (y.to_vec(), vec![0; length]);
            beside[length - 1] ^= 1;
            for (crv, x, y) in [
                (crv, x, &beside[..]),
                (crv, y, x),
                (crv, &zero, &zero),
                (crv, &x[1..], y),
                ("P-521", x, y),
                (if crv == "P-256" { "P-384" } else { "P-256" }, x, y),
            ] {
                for algorithm in [Algorithm::Es256, Algorithm::Es384] {
                    assert!(!found(&ec(crv, x, y), None, algorithm), "{crv} {x:?} {y:?}");
                }
            }
        }
    }

    #[test]
    fn an_ed25519_key_that_is_no_point_is_passed_over_as_unsuitable_and_counted() {
        let ed = |kid: &str, x: [u8; 32]| json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(x) });
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let good: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let (mut beside, small) = ([0; 32], [0; 32]);
        beside[0] = 2;
        assert!(found(&ed("k", good), Some("k"), Algorithm::EdDsa));
        assert!(!found(&ed("k", beside), Some("k"), Algorithm::EdDsa));
        assert!(!found(&ed("k", small), Some("k"), Algorithm::EdDsa));
        let rsa = json!({ "kty": "RSA", "kid": "short", "n": text(128, 0x80), "e": "AQAB" });
        let others = [json!({ "kty": "oct", "k": "AA" }), json!({ "kty": "RSA", "use": "enc" })];
        let keys: Vec<Value> = [ed("good", good), ed("beside", beside), ed("small", small), rsa]
            .into_iter()
            .chain(others)
            .collect();
        let set = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        assert_eq!((set.len(), set.unsuitable()), (1, 3));
    }

    #[test]
    fn of_several_keys_that_could_have_signed_a_nameless_token_none_is_taken() {
        let key = |kid: &str, first| json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": text(32, first) });
        let set = json!({ "keys": [key("a", 1), "no key", key("b", 2)] }).to_string();
        let set = KeySet::parse(set.as_bytes()).unwrap();
        assert!(set.find(None, Algorithm::EdDsa).is_none());
        assert!(set.find(Some("b"), Algorithm::EdDsa).is_some());
        for nothing in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#] {
            assert!(KeySet::parse(nothing.as_bytes()).is_err(), "{nothing}");
        }
    }
}
