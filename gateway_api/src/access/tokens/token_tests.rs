//! Tokens of every kind that must be refused, and of every kind that must be accepted.

use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _,
    },
};
use common::clock::now_millis;
use jsonwebtoken::AlgorithmFamily;
use serde_json::json;

use super::*;

/// jsonwebtoken reads the clock itself; a token made now is valid as long as a test takes.
static NOW: LazyLock<u64> = LazyLock::new(|| now_millis() / 1_000);

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn ed25519(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn jwk(kid: &str, key: &Ed25519KeyPair) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(key.public_key()) })
}

fn keys(jwks: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

fn expected() -> Expectations {
    Expectations {
        issuer: "https://id.example".to_owned(),
        audience: "orders".to_owned(),
        algorithms: [AlgorithmFamily::Rsa, AlgorithmFamily::Ec, AlgorithmFamily::Ed]
            .map(|family| family.algorithms().to_vec())
            .concat(),
        customer_claim: "customer_id".to_owned(),
        scope_claim: None,
    }
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": "one", "typ": "at+jwt" })
}

fn payload() -> Value {
    json!({ "iss": "https://id.example", "aud": "orders", "sub": "alice", "exp": *NOW + 300,
        "nbf": *NOW, "iat": *NOW, "scope": "openid orders:read orders:write", "customer_id": "101" })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// A token with this content, signed with the provider's key.
fn sign(header: impl ToString, payload: impl ToString) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(payload.to_string()));
    let signature = ed25519(1).sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature.as_ref()))
}

fn check(token: &str) -> Result<Claims, TokenError> {
    verify(token, &keys(&[jwk("one", &ed25519(1))]), &expected(), *NOW)
}

