//! The number of event streams, and their rates.

use http::StatusCode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use stack::StackOptions;
use system_tests::{SOON, System, events::Browser, eventually};
use tokio::task::JoinSet;

use super::{announce, expect_readers, product};

#[tokio::test]
async fn one_read_serves_all_changes_to_a_thousand_clients() {
    const CLIENTS: usize = 1_000;
    const CHANGES: usize = 300;
    /// The maximum of a gateway.
    const OPEN: usize = 2_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let files = soft.max(hard.min(4_096));
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).expect("raised");
    assert!(files >= 3_000, "ulimit -Hn is {hard}: too few files for the connections");
    let system = System::start_alone(StackOptions::default()).await;
    let mut redis = system.redis().await;
    expect_readers(&mut redis, 0).await;

    let url = format!("{}/events", system.url());
    let browser = Browser::default();
    let open = async |count: usize| {
        let mut streams = JoinSet::new();
        for _ in 0..count {
            let (browser, url) = (browser.clone(), url.clone());
            streams.spawn(async move { browser.open(&url, None).await.expect("a stream") });
        }
        streams.join_all().await
    };
    let mut clients = JoinSet::new();
    for mut events in open(CLIENTS).await {
        clients.spawn(async move {
            for number in 0..CHANGES {
                let block = events.block().await.expect("no end");
                assert!(block.contains(&format!("\"id\":\"{number}\"")), "{number}: {block}");
            }
            events
        });
    }
    expect_readers(&mut redis, 1).await;
    for number in 0..CHANGES {
        announce(&mut redis, &[product(number, "P")]).await;
    }
    let streams = tokio::time::timeout(SOON * 2, clients.join_all())
        .await
        .expect("all clients are served in time");
    assert_eq!(streams.len(), CLIENTS);
    expect_readers(&mut redis, 1).await;

    // There is a limit, beyond which other calls still succeed.
    let more = open(OPEN - CLIENTS).await;
    let refused = browser.ask(&url, &[]).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(system.get("/report").await.status, StatusCode::OK);
    drop((streams, more));
    eventually("there is room again", SOON, async || {
        let status = browser.ask(&url, &[]).await?.status();
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// A system whose gateway trusts the forwarding header of this machine.
async fn behind_a_proxy(more: &[(&str, &str)]) -> System {
    let env: Vec<_> = more.iter().chain(&[("TRUSTED_PROXIES", "127.0.0.1")]).copied().collect();
    System::start_with_gateway_env(&env).await
}

#[tokio::test]
async fn repeated_events_count_as_further_requests_of_the_client() {
    const MANY: usize = 2_000;
    let system = behind_a_proxy(&[("RATE_PER_ADDRESS", "1/s:10")]).await;
    let (url, browser) = (format!("{}/events", system.url()), Browser::default());
    let from = |address: &'static str| [("X-Forwarded-For", address)];
    let mut events = browser.open_with(&url, &from("203.0.113.1")).await.unwrap();
    let before = events.last.clone();
    let mut redis = system.redis().await;
    let name = "n".repeat(500);
    let changes: Vec<_> = (0..MANY).map(|number| product(number, &name)).collect();
    announce(&mut redis, &changes).await;
    let last = (MANY - 1).to_string();
    events.until(|event| event.data["id"] == last).await;
    // A client that stayed connected has paid with its first request.
    let asks = async |address: &'static str| {
        browser.ask(&format!("{}/flow", system.url()), &from(address)).await.unwrap().status()
    };
    assert_eq!(asks("203.0.113.1").await, StatusCode::OK);
    // This client gets 1 MiB again, which costs 16 more of its 10.
    let resumed = format!("{url}?last_event_id={before}");
    let mut events = browser.open_with(&resumed, &from("203.0.113.2")).await.unwrap();
    let received = events.until(|event| event.data["id"] == last).await;
    assert_eq!(received.len(), MANY);
    assert_eq!(asks("203.0.113.2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asks("203.0.113.3").await, StatusCode::OK);
}

#[tokio::test]
async fn streams_of_an_address_are_limited_without_authentication() {
    let system = behind_a_proxy(&[]).await;
    let (url, browser) = (format!("{}/events", system.url()), Browser::default());
    let mut open = Vec::new();
    for _ in 0..500 {
        let address = [("X-Forwarded-For", "2001:db8::1")];
        open.push(browser.open_with(&url, &address).await.unwrap());
    }
    let ask = async |address: &'static str| {
        let answer = browser.ask(&url, &[("X-Forwarded-For", address)]).await.unwrap();
        let retry = answer.headers().get("retry-after").cloned();
        (answer.status(), retry.map(|it| it.to_str().unwrap().to_owned()))
    };
    let (status, retry) = ask("2001:db8::2").await;
    assert_eq!((status, retry.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("5")));
    assert_eq!(ask("2001:db8:0:1::1").await.0, StatusCode::OK);
    open.clear();
    eventually("a stream", SOON, async || {
        let (status, _) = ask("2001:db8::1").await;
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}
