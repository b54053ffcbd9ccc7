//! Poison entries, repeated deliveries and stopped processes, with kills.

use std::time::{Duration, Instant};

use common::contract::streams::{self};
use fastrand::Rng;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::aio::MultiplexedConnection;
use stack::StackOptions;
use system_tests::System;

use super::{Load, Monkey, Seed, TIMEOUT, fill, pairs};

/// Disturbances by an operator, another program and a slow machine.
struct Trouble {
    random: Rng,
    /// The expected dead letters.
    poison: usize,
    frozen: Option<usize>,
    /// The number of disturbances of each kind.
    made: [usize; 3],
}

impl Trouble {
    async fn make(&mut self, system: &mut System, redis: &mut MultiplexedConnection) {
        self.thaw(system);
        let read = streams::ALL.into_iter().filter(|stream| !stream.readers().is_empty());
        let stream = self.random.choice(read.collect::<Vec<_>>()).expect("some");
        let kind = self.random.usize(0..3);
        self.made[kind] += 1;
        let command = match kind {
            // Not an object, not JSON, or far too large.
            0 => {
                self.poison += stream.readers().len();
                let large = "x".repeat(2_000_000);
                let poison = self.random.choice(["[]", "{nope", &*large]).expect("some").to_owned();
                let mut add = redis::cmd("XADD");
                add.arg(stream.key()).arg("*").arg("entity").arg(poison);
                add
            }
            // All entries that the service has read are delivered again.
            1 => {
                let reader = self.random.choice(stream.readers()).expect("some");
                let mut back = redis::cmd("XGROUP");
                back.arg("SETID").arg(stream.key()).arg(reader.service()).arg("0");
                back
            }
            // An instance is stopped with pending entries.
            _ => {
                let victim = self.random.usize(0..system.stack.instances().len());
                self.signal(system, victim, Signal::SIGSTOP);
                self.frozen = Some(victim);
                redis::cmd("PING")
            }
        };
        let done: redis::RedisResult<redis::Value> = command.query_async(redis).await;
        done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }

    fn thaw(&mut self, system: &System) {
        if let Some(victim) = self.frozen.take() {
            self.signal(system, victim, Signal::SIGCONT);
        }
    }

    fn signal(&self, system: &System, victim: usize, signal: Signal) {
        let pid = system.stack.instances()[victim].process.pid();
        // The process may have been killed in the meantime.
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_stay_exact_with_poison_repeated_deliveries_freezes_and_kills() {
    const ORDERS: usize = 800;
    let seed = Seed::take();
    let mut random = seed.random();
    let env = [("CLAIM_IDLE_MS".to_owned(), "2000".to_owned())].into();
    let mut system = System::start_alone(StackOptions { env, ..pairs() }).await;
    fill(&system).await;
    let mut redis = system.redis().await;
    let load = Load::start(&system, &mut random, ORDERS);
    let mut monkey = Monkey::new(random.fork());
    let mut trouble = Trouble { random: random.fork(), poison: 0, frozen: None, made: [0; 3] };
    let deadline = Instant::now() + TIMEOUT;
    let mut moment = 0;
    while moment < ORDERS {
        trouble.make(&mut system, &mut redis).await;
        if random.u8(0..3) == 0 {
            trouble.thaw(&system);
            tokio::task::block_in_place(|| monkey.act(&mut system));
        }
        moment = (moment + random.usize(5..40)).min(ORDERS);
        let frozen = Instant::now();
        while load.accepted() < moment {
            assert!(Instant::now() < deadline, "stuck at {} of {ORDERS}", load.accepted());
            // The other instance may be stopped.
            if frozen.elapsed() > Duration::from_secs(1) {
                trouble.thaw(&system);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    trouble.thaw(&system);
    tokio::task::block_in_place(|| monkey.recover(&mut system));
    let placed = load.finish().await;
    assert!(trouble.made.iter().all(|made| *made > 3), "{:?}", trouble.made);

    let report = system.audit(TIMEOUT).await;
    // The auditor also reads the entries that only msg_service reads, and reports them as unreadable.
    let is_poison = |finding: &&String| finding.starts_with("cannot be read: entry ");
    let others: Vec<_> = report.findings.iter().filter(|it| !is_poison(it)).collect();
    assert!(others.is_empty() && report.is_quiet(), "{report}");
    assert_eq!((report.orders, report.unfinished), (placed.len(), 0), "{report}");
    let dead: usize = report.dead_letters.values().sum();
    assert_eq!(dead, trouble.poison, "each reader has each poison once: {report}");
}