#[test]
fn a_valid_token_has_a_subject_and_scopes() {
    let claims = check(&sign(header(), payload())).unwrap();
    assert_eq!((&*claims.subject, claims.expires), ("alice", *NOW + 300));
    assert_eq!(claims.customer, Some("101".parse().unwrap()));
    assert_eq!(format!("{:?}", claims.scopes), r#"{"orders:write", "orders:read"}"#);
}

#[test]
fn every_forged_or_foreign_token_is_refused_for_its_reason() {
    let good = sign(header(), payload());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let parts = |header: &Value| {
        format!("{}.{}", encode(header.to_string()), encode(payload().to_string()))
    };
    let unsigned = |header: Value| format!("{}.", parts(&header));
    let public = ed25519(1).public_key().as_ref().to_owned();
    let hmac = |key: &[u8]| {
        let signed = parts(&json!({ "alg": "HS256", "kid": "one" }));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    let other = format!("{signed}.{}", encode(ed25519(2).sign(signed.as_bytes()).as_ref()));
    let said = |name: &str, value: Value| sign(header(), with(payload(), name, value));
    let headed = |name: &str, value: Value| sign(with(header(), name, value), payload());
    let twice = payload().to_string().replacen('{', r#"{"sub":"bob","#, 1);
    use TokenError::*;
    for (what, token, refusal) in [
        ("alg none", unsigned(json!({ "alg": "none", "kid": "one" })), Algorithm),
        ("alg None", unsigned(json!({ "alg": "None", "kid": "one" })), Algorithm),
        ("no alg", unsigned(json!({ "kid": "one" })), Algorithm),
        ("HS256 with the public key", hmac(&public), Algorithm),
        (
            "HS256 with the key as it is published",
            hmac(jwk("one", &ed25519(1)).to_string().as_bytes()),
            Algorithm,
        ),
        ("alg is a list", headed("alg", json!(["EdDSA"])), Algorithm),
        ("an algorithm of another type of key", headed("alg", json!("ES256")), UnknownKey),
        ("no signature", unsigned(header()), Signature),
        ("another key", other, Signature),
        (
            "a changed payload",
            format!(
                "{}.{}.{signature}",
                encode(header().to_string()),
                encode(with(payload(), "sub", json!("bob")).to_string())
            ),
            Signature,
        ),
        ("unknown kid", headed("kid", json!("two")), UnknownKey),
        ("kid is a number", headed("kid", json!(1)), Malformed),
        (
            "its own key",
            sign(
                with(with(header(), "kid", json!("two")), "jwk", jwk("two", &ed25519(1))),
                payload(),
            ),
            UnknownKey,
        ),
        ("crit", headed("crit", json!(["b64"])), Critical),
        ("b64", headed("b64", json!(false)), Critical),
        ("an ID token by its typ", headed("typ", json!("id_token")), Type),
        ("a logout token", headed("typ", json!("logout+jwt")), Type),
        ("an ID token by Keycloak's claim", said("typ", json!("ID")), Type),
        ("wrong iss", said("iss", json!("https://id.example/")), Issuer),
        ("several iss", said("iss", json!(["https://id.example"])), Issuer),
        ("no iss", sign(header(), without(payload(), "iss")), Issuer),
        ("wrong aud", said("aud", json!("other")), Audience),
        ("wrong auds", said("aud", json!(["other", "orders2"])), Audience),
        ("no aud", sign(header(), without(payload(), "aud")), Audience),
        ("expired", said("exp", json!(*NOW - 60)), Expired),
        ("expired long ago", said("exp", json!(0)), Expired),
        ("no exp", sign(header(), without(payload(), "exp")), Times),
        ("exp is text", said("exp", json!((*NOW + 300).to_string())), Times),
        ("exp is negative", said("exp", json!(-1)), Times),
        ("not yet", said("nbf", json!(*NOW + 120)), NotYet),
        ("issued in the future", said("iat", json!(*NOW + 120)), NotYet),
        ("no sub", sign(header(), without(payload(), "sub")), Subject),
        ("empty sub", said("sub", json!("")), Subject),
        ("long sub", said("sub", json!("x".repeat(256))), Subject),
        ("scope is a number", said("scope", json!(1)), Scope),
        ("scope has a number", said("scope", json!(["admin", 1])), Scope),
        ("customer is no id", said("customer_id", json!("a b")), Customer),
        ("customer is empty", said("customer_id", json!("")), Customer),
        ("customer is nothing", said("customer_id", Value::Null), Customer),
        ("customer is a list", said("customer_id", json!(["101"])), Customer),
        ("a member twice", sign(header(), twice), Malformed),
        ("a list", sign(header(), "[]"), Malformed),
        ("no JSON", sign(header(), "{"), Malformed),
        ("truncated", good[..good.len() - 1].to_owned(), Malformed),
        ("truncated by a lot", good[..20].to_owned(), Malformed),
        ("one part", "garbage".to_owned(), Malformed),
        ("four parts", format!("{good}.a"), Malformed),
        ("nothing", String::new(), Malformed),
        ("padded", format!("{good}="), Malformed),
        ("a long header", headed("x", json!("x".repeat(2_000))), Malformed),
        ("oversized", sign(header(), with(payload(), "x", json!("x".repeat(8_000)))), TooLong),
    ] {
        assert_eq!(check(&token), Err(refusal), "{what}");
    }
}

#[test]
fn clocks_may_differ_by_a_minute_and_claims_come_in_all_their_forms() {
    let customer = |claims: Claims| claims.customer.map(|id| id.to_string());
    for (name, value) in [
        ("exp", json!(*NOW - 30)),
        ("exp", json!(*NOW as f64 + 0.5)),
        ("nbf", json!(*NOW + 60)),
        ("iat", json!(*NOW + 60)),
        ("aud", json!(["account", "orders"])),
        ("scope", json!(["orders:read"])),
        ("scope", json!("")),
    ] {
        let token = sign(header(), with(payload(), name, value.clone()));
        assert!(check(&token).is_ok(), "{name} {value}");
    }
    let number = sign(header(), with(payload(), "customer_id", json!(101)));
    assert_eq!(customer(check(&number).unwrap()).as_deref(), Some("101"));
    let none = sign(header(), without(payload(), "customer_id"));
    assert_eq!(customer(check(&none).unwrap()), None);
    let scp = with(without(payload(), "scope"), "scp", json!(["admin"]));
    assert_eq!(format!("{:?}", check(&sign(header(), scp)).unwrap().scopes), r#"{"admin"}"#);
    for header in
        [without(header(), "typ"), with(header(), "typ", json!("JWT")), without(header(), "kid")]
    {
        assert!(check(&sign(header.clone(), payload())).is_ok(), "{header}");
    }
}

#[test]
fn an_unlisted_algorithm_is_refused_although_the_key_fits() {
    let only = Expectations { algorithms: vec![Algorithm::RS256], ..expected() };
    let keys = keys(&[jwk("one", &ed25519(1))]);
    let token = sign(header(), payload());
    assert_eq!(verify(&token, &keys, &only, *NOW), Err(TokenError::Algorithm));
}

#[test]
fn tokens_on_elliptic_curves_are_accepted_with_their_own_algorithm() {
    let random = SystemRandom::new();
    for (how, crv, algorithm, length, other) in [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", "ES256", 32, "ES384"),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", "ES384", 48, "ES256"),
    ] {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref()).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(length);
        let jwk = json!({ "kty": "EC", "crv": crv, "kid": "ec", "x": encode(x), "y": encode(y) });
        let keys = keys(&[jwk]);
        let token = |algorithm: &str, text: &str| {
            let header = json!({ "alg": algorithm, "kid": "ec" });
            let signed = format!("{}.{}", encode(header.to_string()), encode(text));
            let signature = key.sign(&random, signed.as_bytes()).unwrap();
            (signed, encode(signature.as_ref()))
        };
        let checked = |(signed, signature): (String, String)| {
            verify(&format!("{signed}.{signature}"), &keys, &expected(), *NOW)
        };
        let text = payload().to_string();
        assert!(checked(token(algorithm, &text)).is_ok(), "{algorithm}");
        assert_eq!(checked(token(other, &text)), Err(TokenError::UnknownKey), "{algorithm}");
        let (signed, _) = token(algorithm, &text);
        let (_, signature) = token(algorithm, "{}");
        assert_eq!(checked((signed, signature)), Err(TokenError::Signature), "{algorithm}");
    }
}
