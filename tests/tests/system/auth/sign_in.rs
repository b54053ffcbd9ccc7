//! The cost of attempts to sign in for the provider and the browser.

use bytes::Bytes;
use http::{Method, header};
use serde_json::Value;
use system_tests::{Answer, request};
use tokio::task::JoinSet;

use super::{Site, bearer};

/// A site at which browsers can sign in.
async fn site() -> Site {
    Site::start_with(&[
        ("OIDC_CLIENT_ID", "orders-web"),
        ("SESSION_SECRET", "marker-session-secret-0123456789abcdef"),
        ("PUBLIC_URL", "http://127.0.0.1:5000"),
    ])
    .await
}

/// The gateway's answer to a browser with these cookies.
async fn page(site: &Site, path: &str, cookies: &str) -> Answer {
    let headers = [("Accept", "text/html"), ("Cookie", cookies)];
    site.send(Method::GET, path, &headers, &Value::Null).await
}

/// The names and values of the cookies that an answer sets; no value for a removed cookie.
fn set(answer: &Answer) -> Vec<(String, String)> {
    let texts = answer.headers.get_all(header::SET_COOKIE).iter();
    let texts = texts.map(|it| it.to_str().expect("plain").split(';').next().expect("a cookie"));
    let pairs = texts.map(|it| it.split_once('=').expect("a cookie"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The state in the redirect to the provider.
fn state(answer: &Answer) -> String {
    let location = answer.header("location");
    let rest = location.split("&state=").nth(1).unwrap_or_else(|| panic!("no state: {location}"));
    rest.split('&').next().expect("a value").to_owned()
}

#[tokio::test]
async fn invented_codes_cost_the_provider_one_request_per_attempt() {
    let site = site().await;
    let begun = page(&site, "/sign-in", "").await;
    let (name, value) = set(&begun).pop().expect("an attempt");
    let (cookie, state) = (format!("{name}={value}"), state(&begun));
    let mut asked = JoinSet::new();
    for code in 0..100 {
        let url = format!("{}/sign-in/callback?state={state}&code={code}", site.system.url());
        let headers = [("Accept", "text/html"), ("Cookie", cookie.as_str())];
        let (client, asking) =
            (site.system.client.clone(), request(Method::GET, &url, &headers, Bytes::new()));
        asked.spawn(async move { client.send(asking).await.expect("the gateway answers") });
    }
    for answer in asked.join_all().await {
        assert!(matches!(answer.status.as_u16(), 400 | 503), "{}", answer.text());
        assert_eq!(answer.headers.contains_key("retry-after"), answer.status == 503);
    }
    assert_eq!(site.provider.redeemed(), 1);
    // Another attempt has its own request.
    let begun = page(&site, "/sign-in", "").await;
    let (name, value) = set(&begun).pop().expect("an attempt");
    let path = format!("/sign-in/callback?state={}&code=x", self::state(&begun));
    let answer = page(&site, &path, &format!("{name}={value}")).await;
    assert_eq!((answer.status.as_u16(), site.provider.redeemed()), (400, 2), "{}", answer.text());
}

#[tokio::test]
async fn repeated_attempts_to_sign_in_do_not_fill_the_head_of_requests() {
    let site = site().await;
    let (mut cookies, mut states) = (Vec::<(String, String)>::new(), Vec::new());
    let then = format!("/sign-in?then=/report%3F{}", "x".repeat(900));
    for _ in 0..60 {
        let sent: Vec<String> = cookies.iter().map(|(name, it)| format!("{name}={it}")).collect();
        let answer = page(&site, &then, &sent.join("; ")).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        states.push(state(&answer));
        for (name, value) in set(&answer) {
            cookies.retain(|(kept, _)| *kept != name);
            if !value.is_empty() {
                cookies.push((name, value));
            }
        }
    }
    assert_eq!(cookies.len(), 8);
    // The newest attempts are kept: their codes reach the provider.
    let sent: Vec<String> = cookies.iter().map(|(name, it)| format!("{name}={it}")).collect();
    for state in &states[52..] {
        let path = format!("/sign-in/callback?state={state}&code=x");
        page(&site, &path, &sent.join("; ")).await;
    }
    assert_eq!(site.provider.redeemed(), 8);
}

#[tokio::test]
async fn only_requests_without_a_token_are_redirected_to_sign_in() {
    let site = site().await;
    let answer = page(&site, "/report", "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/sign-in?then=%2Freport")
    );
    let answer = page(&site, "/report", "orders_session=x").await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let basic = "Basic b3BlcmF0b3I6c2VjcmV0".to_owned();
    for (value, error) in [(bearer("garbage"), true), (bearer(""), false), (basic, false)] {
        let headers = [("Accept", "text/html"), ("Authorization", value.as_str())];
        let answer = site.send(Method::GET, "/report", &headers, &Value::Null).await;
        assert_eq!(answer.status, 401, "{value}: {}", answer.text());
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer realm=\"orders\""), "{value}: {challenge}");
        assert_eq!(challenge.contains("invalid_token"), error, "{value}: {challenge}");
        assert!(answer.header("content-type").starts_with("text/html"), "{value}");
    }
}

#[tokio::test]
async fn the_pages_of_sign_in_are_a_404_if_it_is_not_configured() {
    let site = Site::start().await;
    for (method, path) in [
        (Method::GET, "/sign-in"),
        (Method::GET, "/sign-in?then=/report"),
        (Method::GET, "/sign-in/callback?state=x&code=x"),
        (Method::POST, "/sign-out"),
        (Method::GET, "/signed-out"),
    ] {
        let headers = [("Accept", "text/html"), ("Sec-Fetch-Site", "same-origin")];
        let answer = site.send(method, path, &headers, &Value::Null).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert!(
            answer.text().contains("sign-in is not configured here"),
            "{path}: {}",
            answer.text()
        );
        assert!(set(&answer).is_empty(), "{path}");
    }
    // No request is redirected there.
    let answer = page(&site, "/report", "orders_session=x").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (401, ""), "{}", answer.text());
    assert!(!answer.text().contains("/sign-in"), "{}", answer.text());
}
