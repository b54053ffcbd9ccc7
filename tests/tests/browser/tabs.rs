//! Several pages in one browser, which makes six connections to a host and no more.

use crate::{orders::statuses, tab::Tab, visit::visit};

/// The maximum number of pages with a stream of their own, as in `live.js`.
const STREAMS: usize = 4;

const STATE: &str = "return document.querySelector('#live').dataset.state";

#[tokio::test]
async fn eight_visible_windows_load_and_show_changes() {
    visit(async |visit| {
        let tab = &visit.tab;
        let order = visit.system.order(&["205"], "103").await;
        let mut windows = vec![tab.window().await];
        tab.open("/report").await;
        for path in ["/flow", &format!("/order/{}", order.id), "/report?status=to-be-shipped"]
            .into_iter()
            .chain(["/report"; 4])
        {
            windows.push(tab.open_another(false).await);
            tab.open(path).await;
            let follows = "return document.querySelector('#live').dataset.state !== 'off'";
            tab.sees("its script runs", follows).await;
            assert_eq!(tab.run("return document.hidden").await, false);
        }
        let states = async || {
            let mut states = Vec::new();
            for window in &windows {
                tab.switch_to(window).await;
                states.push(tab.run(STATE).await);
            }
            states
        };
        system_tests::eventually(
            "some have a stream, the others ask",
            system_tests::SOON,
            async || {
                let states = states().await;
                let live = states.iter().filter(|it| **it == "live").count();
                let polling = states.iter().filter(|it| **it == "polling").count();
                let all = (live, polling) == (STREAMS, windows.len() - STREAMS);
                if all { Ok(()) } else { Err(format!("{states:?}")) }
            },
        )
        .await;
        tab.switch_to(&windows[7]).await;
        tab.click("[data-guide='201 204']").await;
        for window in [&windows[0], &windows[4], &windows[7]] {
            tab.switch_to(window).await;
            tab.sees("the new order", &statuses(&["to-be-shipped", "to-be-shipped"])).await;
            tab.is_same_page().await;
        }
    })
    .await;
}

/// Hides the page as a tab behind others is hidden, or shows it again. A browser without a screen hides none.
async fn set_hidden(tab: &Tab, hidden: bool) {
    let script = format!(
        "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
         document.dispatchEvent(new Event('visibilitychange'))"
    );
    tab.run(&script).await;
}

#[tokio::test]
async fn a_hidden_page_frees_its_stream_for_others_and_misses_no_change() {
    visit(async |visit| {
        let tab = &visit.tab;
        let first = tab.window().await;
        tab.open_live("/report").await;
        // Each page hides the previous one, so exactly the visible pages are live.
        for _ in 0..7 {
            set_hidden(tab, true).await;
            assert_ne!(tab.run(STATE).await, "live");
            tab.open_another(true).await;
            tab.open_live("/report").await;
        }
        let held = "const done = arguments[arguments.length - 1]; \
            navigator.locks.query().then((all) => done(all.held.length))";
        assert_eq!(tab.run_async(held).await, 1, "streams that pages have");
        let order = visit.system.order(&["205"], "103").await;
        tab.sees("the new order", &statuses(&["to-be-shipped"])).await;
        tab.switch_to(&first).await;
        let lacks =
            format!("return document.querySelector('[data-order=\"{}\"]') === null", order.id);
        assert_eq!(tab.run(&lacks).await, true, "it gets no event");
        set_hidden(tab, false).await;
        tab.is_live().await;
        tab.sees("the order that it missed", &statuses(&["to-be-shipped"])).await;
        tab.is_same_page().await;
    })
    .await;
}
