//! Sign-in of browsers with a real OpenID provider (glewlwyd), and attacks on it.

mod browser;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use common::contract::{order::Order, order_status::OrderStatus};
use http::{Method, StatusCode, header};
use serde_json::json;
use stack::Service;
use system_tests::{
    Answer, SOON, events, eventually, order_body, request,
    signing_in::{BETWEEN_SECRET, CLIENT_SECRET, SESSION_SECRET, Site},
};

use self::browser::Browser;

/// A browser with a session, and the answer that began the session.
async fn signed_in(site: &Site, user: &str) -> (Browser, Answer) {
    let mut browser = Browser::default();
    let answer = browser.get(&site.at("/sign-in?then=/report%3Fstatus%3Dpending")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let callback = browser.through_provider(answer.header("location"), user).await;
    let answer = browser.get(&callback).await.with_status(StatusCode::SEE_OTHER);
    (browser, answer)
}

/// The logs and metrics of the services that know secrets.
async fn logs_and_metrics(site: &Site) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for service in [Service::Gateway, Service::Order] {
        texts.push((format!("the log of {service}"), site.system.logs(service)));
        for instance in site.system.stack.instances_of(service) {
            let url = format!("http://{}/metrics", instance.ops);
            let answer = site.system.client.get(&url).await.expect("numbers");
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            texts.push((format!("the metrics of {service}"), answer.text()));
        }
    }
    texts
}

