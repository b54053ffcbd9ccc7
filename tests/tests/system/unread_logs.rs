//! Services whose output is not read: with a stopped supervisor, and with a full pipe.

use std::{fs, fs::File};

use http::StatusCode;
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::stat::Mode,
    unistd::mkfifo,
};
use serde_json::json;
use stack::Service;
use system_tests::{SOON, System, eventually, order_body};
use tokio::task::JoinSet;

/// The smallest pipe that Linux makes.
const PIPE: i32 = 4096;
/// The number of orders whose log lines exceed the pipe and the buffers of a service.
const ORDERS: usize = 1_000;
/// Orders under way at the same moment.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn services_work_and_end_in_time_while_their_output_is_not_read() {
    let mut system = System::start().await;
    let product = json!({ "name": "Lamp", "price": 1, "amount": 1_000_000 });
    let account = json!({ "name": "Dora", "email": "dora@server.com", "balance": 1_000_000 });
    for (path, body) in [("/inventory/p", product), ("/accounts/c", account)] {
        system.define(path, &body).await;
    }
    // All services write into pipes that are held open and never read.
    let mut pipes = Vec::new();
    for service in Service::ALL {
        let log = system.stack.dir().join(format!("logs/{service}-1.log"));
        let process = &mut system.first(service).process;
        process.kill().expect("it runs");
        fs::remove_file(&log).expect("its log");
        mkfifo(&log, Mode::S_IRWXU).expect("a pipe");
        let pipe = File::options().read(true).write(true).open(&log).expect("the pipe");
        fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE)).expect("a small pipe");
        process.restart().unwrap_or_else(|error| panic!("{error}"));
        pipes.push(pipe);
    }
    let ready = async |system: &System| {
        let unready = system.stack.instances().iter().find(|it| !it.is_ready());
        unready.map_or(Ok(()), |it| Err(it.name().to_owned()))
    };
    eventually("every service is ready", SOON, async || ready(&system).await).await;

    let url = format!("{}/order", system.url());
    let body = order_body(&["p"], "c");
    for _ in 0..ORDERS / AT_ONCE {
        let mut placed = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, url, body) = (system.client.clone(), url.clone(), body.clone());
            placed.spawn(async move { client.post(&url, &body, &[]).await });
        }
        for answer in placed.join_all().await {
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
    }
    system.quiet(SOON).await;
    ready(&system).await.expect("all services answer");
    let ops = system.first(Service::Message).ops;
    let metrics = system.client.get(&format!("http://{ops}/metrics")).await.expect("metrics");
    assert!(metrics.text().contains("\nlog_lines_dropped_total "), "{}", metrics.text());
    for service in Service::ALL {
        let process = &mut system.first(service).process;
        process.terminate().expect("it runs");
        let ended =
            process.wait(SOON).expect("the process ends although its last lines are not read");
        assert_eq!(ended.code(), Some(0), "{service}");
    }
    drop(pipes);
}
