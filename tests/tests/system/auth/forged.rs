//! Invalid tokens.

use http::{Method, header};
use serde_json::{Value, json};

use super::{
    AUDIENCE, Site, assert_problem, bearer, now,
    provider::{Signer, unsigned, with_secret},
    with, without,
};

const REALM: &str = "Bearer realm=\"orders\"";

/// A name, the headers of a request, and the detail of its refusal, if `WWW-Authenticate` has it.
type Row = (&'static str, Vec<(&'static str, String)>, Option<&'static str>);

const MALFORMED: &str = "the token is not a signed JWT";
const ALGORITHM: &str = "the token is not signed with an accepted algorithm";
const UNKNOWN: &str = "the token is signed with a key that the issuer does not have";
const SIGNATURE: &str = "the signature of the token is wrong";
const ISSUER: &str = "the token has another issuer";
const OTHER_AUDIENCE: &str = "the token has another audience";
const EXPIRED: &str = "the token has expired";
const NOT_YET: &str = "the token is not valid yet";
const TIMES: &str = "the token has no valid time of expiry";

/// Tokens that were made without a key, or with another one.
fn forged(site: &Site) -> Vec<(&'static str, String, &'static str)> {
    let good = site.claims("operator", "admin");
    let signer = &site.signer;
    let header = |algorithm: &str, kid: &str| json!({ "alg": algorithm, "kid": kid });
    let none = |algorithm: &str| format!("{}.", unsigned(&header(algorithm, "first"), &good));
    let hs256 = |secret: &[u8]| with_secret(&header("HS256", "first"), &good, secret);
    let (own, pretender) = (signer.token(&good), Signer::ed25519("first"));
    let (text, signature) = own.rsplit_once('.').expect("three parts");
    let jwk = signer.jwk();
    let stolen = unsigned(&header("EdDSA", "first"), &site.claims("operator", "orders:read"));
    let mut embedded = header("EdDSA", "first");
    embedded["jwk"] = pretender.jwk();
    vec![
        ("alg none", none("none"), ALGORITHM),
        ("alg None", none("None"), ALGORITHM),
        ("alg none with a signature", signer.sign(&header("none", "first"), &good), ALGORITHM),
        ("no alg", signer.sign(&json!({ "kid": "first" }), &good), ALGORITHM),
        ("HS256 with the public key", hs256(signer.public()), ALGORITHM),
        (
            "HS256 with the public key's text",
            hs256(jwk["x"].as_str().unwrap().as_bytes()),
            ALGORITHM,
        ),
        ("HS256 with the JWK", hs256(jwk.to_string().as_bytes()), ALGORITHM),
        ("another kind of key", signer.sign(&header("ES256", "first"), &good), UNKNOWN),
        ("an unknown kid", Signer::ed25519("second").token(&good), UNKNOWN),
        ("another key of that kid", pretender.token(&good), SIGNATURE),
        ("a key in the header", pretender.sign(&embedded, &good), SIGNATURE),
        ("another's signature", format!("{stolen}.{signature}"), SIGNATURE),
        ("no signature", format!("{text}."), SIGNATURE),
        // The rest consists of whole bytes.
        ("truncated in the signature", own[..own.len() - 6].to_owned(), SIGNATURE),
        ("truncated before the signature", text.to_owned(), MALFORMED),
        ("truncated in the claims", own[..text.len() - 4].to_owned(), MALFORMED),
        ("five parts", format!("{own}.x.y"), MALFORMED),
        ("garbage", "garbage".to_owned(), MALFORMED),
        ("garbage with dots", "a.b.c".to_owned(), MALFORMED),
        ("dots", "..".to_owned(), MALFORMED),
    ]
}

/// Tokens that the issuer signed for another purpose or for another time.
fn unfit(site: &Site) -> Vec<(&'static str, String, &'static str)> {
    let good = site.claims("operator", "admin");
    let signed = |claims: &Value| site.signer.token(claims);
    let but = |name: &str, value: Value| signed(&with(&good, name, value));
    let lacks = |name: &str| signed(&without(&good, name));
    let headed = |name: &str, value: Value| {
        let header = json!({ "alg": "EdDSA", "kid": "first" });
        site.signer.sign(&with(&header, name, value), &good)
    };
    let slash = format!("{}/", site.provider.issuer);
    vec![
        ("another issuer", but("iss", json!("https://evil.example")), ISSUER),
        ("a slash more", but("iss", json!(slash)), ISSUER),
        ("no issuer", lacks("iss"), ISSUER),
        ("another audience", but("aud", json!("https://other.example/api")), OTHER_AUDIENCE),
        ("other audiences", but("aud", json!(["a", "b"])), OTHER_AUDIENCE),
        ("no audience", lacks("aud"), OTHER_AUDIENCE),
        ("expired", but("exp", json!(now() - 61)), EXPIRED),
        ("expired long ago", but("exp", json!(0)), EXPIRED),
        ("valid for ever", lacks("exp"), TIMES),
        ("valid until a text", but("exp", json!("tomorrow")), TIMES),
        ("of the future", but("nbf", json!(now() + 600)), NOT_YET),
        ("issued in the future", but("iat", json!(now() + 600)), NOT_YET),
        ("an ID token", but("typ", json!("ID")), "the token is not an access token"),
        ("a logout token", headed("typ", json!("logout+jwt")), "the token is not an access token"),
        (
            "a critical extension",
            headed("crit", json!(["b64"])),
            "the header of the token requires an extension that is not supported here",
        ),
        ("without a subject", lacks("sub"), "the token has no valid subject (sub)"),
        (
            "a customer that is none",
            but("customer_id", json!("not one")),
            "the customer in the token is not a valid customer id",
        ),
        ("too long", but("filler", json!("x".repeat(9_000))), "the token is longer than 8 KiB"),
    ]
}