/// Requests JSON with the browser's cookie, like the pages' script.
async fn script(
    site: &Site,
    browser: &mut Browser,
    method: Method,
    path: &str,
    body: &str,
) -> Answer {
    let headers = [
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    browser.send(method, &site.at(path), &headers, body.to_owned()).await
}

fn set_cookies(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all(header::SET_COOKIE).iter();
    all.map(|it| it.to_str().expect("plain").to_owned()).collect()
}

#[tokio::test]
async fn signed_in_customers_see_their_own_data_and_operators_see_all() {
    let site = Site::start().await;
    let mut signed_out = Browser::default();
    let answer = signed_out.get(&site.at("/report?customer_id=101")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert_eq!(answer.header("location"), "/sign-in?then=%2Freport%3Fcustomer_id%3D101");

    let (mut anthony, answer) = signed_in(&site, "anthony").await;
    assert_eq!(answer.header("location"), "/report?status=pending");
    let (mut becky, _) = signed_in(&site, "becky").await;
    let (mut operator, _) = signed_in(&site, "operator").await;

    let body = order_body(&["204"], "101").to_string();
    let answer = script(&site, &mut anthony, Method::POST, "/order", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let path = format!("/order/{}", answer.json()["id"].as_str().expect("an id"));
    for (browser, sees) in [(&mut anthony, true), (&mut operator, true), (&mut becky, false)] {
        let answer = script(&site, browser, Method::GET, &path, "").await;
        assert_eq!(answer.status.is_success(), sees, "{}", answer.text());
    }
    let body = order_body(&["204"], "102").to_string();
    let answer = script(&site, &mut anthony, Method::POST, "/order", &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());

    pages_have_the_buttons_that_each_may_press(&site, &mut anthony, &mut operator, &path).await;

    // The token in the cookie is the one that programs send; this one comes directly from the provider.
    let form = "grant_type=client_credentials&scope=orders%3Awrite%20orders%3Aread\
                &resource=https%3A%2F%2Forders.example%2Fapi";
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", "Basic b3JkZXJzLWNsaTp0aGUtZ2F0ZXdheXMtb3duLXNlY3JldA=="),
    ];
    let url = format!("{}/token", site.provider.issuer);
    let asked = request(Method::POST, &url, &headers, form);
    let answer = site.system.client.send(asked).await.expect("the provider answers");
    let token = answer.json()["access_token"].as_str().expect("a token").to_owned();
    // The algorithm of most providers.
    let head = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a head")).expect("base64");
    assert!(String::from_utf8_lossy(&head).contains("\"RS256\""), "{head:?}");
    let bearer = format!("Bearer {token}");
    let body = order_body(&["204"], "103");
    let headers = [("Authorization", bearer.as_str())];
    let answer = site.system.client.post(&site.at("/order"), &body, &headers).await;
    let answer = answer.expect("the gateway answers");
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());

    let session = anthony.cookies[&site.url]["orders_session"].clone();
    // All tokens, including those in cookies, begin with `{"` in base64.
    let secrets = [CLIENT_SECRET, SESSION_SECRET, BETWEEN_SECRET, &token, &session, "eyJ"];
    for (source, text) in logs_and_metrics(&site).await {
        assert!(!text.is_empty(), "{source}");
        for (number, secret) in secrets.iter().enumerate() {
            assert!(!text.contains(secret), "secret {number} is in {source}");
        }
    }
}

/// Checks the report, an order to be shipped and an order out of stock, for a customer and an operator.
async fn pages_have_the_buttons_that_each_may_press(
    site: &Site,
    customer: &mut Browser,
    operator: &mut Browser,
    paid: &str,
) {
    let body = order_body(&["201"; 6], "101").to_string();
    let answer = script(site, customer, Method::POST, "/order", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let lacking = format!("/order/{}", answer.json()["id"].as_str().expect("an id"));
    for (path, wanted) in [(paid, OrderStatus::ToBeShipped), (&lacking, OrderStatus::OutOfStock)] {
        eventually("the order has its status", SOON, async || {
            let answer = script(site, operator, Method::GET, path, "").await;
            let order: Order = answer.parse();
            if order.status == wanted { Ok(()) } else { Err(format!("{:?}", order.status)) }
        })
        .await;
    }
    let (all_users, operators) = (true, false);
    for (path, button, whose) in [
        ("/report", ">Sign out</button>", all_users),
        ("/report", ">Place order</button>", all_users),
        ("/report", ">Restock</button>", operators),
        ("/report", "<button id=\"reset-demo\"", operators),
        (paid, "data-action=\"cancel\"", all_users),
        (paid, "data-action=\"ship\"", operators),
        (&lacking, "data-action=\"cancel\"", all_users),
        (&lacking, "data-restock=\"201\"", operators),
    ] {
        for (browser, has) in [(&mut *operator, true), (&mut *customer, whose == all_users)] {
            let answer = browser.get(&site.at(path)).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            let text = answer.text();
            assert_eq!(text.contains(button), has, "{button} at {path}: {text}");
        }
    }
    // The script makes the buttons of rows from the offers in the page.
    let offers = |text: &str| {
        let rest = text.split("data-offers=\"").nth(1).expect("the page has offers").to_owned();
        rest.split('"').next().expect("a value").to_owned()
    };
    let text = customer.get(&site.at("/report")).await.text();
    assert_eq!(offers(&text), "order top-up");
    let text = operator.get(&site.at("/report")).await.text();
    assert_eq!(offers(&text), "order top-up restock counts demo");
}

#[tokio::test]
async fn sessions_are_safe_from_other_sites_other_codes_and_forged_cookies() {
    let site = Site::start().await;
    let (mut browser, answer) = signed_in(&site, "anthony").await;
    let session = set_cookies(&answer);
    let session = session.iter().find(|it| it.starts_with("orders_session=")).expect("a session");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age="] {
        assert!(session.contains(part), "{part} is not in the cookie");
    }
    assert!(!session.contains("Secure"), "browsers would drop it without TLS");

    // Writes with the cookie.
    let url = site.at("/accounts/101/top-up");
    let own = site.url.clone();
    // Requests of other sites are refused with and without the cookie; with it, requests without an origin
    // are refused as well.
    for (headers, passes) in [
        (vec![("Sec-Fetch-Site", "same-origin")], true),
        (vec![("Origin", own.as_str())], true),
        (vec![], false),
        (vec![("Sec-Fetch-Site", "none")], false),
        (vec![("Sec-Fetch-Site", "cross-site")], false),
        (vec![("Sec-Fetch-Site", "same-site")], false),
        (vec![("Origin", "https://evil.example")], false),
        (vec![("Origin", "null")], false),
    ] {
        let mut all = headers.clone();
        all.push(("Content-Type", "application/json"));
        let body = json!({ "amount": 1 }).to_string();
        let answer = browser.send(Method::POST, &url, &all, body).await;
        let status = if passes { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        if !passes {
            let kind = "urn:problem-type:orders:cross-site";
            assert_eq!(answer.json()["type"], kind, "{headers:?}");
        }
    }

    // The same answer of the provider again, and in another browser.
    let answer = browser.get(&site.at("/sign-in?then=//evil.example")).await;
    let location = answer.header("location").to_owned();
    let kept = browser.cookies.clone();
    let callback = browser.through_provider(&location, "anthony").await;
    let mut other = Browser::default();
    other.get(&site.at("/sign-in")).await;
    assert_eq!(other.get(&callback).await.status, StatusCode::BAD_REQUEST);
    let forged = callback.replace("state=", "state=x");
    assert_eq!(browser.get(&forged).await.status, StatusCode::BAD_REQUEST);
    let answer = browser.get(&callback).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/report"));
    assert_eq!(browser.get(&callback).await.status, StatusCode::BAD_REQUEST, "its attempt is over");
    let mut again = Browser { cookies: kept, ..Browser::default() };
    let answer = again.get(&callback).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "the code is used up: {}", answer.text());

    // Another browser's code with this browser's attempt: the verifier does not match.
    let answer = browser.get(&site.at("/sign-in")).await;
    let mine = answer.header("location").to_owned();
    let mut thief = Browser::default();
    let answer = thief.get(&site.at("/sign-in")).await;
    let theirs = thief.through_provider(answer.header("location"), "becky").await;
    let part = |text: &str, name: &str| {
        let rest = text.split(&format!("{name}=")).nth(1).expect("a parameter").to_owned();
        rest.split('&').next().expect("a value").to_owned()
    };
    let mixed = theirs.replace(&part(&theirs, "state"), &part(&mine, "&state"));
    assert_eq!(browser.get(&mixed).await.status, StatusCode::BAD_REQUEST);

    // A session of two full cookies fits beside those of other servers on the same host.
    let good = browser.cookies[&site.url]["orders_session"].clone();
    for cookie in [
        format!("orders_session={good}; other={}", "x".repeat(9_000)),
        format!("theme=ü; orders_session={good}"),
        // A cookie of another server on the same host, with the same name.
        format!("orders_session=xxx; orders_session={good}; orders_session_2=xxx"),
    ] {
        let headers = [("Cookie", cookie.as_str())];
        let asked = request(Method::GET, &site.at("/orders"), &headers, Bytes::new());
        let answer = site.system.client.send(asked).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    // Cookies that the gateway did not seal, or that were changed.
    for forged in
        [good[1..].to_owned(), format!("{good}AAAA"), "e30".to_owned(), good.replace('A', "B")]
    {
        let cookie = format!("orders_session={forged}");
        let headers = [("Cookie", cookie.as_str())];
        let asked = request(Method::GET, &site.at("/orders"), &headers, Bytes::new());
        let answer = site.system.client.send(asked).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    }

    // Signing out, which requests of other pages and without an origin cannot trigger.
    let out = site.at("/sign-out");
    for from in ["cross-site", "none"] {
        let headers = [("Sec-Fetch-Site", from), ("Accept", "text/html")];
        let answer = browser.send(Method::POST, &out, &headers, "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{from}");
    }
    assert!(browser.cookies[&site.url].contains_key("orders_session"));
    // Copies of the cookie and open event streams end as well.
    let cookie = format!("orders_session={good}");
    let copied = async |path: &str| {
        let asked = request(Method::GET, &site.at(path), &[("Cookie", &cookie)], Bytes::new());
        site.system.client.send(asked).await.expect("an answer")
    };
    assert_eq!(copied("/orders").await.status, StatusCode::OK);
    let streams = events::Browser::default();
    let open = streams.open_with(&site.at("/events"), &[("Cookie", &cookie)]).await;
    let mut open = open.expect("a stream");
    let answer = browser.send(Method::POST, &out, &[("Sec-Fetch-Site", "same-origin")], "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert_eq!(copied("/orders").await.status, StatusCode::UNAUTHORIZED);
    let end = async { while open.block().await.is_some() {} };
    tokio::time::timeout(SOON, end).await.expect("the stream ends");
    assert!(answer.header("location").contains("/end_session?"), "{}", answer.header("location"));
    let text = browser.get(&site.at("/signed-out")).await.text();
    assert!(text.contains("You are signed out") && !text.contains("Sign out"), "{text}");
    assert!(!browser.cookies[&site.url].contains_key("orders_session"));
    let answer = browser.get(&site.at("/report")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "signed out");
}
