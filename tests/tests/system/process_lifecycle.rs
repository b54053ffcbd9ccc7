//! The lifecycle of processes: start, waiting for Redis, operations port, shutdown.

use std::{
    collections::BTreeMap, fs, net::TcpListener, os::unix::fs::PermissionsExt as _, time::Duration,
};

use common::contract::order_status::OrderStatus;
use http::StatusCode;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stack::{
    Listen, Profile, RedisOptions, RedisServer, Service, StackOptions, binaries, ports,
    probe::http_status,
};
use system_tests::{
    Load, SOON, System, eventually, logged, order_body,
    process::{process, run},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// The timeout of a shutdown after SIGTERM.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn services_start_before_redis_and_wait_for_it() {
    let port = ports::free();
    let mut system = System::start_unready(StackOptions {
        redis_url: Some(format!("redis://127.0.0.1:{port}")),
        ..StackOptions::default()
    })
    .await;
    for instance in system.stack.instances() {
        eventually("it lives but is not ready", SOON, async || {
            let probe = |path| http_status(instance.ops, path).map_err(|error| error.to_string());
            match (probe("/healthz")?, probe("/readyz")?) {
                (200, 503) => Ok(()),
                other => Err(format!("{}: {other:?}", instance.name())),
            }
        })
        .await;
        eventually("the log names the missing Redis", SOON, async || {
            let log = instance.process.logs();
            let is_logged = log.contains(&format!("the Redis at 127.0.0.1:{port} is away"));
            if is_logged { Ok(()) } else { Err(log) }
        })
        .await;
    }
    let options = RedisOptions { listen: Listen::Port(port), ..RedisOptions::default() };
    let _redis = RedisServer::start(options).expect("a Redis");
    system.wait_ready().await;
    system.init_data().await;
    assert_eq!(system.order(&["201", "204"], "101").await.status, OrderStatus::ToBeShipped);
}

#[test]
fn a_bad_value_exits_64_and_names_its_variable_but_never_shows_a_password() {
    const SECRET: &str = "redis://user:open-sesame@host:port/";
    let every_service = [
        ("REDIS_URL", SECRET),
        ("REDIS_URL", ""),
        ("REDIS_URL", "http://open-sesame@host/"),
        ("ORDER_REDIS_URL", SECRET),
        ("INVENTORY_REDIS_URL", SECRET),
        ("ACCOUNT_REDIS_URL", SECRET),
        ("MESSAGE_REDIS_URL", SECRET),
        ("OPS_ADDR", "localhost"),
        ("OPS_ADDR", "127.0.0.1:70000"),
        ("INSTANCE", "two words"),
        ("LOG_FORMAT", "yaml"),
        ("LOG_LEVEL", "info=loud=louder"),
        ("CLAIM_IDLE_MS", "999"),
        ("CLAIM_IDLE_MS", "soon"),
        ("STREAM_KEEP", "-1"),
        ("STREAM_KEEP_BYTES", "1GB"),
    ];
    let gateway = [
        ("HTTP_ADDR", "5000"),
        ("ORDER_SERVICE_URL", "order_service:5001"),
        ("ORDER_SERVICE_URL", "http://a:1,https://b:2"),
        ("ORDER_SERVICE_URL", ""),
        ("SEED_DEMO_DATA", "maybe"),
    ];
    let mut rows: Vec<(Service, (&str, &str))> = Vec::new();
    // All variables at one service, and one variable at all services, which share the code.
    rows.extend(every_service.map(|row| (Service::Inventory, row)));
    rows.extend(Service::ALL.map(|service| (service, ("ACCOUNT_REDIS_URL", SECRET))));
    rows.extend(gateway.map(|row| (Service::Gateway, row)));
    rows.push((Service::Order, ("HTTP_ADDR", "127.0.0.1")));
    for (service, (name, value)) in rows {
        let (code, said) = run(service, &[(name, value)], &[]);
        assert_eq!(code, Some(64), "{service} {name}={value}: {said}");
        assert!(said.contains(&format!("{name}: ")), "{service} {name}={value}: {said}");
        assert!(!said.contains("open-sesame"), "{service} {name}={value}: {said}");
        assert!(said.lines().count() <= 3, "{service} {name}={value}: {said}");
    }
    let (code, said) = run(Service::Account, &[], &["--no-such-flag"]);
    assert_eq!(code, Some(64), "{said}");
}

