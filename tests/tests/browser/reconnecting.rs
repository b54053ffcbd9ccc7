//! Pages survive outages of the server, and miss no change.

use std::collections::BTreeMap;

use serde_json::json;
use stack::{Service, StackOptions};
use system_tests::order_body;

use crate::{
    orders::statuses,
    visit::{visit, visit_with},
};

#[tokio::test]
async fn a_page_gets_missed_changes_after_an_outage_of_its_gateway() {
    let options = StackOptions {
        instances: BTreeMap::from([(Service::Gateway, 2)]),
        ..StackOptions::default()
    };
    visit_with(options, true, async |visit| {
        let (tab, system) = (&mut visit.tab, &mut visit.system);
        tab.forgive("net::ERR_");
        tab.open_live("/report").await;
        system.first(Service::Gateway).process.kill().expect("it runs");
        tab.sees("it notices", "return document.querySelector('#live').dataset.state !== 'live'")
            .await;
        let other = system.stack.gateway_urls().swap_remove(1);
        let body = order_body(&["201"], "101");
        let answer = system.client.post(&format!("{other}/order"), &body, &[]).await;
        assert!(answer.expect("an answer").status.is_success());
        system.restart(Service::Gateway, 1).await;
        tab.is_live().await;
        tab.sees("the new status", &statuses(&["to-be-shipped"])).await;
        tab.sees_text("[data-account='101'] .a-balance", "200").await;
        tab.is_same_page().await;
    })
    .await;
}

#[tokio::test]
async fn a_page_reopens_its_stream_after_a_refusal() {
    visit(async |visit| {
        let (tab, system) = (&mut visit.tab, &mut visit.system);
        for expected in ["net::ERR_", "status of 50"] {
            tab.forgive(expected);
        }
        tab.open_live("/report").await;
        // A gateway without its Redis refuses event streams, after which browsers do not reconnect.
        system.stack.redis().expect("a Redis").kill().expect("it runs");
        system.first(Service::Gateway).process.restart().unwrap_or_else(|error| panic!("{error}"));
        let mut seen = Vec::new();
        system_tests::eventually("it is refused", crate::driver::TIMEOUT, async || {
            seen.extend(tab.console().await);
            let refused = seen.iter().any(|it| it.contains("/events") && it.contains("503"));
            if refused { Ok(()) } else { Err(format!("{seen:#?}")) }
        })
        .await;
        tab.sees_text("#live-news", "The server cannot be reached.").await;
        system.stack.redis().expect("a Redis").restart().expect("it starts");
        tab.is_live().await;
        let no_error = "return document.querySelector('#live-news').textContent \
            !== 'The server cannot be reached.'";
        tab.sees("nothing is wrong any more", no_error).await;
        system.wait_ready().await;
        tab.click("[data-guide='201 204']").await;
        tab.sees("the new status", &statuses(&["to-be-shipped"])).await;
        tab.is_same_page().await;
    })
    .await;
}

#[tokio::test]
async fn a_page_follows_changes_since_it_was_rendered_and_reads_nothing_twice() {
    visit(async |visit| {
        let tab = &visit.tab;
        let order = visit.system.order(&["205"], "103").await;
        for path in ["/report".to_owned(), format!("/order/{}", order.id)] {
            // The position is known at once while there are followers.
            system_tests::eventually("a position", crate::driver::TIMEOUT, async || {
                tab.open_live(&path).await;
                match tab.run("return document.body.dataset.position ?? ''").await {
                    position if position == "" => Err(path.clone()),
                    _ => Ok(()),
                }
            })
            .await;
            let read = "return performance.getEntriesByType('resource') \
                .filter((it) => it.initiatorType === 'fetch').map((it) => it.name)";
            assert_eq!(tab.run(read).await, json!([]), "{path}");
        }
    })
    .await;
}
