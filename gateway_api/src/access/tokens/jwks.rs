//! The keys that sign tokens (JSON Web Key Sets, RFC 7517). jsonwebtoken parses them and verifies with them;
//! the choice of keys, and the refusal of unsafe ones, are here.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{
        AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyOperations,
        OctetKeyPairParameters, PublicKeyUse, RSAKeyParameters,
    },
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{ed25519, json::Members};

/// The maximum number of keys that are read.
const KEY_LIMIT: usize = 100;
/// The minimum and maximum length of an RSA key, in bytes.
const RSA_LENGTH: usize = 2_048 / 8;
const RSA_LENGTH_LIMIT: usize = 8_192 / 8;
/// The maximum length of an RSA exponent, in bytes.
const EXPONENT_LENGTH: usize = 5;

/// The signature algorithm with this name (RFC 7518).
///
/// # Errors
///
/// The name is unknown, or of an algorithm with a secret that the gateway would know.
pub fn algorithm(name: &str) -> Result<Algorithm, String> {
    let algorithm = name.parse().ok();
    algorithm.filter(|it: &Algorithm| it.family() != AlgorithmFamily::Hmac).ok_or_else(|| {
        "expected some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA".to_owned()
    })
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
pub(super) struct Key {
    kid: Option<String>,
    /// The algorithms that it verifies.
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

impl Key {
    /// The key of a member of `keys`.
    fn of(members: Members) -> Result<Self, PassedOver> {
        // The library takes null for an absent member, which would not limit the key.
        let is_null = |name| members.get(name).is_some_and(Value::is_null);
        if ["use", "key_ops", "alg", "kid"].into_iter().any(is_null) {
            return Err(PassedOver::Other);
        }
        let jwk = Value::Object(members.0.into_iter().collect());
        let jwk = Jwk::deserialize(jwk).map_err(|_| PassedOver::Other)?;
        let common = jwk.common;
        let signs = common.public_key_use.is_none_or(|purpose| purpose == PublicKeyUse::Signature);
        let verifies = common.key_operations.is_none_or(|it| it.contains(&KeyOperations::Verify));
        let mut algorithms = algorithms(&jwk.algorithm);
        if let Some(only) = common.key_algorithm {
            let only = Algorithm::try_from(only).ok();
            algorithms.retain(|algorithm| Some(*algorithm) == only);
        }
        if !signs || !verifies || algorithms.is_empty() {
            return Err(PassedOver::Other);
        }
        let material = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => rsa(key),
            AlgorithmParameters::EllipticCurve(key) => point(key),
            AlgorithmParameters::OctetKeyPair(key) => edwards(key),
            _ => None,
        };
        let material = material.ok_or(PassedOver::Unsuitable)?;
        Ok(Self { kid: common.key_id, algorithms, material })
    }

    pub(super) const fn material(&self) -> &DecodingKey {
        &self.material
    }
}

/// The algorithms of keys with such parameters; none for an unsupported type or curve.
fn algorithms(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        _ => Vec::new(),
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// An RSA key, unless aws-lc-rs would reject it: a rejected key verifies nothing.
fn rsa(key: &RSAKeyParameters) -> Option<DecodingKey> {
    let unsigned = |text| {
        let bytes = bytes(text)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    let (n, e) = (unsigned(&key.n)?, unsigned(&key.e)?);
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let is_long = n.len() > RSA_LENGTH || n.len() == RSA_LENGTH && n[0] >= 0x80;
    let is_exponent = is_odd(&e) && e != [1] && e.len() <= EXPONENT_LENGTH;
    let is_key = is_long && n.len() <= RSA_LENGTH_LIMIT && is_odd(&n) && is_exponent;
    is_key.then(|| DecodingKey::from_rsa_raw_components(&n, &e))
}

/// A point of its curve. All points of these curves have the order of the curve, except the one at infinity,
/// which has no such encoding.
fn point(key: &EllipticCurveKeyParameters) -> Option<DecodingKey> {
    let curve = match key.curve {
        EllipticCurve::P256 => &ECDSA_P256_SHA256_FIXED,
        _ => &ECDSA_P384_SHA384_FIXED,
    };
    let (x, y) = (bytes(&key.x)?, bytes(&key.y)?);
    // Uncompressed, as in SEC 1.
    let point = [&[4], &x[..], &y[..]].concat();
    let is_key = x.len() == y.len() && ParsedPublicKey::new(curve, &point).is_ok();
    is_key.then(|| DecodingKey::from_ec_der(&point))
}

fn edwards(key: &OctetKeyPairParameters) -> Option<DecodingKey> {
    let point = bytes(&key.x).filter(|point| ed25519::is_key(point))?;
    Some(DecodingKey::from_ed_der(&point))
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
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let document: Document<'_> =
            serde_json::from_slice(json).map_err(|_| "the document is not a JSON Web Key Set")?;
        let mut set = Self::default();
        for key in document.keys.into_iter().take(KEY_LIMIT) {
            // One that is no object, or has a member twice, is not a key.
            let Ok(members) = serde_json::from_str::<Members>(key.get()) else { continue };
            match Key::of(members) {
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
        let mut matching = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match kid {
            Some(kid) => matching.find(|key| key.kid.as_deref() == Some(kid)),
            None => matching.next().filter(|_| matching.next().is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
            Ed25519KeyPair, KeyPair as _,
        },
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
    fn a_key_is_used_only_for_its_declared_purpose() {
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": text(32, 1) });
        let with = |changes: Value| {
            let mut jwk = ed.clone();
            jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            found(&jwk, Some("k"), Algorithm::EdDSA)
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
            json!({ "alg": null }),
            json!({ "use": null }),
        ] {
            assert!(!with(changes.clone()), "{changes}");
        }
        assert!(!found(&ed, Some("k"), Algorithm::ES256));
        assert!(!found(&ed, Some("other"), Algorithm::EdDSA));
        assert!(found(&ed, None, Algorithm::EdDSA), "it is the only one");
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
            assert_eq!(found(&rsa(n.clone()), None, Algorithm::RS256), fits, "{n}");
            assert_eq!(found(&rsa(n), None, Algorithm::PS512), fits);
        }
        let mut with_a_zero_in_front = vec![0, 0x80];
        with_a_zero_in_front.extend([1; 255]);
        assert!(found(&rsa(URL_SAFE_NO_PAD.encode(with_a_zero_in_front)), None, Algorithm::RS256));
        let mut even = vec![1; 256];
        (even[0], even[255]) = (0x80, 2);
        assert!(!found(&rsa(URL_SAFE_NO_PAD.encode(even)), None, Algorithm::RS256));
        assert!(!found(&rsa(text(1_025, 0x80)), None, Algorithm::RS256));
        for (e, fits) in [("AQAB", true), ("Aw", true), ("AQ", false), ("Ag", false), ("", false)] {
            let key = json!({ "kty": "RSA", "n": text(256, 0x80), "e": e });
            assert_eq!(found(&key, None, Algorithm::RS256), fits, "{e}");
        }
        for (crv, curve, algorithm, length) in [
            ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256, 32),
            ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384, 48),
        ] {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref()).unwrap();
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
                for algorithm in [Algorithm::ES256, Algorithm::ES384] {
                    assert!(!found(&ec(crv, x, y), None, algorithm), "{crv} {x:?} {y:?}");
                }
            }
        }
    }

    #[test]
    fn an_ed25519_key_that_is_no_point_is_passed_over_as_unsuitable_and_counted() {
        let ed = |kid: &str, x: [u8; 32]| {
            let x = URL_SAFE_NO_PAD.encode(x);
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })
        };
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let good: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let (mut beside, small) = ([0; 32], [0; 32]);
        beside[0] = 2;
        assert!(found(&ed("k", good), Some("k"), Algorithm::EdDSA));
        assert!(!found(&ed("k", beside), Some("k"), Algorithm::EdDSA));
        assert!(!found(&ed("k", small), Some("k"), Algorithm::EdDSA));
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
        let key = |kid: &str, first| {
            let x = text(32, first);
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })
        };
        let set = json!({ "keys": [key("a", 1), "no key", key("b", 2)] }).to_string();
        let set = KeySet::parse(set.as_bytes()).unwrap();
        assert!(set.find(None, Algorithm::EdDSA).is_none());
        assert!(set.find(Some("b"), Algorithm::EdDSA).is_some());
        for nothing in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#] {
            assert!(KeySet::parse(nothing.as_bytes()).is_err(), "{nothing}");
        }
    }
}
