//! The scope that each route requires.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::events::Browser;

use super::{Site, UNKNOWN_ORDER, assert_problem, bearer};

const SCOPES: [&str; 6] =
    ["orders:write", "orders:read", "report:read", "customers:write", "inventory:write", "admin"];

/// A route of the API document, and its scope.
const ROUTES: [(&str, &str, &str); 21] = [
    ("POST", "/order", "orders:write"),
    ("GET", "/order/{id}", "orders:read"),
    ("DELETE", "/order/{id}", "orders:write"),
    ("POST", "/order/{id}/pay", "orders:write"),
    ("POST", "/order/{id}/ship", "orders:write"),
    ("POST", "/order/{id}/complete", "orders:write"),
    ("GET", "/orders", "orders:read"),
    ("GET", "/orders/counts", "orders:read"),
    ("GET", "/customers/{id}/messages", "orders:read"),
    ("GET", "/report", "report:read"),
    ("GET", "/inventory", "report:read"),
    ("GET", "/inventory/{id}", "report:read"),
    ("GET", "/accounts", "report:read"),
    ("GET", "/accounts/{id}", "report:read"),
    ("GET", "/events", "report:read"),
    ("GET", "/flow", "report:read"),
    ("PUT", "/accounts/{id}", "customers:write"),
    ("POST", "/accounts/{id}/top-up", "customers:write"),
    ("PUT", "/inventory/{id}", "inventory:write"),
    ("POST", "/inventory/{id}/restock", "inventory:write"),
    ("POST", "/init-data", "admin"),
];

/// The path of an existing resource, except for orders, and a valid body.
fn call(method: &str, route: &str) -> (String, Value) {
    let id = match route {
        _ if route.starts_with("/order/") => UNKNOWN_ORDER,
        _ if route.starts_with("/inventory/") => "201",
        _ => "101",
    };
    let body = match (method, route) {
        ("POST", "/order") => json!({ "product_ids": ["204"], "customer_id": "101" }),
        ("PUT", "/accounts/{id}") => json!({ "name": "A", "email": "a@server.com", "balance": 0 }),
        ("PUT", "/inventory/{id}") => json!({ "name": "A", "price": 1, "amount": 1 }),
        ("POST", "/accounts/{id}/top-up" | "/inventory/{id}/restock") => json!({ "amount": 1 }),
        _ => Value::Null,
    };
    (route.replace("{id}", id), body)
}

/// The status without the body, because event streams have no end.
async fn status(site: &Site, token: &str, method: &str, route: &str) -> StatusCode {
    let (path, body) = call(method, route);
    if route == "/events" {
        let url = format!("{}{path}", site.system.url());
        let asked = Browser::default();
        let answer = asked.ask(&url, &[("Authorization", &bearer(token))]).await;
        return answer.expect("the gateway answers").status();
    }
    site.ask(token, method.parse().unwrap(), &path, &body).await.status
}

#[tokio::test]
async fn each_route_accepts_only_tokens_with_its_scope_or_admin() {
    let site = Site::start().await;
    for (method, route, needed) in ROUTES {
        let name = format!("{method} {route}");
        let (path, body) = call(method, route);
        let others: Vec<_> =
            SCOPES.into_iter().filter(|scope| ![needed, "admin"].contains(scope)).collect();
        let all_others = others.join(" ");
        let lookalikes = format!("{needed}x {} x:{needed}", needed.to_uppercase());
        let mut lacking = others;
        lacking.extend(["", all_others.as_str(), lookalikes.as_str()]);
        for scope in lacking {
            let name = format!("{name} with {scope:?}");
            let method: Method = method.parse().unwrap();
            let answer = site.ask(&site.token(scope), method, &path, &body).await;
            let problem = assert_problem(&name, &answer, 403, "forbidden");
            assert_eq!(problem["scope"], needed, "{name}: {problem}");
            let challenge = format!(
                "Bearer realm=\"orders\", error=\"insufficient_scope\", scope=\"{needed}\""
            );
            assert_eq!(answer.header("www-authenticate"), challenge, "{name}");
        }
        for scope in [needed, "admin", &format!("openid {needed} profile")] {
            let status = status(&site, &site.token(scope), method, route).await;
            let expected = match route {
                _ if route.starts_with("/order/") => StatusCode::NOT_FOUND,
                _ => StatusCode::OK,
            };
            assert_eq!(status, expected, "{name} with {scope:?}");
        }
    }
}

#[tokio::test]
async fn all_routes_of_the_api_require_a_scope_and_documents_are_public() {
    let site = Site::start().await;
    let document = site.send(Method::GET, "/openapi.json", &[], &Value::Null).await.json();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let tested =
        ROUTES.map(|(method, path, _)| (method.to_owned(), path.to_owned())).into_iter().collect();
    assert_eq!(documented, tested);
    for (method, route, _) in ROUTES {
        let (path, body) = call(method, route);
        let answer = site.send(method.parse().unwrap(), &path, &[], &body).await;
        assert_problem(&format!("{method} {route}"), &answer, 401, "unauthenticated");
    }
    for path in ["/", "/asyncapi.json", "/docs/", "/docs/events"] {
        let answer = site.send(Method::GET, path, &[], &Value::Null).await;
        assert!(!matches!(answer.status.as_u16(), 401 | 403), "{path}: {}", answer.text());
    }
    // A method without a rule is refused with any token.
    let answer = site.ask(&site.token("admin"), Method::PATCH, "/report", &Value::Null).await;
    assert_problem("PATCH /report", &answer, 405, "method-not-allowed");
}
