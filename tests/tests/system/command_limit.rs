//! Commands are accepted only up to a limit while the services that read them are stopped.

use common::{contract::streams, schema::stream::Stream};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use stack::Service;
use system_tests::{Answer, Ask, SOON, System, eventually};
use tokio::task::JoinSet;

async fn start(limit: &str) -> System {
    let system = System::start_with_env(&[("MAX_COMMAND_BACKLOG", limit)]).await;
    system.init_data().await;
    system
}

/// Sends the request with each of these keys concurrently.
async fn send_all(
    system: &System,
    (method, path, body): (Method, &'static str, Value),
    keys: &[&str],
) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    for key in keys {
        let (method, key, body) = (method.clone(), (*key).to_owned(), body.clone());
        let (client, url) = (system.client.clone(), system.url());
        asked.spawn(async move {
            let ask = Ask { method, path, key: &key, body: Some(&body) };
            ask.once(&client, &url).await.expect("the gateway answers")
        });
    }
    asked.join_all().await
}

/// Restocks or tops up by one with each of these keys concurrently.
async fn ask_all(system: &System, path: &'static str, keys: &[&str]) -> Vec<Answer> {
    send_all(system, (Method::POST, path, json!({ "amount": 1 })), keys).await
}

async fn length(system: &System, stream: Stream) -> usize {
    system.entries(stream).await.len()
}

/// Reads a number from the document at a path.
async fn number(system: &System, path: &str, field: &str) -> u64 {
    system.get(path).await.json()[field].as_u64().unwrap()
}

#[tokio::test]
async fn commands_are_refused_while_their_service_is_too_far_behind() {
    let mut system = start("3").await;
    for (service, name, path, commands, shown, field) in [
        (
            Service::Inventory,
            "inventory_service",
            "/inventory/201/restock",
            streams::INVENTORY_RESTOCK,
            "/inventory/201",
            "amount",
        ),
        (
            Service::Account,
            "account_service",
            "/accounts/101/top-up",
            streams::ACCOUNT_TOP_UP,
            "/accounts/101",
            "balance",
        ),
    ] {
        let key = |text: &str| format!("{name}-{text}");
        let [early, a, b, c, late] = ["early", "a", "b", "c", "late"].map(key);
        let [first] = &ask_all(&system, path, &[&early]).await[..] else { panic!("one answer") };
        assert_eq!(first.status, StatusCode::OK, "{}", first.text());
        let before = number(&system, shown, field).await;
        let published = length(&system, commands).await;
        system.quiet(SOON).await;
        system.first(service).process.kill().expect("killed");

        // A client repeats an unanswered request: four entries, three commands.
        for answer in ask_all(&system, path, &[&a, &b, &c, &c]).await {
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{}", answer.text());
        }
        for refusal in ask_all(&system, path, &[&late, &a, &b, &c]).await {
            refusal.assert_unavailable(&[name, commands.key()]);
        }
        assert_eq!(length(&system, commands).await, published + 4);
        // Reads and repetitions of recorded requests are still answered.
        assert_eq!(number(&system, shown, field).await, before);
        let [again] = &ask_all(&system, path, &[&early]).await[..] else { panic!("one answer") };
        assert_eq!((again.status, again.header("idempotent-replayed")), (StatusCode::OK, "true"));

        system.restart(service, 1).await;
        eventually("accepted commands have their effect once", SOON, async || {
            let found = number(&system, shown, field).await;
            if found == before + 3 { Ok(()) } else { Err(format!("{found}, {before} before")) }
        })
        .await;
        eventually("commands are accepted again", SOON, async || {
            let answers = ask_all(&system, path, &[&late]).await;
            let accepted = answers.iter().all(|answer| answer.status == StatusCode::OK);
            if accepted { Ok(()) } else { Err(answers[0].text()) }
        })
        .await;
        assert_eq!(number(&system, shown, field).await, before + 4);
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn definitions_and_the_demo_data_are_refused_as_well() {
    let mut system = start("3").await;
    system.quiet(SOON).await;
    for (service, name, path, body, stream) in [
        (
            Service::Inventory,
            "inventory_service",
            "/inventory/new",
            json!({ "name": "N", "price": 1, "amount": 1 }),
            streams::INVENTORY_CREATED,
        ),
        (
            Service::Message,
            "msg_service",
            "/accounts/new",
            json!({ "name": "N", "email": "n@example.com", "balance": 1 }),
            streams::ACCOUNT_CREATED,
        ),
    ] {
        system.first(service).process.kill().expect("killed");
        let published = length(&system, stream).await;
        send_all(&system, (Method::PUT, path, body.clone()), &["a", "b", "c", "d"]).await;
        let parts = [name, stream.key()];
        system.ask(Method::PUT, path, Some(&body)).await.assert_unavailable(&parts);
        system.post("/init-data", &Value::Null).await.assert_unavailable(&parts);
        assert_eq!(length(&system, stream).await, published + 4);
        system.restart(service, 1).await;
        system.quiet(SOON).await;
        system.ask(Method::PUT, path, Some(&body)).await.with_status(StatusCode::OK);
    }
}

#[tokio::test]
async fn the_limit_of_commands_can_be_switched_off() {
    let mut system = start("off").await;
    let before = number(&system, "/inventory/201", "amount").await;
    system.first(Service::Inventory).process.kill().expect("killed");
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for answer in ask_all(&system, "/inventory/201/restock", &keys).await {
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{}", answer.text());
    }
    system.restart(Service::Inventory, 1).await;
    eventually("accepted commands have their effect", SOON, async || {
        let found = number(&system, "/inventory/201", "amount").await;
        if found == before + 20 { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}
