//! The screenshots in docs/, which the README and the tour show. `RENEW=1` renews them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use common::contract::{order_status::OrderStatus, streams};
use serde_json::json;
use stack::Service;
use system_tests::{Client, SOON, System, order_body};

use crate::{tab::Tab, visit::visit};

/// The pages, and the heights of their screenshots on a phone and on a laptop.
const PAGES: [(&str, u32, u32); 3] =
    [("report", 800, 800), ("order", 800, 800), ("flow", 800, 900)];
/// The maximum size of a screenshot, in bytes, because documents load them.
const LARGEST: usize = 200_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each screenshot: its page, width, height, whether it is dark, and its path from the root.
fn pictures() -> impl Iterator<Item = (&'static str, u32, u32, bool, String)> {
    PAGES.into_iter().flat_map(|(page, on_phone, on_laptop)| {
        [(360, on_phone), (1280, on_laptop)].into_iter().flat_map(move |(width, height)| {
            [(false, "light"), (true, "dark")].map(move |(dark, name)| {
                (page, width, height, dark, format!("docs/{page}-{width}-{name}.png"))
            })
        })
    })
}

/// Width and height from the header of a PNG.
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
    png.starts_with(b"\x89PNG\r\n\x1a\n").then_some(())?;
    Some((number(16)?, number(20)?))
}

#[tokio::test]
async fn the_screenshots_exist_and_the_tour_shows_them() {
    if std::env::var_os("RENEW").is_some() {
        visit(async |visit| renew(&visit.tab, &mut visit.system).await).await;
    }
    let tour = fs::read_to_string(root().join("docs/tour.md")).expect("a tour");
    for (page, width, height, _, path) in pictures() {
        let png = fs::read(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(size(&png), Some((width, height)), "{path}");
        assert!(png.len() < LARGEST, "{path} has {} bytes", png.len());
        let name = path.trim_start_matches("docs/");
        assert!(page == "order" || width == 360 || tour.contains(name), "{path} is not shown");
    }
}

async fn renew(tab: &Tab, system: &mut System) {
    fs::create_dir_all(root().join("docs")).expect("a directory");
    let order = a_day(system).await;
    for (page, width, height, dark, path) in pictures().filter(|it| it.0 != "flow") {
        tab.look(width, height, dark).await;
        let address =
            if page == "order" { format!("/order/{order}") } else { "/report".to_owned() };
        tab.open_live(&address).await;
        tab.picture(&root().join(path)).await;
    }
    // One service is stopped while orders arrive.
    system.publish(streams::INVENTORY_RESTOCK, &json!({ "product_id": 7 })).await;
    system.first(Service::Message).process.kill().expect("it runs");
    let (url, done) = (format!("{}/order", system.url()), AtomicBool::new(false));
    let customers = async {
        let (client, body) = (Client::default(), order_body(&["205"], "102"));
        while !done.load(Ordering::Relaxed) {
            client.post(&url, &body, &[]).await.expect("an answer");
        }
    };
    let photographer = async {
        tab.open_live("/flow").await;
        tab.sees(
            "a backlog",
            "return Number(document.querySelector('[data-summary=msg_service] .waiting') \
            .textContent.replaceAll(',', '')) > 2000",
        )
        .await;
        for (_, width, height, dark, path) in pictures().filter(|it| it.0 == "flow") {
            tab.look(width, height, dark).await;
            tab.picture(&root().join(path)).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(customers, photographer);
}

/// Fills a shop with data; returns the id of an order with a long history.
async fn a_day(system: &System) -> String {
    for (product, amount) in [("201", 9), ("204", 8), ("203", 4)] {
        system.restock(product, amount).await;
    }
    system.top_up("103", 6_000).await;
    let dear = system.order(&["201", "205"], "101").await;
    for products in [&["202", "204"][..], &["205"], &["203", "203", "204"], &["201", "204", "204"]]
    {
        let order = system.order(products, "103").await;
        system.step(&order, "ship").await;
        system.step(&order, "complete").await;
    }
    system.top_up("101", 1_150).await;
    system.step(&dear, "pay").await;
    system.reaches(&dear, OrderStatus::ToBeShipped).await;
    system.step(&dear, "ship").await;
    let cancelled = system.order(&["202"], "103").await;
    system.cancel(&cancelled).await;
    system.order(&["999"], "102").await;
    system.order(&["203", "205"], "103").await;
    let shipped = system.order(&["202", "204"], "103").await;
    system.step(&shipped, "ship").await;
    system.order(&["201", "204"], "101").await;
    system.order(&["201", "204", "205"], "101").await;
    system.order(&["201"; 12], "101").await;
    system.order(&["203"], "103").await;
    system.order(&["205", "204"], "102").await;
    system.order(&["202"], "103").await;
    system.quiet(SOON).await;
    dear.id.to_string()
}
