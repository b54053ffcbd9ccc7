//! The pages: negotiation, safety and size.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use common::contract::{order_routes::OrderAction, order_status::OrderStatus, streams::topics};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::json;
use stack::{Service, StackOptions};
use system_tests::{
    Answer, Client, SOON, System, database, env, events::Events, eventually, order_body, request,
    signal,
};
use tokio::task::JoinSet;

/// The `Accept` header of browsers.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
/// The maximum size of a page, in bytes.
const LARGEST: usize = 100_000;
/// A name from a hostile client.
const HOSTILE: &str = r#""'><script>alert(1)</script><img src=x onerror=alert(2)>"#;

/// A request with this `Accept` header.
async fn get(system: &System, path: &str, accept: &str) -> Answer {
    let url = format!("{}{path}", system.url());
    let asked = request(Method::GET, &url, &[("Accept", accept)], Bytes::new());
    system.client.send(asked).await.expect("the gateway answers")
}

/// A page, with a check of the properties of all pages.
async fn page(system: &System, path: &str) -> String {
    let answer = get(system, path, BROWSER).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    assert_page(path, &answer);
    answer.text()
}

fn assert_page(path: &str, answer: &Answer) {
    let text = answer.text();
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
    assert_eq!(answer.header("vary"), "accept", "{path}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
    let policy = answer.header("content-security-policy");
    let directives: Vec<&str> = policy.split("; ").collect();
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(directives.contains(&directive), "{path}: {directive} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    assert!(text.len() < LARGEST, "{path}: {} bytes", text.len());
    // No inline scripts or styles, which the policy would block anyway.
    assert!(!text.contains("<style") && !text.contains(" style="), "{path}: {text}");
    for script in text.split("<script").skip(1) {
        let (attributes, rest) = script.split_once('>').expect("a tag ends");
        assert!(attributes.contains(" src=\"/assets/"), "{path}: {attributes}");
        assert!(rest.starts_with("</script>"), "{path}: {rest}");
    }
    for handler in [" onclick=", " onload=", " onerror=", " onsubmit=", "javascript:"] {
        assert!(!text.contains(handler) || text.contains("&lt;script&gt;"), "{path}: {handler}");
    }
    assert!(text.contains("<html lang=\"en\">") && text.contains("<main "), "{path}: {text}");
}

/// The values of an attribute, in their order.
fn values<'a>(text: &'a str, attribute: &str) -> Vec<&'a str> {
    let begin = format!(" {attribute}=\"");
    text.split(begin.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn browsers_get_pages_and_programs_get_json() {
    let system = System::start().await;
    system.init_data().await;
    let order = system.order(&["201", "204"], "101").await;
    let unknown = "/order/00000000-0000-0000-0000-000000000000";
    let order = format!("/order/{}", order.id);
    for (path, status) in [
        ("/report", 200),
        (order.as_str(), 200),
        (unknown, 404),
        ("/order/x", 400),
        ("/report?limit=0", 400),
        ("/flow", 200),
        ("/nowhere", 404),
    ] {
        for accept in ["application/json", "*/*", "text/html;q=0.5, application/json"] {
            let answer = get(&system, path, accept).await;
            let expected =
                if status == 200 { "application/json" } else { "application/problem+json" };
            assert_eq!(answer.status, status, "{path} {accept}");
            assert_eq!(answer.header("content-type"), expected, "{path} {accept}");
            assert_eq!(answer.header("vary"), "accept", "{path} {accept}");
        }
        // A client without `Accept` gets the same; the flow differs each time.
        let silent = system.get(path).await;
        if path != "/flow" {
            assert_eq!(silent.body, get(&system, path, "*/*").await.body, "{path}");
        }
        let answer = get(&system, path, BROWSER).await;
        // The page has no such parameter.
        let expected = if path.contains("limit") { 200 } else { status };
        assert_eq!(answer.status, expected, "{path}");
        assert_page(path, &answer);
    }
    let answer = get(&system, "/", BROWSER).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/report"));
    assert_eq!(get(&system, "/", "*/*").await.status, StatusCode::NOT_FOUND);
    for path in ["/report?status=lost", "/report?customer_id=a%20b", "/report?cursor=x"] {
        let answer = get(&system, path, BROWSER).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_page(path, &answer);
    }
}

#[tokio::test]
async fn texts_of_clients_are_shown_as_text() {
    let system = System::start().await;
    let text = json!({ "name": HOSTILE, "price": 5, "amount": 1 });
    let answer = system.ask(Method::PUT, "/inventory/9", Some(&text)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let address = "<script>alert(1)</script>@server.com";
    let text = json!({ "name": HOSTILE, "email": address, "balance": 100 });
    let answer = system.ask(Method::PUT, "/accounts/9", Some(&text)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let paid = system.order(&["9"], "9").await;
    let waiting = system.order(&["9", "9"], "9").await;
    system.quiet(SOON).await;
    for path in ["/report".to_owned(), "/report?customer_id=9".to_owned()]
        .into_iter()
        .chain([&paid, &waiting].map(|order| format!("/order/{}", order.id)))
    {
        let text = page(&system, &path).await;
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{path}: {text}");
        assert!(!text.contains("<script>") && !text.contains("<img"), "{path}: {text}");
    }
}

#[tokio::test]
async fn the_report_can_be_read_and_filtered_without_the_script() {
    let system = System::start().await;
    let [shipped, dear, waiting] = system.guide_orders().await;
    let other = system.order(&["205"], "103").await;
    system.quiet(SOON).await;

    let text = page(&system, "/report").await;
    let ids = [&other, &waiting, &dear, &shipped].map(|order| order.id.to_string());
    // One more row is the empty one in the template.
    assert_eq!(values(&text, "data-order"), [&ids[0], &ids[1], &ids[2], &ids[3], ""]);
    for words in [
        "Anthony",
        "anthony@server.com",
        "Denon Speakers",
        "Insufficient funds",
        "Out of stock",
        "To be shipped",
        "6\u{a0}×\u{a0}Denon Speakers",
        "1,200",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(text.contains("<b class=\"p-waiting\">1 order</b> waiting"), "{text}");

    // Every filter of the page leads to exactly its orders.
    let links: BTreeSet<&str> = values(&text, "href").into_iter().collect();
    for (filter, expected) in [
        ("/report?status=to-be-shipped", vec![&ids[0], &ids[3]]),
        ("/report?status=out-of-stock", vec![&ids[1]]),
        ("/report?status=completed", vec![]),
        ("/report?customer_id=103", vec![&ids[0]]),
    ] {
        assert!(links.contains(filter), "{filter} is not in {links:?}");
        let text = page(&system, filter).await;
        let mut shown = values(&text, "data-order");
        shown.pop();
        assert_eq!(shown, expected, "{filter}");
    }
    // The queries of the form, with one field and with both fields.
    for (filter, expected) in [
        ("/report?customer_id=101&status=", vec![&ids[1], &ids[2], &ids[3]]),
        ("/report?customer_id=101&status=insufficient-fund", vec![&ids[2]]),
    ] {
        let text = page(&system, filter).await;
        let mut shown = values(&text, "data-order");
        shown.pop();
        assert_eq!(shown, expected, "{filter}");
    }
    let counts = system.get("/orders/counts").await.json();
    assert_eq!(counts["total"], 4);
    assert_eq!(counts["counts"]["to-be-shipped"], 2);
    assert_eq!(counts["counts"]["completed"], 0);
}

#[tokio::test]
async fn buttons_match_the_state_of_an_order() {
    let system = System::start().await;
    let text = page(&system, "/report").await;
    let offered = values(&text, "data-filter").into_iter().zip(values(&text, "data-actions"));
    let mut seen = 0;
    for (name, actions) in offered.filter(|(name, _)| !name.is_empty()) {
        let status = OrderStatus::ALL.into_iter().find(|status| status.name() == name);
        let status = status.expect("a status");
        let takes = OrderAction::ALL.into_iter().filter(|action| action.fits(status));
        let takes: Vec<&str> = takes.map(OrderAction::name).collect();
        assert_eq!(actions.split_whitespace().collect::<Vec<_>>(), takes, "{name}");
        seen += 1;
    }
    assert_eq!(seen, OrderStatus::ALL.len());
}

#[tokio::test]
async fn the_page_of_an_order_shows_its_history() {
    let system = System::start().await;
    system.init_data().await;
    let order = system.order(&["201", "204"], "101").await;
    let dear = system.order(&["201", "205"], "101").await;
    system.quiet(SOON).await;
    let first = system.order(&["204"; 3], "103").await;
    let second = system.order(&["204"; 4], "103").await;
    system.quiet(SOON).await;

    let path = format!("/order/{}", order.id);
    let text = page(&system, &path).await;
    assert_eq!(values(&text, "data-step"), ["pending", "payment-required", "to-be-shipped"]);
    for service in ["order_service", "inventory_service", "account_service"] {
        assert!(text.contains(&format!("by <span class=\"mono\">{service}</span>")), "{text}");
    }
    assert_eq!(values(&text, "data-action"), ["ship", "cancel"]);
    let messages = values(&text, "data-message");
    assert_eq!(messages, ["order-received", "stock-reserved", "on-its-way"]);

    let text = page(&system, &format!("/order/{}", dear.id)).await;
    assert!(text.contains("data-top-up=\"101\" data-amount=\"1000\""), "{text}");
    let text = page(&system, &format!("/order/{}", first.id)).await;
    assert!(text.contains("it is first in the queue"), "{text}");
    let text = page(&system, &format!("/order/{}", second.id)).await;
    assert!(text.contains("1 order for 3 units waits before it"), "{text}");
    // Two are available: three are missing for the order before, four for this one.
    assert!(text.contains("data-restock=\"204\" data-amount=\"5\""), "{text}");

    system.step(&order, "ship").await;
    let text = eventually("the message to the customer", SOON, async || {
        let text = page(&system, &path).await;
        if values(&text, "data-message").contains(&"shipped") { Ok(text) } else { Err(text) }
    });
    assert_eq!(values(&text.await, "data-action"), ["complete"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_shown_without_unreadable_parts() {
    let options = StackOptions { isolated: true, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    system.init_data().await;
    let order = system.order(&["204"; 4], "103").await;
    assert_eq!(order.status, OrderStatus::OutOfStock);
    system.quiet(SOON).await;
    let path = format!("/order/{}", order.id);
    let text = page(&system, &path).await;
    assert!(text.contains("it is first in the queue"), "{text}");
    for (topic, on_order, on_report) in [
        (topics::MESSAGE, "The messages cannot be read at the moment.", ""),
        (topics::ACCOUNT, "the account cannot be read", "The accounts cannot be read"),
        (topics::INVENTORY, " · cannot be read at the moment", "The products cannot be read"),
    ] {
        let database = database(topic);
        system.stack.redis_of(database).expect("private").kill().expect("killed");
        let text = page(&system, &path).await;
        assert!(text.contains(on_order), "{topic:?}: {text}");
        assert!(!text.contains("does not exist"), "{topic:?}: {text}");
        let text = page(&system, "/report").await;
        assert!(text.contains(on_report), "{topic:?}: {text}");
        assert!(text.contains(&order.id.to_string()), "{topic:?}: {text}");
        // For a program a partial answer would be wrong.
        let status = system.get("/report").await.status;
        assert_eq!(status == StatusCode::OK, topic == topics::MESSAGE, "{topic:?}: {status}");
        tokio::task::block_in_place(|| {
            system.stack.redis_of(database).expect("private").restart().expect("restarted");
        });
        eventually("the complete page", SOON, async || {
            let text = page(&system, &path).await;
            if text.contains("cannot be read") { Err(text) } else { Ok(()) }
        })
        .await;
    }
    let mut redis = system.redis_of(topics::INVENTORY).await;
    let set = redis::cmd("SET").arg(&["{inventory}:line:0:204", "garbage"]).to_owned();
    let () = set.query_async(&mut redis).await.expect("set");
    let text = page(&system, &path).await;
    assert!(text.contains("more of Google Home Mini"), "{text}");
    assert!(!text.contains("in the queue") && !text.contains("before it"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_hanging_redis_do_not_delay_other_clients() {
    let env = env(&[("TRUSTED_PROXIES", "127.0.0.1"), ("RATE_PER_ADDRESS", "off")]);
    let service_env = [(Service::Gateway, env)].into();
    let options = StackOptions { isolated: true, service_env, ..StackOptions::default() };
    let mut system = System::start_with(options).await;
    system.init_data().await;
    let order = system.order(&["201"], "103").await;
    system.quiet(SOON).await;
    let messages = system.stack.redis_of(database(topics::MESSAGE)).expect("private").pid();
    signal(messages, Signal::SIGSTOP);
    // Each request is another client's.
    let page = format!("{}/order/{}", system.url(), order.id);
    let ask = async |client: &Client, url: &str, from: &str| {
        let headers = [("Accept", BROWSER), ("X-Forwarded-For", from)];
        let asked = client.send(request(Method::GET, url, &headers, Bytes::new()));
        asked.await.expect("the gateway answers")
    };
    let mut readers = JoinSet::new();
    let (shown, mut is_shown) = tokio::sync::mpsc::unbounded_channel();
    for number in 1..=24 {
        let (page, shown) = (page.clone(), shown.clone());
        readers.spawn(async move {
            let client = Client::default();
            loop {
                let from = format!("203.0.113.{number}");
                let answer = ask(&client, &page, &from).await;
                if shown.send(answer.text()).is_err() {
                    return;
                }
            }
        });
    }
    // After the first page the gateway knows that this Redis does not answer.
    let text = is_shown.recv().await.expect("a page");
    assert!(text.contains("The messages cannot be read at the moment."), "{text}");
    let product = format!("{}/inventory/201", system.url());
    for _ in 0..20 {
        let answer = ask(&system.client, &product, "203.0.113.200");
        let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
        assert_eq!(answer.expect("an answer in time").status, StatusCode::OK);
    }
    readers.shutdown().await;
    signal(messages, Signal::SIGCONT);
    eventually("the messages are shown again", SOON, async || {
        let text = ask(&system.client, &page, "203.0.113.201").await.text();
        if text.contains("cannot be read") { Err(text) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn changes_between_a_page_and_its_event_stream_are_sent() {
    let system = System::start().await;
    system.init_data().await;
    let known = system.order(&["205"], "103").await;
    system.quiet(SOON).await;
    for (path, query) in [
        ("/report".to_owned(), String::new()),
        (format!("/order/{}", known.id), format!("order={}&", known.id)),
    ] {
        // The position is known at once while there are followers.
        let position = eventually("a position", SOON, async || {
            let text = page(&system, &path).await;
            values(&text, "data-position").first().map(|it| (*it).to_owned()).ok_or(text)
        });
        let position = position.await;
        let step = if query.is_empty() { "ship" } else { "complete" };
        system.step(&known, step).await;
        system.quiet(SOON).await;
        let url = format!("/events?{query}last_event_id={position}");
        let status = if step == "ship" { "shipped" } else { "completed" };
        let mut events = Events::of(&system, &url).await;
        let received = events.until(|it| it.kind == "order" && it.data["status"] == status).await;
        assert!(received.iter().all(|it| it.kind != "reset"), "{path}: {received:#?}");
        assert_eq!(received.last().expect("an event").data["id"], json!(known.id), "{path}");
    }
}

#[tokio::test]
async fn the_diagram_of_the_flow_shows_services_with_a_backlog() {
    let mut system = System::start().await;
    system.init_data().await;
    system.order(&["201"], "101").await;
    system.quiet(SOON).await;
    let text = page(&system, "/flow").await;
    assert!(
        !text.contains("<g class=\"service\" data-service=\"msg_service\" data-level=\"stuck\"")
    );
    let arrow = "data-stream=\"events:{order}_created\" data-group=\"msg_service\"";
    assert!(text.contains(arrow), "{text}");

    system.first(Service::Message).process.kill().expect("it runs");
    system.order(&["201"], "101").await;
    eventually("the diagram shows the backlog", SOON, async || {
        let text = page(&system, "/flow").await;
        let stuck = "data-service=\"msg_service\" data-level=\"stuck\"";
        if text.contains(stuck) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn pages_stay_small_and_link_on_with_any_amount_of_data() {
    let system = System::start().await;
    system.init_data().await;
    for product in ["201", "202", "203", "204", "205"] {
        system.restock(product, 10_000).await;
    }
    for customer in ["101", "102", "103"] {
        system.top_up(customer, 10_000_000).await;
    }
    let url = format!("{}/order", system.url());
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let url = url.clone();
        clients.spawn(async move {
            let http = Client::default();
            for turn in 0..125 {
                let products = ["201", "202", "203", "204", "205"];
                let body = order_body(&products[turn % 4..], ["101", "102", "103"][client % 3]);
                let answer = http.post(&url, &body, &[]).await.expect("an answer");
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            }
        });
    }
    clients.join_all().await;
    system.quiet(SOON).await;

    let (mut path, mut seen, mut pages) = ("/report".to_owned(), BTreeSet::new(), 0);
    loop {
        let text = page(&system, &path).await;
        let orders = values(&text, "data-order");
        seen.extend(orders.into_iter().filter(|id| !id.is_empty()).map(str::to_owned));
        pages += 1;
        let older = text.split("id=\"older-orders\"").nth(1);
        let Some(older) = older.and_then(|link| values(link, "href").first().copied()) else {
            break;
        };
        path = older.replace("&amp;", "&");
    }
    assert_eq!((seen.len(), pages), (1_000, 20));
    for path in ["/report?customer_id=101", "/report?customer_id=101&status=to-be-shipped"] {
        page(&system, path).await;
    }
    page(&system, &format!("/order/{}", seen.first().expect("an order"))).await;
}

#[tokio::test]
async fn assets_are_cached_for_ever_under_a_hash_of_their_contents() {
    let system = System::start().await;
    let text = page(&system, "/report").await;
    let assets = values(&text, "href").into_iter().chain(values(&text, "src"));
    let assets: BTreeSet<&str> = assets.filter(|path| path.starts_with("/assets/")).collect();
    assert_eq!(assets.len(), 3, "{assets:?}");
    let mut whole = text.len();
    let mut names: Vec<String> = assets.into_iter().map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = names.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = system.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        whole += answer.body.len();
        // Modules load each other by name from the same path.
        let (folder, _) = path.rsplit_once('/').expect("a folder");
        let text = answer.text();
        let imports = text.split(" from \"./").skip(1).filter_map(|it| it.split('"').next());
        names.extend(imports.map(|name| format!("{folder}/{name}")));
    }
    assert!(seen.iter().any(|path| path.ends_with("/report.js")), "{seen:?}");
    assert!(whole < LARGEST, "page, style and script together have {whole} bytes");
    let stale = "/assets/0123456789abcdef/style.css";
    assert_eq!(system.get(stale).await.status, StatusCode::NOT_FOUND);
}
