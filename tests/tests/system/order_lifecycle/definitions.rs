//! Definitions of products and accounts, and the demo data.

use common::contract::streams;
use http::{Method, StatusCode};
use redis::AsyncCommands;
use serde_json::{Value, json};
use stack::Service;
use system_tests::{SOON, System, eventually, order_body};

use super::support::{keyed, shop};

#[tokio::test]
async fn products_and_accounts_are_defined_changed_and_listed() {
    let system = shop().await;
    let body = json!({ "name": "New", "price": 7, "amount": 4 });
    let answer = system.ask(Method::PUT, "/inventory/new", Some(&body)).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::CREATED, "/inventory/new"));
    let order = system.order(&["new"], "rich").await;
    assert_eq!(order.order_total, Some(7));
    // Another name and price, and the same amount; reserved products keep their price.
    let body = json!({ "name": "Newer", "price": 9, "amount": 100 });
    let answer = system.ask(Method::PUT, "/inventory/new", Some(&body)).await;
    let product = answer.json();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(product["name"], "Newer");
    assert_eq!((&product["amount"], &product["reserved"]), (&json!(3), &json!(1)));
    assert_eq!(system.order_now(&order).await.order_total, Some(7));
    assert_eq!(system.order(&["new"], "rich").await.order_total, Some(9));
    assert_eq!(system.get("/inventory/new").await.json()["price"], 9);

    let before = system.balance("rich").await;
    let body = json!({ "name": "Richer", "email": "richer@example.com", "balance": 5 });
    let account = system.define("/accounts/rich", &body).await;
    assert_eq!(
        (account["email"].as_str(), &account["balance"]),
        (Some("richer@example.com"), &json!(before))
    );
    system.order(&["new"], "rich").await;
    let last = system.messages_to("rich").await.pop().unwrap();
    assert!(last.body.starts_with("Dear Richer,"), "{}", last.body);

    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    for (path, name, all) in [
        ("/inventory", "products", vec!["p", "q", "new"]),
        ("/accounts", "accounts", vec!["rich", "poor"]),
    ] {
        assert_eq!(ids(&system.get(path).await.json()[name]), all);
        let first = system.get(&format!("{path}?limit=1")).await;
        assert_eq!(ids(&first.json()[name]), [all[0]]);
        let link = first.header("link");
        let next = link.strip_prefix('<').and_then(|it| it.split_once('>')).expect("a link").0;
        assert!(link.ends_with("rel=\"next\""), "{link}");
        assert_eq!(ids(&system.get(next).await.json()[name]), [all[1]]);
    }
    for path in ["/inventory/none", "/accounts/none"] {
        assert_eq!(system.get(path).await.status, StatusCode::NOT_FOUND);
    }
    for path in ["/inventory/none/restock", "/accounts/none/top-up"] {
        let answer = system.ask(Method::POST, path, Some(&json!({ "amount": 1 }))).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn invalid_definitions_and_amounts_name_their_field_and_change_nothing() {
    let system = shop().await;
    let long = "x".repeat(201);
    let most = 1_000_000_000_001_u64;
    for (method, path, body, field) in [
        (Method::PUT, "/inventory/q", json!({ "price": 1 }), "name"),
        (Method::PUT, "/inventory/q", json!({ "name": "", "price": 1 }), "name"),
        (Method::PUT, "/inventory/q", json!({ "name": long, "price": 1 }), "name"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": -1 }), "price"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": most }), "price"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": "1" }), "price"),
        (Method::PUT, "/inventory/q", json!({ "name": "Q", "price": 1, "amount": 0.5 }), "amount"),
        (Method::PUT, "/accounts/rich", json!({ "name": "R" }), "email"),
        (Method::PUT, "/accounts/rich", json!({ "name": "R", "email": "" }), "email"),
        (Method::POST, "/inventory/q/restock", json!({}), "amount"),
        (Method::POST, "/inventory/q/restock", json!({ "amount": 0 }), "amount"),
        (Method::POST, "/inventory/q/restock", json!({ "amount": most }), "amount"),
        (Method::POST, "/accounts/rich/top-up", json!({ "amount": 0 }), "amount"),
        (Method::POST, "/accounts/rich/top-up", json!({ "amount": -5 }), "amount"),
    ] {
        let answer = system.ask(method, path, Some(&body)).await;
        let problem = answer.json();
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}: {problem}");
        assert_eq!(problem["field"], field, "{path} {body}: {problem}");
    }
    for path in [
        "/inventory/no%20such%20id",
        "/accounts/a%7Bb",
        "/customers/a%20b/messages",
        // Clients may take these for another path.
        "/inventory/.",
        "/inventory/..",
        "/inventory/%2e%2E",
        "/accounts/%2e",
        "/customers/%2E%2e/messages",
    ] {
        let answer = system.get(path).await;
        let problem = answer.json();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        assert_eq!(problem["field"], "id", "{path}: {problem}");
    }
    let body = json!({ "name": "Dots", "price": 1, "email": "dots@example.com" });
    for path in ["/inventory/..", "/inventory/%2e", "/accounts/%2E%2e"] {
        let answer = system.ask(Method::PUT, path, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text());
    }
    for (body, field) in [
        (order_body(&["q", "."], "rich"), "product_ids[1]"),
        (order_body(&["q"], ".."), "customer_id"),
    ] {
        let answer = system.post("/order", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.text());
        assert_eq!(answer.json()["field"], field, "{body}");
    }
    // Invalid events that are written to Redis directly become dead letters.
    for (stream, event) in [
        (
            streams::INVENTORY_CREATED,
            json!({ "id": "..", "name": "Dots", "price": 1, "amount": 1 }),
        ),
        (
            streams::ACCOUNT_CREATED,
            json!({ "id": ".", "name": "Dot", "email": "dot@example.com", "balance": 1 }),
        ),
    ] {
        system.publish(stream, &event).await;
        eventually("a dead letter", SOON, async || {
            let letters = system.entries(stream.topic().dead_letters()).await.len();
            if letters == 1 { Ok(()) } else { Err(letters.to_string()) }
        })
        .await;
    }
    for (path, field) in [
        ("/orders?status=lost", "status"),
        ("/orders?customer_id=a%20b", "customer_id"),
        ("/orders?customer_id=..", "customer_id"),
        ("/orders?limit=0", "limit"),
        ("/orders?limit=1001", "limit"),
        ("/orders?cursor=x", "cursor"),
        ("/orders?status=pending&cursor=o5", "cursor"),
        ("/orders?customer_id=rich&cursor=o5", "cursor"),
        ("/customers/rich/messages?cursor=o5", "cursor"),
        ("/inventory?cursor=-", "cursor"),
    ] {
        let answer = system.get(path).await;
        let problem = answer.json();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    assert_eq!(
        (system.available_and_reserved("q").await, system.balance("rich").await),
        ((5, 0), 1_000_000)
    );
}

