//! Lists and their pages.

use std::collections::BTreeMap;

use common::contract::{order::Order, order_status::OrderStatus};
use http::StatusCode;
use system_tests::{Client, SOON, System, order_body};
use tokio::task::JoinSet;

use super::support::shop;

/// All pages of a list, by their links.
async fn pages(system: &System, path: &str, name: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let answer = system.get(&path).await.with_status(StatusCode::OK);
        let body = answer.json();
        let ids = body[name].as_array().unwrap().iter();
        pages.push(ids.map(|it| it["id"].as_str().unwrap().to_owned()).collect());
        next = answer
            .header("link")
            .strip_prefix('<')
            .and_then(|link| link.split_once('>'))
            .map(|(path, _)| path.to_owned());
        assert_eq!(next.is_some(), body["next"].is_string(), "{body}");
    }
    pages
}

#[tokio::test]
async fn lists_by_customer_and_status_have_stable_pages_while_orders_arrive() {
    let system = shop().await;
    system.top_up("poor", 1).await;
    let mut placed: Vec<(Order, &str)> = Vec::new();
    for number in 0..20 {
        let customer = if number % 3 == 0 { "poor" } else { "rich" };
        let product = if number % 4 == 0 { "p" } else { "q" };
        placed.push((system.place(&[product], customer).await, customer));
    }
    system.quiet(SOON).await;
    let mut newest = Vec::new();
    for (order, customer) in placed.iter().rev() {
        let now = system.order_now(order).await;
        newest.push((now.history[0].at, now.id.to_string(), *customer, now.status));
    }
    let wanted = |customer: Option<&str>, status: Option<OrderStatus>| -> Vec<String> {
        let fits = newest.iter().filter(|(_, _, whose, is)| {
            customer.is_none_or(|customer| customer == *whose)
                && status.is_none_or(|status| status == *is)
        });
        let mut fits: Vec<_> = fits.collect();
        if status.is_some() {
            // The sets of the statuses sort orders of the same millisecond by id.
            fits.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
        }
        fits.into_iter().map(|(_, id, _, _)| id.clone()).collect()
    };
    let statuses = [None].into_iter().chain(OrderStatus::ALL.map(Some));
    for status in statuses {
        for customer in [None, Some("rich"), Some("poor"), Some("unknown")] {
            let mut path = "/orders?limit=3".to_owned();
            if let Some(customer) = customer {
                path += &format!("&customer_id={customer}");
            }
            if let Some(status) = status {
                path += &format!("&status={}", status.name());
            }
            let found = pages(&system, &path, "orders").await;
            assert!(found.iter().all(|page| page.len() <= 3), "{path}: {found:?}");
            assert_eq!(found.concat(), wanted(customer, status), "{path}");
        }
    }

    // New orders come before the remaining pages.
    for filter in ["", "&customer_id=rich", "&status=out-of-stock"] {
        let first = system.get(&format!("/orders?limit=2{filter}")).await;
        let next = first.json()["next"].as_str().unwrap().to_owned();
        let path = format!("/orders?limit=2{filter}&cursor={next}");
        let second = system.get(&path).await.text();
        let order = system.order(&["p"], "rich").await;
        assert_eq!(order.status, OrderStatus::OutOfStock);
        assert_eq!(system.get(&path).await.text(), second, "{filter}");
    }
    let messages = pages(&system, "/customers/rich/messages?limit=7", "messages").await.concat();
    let unique: std::collections::BTreeSet<&String> = messages.iter().collect();
    assert_eq!(unique.len(), messages.len());
    assert!(messages.len() > 20, "{messages:?}");
    system.assert_balanced(SOON).await;
}

/// The number of read commands of each kind that Redis has processed, without periodic ones.
async fn commands(system: &System) -> BTreeMap<String, u64> {
    let mut redis = system.redis().await;
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.expect("INFO");
    let reads = ["lrange", "llen", "mget", "zrevrangebylex", "get"];
    let counts = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let calls = rest.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
        reads.contains(&name).then(|| (name.to_owned(), calls))
    });
    counts.collect()
}

#[tokio::test]
async fn the_cost_of_a_page_does_not_grow_with_the_number_of_orders() {
    let system = shop().await;
    let paths = [
        "/orders?limit=5",
        "/orders?limit=5&customer_id=rich",
        "/orders?limit=5&status=out-of-stock",
        "/orders?limit=5&customer_id=rich&status=out-of-stock",
        "/customers/rich/messages?limit=5",
    ];
    let mut costs = Vec::new();
    for _ in 0..2 {
        let (client, url) = (Client::default(), system.url());
        let mut clients = JoinSet::new();
        for _ in 0..6 {
            let (client, url) = (client.clone(), url.clone());
            clients.spawn(async move {
                for _ in 0..50 {
                    let body = order_body(&["p"], "rich");
                    let answer = client.post(&format!("{url}/order"), &body, &[]).await;
                    assert_eq!(answer.expect("an answer").status, StatusCode::OK);
                }
            });
        }
        clients.join_all().await;
        system.quiet(SOON).await;
        let mut cost = Vec::new();
        for path in paths {
            let before = commands(&system).await;
            system.get(path).await.with_status(StatusCode::OK);
            let after = commands(&system).await;
            let grown = after.into_iter().map(|(name, count)| {
                let grown = count - before.get(&name).copied().unwrap_or(0);
                (name, grown)
            });
            let grown = grown.filter(|(_, count)| *count > 0);
            cost.push((path, grown.collect::<BTreeMap<_, _>>()));
        }
        costs.push(cost);
    }
    // 300 and 600 orders: the same commands, each of which reads a page.
    assert_eq!(costs[0], costs[1]);
}
