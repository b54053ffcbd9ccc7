//! Customers access only their own data.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::order_body;

use super::{Site, assert_problem, bearer, with};

const OWN: &str = "orders:write orders:read report:read customers:write inventory:write";

/// A site with an order of customer 101 and one of 103, and the paths of both.
async fn with_orders() -> (Site, [String; 2]) {
    let site = Site::start().await;
    let mut paths = Vec::new();
    for customer in ["101", "103"] {
        let token = site.token_of(customer, OWN);
        let body = order_body(&["204"], customer);
        let answer = site.ask(&token, Method::POST, "/order", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        paths.push(format!("/order/{}", answer.json()["id"].as_str().expect("an id")));
    }
    (site, paths.try_into().expect("two"))
}

#[tokio::test]
async fn another_customers_order_is_a_404_like_an_unknown_one() {
    let (site, [own, others]) = with_orders().await;
    let token = site.token_of("101", OWN);
    for (method, step) in [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/pay")] {
        let name = format!("{method} {step}");
        let call = async |path: &str| {
            let path = format!("{path}{step}");
            site.ask(&token, method.clone(), &path, &Value::Null).await
        };
        let refused = assert_problem(&name, &call(&others).await, 404, "not-found");
        let none = format!("/order/{}", super::UNKNOWN_ORDER);
        let unknown = assert_problem(&name, &call(&none).await, 404, "not-found");
        // The answers differ only in the id.
        let (id, no_order) = (others.replace("/order/", ""), super::UNKNOWN_ORDER);
        assert_eq!(refused.to_string().replace(&id, no_order), unknown.to_string(), "{name}");
    }
    let admin = site.token("admin");
    let order = site.ask(&admin, Method::GET, &others, &Value::Null).await.json();
    assert_ne!(order["status"], "cancelled", "{order}");
    // Access to their own data succeeds.
    let answer = site.ask(&token, Method::GET, &own, &Value::Null).await;
    assert_eq!((answer.status, &answer.json()["customer_id"]), (StatusCode::OK, &json!("101")));
    let answer = site.ask(&token, Method::DELETE, &own, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[tokio::test]
async fn customers_get_a_403_for_data_of_others_and_for_operators_routes() {
    let (site, [own, _]) = with_orders().await;
    let account =
        |email: &str, balance: u64| json!({ "name": "A", "email": email, "balance": balance });
    let none = Value::Null;
    let rows = [
        (Method::POST, "/order", order_body(&["204"], "103"), "customer_id"),
        (Method::GET, "/orders?customer_id=103", none.clone(), "customer_id"),
        (Method::GET, "/customers/103/messages", none.clone(), ""),
        (Method::GET, "/accounts/103", none.clone(), ""),
        (Method::GET, "/accounts/no-such-customer", none.clone(), ""),
        (Method::PUT, "/accounts/103", account("x@server.com", 0), ""),
        (Method::PUT, "/accounts/new-customer", account("x@server.com", 0), ""),
        (Method::PUT, "/accounts/101", account("x@server.com", 1_000_000), "balance"),
        (Method::POST, "/accounts/103/top-up", json!({ "amount": 1 }), ""),
        (Method::POST, &format!("{own}/ship"), none.clone(), ""),
        (Method::POST, &format!("{own}/complete"), none.clone(), ""),
        (Method::GET, "/flow", none.clone(), ""),
        (Method::GET, "/events?flow=true", none.clone(), "flow"),
        (Method::PUT, "/inventory/201", json!({ "name": "A", "price": 1, "amount": 1 }), ""),
        (Method::POST, "/inventory/201/restock", json!({ "amount": 1 }), ""),
        (Method::POST, "/init-data", none.clone(), ""),
    ];
    let token = site.token_of("101", OWN);
    // Browsers request all scopes, and a provider may grant them to a customer.
    let with_admin = site.token_of("101", &format!("{OWN} admin"));
    for (method, path, body, field) in rows {
        for token in [&token, &with_admin] {
            let name = format!("{method} {path}");
            let answer = site.ask(token, method.clone(), path, &body).await;
            let problem = assert_problem(&name, &answer, 403, "forbidden");
            assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{name}: {problem}");
            // No scope would help, so none is named.
            assert_eq!(problem["scope"], none, "{name}: {problem}");
            assert!(!answer.headers.contains_key("www-authenticate"), "{name}");
        }
    }
    let account = site.ask(&token, Method::GET, "/accounts/101", &Value::Null).await.json();
    assert_eq!(account["email"], "anthony@server.com", "{account}");
    let answer =
        site.ask(&token, Method::POST, "/accounts/101/top-up", &json!({ "amount": 1 })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let answer = site.ask(&token, Method::GET, "/customers/101/messages", &Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

/// All texts of the members with this name in a list.
fn texts(list: &Value, name: &str) -> Vec<String> {
    let all = list.as_array().expect("a list").iter();
    all.map(|it| it[name].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn lists_contain_only_own_data_and_addresses_are_complete_only_for_admins() {
    let (site, _) = with_orders().await;
    let get = async |token: &str, path: &str| {
        let answer = site.ask(token, Method::GET, path, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    };
    let reader = site.token("report:read orders:read");
    let (customer, admin) = (site.token_of("101", OWN), site.token("admin"));
    let whole = ["anthony@server.com", "Becky@server.com", "Carol@server.com"];
    let masked = ["a…@server.com", "B…@server.com", "C…@server.com"];
    for path in ["/report", "/accounts"] {
        let (seen, all) = (get(&reader, path).await, get(&admin, path).await);
        assert_eq!(texts(&seen["accounts"], "email"), masked, "{path}");
        assert!(!whole.iter().any(|address| seen.to_string().contains(address)), "{path}: {seen}");
        assert_eq!(texts(&all["accounts"], "email"), whole, "{path}");
        let own = get(&customer, path).await;
        assert_eq!(texts(&own["accounts"], "id"), ["101"], "{path}");
    }
    assert_eq!(get(&reader, "/accounts/101").await["email"], masked[0]);
    assert_eq!(get(&admin, "/accounts/101").await["email"], whole[0]);
    for path in ["/report", "/orders", "/orders?customer_id=101", "/orders?limit=1"] {
        let own = get(&customer, path).await;
        assert_eq!(texts(&own["orders"], "customer_id"), ["101"], "{path}");
    }
    for path in ["/report", "/orders"] {
        let all = get(&reader, path).await;
        assert_eq!(texts(&all["orders"], "customer_id"), ["103", "101"], "{path}");
    }
    // A customer with the scope admin is still a customer.
    let both = site.token_of("101", "admin");
    for path in ["/report", "/accounts"] {
        let own = get(&both, path).await;
        assert_eq!(texts(&own["accounts"], "email"), masked[..1], "{path}");
    }
    assert_eq!(texts(&get(&both, "/orders").await["orders"], "customer_id"), ["101"]);
    assert_eq!(get(&both, "/accounts/101").await["email"], whole[0]);
}

#[tokio::test]
async fn the_claim_with_the_customer_is_configurable() {
    let site =
        Site::start_with(&[("AUTH_CUSTOMER_CLAIM", "https://orders.example/customer")]).await;
    let claims = site.claims("somebody", "report:read");
    for (claim, accounts) in
        [("https://orders.example/customer", &["101"][..]), ("customer_id", &["101", "102", "103"])]
    {
        let token = site.signer.token(&with(&claims, claim, json!("101")));
        let answer = site.ask(&token, Method::GET, "/accounts", &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{claim}: {}", answer.text());
        assert_eq!(texts(&answer.json()["accounts"], "id"), accounts, "{claim}");
    }
}

#[tokio::test]
async fn two_callers_may_use_the_same_idempotency_key() {
    let site = Site::start().await;
    let place = async |token: String, customer: &str| {
        let headers = [("Authorization", bearer(&token)), ("Idempotency-Key", "the-same".into())];
        let headers = headers.each_ref().map(|(name, value): &(_, String)| (*name, value.as_str()));
        let body = order_body(&["204"], customer);
        let answer = site.send(Method::POST, "/order", &headers, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let is_replayed = answer.header("idempotent-replayed") == "true";
        (answer.json()["id"].clone(), answer.json()["customer_id"].clone(), is_replayed)
    };
    let (anthony, carol) = (site.token_of("101", OWN), site.token_of("103", OWN));
    let (first, of, is_replayed) = place(anthony, "101").await;
    assert_eq!((&of, is_replayed), (&json!("101"), false));
    let (second, of, is_replayed) = place(carol, "103").await;
    assert_eq!((&of, is_replayed), (&json!("103"), false));
    assert_ne!(first, second);
    // Another token of the same subject.
    assert_eq!(
        place(site.token_of("101", "orders:write"), "101").await,
        (first, json!("101"), true)
    );
    // A different subject with a similar name.
    let lookalike = site.signer.token(&site.claims("user-101 ", "orders:write"));
    let (third, _, is_replayed) = place(lookalike, "101").await;
    assert!(third != second && !is_replayed);
}