#[test]
fn help_lists_every_variable_and_no_secret() {
    let common = [
        "REDIS_URL",
        "ORDER_REDIS_URL",
        "INVENTORY_REDIS_URL",
        "ACCOUNT_REDIS_URL",
        "MESSAGE_REDIS_URL",
        "OPS_ADDR",
        "INSTANCE",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "CLAIM_IDLE_MS",
        "STREAM_KEEP",
        "STREAM_KEEP_BYTES",
    ];
    for service in Service::ALL {
        let own: &[&str] = match service {
            Service::Gateway => &["HTTP_ADDR", "ORDER_SERVICE_URL", "SEED_DEMO_DATA"],
            Service::Order => &["HTTP_ADDR"],
            _ => &[],
        };
        let (code, said) =
            run(service, &[("REDIS_URL", "redis://:open-sesame@host/")], &["--help"]);
        assert_eq!(code, Some(0), "{service}: {said}");
        for name in common.iter().chain(own) {
            assert!(said.contains(&format!("[env: {name}")), "{service}: no {name} in {said}");
        }
        assert!(!said.contains("open-sesame"), "{service}: {said}");
        let (code, said) = run(service, &[], &["--version"]);
        assert_eq!((code, said.starts_with(service.name())), (Some(0), true), "{service}: {said}");
    }
}