#[tokio::test]
async fn a_repeated_definition_after_a_newer_one_gets_its_first_answer() {
    let mut system = System::start().await;
    let product = |name: &str| json!({ "name": name, "price": 7, "amount": 4 });
    let account =
        |name: &str| json!({ "name": name, "email": "one@example.com", "balance": 1_000 });
    let all = [
        ("/inventory/one", "/inventory/two", product("First"), product("Second")),
        ("/accounts/one", "/accounts/two", account("First"), account("Second")),
    ];
    let mut answers = Vec::new();
    for (path, other, first, second) in &all {
        let put = async |key: &str, path: &str, body: &Value| {
            keyed(&system, key, (Method::PUT, path), Some(body)).await
        };
        let made = put("first", path, first).await;
        assert_eq!(made.status, StatusCode::CREATED, "{path}: {}", made.text());
        assert_eq!(made.header("location"), *path);
        assert_eq!(made.header("idempotent-replayed"), "");
        assert_eq!(put("second", path, second).await.status, StatusCode::OK);
        for (path, body) in [(path, second), (other, first)] {
            let refused = put("first", path, body).await;
            let problem = refused.json();
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {problem}");
            assert_eq!(problem["type"], "urn:problem-type:orders:idempotency-key-reused");
            assert_eq!(problem["field"], "Idempotency-Key");
        }
        assert_eq!(system.get(other).await.status, StatusCode::NOT_FOUND);
        answers.push(made);
    }
    // A gateway that does not know of the first event publishes another one.
    for stream in [streams::INVENTORY_CREATED, streams::ACCOUNT_CREATED] {
        let first = system.entries(stream).await[0].entity();
        assert!(first["request"].is_string(), "{first}");
        system.publish(stream, &first).await;
    }
    system.quiet(SOON).await;
    for service in Service::ALL {
        system.restart(service, 1).await;
    }
    let published = async |system: &System| {
        let products = system.entries(streams::INVENTORY_CREATED).await.len();
        (products, system.entries(streams::ACCOUNT_CREATED).await.len())
    };
    let before = published(&system).await;
    for ((path, _, first, _), made) in all.iter().zip(&answers) {
        let again = keyed(&system, "first", (Method::PUT, path), Some(first)).await;
        assert_eq!((again.status, again.json()), (made.status, made.json()), "{path}");
        assert_eq!(again.header("idempotent-replayed"), "true", "{path}");
        assert_eq!(again.header("location"), *path);
        assert_eq!(system.get(path).await.json()["name"], "Second", "{path}");
    }
    assert_eq!(published(&system).await, before);
    // The same holds for msg_service.
    system.order(&["one"], "one").await;
    let last = system.messages_to("one").await.pop().unwrap();
    assert!(last.body.starts_with("Dear Second,"), "{}", last.body);
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn the_demo_data_is_loaded_once_for_each_key() {
    let system = System::start().await;
    let load = async |key: &str| {
        let answer = keyed(&system, key, (Method::POST, "/init-data"), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.json(), json!({ "result": "success" }));
        answer.header("idempotent-replayed").to_owned()
    };
    assert_eq!(load("one").await, "");
    let body = json!({ "name": "Renamed", "price": 7 });
    assert_eq!(system.define("/inventory/201", &body).await["name"], "Renamed");
    system.restock("204", 5).await;
    system.top_up("101", 500).await;
    assert_eq!(load("one").await, "true");
    system.quiet(SOON).await;
    assert_eq!(system.get("/inventory/201").await.json()["name"], "Renamed");
    assert_eq!(system.available_and_reserved("204").await, (8, 0));
    assert_eq!(system.balance("101").await, 1_500);
    assert_eq!(load("another").await, "");
    assert_eq!(system.get("/inventory/201").await.json()["name"], "Denon Speakers");
    assert_eq!(
        (system.available_and_reserved("204").await, system.balance("101").await),
        ((3, 0), 1_000)
    );
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn a_definition_that_has_no_effect_is_a_409() {
    let system = shop().await;
    let account = json!({ "name": "R", "email": "r@example.com" });
    for (stream, newest, path, body) in [
        (
            streams::INVENTORY_CREATED,
            json!({ "id": "q", "name": "Newest", "price": 1, "amount": 5 }),
            "/inventory/q",
            json!({ "name": "Old", "price": 1 }),
        ),
        (
            streams::ACCOUNT_CREATED,
            json!({ "id": "rich", "name": "Newest", "email": "r@example.com", "balance": 5 }),
            "/accounts/rich",
            account,
        ),
    ] {
        let mut redis = system.redis_of(stream.topic()).await;
        system_tests::publish(&mut redis, stream, "9999999999999-0", &newest).await;
        eventually("the newest definition", SOON, async || {
            let found = system.get(path).await.json();
            if found["name"] == "Newest" { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        // After this Redis assigns smaller ids again.
        let () = redis.del(stream.key()).await.expect("deleted");
        for _ in 0..2 {
            let answer = keyed(&system, "old", (Method::PUT, path), Some(&body)).await;
            let problem = answer.json();
            assert_eq!(answer.status, StatusCode::CONFLICT, "{path}: {problem}");
            assert_eq!(problem["type"], "urn:problem-type:orders:superseded", "{problem}");
        }
        assert_eq!(system.get(path).await.json()["name"], "Newest");
    }
}