fn other_ways(site: &Site) -> Vec<Row> {
    let token = site.token("admin");
    vec![
        ("no header", vec![], None),
        ("Basic", vec![("Authorization", "Basic b3BlcmF0b3I6c2VjcmV0".to_owned())], None),
        ("a bearer of nothing", vec![("Authorization", bearer(""))], None),
        ("no scheme", vec![("Authorization", token.clone())], None),
        ("a cookie", vec![("Cookie", format!("orders_session={token}"))], None),
        ("another header", vec![("X-Authorization", bearer(&token))], None),
    ]
}

#[tokio::test]
async fn forged_and_unsuitable_tokens_are_refused_with_their_reason() {
    let site = Site::start().await;
    let tokens = forged(&site).into_iter().chain(unfit(&site));
    let rows = tokens.map(|(name, token, why)| -> Row {
        (name, vec![("Authorization", bearer(&token))], Some(why))
    });
    for (name, headers, why) in rows.chain(other_ways(&site)) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // A read and a write.
        for (method, path) in [(Method::GET, "/report"), (Method::POST, "/init-data")] {
            let name = format!("{name}: {method} {path}");
            let answer = site.send(method, path, &headers, &Value::Null).await;
            let problem = assert_problem(&name, &answer, 401, "unauthenticated");
            let challenge = match why {
                Some(why) => {
                    assert_eq!(problem["detail"], why, "{name}");
                    format!("{REALM}, error=\"invalid_token\", error_description=\"{why}\"")
                }
                None => REALM.to_owned(),
            };
            assert_eq!(answer.header("www-authenticate"), challenge, "{name}");
            assert_eq!(answer.header("cache-control"), "no-store", "{name}");
        }
    }
    let token = site.token("admin");
    for query in ["access_token", "token", "bearer"] {
        let path = format!("/orders/counts?{query}={token}");
        let answer = site.send(Method::GET, &path, &[], &Value::Null).await;
        assert_problem(query, &answer, 401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), REALM, "{query}");
    }
    let twice = bearer(&token);
    let headers = [("Authorization", twice.as_str()); 2];
    let answer = site.send(Method::GET, "/report", &headers, &Value::Null).await;
    let problem = assert_problem("two headers", &answer, 400, "bad-request");
    assert_eq!(problem["field"], "Authorization");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with(&format!("{REALM}, error=\"invalid_request\"")), "{challenge}");
}

#[tokio::test]
async fn valid_tokens_are_accepted_if_clocks_differ_by_less_than_a_minute() {
    let site = Site::start().await;
    let other = Signer::p256("elliptic");
    site.provider.has(&[&site.signer, &other]);
    let good = site.claims("operator", "report:read");
    let but = |name: &str, value: Value| site.signer.token(&with(&good, name, value));
    let header = json!({ "alg": "EdDSA" });
    let rows = [
        ("good", site.signer.token(&good)),
        ("expired 30 s ago", but("exp", json!(now() - 30))),
        ("of in 30 s", but("nbf", json!(now() + 30))),
        ("with fractions", but("exp", json!(1e10 + 0.5))),
        ("for several", but("aud", json!(["https://other.example", AUDIENCE]))),
        (
            "scopes in a list",
            site.signer.token(&with(&without(&good, "scope"), "scp", json!(["report:read"]))),
        ),
        ("without typ and kid", site.signer.sign(&header, &good)),
        ("ES256, with a key that is new", other.token(&good)),
    ];
    for (name, token) in rows {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let value = format!("{scheme} {token}");
            let headers = [("Authorization", value.as_str())];
            let answer = site.send(Method::GET, "/report", &headers, &Value::Null).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert!(!answer.headers.contains_key(header::WWW_AUTHENTICATE), "{name}");
        }
    }
}
