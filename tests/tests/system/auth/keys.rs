//! The provider's keys: new and unknown ones, and an unavailable provider.

use std::time::Instant;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use stack::Service;
use system_tests::{Answer, SOON, eventually, logged, request};
use tokio::task::JoinSet;

use super::{
    Site, assert_problem, bearer,
    provider::{Fault, Provider, Signer},
};

/// The gateway's answer to a token with this key.
async fn shown(site: &Site, signer: &Signer) -> Answer {
    let token = signer.token(&site.claims("operator", "report:read"));
    site.ask(&token, Method::GET, "/report", &Value::Null).await
}

async fn assert_taken(site: &Site, signer: &Signer) {
    let answer = shown(site, signer).await;
    assert_eq!(answer.status, 200, "{}: {}", signer.kid, answer.text());
}

async fn assert_refused(site: &Site, signer: &Signer) {
    assert_problem(&signer.kid, &shown(site, signer).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_new_key_costs_one_fetch_and_a_flood_of_unknown_keys_no_more() {
    let site = Site::start().await;
    let provider: &Provider = &site.provider;
    assert_eq!(provider.fetches(), 1, "before it was ready");
    for _ in 0..10 {
        assert_taken(&site, &site.signer).await;
    }
    assert_eq!(provider.fetches(), 1, "not for each token");

    let new = Signer::p256("second");
    provider.has(&[&new]);
    // The first request makes the gateway fetch keys; the others wait for the result.
    for answer in shown_together(&site, [&new; 10]).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(provider.fetches(), 2);
    assert_refused(&site, &site.signer).await;

    let begin = Instant::now();
    let strangers: Vec<_> = (0..200).map(|n| Signer::ed25519(&format!("stranger-{n}"))).collect();
    for crowd in strangers.chunks(20) {
        for answer in shown_together(&site, crowd).await {
            assert_problem("a stranger", &answer, 401, "unauthenticated");
        }
        assert_taken(&site, &new).await;
    }
    let most = 2 + 1 + usize::try_from(begin.elapsed().as_secs() / 30).unwrap();
    assert!(provider.fetches() <= most, "{} fetches", provider.fetches());
}

#[tokio::test]
async fn without_keys_all_tokens_get_a_503_with_retry_after() {
    for (fault, reason) in [
        (Fault::OtherIssuer, "the issuer of the discovery document is not OIDC_ISSUER"),
        (Fault::LargeKeys, "the answer is larger than 262144 bytes"),
        (Fault::KeysMoved, "the answer is 302 Found, and redirects are not followed"),
        (Fault::DiscoveryMoved, "the answer is 302 Found, and redirects are not followed"),
    ] {
        let mut site = Site::start_unready(fault).await;
        let report = format!("the token keys cannot be fetched: {}", site.provider.issuer);
        eventually("a warning", SOON, async || {
            let logs = site.system.logs(Service::Gateway);
            let is_logged =
                logs.lines().any(|line| line.contains(&report) && line.contains(reason));
            if is_logged { Ok(()) } else { Err(format!("{fault:?}: {logs}")) }
        })
        .await;
        let answer = shown(&site, &site.signer).await;
        assert_problem(&format!("{fault:?}"), &answer, 503, "unavailable");
        assert_eq!(answer.header("retry-after"), "2", "{fault:?}");
        let answer = site.send(Method::GET, "/report", &[], &Value::Null).await;
        assert_problem("without a token", &answer, 401, "unauthenticated");
        assert!(!site.system.first(Service::Gateway).is_ready(), "{fault:?}");
        assert_eq!(site.provider.redirected(), 0, "{fault:?}");
        // The gateway is ready as soon as the provider is correct.
        site.provider.has_fault(Fault::Nothing);
        site.system.wait_ready().await;
        assert_taken(&site, &site.signer).await;
    }
}

#[tokio::test]
async fn known_keys_stay_valid_while_the_provider_is_away() {
    let mut site = Site::start().await;
    site.provider.be_away(true);
    let new = Signer::ed25519("second");
    site.provider.has(&[&site.signer, &new]);
    assert_taken(&site, &site.signer).await;
    // This triggers a fetch, which fails.
    assert_refused(&site, &new).await;
    assert!(site.provider.turned_away() >= 1);
    for _ in 0..10 {
        assert_taken(&site, &site.signer).await;
    }
    assert_eq!(site.provider.fetches(), 1);
    assert!(site.system.first(Service::Gateway).is_ready());
}

/// The gateway's answers to concurrent tokens with these keys.
async fn shown_together(site: &Site, signers: impl IntoIterator<Item = &Signer>) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    for signer in signers {
        let token = bearer(&signer.token(&site.claims("operator", "report:read")));
        let url = format!("{}/report", site.system.url());
        let client = site.system.client.clone();
        let asking = request(Method::GET, &url, &[("Authorization", &token)], Bytes::new());
        asked.spawn(async move { client.send(asking).await.expect("the gateway answers") });
    }
    asked.join_all().await
}

#[tokio::test]
async fn a_changed_key_file_is_read_again_and_an_invalid_one_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let write = |text: &str| {
        let new = directory.path().join("new.json");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    let set = |signer: &Signer| json!({ "keys": [signer.jwk()] }).to_string();
    let (old, new) = (Signer::ed25519("old"), Signer::p256("new"));
    write(&set(&old));
    let site = Site::start_with(&[("OIDC_JWKS_FILE", path.to_str().unwrap())]).await;
    assert_taken(&site, &old).await;
    assert_refused(&site, &site.signer).await;

    write(&set(&new));
    eventually("the new key", SOON, async || {
        let answer = shown(&site, &new).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_refused(&site, &old).await;

    write("nonsense");
    logged("keys.json: ", || site.system.logs(Service::Gateway)).await;
    assert_taken(&site, &new).await;
    assert_eq!(site.provider.fetches(), 0, "the provider is not asked");
}
