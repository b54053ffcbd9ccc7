//! A power failure: Redis restarts with the data on disk, while the services continue with their state.
//!
//! `appendfsync everysec` loses up to about a second of writes. The rest is an earlier state of the store, so
//! the books balance, and lost data has no later effect.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::contract::streams;
use serde_json::json;
use stack::{Appendfsync, Database, RedisOptions, Service, StackOptions};
use system_tests::{Client, SOON, System, eventually, order_body, place_until_accepted};
use tokio::task::JoinSet;

const CLIENTS: usize = 16;
const LOSSES: usize = 5;

/// The library that records the size of each append-only file on disk.
fn shim() -> PathBuf {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libsynced.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/power_loss/synced.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler, as the dependencies need one").success());
    library
}

/// Truncates each append-only file to its size on disk.
fn cut(data: &Path) {
    for file in fs::read_dir(data.join("appendonlydir")).expect("an append-only directory") {
        let path = file.expect("readable").path();
        let is_log = path.to_string_lossy().ends_with(".incr.aof");
        if !is_log {
            continue;
        }
        let note = PathBuf::from(format!("{}.synced", path.display()));
        let size = match fs::read_to_string(&note) {
            Ok(size) => size.parse().expect("a size"),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => panic!("{}: {error}", note.display()),
        };
        let file = File::options().write(true).open(&path).expect("the file");
        let length = file.metadata().expect("its length").len();
        file.set_len(length.min(size)).expect("cut");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_balance_after_power_losses_and_lost_orders_have_no_effect() {
    let redis = RedisOptions {
        appendfsync: Appendfsync::Everysec,
        env: [("LD_PRELOAD".to_owned(), shim().display().to_string())].into(),
        ..RedisOptions::default()
    };
    let instances = Service::ALL.map(|service| (service, 2)).into();
    let options = StackOptions { redis, instances, ..StackOptions::default() };
    let mut system = System::start_alone(options).await;
    for number in 0..5 {
        let product =
            json!({"id": format!("p{number}"), "name": "P", "price": 1, "amount": 100_000});
        system.publish(streams::INVENTORY_CREATED, &product).await;
        let account = json!({
            "id": format!("c{number}"), "name": "C", "email": "c@example.com", "balance": 100_000
        });
        system.publish(streams::ACCOUNT_CREATED, &account).await;
    }
    system.quiet(SOON).await;
    let data = system.stack.redis_of(Database::Order).expect("a private one").data_dir().to_owned();
    // The definitions are on disk before the first loss.
    let defined = synced_bytes(&data);
    eventually("the definitions are on disk", SOON, async || {
        system
            .publish(
                streams::INVENTORY_CREATED,
                &json!({"id": "p0", "name": "P", "price": 1, "amount": 100_000}),
            )
            .await;
        if synced_bytes(&data) > defined { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;

    let done = Arc::<AtomicBool>::default();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (urls, done) = (system.stack.gateway_urls(), Arc::clone(&done));
        clients.spawn(async move {
            let http = Client::default();
            let mut placed = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let number = placed.len();
                let ordered = [number % 5, client % 5].map(|product| format!("p{product}"));
                let ordered = ordered.each_ref().map(String::as_str);
                let body = order_body(&ordered, &format!("c{}", number % 5));
                let key = format!("{client}-{number}");
                placed.push(place_until_accepted(&http, &urls, &key, &body, SOON * 2).await.id);
            }
            placed
        });
    }
    for _ in 0..LOSSES {
        // Between two syncs, under load.
        let before = synced_bytes(&data);
        eventually("more is on disk", SOON, async || {
            if synced_bytes(&data) > before + 100_000 { Ok(()) } else { Err(String::new()) }
        })
        .await;
        let written = log_bytes(&data);
        eventually("more is written than is on disk", SOON, async || {
            if log_bytes(&data) > written + 20_000 { Ok(()) } else { Err(String::new()) }
        })
        .await;
        tokio::task::block_in_place(|| {
            let redis = system.stack.redis_of(Database::Order).expect("a private one");
            redis.kill().expect("killed");
            cut(&data);
            redis.restart().expect("restarted");
        });
    }
    done.store(true, Ordering::Relaxed);
    let placed: Vec<_> = clients.join_all().await.into_iter().flatten().collect();

    let report = system.assert_balanced(SOON * 2).await;
    assert_eq!((report.unfinished, report.dead_letters.len()), (0, 0), "{report}");
    assert_eq!(report.foreign, 0, "no service acted on a lost order: {report}");
    let lost = placed.len() - report.orders;
    assert!(lost > 0, "the losses took nothing, so this has shown nothing");
    let _ = writeln!(std::io::stderr(), "{LOSSES} losses took {lost} of {} orders", placed.len());
}

/// The size of the append-only files on disk.
fn synced_bytes(data: &Path) -> u64 {
    files(data, ".synced")
        .filter_map(|path| fs::read_to_string(path).ok()?.parse::<u64>().ok())
        .sum()
}

/// The number of bytes written to them.
fn log_bytes(data: &Path) -> u64 {
    files(data, ".aof").filter_map(|path| fs::metadata(path).ok()).map(|it| it.len()).sum()
}

fn files(data: &Path, end: &'static str) -> impl Iterator<Item = PathBuf> {
    let files = fs::read_dir(data.join("appendonlydir")).expect("an append-only directory");
    files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(move |path| path.to_string_lossy().ends_with(end))
}
