//! Authentication with tokens: the real binaries with `AUTH_MODE=required` and a provider of the test.

mod customers;
mod forged;
mod keys;
mod pages;
mod rate;
mod reads;
mod scopes;
mod secrets;
mod sign_in;
mod start;
mod streams;

mod provider;

use std::collections::BTreeMap;

use common::clock::now_millis;
use http::Method;
use serde_json::{Value, json};
use stack::{Service, StackOptions};
use system_tests::{Answer, System, env, request};

use self::provider::{Fault, Provider, Signer};

const AUDIENCE: &str = "https://orders.example/api";
/// The secret of the gateway for order_service, which must not appear anywhere.
const SECRET: &str = "marker-between-secret-0123456789";
const UNKNOWN_ORDER: &str = "01890000-0000-7000-8000-000000000000";

/// A system that requires tokens, with the demo data.
struct Site {
    system: System,
    provider: Provider,
    /// The first key of the provider.
    signer: Signer,
}

impl Site {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A site with more variables for the gateway.
    async fn start_with(more: &[(&str, &str)]) -> Self {
        let mut site = Self::begin(more, Fault::Nothing, true).await;
        site.system.wait_ready().await;
        site
    }

    /// A site with a faulty provider, so that the gateway does not become ready.
    async fn start_unready(fault: Fault) -> Self {
        Self::begin(&[], fault, false).await
    }

    async fn begin(more: &[(&str, &str)], fault: Fault, seed_demo_data: bool) -> Self {
        let signer = Signer::ed25519("first");
        let provider = Provider::start(&[&signer]).await;
        provider.has_fault(fault);
        let both = env(&[
            ("AUTH_MODE", "required"),
            ("ORDER_SERVICE_SECRET", SECRET),
            ("LOG_LEVEL", "debug"),
        ]);
        let mut gateway = both.clone();
        gateway.extend(env(&[("OIDC_ISSUER", &provider.issuer), ("OIDC_AUDIENCE", AUDIENCE)]));
        gateway.extend(env(more));
        let service_env = BTreeMap::from([(Service::Gateway, gateway), (Service::Order, both)]);
        let options = StackOptions { seed_demo_data, service_env, ..StackOptions::default() };
        Self { system: System::start_unready(options).await, provider, signer }
    }

    /// The claims of a valid token with these scopes.
    fn claims(&self, subject: &str, scope: &str) -> Value {
        json!({
            "iss": self.provider.issuer, "aud": AUDIENCE, "sub": subject, "scope": scope,
            "iat": now() - 10, "exp": now() + 600,
        })
    }

    /// A valid token of a caller that is not a customer.
    fn token(&self, scope: &str) -> String {
        self.signer.token(&self.claims("operator", scope))
    }

    /// A valid token of a customer.
    fn token_of(&self, customer: &str, scope: &str) -> String {
        let claims = self.claims(&format!("user-{customer}"), scope);
        self.signer.token(&with(&claims, "customer_id", json!(customer)))
    }

    /// Sends a request with a token.
    async fn ask(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("Authorization", &bearer(token))], body).await
    }

    /// Sends a request with these headers; a body only if it is not null.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut headers = headers.to_vec();
        let mut text = String::new();
        if !body.is_null() {
            headers.push(("Content-Type", "application/json"));
            text = body.to_string();
        }
        let url = format!("{}{path}", self.system.url());
        let answer = self.system.client.send(request(method, &url, &headers, text)).await;
        answer.expect("the gateway answers")
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The claims with this claim added or replaced.
fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

/// The claims without this claim.
fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().expect("claims").remove(name);
    claims
}

/// Asserts that the answer is a well-formed problem of this type.
fn assert_problem(name: &str, answer: &Answer, status: u16, kind: &str) -> Value {
    assert_eq!(answer.status, status, "{name}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json", "{name}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:problem-type:orders:{kind}"), "{name}: {problem}");
    assert_eq!(problem["status"], status, "{name}: {problem}");
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{name}: {problem}");
    }
    problem
}

/// Seconds since 1970.
fn now() -> u64 {
    now_millis() / 1_000
}
