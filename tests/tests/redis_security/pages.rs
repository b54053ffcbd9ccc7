//! Every page with all options of `cargo stack --secure`: for an order in each status, for an operator and
//! for the customer; each page is complete.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::contract::{order::Order, order_status::OrderStatus};
use http::{Method, StatusCode};
use orderctl::token::{TokenRequest, token};
use serde_json::{Value as Json, json};
use stack::{Service, StackOptions};
use system_tests::{Answer, SOON, System, eventually, order_body, request};

/// The orders in their statuses, and the tokens of an operator and a customer.
struct Site {
    system: System,
    operator: String,
    customer: String,
}

impl Site {
    async fn start() -> Self {
        let options = StackOptions {
            isolated: true,
            acl: true,
            tls: true,
            auth: true,
            seed_demo_data: true,
            ..StackOptions::default()
        };
        let mut system = System::start_alone(options).await;
        system.wait_ready().await;
        let of =
            |wanted: TokenRequest| token(&wanted, system.stack.dir()).expect("the stack has a key");
        let scopes = ["orders:write", "orders:read", "report:read"];
        let customer = of(TokenRequest {
            customer: Some("101".parse().expect("an id")),
            ..TokenRequest::with_scopes(&scopes)
        });
        let operator = of(TokenRequest::with_scopes(&["admin"]));
        Self { system, operator, customer }
    }

    async fn ask(
        &self,
        token: &str,
        method: Method,
        path: &str,
        accept: &str,
        body: &Json,
    ) -> Answer {
        let (url, bearer) = (format!("{}{path}", self.system.url()), format!("Bearer {token}"));
        let mut headers = vec![("Authorization", bearer.as_str()), ("Accept", accept)];
        let mut text = String::new();
        if !body.is_null() {
            headers.push(("Content-Type", "application/json"));
            text = body.to_string();
        }
        let asked = request(method, &url, &headers, Bytes::from(text));
        self.system.client.send(asked).await.expect("the gateway answers")
    }

    /// A request with the operator's token.
    async fn call(&self, method: Method, path: &str, body: &Json) -> Answer {
        self.ask(&self.operator, method, path, "application/json", body).await
    }

    async fn page(&self, token: &str, path: &str) -> Answer {
        self.ask(token, Method::GET, path, "text/html", &Json::Null).await
    }

    async fn order(&self, products: &[&str], status: OrderStatus) -> Order {
        let body = order_body(products, "101");
        let answer = self.call(Method::POST, "/order", &body).await.with_status(StatusCode::OK);
        let order: Order = answer.parse();
        self.reaches(&order, status).await
    }

    async fn reaches(&self, order: &Order, status: OrderStatus) -> Order {
        let path = format!("/order/{}", order.id);
        eventually("the order has its status", SOON, async || {
            let answer = self.call(Method::GET, &path, &Json::Null).await;
            let order: Order = answer.parse();
            if order.status == status { Ok(order) } else { Err(format!("{:?}", order.status)) }
        })
        .await
    }

    async fn step(&self, order: &Order, step: &str, status: OrderStatus) -> Order {
        let path = format!("/order/{}/{step}", order.id);
        self.call(Method::POST, &path, &Json::Null).await.with_status(StatusCode::OK);
        self.reaches(order, status).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_opens_for_an_order_in_every_status_with_users_tls_and_tokens() {
    use OrderStatus::*;
    let mut site = Site::start().await;
    let answer = site.call(Method::POST, "/accounts/101/top-up", &json!({ "amount": 1_000 })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let mut orders = BTreeMap::new();
    let mut has = |order: Order| {
        orders.insert(order.status.name(), order.id);
    };
    has(site.order(&["205"], ToBeShipped).await);
    let shipped = site.order(&["205"], ToBeShipped).await;
    has(site.step(&shipped, "ship", Shipped).await);
    let completed = site.order(&["204"], ToBeShipped).await;
    site.step(&completed, "ship", Shipped).await;
    has(site.step(&completed, "complete", Completed).await);
    let cancelled = site.order(&["204"], ToBeShipped).await;
    let path = format!("/order/{}", cancelled.id);
    site.call(Method::DELETE, &path, &Json::Null).await.with_status(StatusCode::OK);
    has(site.reaches(&cancelled, Cancelled).await);
    has(site.order(&["999"], Rejected).await);
    has(site.order(&["201", "201", "202"], InsufficientFund).await);
    has(site.order(&["201"; 6], OutOfStock).await);
    let behind = site.order(&["201"; 5], OutOfStock).await;
    for service in [Service::Account, Service::Inventory] {
        site.system.first(service).process.kill().expect("it runs");
        let status = if service == Service::Account { PaymentRequired } else { Pending };
        has(site.order(&["204"], status).await);
    }
    assert_eq!(orders.len(), OrderStatus::ALL.len(), "{orders:?}");

    for (status, id) in &orders {
        for path in [format!("/order/{id}"), format!("/report?status={status}")] {
            for (who, token) in [("operator", &site.operator), ("customer", &site.customer)] {
                let page = site.page(token, &path).await;
                let text = page.text();
                assert_eq!(page.status, StatusCode::OK, "{status} {path} for the {who}: {text}");
                assert!(text.contains(&format!("data-status=\"{status}\"")), "{path}: {text}");
                assert!(!text.contains("cannot be read"), "{status} {path} for the {who}: {text}");
            }
        }
    }
    let path = format!("/order/{}", orders["out-of-stock"]);
    let text = site.page(&site.customer, &path).await.text();
    assert!(text.contains("it is first in the queue"), "{text}");
    let text = site.page(&site.customer, &format!("/order/{}", behind.id)).await.text();
    assert!(text.contains("1 order for 6 units waits before it"), "{text}");
    for path in ["/report", "/report?customer_id=101", "/flow", "/docs", "/docs/events"] {
        let page = site.page(&site.operator, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text());
    }
    let log = site.system.logs(Service::Gateway);
    assert!(!log.contains("is shown without") && !log.contains("denies"), "{log}");
}
