//! A planned failover of the Redis under load: the replica is promoted, the old primary stays up as its
//! replica, and the name leads to the new one some seconds later.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{FromRedisValue, aio::MultiplexedConnection};
use serde_json::json;
use stack::{Instance, Listen, RedisOptions, RedisServer, Service, StackOptions};
use system_tests::{Load, SOON, System, command, eventually, logged, order_body};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// The time for which a client retries.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A Redis server.
struct Server {
    _server: RedisServer,
    port: u16,
    connection: MultiplexedConnection,
}

impl Server {
    async fn start() -> Self {
        let args = ["--repl-diskless-sync-delay", "0"].map(str::to_owned).to_vec();
        let options = RedisOptions { listen: Listen::FreePort, args, ..RedisOptions::default() };
        let server = tokio::task::spawn_blocking(|| RedisServer::start(options)).await;
        let server = server.expect("no panic").expect("a Redis");
        let port = server.url().rsplit(':').next().unwrap().parse().expect("a port");
        let client = redis::Client::open(server.url()).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await.expect("a connection");
        Self { _server: server, port, connection }
    }

    async fn ask<T: FromRedisValue>(&mut self, line: &str) -> T {
        let command = command(line);
        command.query_async(&mut self.connection).await.unwrap_or_else(|it| panic!("{line}: {it}"))
    }

    async fn replication(&mut self, field: &str) -> String {
        let info: String = self.ask("INFO replication").await;
        let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    }
}

async fn in_step(primary: &mut Server, replica: &mut Server) {
    eventually("the replica is in step", SOON, async || {
        let there = replica.replication("slave_repl_offset").await;
        let here = primary.replication("master_repl_offset").await;
        let linked = replica.replication("master_link_status").await == "up";
        if linked && there == here { Ok(()) } else { Err(format!("{there} of {here}")) }
    })
    .await;
}

/// Forwards new connections of a port to the port in `target`.
async fn lead(target: Arc<Mutex<u16>>) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let port = *target.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (port, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_follow_their_name_from_a_demoted_primary_to_the_promoted_replica() {
    let (mut old, mut new) = (Server::start().await, Server::start().await);
    let () = new.ask(&format!("REPLICAOF 127.0.0.1 {}", old.port)).await;
    in_step(&mut old, &mut new).await;
    let target = Arc::new(Mutex::new(old.port));
    let (port, name) = lead(Arc::clone(&target)).await;
    let mut system = System::start_alone(StackOptions {
        redis_url: Some(format!("redis://127.0.0.1:{port}")),
        ..StackOptions::default()
    })
    .await;
    for (path, body) in [
        ("/inventory/p", json!({ "name": "p", "price": 1, "amount": 1_000_000 })),
        ("/accounts/c", json!({ "name": "c", "email": "c@example.org", "balance": 1_000_000 })),
    ] {
        system.define(path, &body).await;
    }
    let pause = Duration::from_millis(5);
    let load = Load::start(&system, 4, pause, TIMEOUT, |_, _| order_body(&["p"], "c"));
    load.more(50).await;
    let pids: Vec<u32> = system.stack.instances().iter().map(|it| it.process.pid()).collect();

    // Nothing is written while the replica catches up, so nothing is lost.
    let () = old.ask("CLIENT PAUSE 60000 WRITE").await;
    in_step(&mut old, &mut new).await;
    let () = new.ask("REPLICAOF NO ONE").await;
    let () = old.ask(&format!("REPLICAOF 127.0.0.1 {}", new.port)).await;
    let () = old.ask("CLIENT UNPAUSE").await;
    eventually("no service is ready", SOON, async || {
        let ready = system.stack.instances().iter().filter(|it| it.is_ready());
        let ready: Vec<String> = ready.map(Instance::name).map(|it| it.to_string()).collect();
        if ready.is_empty() { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    // The gateway is not ready as soon as order_service is not; it finds out itself when it looks next.
    for service in [Service::Gateway, Service::Order] {
        logged("it is a replica of 127.0.0.1:", || system.logs(service)).await;
    }

    *target.lock().unwrap() = new.port;
    system.wait_ready().await;
    load.more(50).await;
    let accepted = load.stop().await;
    let report = system.assert_balanced(SOON).await;
    assert_eq!(report.orders, accepted, "{report}");
    assert_eq!((report.unfinished, report.dead_letters.len()), (0, 0), "{report}");
    let now: Vec<u32> = system.stack.instances().iter().map(|it| it.process.pid()).collect();
    assert_eq!(now, pids, "no process was restarted");
    let keys: u64 = new.ask("DBSIZE").await;
    assert!(keys > 100, "all of it is at the new primary");
    name.abort();
}