#[tokio::test]
async fn passwords_of_redis_are_used_and_never_logged() {
    let args = ["--requirepass", "open-sesame"].map(str::to_owned).to_vec();
    let options = RedisOptions { listen: Listen::FreePort, args, ..RedisOptions::default() };
    let redis = RedisServer::start(options).expect("a Redis");
    let host = redis.url().replace("redis://", "");
    let url = Some(format!("redis://:open-sesame@{host}/"));
    let options = StackOptions { redis_url: url, ..StackOptions::default() };
    let system = System::start_with(options).await;
    system.init_data().await;
    assert_eq!(system.order(&["204"], "101").await.status, OrderStatus::ToBeShipped);

    let dir = tempfile::tempdir().unwrap();
    let wrong = format!("redis://:open-barley@{host}/");
    let mut lost = process(dir.path(), Service::Account, &[("REDIS_URL", &wrong)], &[]);
    logged("wrong user name or password", || lost.logs()).await;
    assert!(lost.is_running(), "a password may be changed while a service waits");
    let logs = Service::ALL.map(|service| system.logs(service)).concat() + &lost.logs();
    assert!(!logs.contains("open-"), "{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_each_service_cleanly_and_loses_nothing() {
    let mut system = System::start().await;
    system.init_data().await;
    let body = |_, _| order_body(&["201", "204"], "103");
    let load = Load::start(&system, 8, Duration::ZERO, SOON * 2, body);
    for service in Service::ALL {
        load.more(50).await;
        tokio::task::block_in_place(|| {
            let instance = system.first(service);
            instance.process.terminate().expect("asked to end");
            let status = instance.process.wait(SHUTDOWN_TIMEOUT).expect("it ends in time");
            let log = instance.process.logs();
            assert!(status.success(), "{service}: {status}\n{log}");
            assert!(log.contains(&format!("{service} has stopped")), "{service}: {log}");
            assert!(!log.contains("ERROR"), "{service}: {log}");
            instance.process.restart().expect("restarted");
            instance.wait_ready(SOON).expect("ready again");
        });
    }
    load.more(50).await;
    let placed = load.stop().await;
    let report = system.assert_balanced(SOON).await;
    assert_eq!((report.orders, report.unfinished), (placed, 0), "{report}");
}

#[tokio::test]
async fn idle_clients_do_not_keep_a_service_from_ending() {
    let idle = ["", "GET /report HTTP/1.1\r\nHost: localhost\r\n\r\n"];
    let half = [
        "POST /order HT",
        "POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{",
    ];
    for (signal, sent) in
        [(Signal::SIGINT, &idle[..]), (Signal::SIGTERM, &half), (Signal::SIGHUP, &idle)]
    {
        let mut system = System::start().await;
        let mut clients = Vec::new();
        for service in [Service::Gateway, Service::Order] {
            let address = system.first(service).http.unwrap();
            for sent in sent {
                let mut client = TcpStream::connect(address).await.unwrap();
                client.write_all(sent.as_bytes()).await.unwrap();
                if sent.starts_with("GET") {
                    client.readable().await.unwrap();
                }
                clients.push(client);
            }
            // When a later request is answered, all of these connections are accepted.
            assert!(http_status(address, "/").is_ok());
        }
        for service in Service::ALL {
            let pid = system.first(service).process.pid();
            kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
        }
        for service in Service::ALL {
            let process = &mut system.first(service).process;
            let status =
                process.wait(SHUTDOWN_TIMEOUT).unwrap_or_else(|it| panic!("{sent:?}: {it}"));
            assert!(status.success(), "{service}, {signal}: {status}\n{}", process.logs());
            let log = process.logs();
            assert!(log.contains(&format!("{service} has stopped")), "{service}, {signal}: {log}");
        }
    }
}

#[tokio::test]
async fn services_under_nohup_survive_the_end_of_their_terminal() {
    let real = binaries::build(Profile::Debug).expect("the services are built");
    let dir = tempfile::tempdir().expect("a directory");
    for service in Service::ALL {
        let script = dir.path().join(service.name());
        let program = real.join(service.name());
        let text = format!("#!/bin/sh\nexec nohup '{}'\n", program.display());
        fs::write(&script, text).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    let binaries = Some(dir.path().to_owned());
    let mut system = System::start_with(StackOptions { binaries, ..StackOptions::default() }).await;
    system.init_data().await;
    for service in Service::ALL {
        let pid = system.first(service).process.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
        let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
        assert_eq!(ignored & 1, 1, "{service} ignores SIGHUP, which is signal 1");
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP).expect("signalled");
    }
    assert_eq!(system.order(&["204"], "101").await.status, OrderStatus::ToBeShipped);
    for service in Service::ALL {
        let process = &mut system.first(service).process;
        process.terminate().expect("asked to end");
        let status = process.wait(SHUTDOWN_TIMEOUT).expect("it ends in time");
        assert!(status.success(), "{service}: {status}\n{}", process.logs());
    }
}

#[tokio::test]
async fn every_port_announces_its_configured_keep_alive_time() {
    let env = BTreeMap::from([("KEEP_ALIVE_MS".to_owned(), "20000".to_owned())]);
    let system = System::start_with(StackOptions { env, ..StackOptions::default() }).await;
    for instance in system.stack.instances() {
        for address in [Some(instance.ops), instance.http].into_iter().flatten() {
            let answer = system.client.get(&format!("http://{address}/readyz")).await.unwrap();
            let name = instance.name();
            assert_eq!(answer.header("keep-alive"), "timeout=20", "{name} at {address}");
        }
    }
}

#[test]
fn services_refuse_to_start_with_an_evicting_redis() {
    let redis = RedisServer::start(RedisOptions {
        maxmemory_policy: "allkeys-lru".to_owned(),
        ..RedisOptions::default()
    })
    .expect("a Redis");
    for service in [Service::Order, Service::Inventory, Service::Account, Service::Message] {
        let (code, said) = run(service, &[("REDIS_URL", &redis.url()), ("AUTH_MODE", "off")], &[]);
        assert_eq!(code, Some(1), "{service}: {said}");
        assert!(said.contains("allkeys-lru") && said.contains("noeviction"), "{service}: {said}");
    }
}

#[tokio::test]
async fn the_operations_port_reports_health_and_readiness() {
    let mut system = System::start().await;
    for service in Service::ALL {
        let ops = system.first(service).ops;
        let url = |path| format!("http://{ops}{path}");
        let get = async |path| system.client.get(&url(path)).await.unwrap();
        assert_eq!(get("/healthz").await.status, StatusCode::OK);
        assert_eq!(get("/readyz").await.status, StatusCode::OK);
        assert_eq!(get("/metrics").await.status, StatusCode::OK);
        assert_eq!(get("/order").await.status, StatusCode::NOT_FOUND);
        let address = ops.to_string();
        let ask = || run(service, &[("OPS_ADDR", &address)], &["--healthcheck"]).0;
        assert_eq!(ask(), Some(0), "{service}");
        system.first(service).process.kill().unwrap();
        assert_eq!(ask(), Some(1), "{service}");
    }
}

#[test]
fn a_port_in_use_is_a_failed_start_that_names_its_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (service, variable) in [
        (Service::Account, "OPS_ADDR"),
        (Service::Gateway, "OPS_ADDR"),
        (Service::Gateway, "HTTP_ADDR"),
        (Service::Order, "HTTP_ADDR"),
    ] {
        let (code, said) = run(service, &[(variable, &address), ("AUTH_MODE", "off")], &[]);
        assert_eq!(code, Some(1), "{service} {variable}: {said}");
        let expected = format!("{variable}: cannot listen on {address}");
        assert!(said.contains(&expected), "{service} {variable}: {said}");
    }
}
