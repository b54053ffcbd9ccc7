//! Entries that exceed the memory of a service: none of them stops it for good, and orders are still handled.

use common::{
    contract::streams::{self, topics},
    schema::stream::{ENTITY, Topic},
};
use serde_json::Value;
use stack::{Service, StackOptions};
use system_tests::{SOON, System, eventually};

/// Corresponds to 64 MiB resident: the heap with the stacks of threads; the program takes the other 16 MiB.
const DATA_LIMIT: u64 = 48 * 1024 * 1024;

async fn start() -> System {
    let options = StackOptions { service_data_limit: Some(DATA_LIMIT), ..StackOptions::default() };
    let system = System::start_alone(options).await;
    system.init_data().await;
    system
}

/// Restarts every ended process, like a supervisor.
fn supervise(system: &mut System) -> usize {
    let mut restarts = 0;
    for instance in system.stack.instances_mut() {
        if instance.process.exit_status().is_some() {
            instance.process.restart().unwrap_or_else(|error| panic!("{error}"));
            restarts += 1;
        }
    }
    restarts
}

/// The dead letters of a topic's owner.
async fn letters(system: &System, owner: Topic) -> Vec<Value> {
    let letters = system.entries(owner.dead_letters()).await;
    letters.into_iter().map(|letter| letter.entity()).collect()
}

/// Checks that both readers of `events:{order}_created` dead-letter poison, with orders before and after it
/// in the stream; returns the number of restarts of processes.
async fn survive(system: &mut System, poison: &[Vec<u8>]) -> usize {
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(system.place(&["202"], "103").await);
    }
    let mut redis = system.redis().await;
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for entity in poison {
        let add = pipeline.cmd("XADD").arg(streams::ORDER_CREATED.key()).arg("*");
        add.arg("event_id").arg("poison").arg(ENTITY).arg(&entity[..]);
    }
    let ids: Vec<String> = pipeline.query_async(&mut redis).await.expect("they are appended");
    for _ in 0..5 {
        placed.push(system.place(&["202"], "103").await);
    }
    let mut restarts = 0;
    for owner in [topics::INVENTORY, topics::MESSAGE] {
        eventually("all poison is dead-lettered", 8 * SOON, async || {
            restarts += supervise(system);
            let letters = letters(system, owner).await;
            let mut entries: Vec<&str> =
                letters.iter().filter_map(|letter| letter["entry"].as_str()).collect();
            entries.sort_unstable();
            entries.dedup();
            assert_eq!(entries.len(), letters.len(), "none is written twice");
            if entries.len() == ids.len() { Ok(()) } else { Err(format!("{}", entries.len())) }
        })
        .await;
    }
    for order in &placed {
        system.ended(order).await;
    }
    restarts
}

#[tokio::test]
async fn services_of_64_mib_dead_letter_100_mb_of_poison_and_orders_go_on() {
    let mut system = start().await;
    let poison = vec![vec![b'{'; 4_000_000]; 24];
    let restarts = survive(&mut system, &poison).await;
    assert!(restarts <= 12, "{restarts} restarts");
    for letter in letters(&system, topics::INVENTORY).await {
        assert_eq!(letter["whole_bytes"], 4_000_020, "{letter}");
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn an_entry_that_kills_each_process_that_reads_it_is_dead_lettered_unread() {
    let mut system = start().await;
    let restarts = survive(&mut system, &[vec![b'{'; 100_000_000]]).await;
    // Each of the two services dies of it five times with other entries and three times alone.
    assert!((2..=2 * 8).contains(&restarts), "{restarts} restarts");
    for owner in [topics::INVENTORY, topics::MESSAGE] {
        for letter in letters(&system, owner).await {
            assert!(letter["reason"].as_str().unwrap().contains("processes died"), "{letter}");
            assert_eq!(letter["fields"], serde_json::json!({}));
        }
    }
    assert!(system.first(Service::Inventory).process.is_running());
    system.assert_balanced(SOON).await;
}
