//! A stack that requires tokens of its own key: `orderctl token` makes one for users, and `orderctl load`
//! makes its own.

use common::contract::streams;
use http::{Method, StatusCode};
use orderctl::{
    load::{Plan, load},
    token::{TokenRequest, token},
};
use stack::{
    Service, StackOptions,
    run_file::{self, RunFile},
    token_key::{self, TokenKey},
};
use system_tests::{Answer, SOON, System, env, order_body, request};

/// The system; `more` is for its gateway.
async fn started(more: &[(&str, &str)]) -> System {
    let options = StackOptions {
        auth: true,
        seed_demo_data: true,
        service_env: [(Service::Gateway, env(more))].into(),
        ..StackOptions::default()
    };
    let system = System::start_with(options).await;
    system.stack.write_run_file().expect("run.json is written");
    system
}

/// A few orders.
const PLAN: Plan = Plan { orders: 30, clients: 3, products: 2, customers: 4 };

/// Places an order for customer 101, with this token.
async fn order(system: &System, token: Option<&str>) -> Answer {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
    let body = order_body(&["204"], "101").to_string();
    let url = format!("{}/order", system.url());
    let answer = system.client.send(request(Method::POST, &url, &headers, body)).await;
    answer.expect("the gateway answers")
}

/// The error of a load with this run file, which must be refused.
async fn refused(run: &RunFile) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let json = serde_json::to_vec(run).expect("JSON");
    std::fs::write(dir.path().join(run_file::NAME), json).expect("written");
    format!("{:#}", load(dir.path(), PLAN).await.expect_err("refused"))
}

#[tokio::test]
async fn a_token_of_the_stacks_key_is_accepted_and_load_makes_its_own() {
    let system = started(&[]).await;
    order(&system, None).await.with_status(StatusCode::UNAUTHORIZED);
    let customer = Some("101".parse().expect("an id"));
    let wanted = TokenRequest { customer, ..TokenRequest::with_scopes(&["orders:write"]) };
    let token = token(&wanted, system.stack.dir()).expect("a token");
    order(&system, Some(&token)).await.with_status(StatusCode::OK);

    let measured = load(system.stack.dir(), PLAN).await.expect("it is measured").to_string();
    assert!(measured.starts_with("30 orders by 3 clients: "), "{measured}");
    let report = system.assert_balanced(SOON).await;
    assert_eq!((report.orders, report.unfinished), (31, 0), "{report}");
}

#[tokio::test]
async fn a_refused_load_explains_the_remedy_and_leaves_nothing_behind() {
    let system = started(&[]).await;
    let run = system.stack.run_file();
    let without_key = refused(&RunFile { token_key: None, ..run.clone() }).await;
    assert!(without_key.contains("cargo stack --auth"), "{without_key}");
    let dir = tempfile::tempdir().expect("a directory");
    let other = token_key::key_path(dir.path());
    TokenKey::read_or_make(&other).expect("a key");
    let anothers = refused(&RunFile { token_key: Some(other.clone()), ..run }).await;
    let named = format!("does not take a token of {}", other.display());
    assert!(anothers.contains(&named) && anothers.contains("401"), "{anothers}");

    for stream in [streams::ACCOUNT_CREATED, streams::INVENTORY_CREATED] {
        for entry in system.entries(stream).await {
            assert!(!entry.entity().to_string().contains("load-"), "{entry:?}");
        }
    }
}

#[tokio::test]
async fn a_load_beyond_the_rate_explains_how_to_start_the_stack() {
    let system = started(&[("RATE_PER_SUBJECT", "1/s:3")]).await;
    let error = load(system.stack.dir(), PLAN).await.expect_err("refused").to_string();
    assert!(error.contains("429") && error.contains("RATE_PER_SUBJECT=off"), "{error}");
}
