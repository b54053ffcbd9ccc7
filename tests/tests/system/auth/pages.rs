//! Pages for callers with a token are not cached.

use http::{Method, StatusCode};
use serde_json::Value;
use system_tests::{Answer, order_body};

use super::{Site, UNKNOWN_ORDER, bearer};

/// The page at that path.
async fn page(site: &Site, token: &str, path: &str) -> Answer {
    let headers = [("Authorization", &*bearer(token)), ("Accept", "text/html")];
    let answer = site.send(Method::GET, path, &headers, &Value::Null).await;
    assert!(answer.header("content-type").starts_with("text/html"), "{path}: {}", answer.text());
    answer
}

/// An order of customer 103, as a path.
async fn order(site: &Site) -> String {
    let body = order_body(&["204"], "103");
    let answer = site.ask(&site.token("orders:write"), Method::POST, "/order", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    format!("/order/{}", answer.json()["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn pages_and_documents_with_data_of_customers_are_not_cached() {
    let site = Site::start().await;
    let order = order(&site).await;
    let (admin, customer) = (site.token("admin"), site.token_of("101", "orders:read report:read"));
    let unknown = format!("/order/{UNKNOWN_ORDER}");
    for (token, path, status) in [
        (&admin, "/report", 200),
        (&admin, &*order, 200),
        (&admin, &*unknown, 404),
        (&admin, "/report?customer_id=a%20b", 400),
        (&admin, "/flow", 200),
        (&customer, "/report", 200),
        (&customer, &*order, 404),
        (&customer, "/flow", 403),
    ] {
        let as_page = page(&site, token, path).await;
        let as_document = site.ask(token, Method::GET, path, &Value::Null).await;
        for answer in [&as_page, &as_document] {
            // The document has no filter.
            assert!(answer.status == status || status == 400, "{path}: {}", answer.text());
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
}
