//! The whole stack with a real Redis and stand-ins for the services: this test binary, started
//! under a service's name, implements the stack's whole interface to a service: /readyz and
//! SIGTERM.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use stack::{
    Database, Service, Stack, StackOptions, probe, run_file::RunFile, supervise::Supervisor,
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// Does nothing as a test; acts as a service if STAND_IN is set.
#[test]
fn stands_in_for_a_service_when_asked() {
    let Ok(exit_code) = std::env::var("STAND_IN") else {
        return;
    };
    let print = |text: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).expect("somebody listens");
    };
    if exit_code != "run" {
        std::process::exit(exit_code.parse().expect("an exit code"));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let _guard = runtime.enter();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a handler");
    let ops = TcpListener::bind(std::env::var("OPS_ADDR").expect("OPS_ADDR")).expect("a port");
    std::thread::spawn(move || {
        for stream in ops.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for name in ["ORDER", "INVENTORY", "ACCOUNT", "MESSAGE"].map(|it| format!("{it}_REDIS_URL")) {
        print(format!("{name}={}", std::env::var(&name).unwrap_or_default()));
    }
    for name in [
        "INSTANCE",
        "REDIS_URL",
        "HTTP_ADDR",
        "ORDER_SERVICE_URL",
        "ORDER_SERVICE_SECRET_FILE",
        "SEED_DEMO_DATA",
        "EXTRA",
    ] {
        print(format!("{name}={}", std::env::var(name).unwrap_or_default()));
    }
    runtime.block_on(terminate.recv());
    // A service still needs its Redis during its shutdown.
    let url = std::env::var("REDIS_URL").expect("REDIS_URL");
    let redis_there = match url.strip_prefix("redis+unix://") {
        Some(path) => UnixStream::connect(path).is_ok(),
        None => std::net::TcpStream::connect(url.trim_start_matches("redis://")).is_ok(),
    };
    print(format!("ending, Redis there: {redis_there}"));
    std::process::exit(0);
}

/// Five scripts that start this test binary.
fn stand_ins() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let this = std::env::current_exe().expect("this binary");
    for service in Service::ALL {
        let path = dir.path().join(service.name());
        let text = format!(
            "#!/bin/sh\nexec '{}' --exact stands_in_for_a_service_when_asked --nocapture\n",
            this.display()
        );
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    dir
}

fn options(stand_ins: &TempDir) -> StackOptions {
    let env = [("STAND_IN", "run"), ("EXTRA", "for all")];
    StackOptions {
        binaries: Some(stand_ins.path().to_owned()),
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..StackOptions::default()
    }
}

fn process_is_alive(pid: u32) -> bool {
    // A dead process without a waiting parent is still listed.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    assert!(probe::until(SOON, || condition().then_some(())).is_some(), "never: {what}");
}

#[test]
fn instances_find_redis_and_each_other_and_end_before_redis() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let extra = BTreeMap::from([("EXTRA".to_owned(), "for accounts".to_owned())]);
    let mut stack = Stack::start(&StackOptions {
        instances: [(Service::Order, 2), (Service::Gateway, 2), (Service::Message, 0)].into(),
        service_env: [(Service::Account, extra)].into(),
        seed_demo_data: true,
        dir: Some(dir.path().to_owned()),
        ..options(&stand_ins)
    })
    .expect("a stack");
    stack.wait_ready(SOON).expect("ready");

    let names: Vec<_> = stack.instances().iter().map(|it| it.name().to_owned()).collect();
    let expected = "gateway_api-1 gateway_api-2 order_service-1 order_service-2 inventory_service-1 \
                    account_service-1";
    assert_eq!(names.join(" "), expected);
    let redis = format!("REDIS_URL={}\n", stack.redis_url());
    let orders: Vec<_> = stack
        .instances_of(Service::Order)
        .map(|it| format!("http://{}", it.http.expect("HTTP")))
        .collect();
    let mut log_of = |service, number| {
        let process = &stack.instance(service, number).expect("started").process;
        wait_until("the environment is logged", || process.logs().contains("EXTRA="));
        process.logs()
    };
    let gateway = log_of(Service::Gateway, 1);
    for line in [
        &redis,
        &format!("ORDER_SERVICE_URL={}\n", orders.join(",")),
        "SEED_DEMO_DATA=true\n",
        "EXTRA=for all\n",
    ] {
        assert!(gateway.contains(line), "no {line:?} in {gateway}");
    }
    assert!(log_of(Service::Gateway, 2).contains("SEED_DEMO_DATA=false\n"));
    let secret = dir.path().join("auth/order-service-secret");
    let secret = format!("ORDER_SERVICE_SECRET_FILE={}\n", secret.display());
    for (service, knows) in
        [(Service::Gateway, true), (Service::Order, true), (Service::Account, false)]
    {
        let log = log_of(service, 1);
        assert_eq!(log.contains(&secret), knows, "{service}: {log}");
    }
    let account = log_of(Service::Account, 1);
    assert!(account.contains("INSTANCE=account_service-1\n"), "{account}");
    assert!(account.contains("EXTRA=for accounts\n"), "{account}");

    let run = RunFile::read(dir.path()).expect("run.json");
    assert_eq!(run.redis.pid, stack.redis().map(|redis| redis.pid()));
    assert_eq!(run.services.len(), 6);
    assert_eq!(stack.stop().expect("stopped"), Vec::<String>::new());
    RunFile::read(dir.path()).expect_err("run.json is gone with the stack");
    for service in run.services {
        assert!(!process_is_alive(service.pid));
        let log = fs::read_to_string(dir.path().join(format!("logs/{}.log", service.instance)))
            .expect("a log");
        assert!(log.contains("ending, Redis there: true\n"), "{log}");
    }
    assert!(!process_is_alive(run.redis.pid.expect("a private Redis")));
}

#[test]
fn isolated_topics_have_separate_servers_that_are_restarted_and_stopped() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let mut stack = Stack::start(&StackOptions {
        isolated: true,
        dir: Some(dir.path().to_owned()),
        ..options(&stand_ins)
    })
    .expect("a stack");
    stack.wait_ready(SOON).expect("ready");
    let account = &stack.instance(Service::Account, 1).expect("started").process;
    wait_until("the environment is logged", || account.logs().contains("EXTRA="));
    let log = account.logs();
    let run = RunFile::read(dir.path()).expect("run.json");
    let mut pids = Vec::new();
    for database in Database::ALL {
        let url = stack.redis_url_of(database);
        assert!(log.contains(&format!("{}={url}\n", database.variable())), "{log}");
        let running = run.redis_of(database.topic());
        assert_eq!(running.url, url);
        let redis = stack.redis_of(database).expect("private");
        assert_eq!(running.pid, Some(redis.pid()));
        assert_eq!(redis.data_dir(), dir.path().join(format!("redis-{database}")));
        pids.extend(running.pid);
    }
    let names: Vec<String> = run.servers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["redis-account", "redis-inventory", "redis-message", "redis-order"]);

    stack.redis_of(Database::Account).expect("private").kill().expect("killed");
    let mut supervisor = Supervisor::default();
    let now = Instant::now();
    let news = supervisor.tend(&mut stack, now).expect("tended").join("\n");
    assert_eq!(news, "redis-account died (signal: 9 (SIGKILL)); starting it again in 0.5 s");
    supervisor.tend(&mut stack, now + Duration::from_millis(501)).expect("tended");
    let revived = RunFile::read(dir.path()).expect("run.json").redis_of("account").pid;
    pids.extend(revived);
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 5, "another process, and the others are the same");
    assert_eq!(stack.stop().expect("stopped"), Vec::<String>::new());
    assert!(!pids.into_iter().any(process_is_alive));
}

/// Every path below a directory, and the directory, that other users have permissions for.
fn open_to_others(path: &Path, found: &mut Vec<String>) {
    let meta = path.symlink_metadata().expect("it is there");
    let mode = meta.permissions().mode();
    if mode & 0o077 != 0 && !meta.is_symlink() {
        found.push(format!("{} {:o}", path.display(), mode & 0o777));
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            open_to_others(&entry.expect("an entry").path(), found);
        }
    }
}

#[test]
fn other_users_cannot_read_a_stacks_files_including_older_ones() {
    let stand_ins = stand_ins();
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("data");
    // The state that earlier versions left.
    fs::create_dir_all(dir.join("redis-order/appendonlydir")).expect("made");
    fs::write(dir.join("redis-order/redis.log"), "old\n").expect("written");
    fs::write(dir.join("run.json"), "{}").expect("written");
    for (path, mode) in [
        (".", 0o755),
        ("run.json", 0o644),
        ("redis-order", 0o755),
        ("redis-order/redis.log", 0o644),
        ("redis-order/appendonlydir", 0o755),
    ] {
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).expect("opened");
    }
    let mut stack = Stack::start(&StackOptions {
        isolated: true,
        acl: true,
        tls: true,
        auth: true,
        dir: Some(dir.clone()),
        ..options(&stand_ins)
    })
    .expect("a stack");
    // TLS requires a port; the stand-ins do not use Redis' address here.
    stack.wait_ready(SOON).expect("ready");
    let mut found = Vec::new();
    open_to_others(&dir, &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_service_that_ends_before_it_is_ready_is_reported_with_its_code() {
    let stand_ins = stand_ins();
    let mut options = options(&stand_ins);
    let refuse = BTreeMap::from([("STAND_IN".to_owned(), "64".to_owned())]);
    options.service_env.insert(Service::Inventory, refuse);
    let mut stack = Stack::start(&options).expect("a stack");
    let error = stack.wait_ready(SOON).expect_err("one is gone").to_string();
    assert!(error.starts_with("inventory_service-1 ended with exit status: 64"), "{error}");
}

#[test]
fn killed_processes_are_restarted_after_growing_pauses_and_ended_ones_are_not() {
    let stand_ins = stand_ins();
    let mut stack = Stack::start(&options(&stand_ins)).expect("a stack");
    stack.wait_ready(SOON).expect("ready");
    let mut supervisor = Supervisor::default();
    let mut now = Instant::now();
    assert_eq!(supervisor.tend(&mut stack, now).expect("tended"), Vec::<String>::new());

    for pause in ["0.5", "1"] {
        stack.instance(Service::Order, 1).expect("started").process.kill().expect("killed");
        stack.redis().expect("private").kill().expect("killed");
        let news = supervisor.tend(&mut stack, now).expect("tended").join("\n");
        let died = format!("died (signal: 9 (SIGKILL)); starting it again in {pause} s");
        assert_eq!(news, format!("redis-server {died}\norder_service-1 {died}"));
        now += Duration::from_millis(499);
        assert_eq!(supervisor.tend(&mut stack, now).expect("tended"), Vec::<String>::new());
        now += Duration::from_millis(501);
        assert_eq!(supervisor.tend(&mut stack, now).expect("tended").len(), 2);
        stack.wait_ready(SOON).expect("ready again");
        let pid = stack.instance(Service::Order, 1).expect("started").process.pid();
        let run = RunFile::read(stack.dir()).expect("run.json");
        assert!(
            run.services.iter().any(|service| service.pid == pid),
            "run.json has the new process"
        );
    }

    let account = &mut stack.instance(Service::Account, 1).expect("started").process;
    account.terminate().and_then(|()| account.wait(SOON)).expect("ended");
    let news = supervisor.tend(&mut stack, now).expect("tended");
    assert_eq!(news, ["account_service-1 ended without a failure and stays down"]);
    now += Duration::from_secs(60);
    assert_eq!(supervisor.tend(&mut stack, now).expect("tended"), Vec::<String>::new());
}

#[test]
fn a_supervisor_survives_failures_to_start_a_process_or_write_run_json() {
    let stand_ins = stand_ins();
    let mut stack = Stack::start(&options(&stand_ins)).expect("a stack");
    stack.wait_ready(SOON).expect("ready");
    let mut supervisor = Supervisor::default();
    let mut now = Instant::now();
    let unfinished = stack.dir().join("run.json.new");
    std::os::unix::fs::symlink("/dev/full", &unfinished).expect("a file on a full disk");
    let program = stand_ins.path().join("order_service");
    fs::rename(&program, stand_ins.path().join("away")).expect("gone");
    stack.instance(Service::Order, 1).expect("started").process.kill().expect("killed");

    let mut tend = |stack: &mut Stack, seconds| {
        now += Duration::from_secs_f32(seconds);
        supervisor.tend(stack, now).expect("it goes on").join("\n")
    };
    let news = tend(&mut stack, 0.0);
    assert!(news.contains("run.json: No space left on device"), "{news}");
    let news = tend(&mut stack, 0.6);
    assert!(news.starts_with("order_service-1 does not start: cannot start "), "{news}");
    assert!(news.ends_with("; trying again in 1 s"), "it is reported once: {news}");
    fs::rename(stand_ins.path().join("away"), &program).expect("back");
    fs::remove_file(&unfinished).expect("there is room again");
    let news = tend(&mut stack, 1.1);
    assert!(news.starts_with("order_service-1 runs again (pid "), "{news}");
    assert!(news.ends_with("run.json is up to date again"), "{news}");
    let pid = stack.instance(Service::Order, 1).expect("started").process.pid();
    let run = RunFile::read(stack.dir()).expect("run.json");
    assert!(run.services.iter().any(|service| service.pid == pid), "{run:?}");
    assert_eq!(tend(&mut stack, 0.1), "");
}

#[test]
fn log_files_do_not_grow_without_bound() {
    let stand_ins = stand_ins();
    let mut stack = Stack::start(&options(&stand_ins)).expect("a stack");
    stack.wait_ready(SOON).expect("ready");
    let mut supervisor = Supervisor::default();
    let logs = [stack.dir().join("logs/order_service-1.log"), stack.dir().join("redis/redis.log")];
    for text in ["older\n", "newer\n"] {
        for log in &logs {
            let mut file = fs::File::options().append(true).open(log).expect("a log");
            file.write_all(&vec![b'x'; 16 << 20]).expect("written");
            file.write_all(text.as_bytes()).expect("written");
        }
        supervisor.tend(&mut stack, Instant::now()).expect("tended");
        for log in &logs {
            assert_eq!(log.metadata().expect("a log").len(), 0, "{}", log.display());
            let rotated = fs::read(log.with_extension("log.1")).expect("the earlier log");
            assert!(rotated.ends_with(text.as_bytes()), "{}", log.display());
            let names = fs::read_dir(log.parent().expect("a directory")).expect("a directory");
            let of_this =
                |name: &String| name.starts_with(&*log.file_name().unwrap().to_string_lossy());
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(names.filter(of_this).count(), 2, "{}", log.display());
        }
    }
    // The process continues in the same file.
    let process = &mut stack.instance(Service::Order, 1).expect("started").process;
    process.terminate().and_then(|()| process.wait(SOON)).expect("ended");
    assert_eq!(process.logs(), "ending, Redis there: true\n");
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
    command.args(args).env_remove("REDIS_URL").env_remove("SEED_DEMO_DATA").env("STAND_IN", "run");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(args).output().expect("an end");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn bad_usage_exits_64_with_the_reason() {
    for (args, complaint) in [
        (["--instances", "inventory=3"], "no service is called \"inventory\""),
        (["--instances", "order_service=2,msg_service"], "write it as inventory_service=3"),
        (["--appendfsync", "sometimes"], "one of always, everysec, no"),
        (["--port", "0"], "--port"),
    ] {
        let (code, error) = refused(&args);
        assert_eq!(code, Some(64), "{args:?}: {error}");
        assert!(error.contains(complaint), "{args:?}: {error}");
    }
    for url in ["redis://u:open-sesame@127.0.0.1:1", "redis+unix:///tmp/x?user=u&pass=open-sesame"]
    {
        let (code, error) = refused(&["--redis-url", url]);
        assert_eq!(code, Some(64), "{error}");
        for part in ["--redis-url", "REDIS_URL", "REDIS_PASSWORD_FILE"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("open-sesame"), "{error}");
    }
    let given = command(&["--isolated"]).env("REDIS_URL", "redis://127.0.0.1:1").output();
    assert_eq!(given.expect("an end").status.code(), Some(64), "one Redis is not four");
    let given =
        command(&["--fresh"]).env("REDIS_URL", "redis://127.0.0.1:1").output().expect("an end");
    assert_eq!(given.status.code(), Some(64), "--fresh is for the stack's own Redis only");
}

#[test]
fn a_taken_gateway_port_is_reported_before_anything_is_built() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its number").port().to_string();
    let (code, error) = refused(&["--port", &port]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains(&format!("port {port} is taken")) && error.contains("--port"),
        "{error}"
    );
}

/// A running `cargo stack`, killed if the test fails.
struct Running {
    child: Child,
    dir: std::path::PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(stand_ins: &TempDir, dir: &Path, more: &[&str]) -> Self {
        Self::start_as(command(&[]), stand_ins, dir, more)
    }

    fn start_as(mut command: Command, stand_ins: &TempDir, dir: &Path, more: &[&str]) -> Self {
        let port = stack::ports::free().to_string();
        let mut child = command
            .args(["--port", &port, "--binaries"])
            .arg(stand_ins.path())
            .arg("--data-dir")
            .arg(dir)
            .args(more)
            .spawn()
            .expect("a stack");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, dir: dir.to_owned(), lines }
    }

    fn wait_for_line(&self, part: &str) {
        while let Ok(line) = self.lines.recv_timeout(SOON) {
            if line.contains(part) {
                return;
            }
        }
        panic!("no line with {part:?}");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("signalled");
    }

    fn pids(&self) -> Vec<u32> {
        let run = RunFile::read(&self.dir).expect("run.json");
        run.services.iter().map(|service| service.pid).chain(run.redis.pid).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ctrl_c_stops_everything_cleanly_and_the_data_directory_is_reusable() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut running =
            Running::start(&stand_ins, dir.path(), &["--instances", "order_service=2"]);
        running.wait_for_line("stack | ready after");
        running.wait_for_line("/order");
        let pids = running.pids();
        assert_eq!(pids.len(), 7);
        running.signal(signal);
        if signal == Signal::SIGHUP {
            // A closed terminal and its shell send SIGHUP: only Ctrl-C means to hurry.
            wait_until("the stack has ended", || {
                running.signal(signal);
                !process_is_alive(running.child.id())
            });
        }
        running.wait_for_line("order_service-2     | ending, Redis there: true");
        running.wait_for_line("stack | stopped");
        assert_eq!(running.child.wait().expect("ended").code(), Some(0));
        assert!(!pids.into_iter().any(process_is_alive), "nothing is left");
    }
}

#[test]
fn a_stack_started_by_nohup_survives_the_end_of_its_terminal() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_stack")).env_remove("REDIS_URL").env_remove("SEED_DEMO_DATA");
    nohup.env("STAND_IN", "run");
    nohup.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start_as(nohup, &stand_ins, dir.path(), &[]);
    running.wait_for_line("stack | ready after");
    running.signal(Signal::SIGHUP);
    // It still supervises its services.
    let run = RunFile::read(dir.path()).expect("run.json");
    let pid = Pid::from_raw(run.services[0].pid.cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killed");
    running.wait_for_line("runs again");
    running.signal(Signal::SIGTERM);
    running.wait_for_line("stack | stopped");
    assert_eq!(running.child.wait().expect("ended").code(), Some(0));
}

#[test]
fn with_auth_each_printed_command_uses_a_token_obtained_before() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let shown = |more: &[&str]| {
        let running = Running::start(&stand_ins, dir.path(), &[&["--quiet"], more].concat());
        running.wait_for_line("stack | ready after");
        let next = || running.lines.recv_timeout(SOON).expect("a line");
        std::iter::from_fn(|| Some(next()).filter(|line| !line.starts_with("Ctrl-C stops")))
            .collect::<Vec<String>>()
    };
    let with_token = |line: &&String| line.contains(r#" -H "Authorization: Bearer $token" "#);
    let lines = shown(&["--auth"]);
    let calls: Vec<&String> = lines.iter().filter(|line| line.contains("curl ")).collect();
    assert_eq!(
        (calls.len(), calls.iter().copied().filter(with_token).count()),
        (4, 4),
        "{lines:#?}"
    );
    let command = format!("cargo orderctl --stack {} token --scope admin", dir.path().display());
    let got = lines.iter().position(|line| *line == format!("  token=$({command})"));
    let used = lines.iter().position(|line| line.contains("$token"));
    assert!(got.expect("a token is got") < used.expect("it is used"), "{lines:#?}");

    let lines = shown(&[]);
    assert!(!lines.iter().any(|line| line.contains("oken")), "{lines:#?}");
}

#[test]
fn a_second_stack_on_the_same_directory_is_refused() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let first = Running::start(&stand_ins, dir.path(), &["--quiet"]);
    first.wait_for_line("stack | ready after");
    let mut second = Running::start(&stand_ins, dir.path(), &["--fresh"]);
    assert_eq!(second.child.wait().expect("ended").code(), Some(1));
    let mut error = String::new();
    second.child.stderr.take().expect("its errors").read_to_string(&mut error).expect("text");
    assert!(error.contains("in use by another stack") && error.contains("--data-dir"), "{error}");
    assert_eq!(first.pids().len(), 6, "the first is untouched");
}

#[test]
fn a_service_that_refuses_its_configuration_stops_the_stack_with_64() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(stand_ins.path().join("msg_service"), "#!/bin/sh\necho LOG_FORMAT is bad\nexit 64\n")
        .expect("a script");
    let mut running = Running::start(&stand_ins, dir.path(), &[]);
    running.wait_for_line("LOG_FORMAT is bad");
    running.wait_for_line("stack | msg_service-1 refuses its configuration");
    assert_eq!(running.child.wait().expect("ended").code(), Some(64));
}

#[test]
fn nothing_outlives_a_stack_that_is_killed() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Running::start(&stand_ins, dir.path(), &[]);
    running.wait_for_line("stack | ready after");
    let pids = running.pids();
    running.child.kill().expect("killed");
    wait_until("all children are dead", || !pids.iter().any(|pid| process_is_alive(*pid)));
}

/// Whether a process is blocked in a write.
fn sleeps_in_a_write(pid: u32) -> bool {
    let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    wchan.contains("pipe") && wchan.contains("write")
}

#[test]
fn a_stack_with_unread_output_restarts_processes_and_stops_on_a_signal() {
    let stand_ins = stand_ins();
    let dir = tempfile::tempdir().expect("a directory");
    let flood = "#!/bin/sh\nexec yes an unread line\n";
    fs::write(stand_ins.path().join("msg_service"), flood).expect("a script");
    let port = stack::ports::free().to_string();
    let mut command = command(&["--port", &port, "--binaries"]);
    command.arg(stand_ins.path()).arg("--data-dir").arg(dir.path());
    let mut child = command.spawn().expect("a stack");
    let output = child.stdout.take().expect("its output");
    let running = Running { child, dir: dir.path().to_owned(), lines: mpsc::channel().1 };
    let pid_of = |name: &str| {
        let run = RunFile::read(dir.path()).expect("run.json");
        let service = run.services.into_iter().find(|it| it.instance == name);
        service.expect("it runs").pid
    };
    wait_until("all run", || RunFile::read(dir.path()).is_ok_and(|run| run.services.len() == 5));
    // The lines of `yes` fill any pipe in a moment; then it blocks in its write.
    wait_until("the pipe is full", || sleeps_in_a_write(pid_of("msg_service-1")));
    // Several times, because the reports find no room.
    for _ in 0..3 {
        let before = pid_of("account_service-1");
        let pid = Pid::from_raw(before.cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killed");
        wait_until("it runs again", || pid_of("account_service-1") != before);
    }
    let pids = running.pids();
    running.signal(Signal::SIGTERM);
    wait_until("it ends", || !process_is_alive(running.child.id()));
    assert!(!pids.into_iter().any(process_is_alive), "nothing is left");
    drop(output);
}

/// The path of a file system in another mount namespace, for a process outside.
fn inside(pid: u32, path: &Path) -> std::path::PathBuf {
    Path::new("/proc")
        .join(pid.to_string())
        .join("root")
        .join(path.strip_prefix("/").expect("absolute"))
}

#[test]
fn a_stack_works_again_after_its_full_disk_has_free_space() {
    let stand_ins = stand_ins();
    let mount = tempfile::tempdir().expect("a directory");
    let port = stack::ports::free().to_string();
    // A private file system that is removed with the stack.
    let script = "mount -t tmpfs -o size=8m none \"$0\" && exec \"$@\"";
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(mount.path())
        .args([env!("CARGO_BIN_EXE_stack"), "--port", &port, "--quiet", "--binaries"])
        .arg(stand_ins.path())
        .arg("--data-dir")
        .arg(mount.path().join("data"))
        .env_remove("REDIS_URL")
        .env("STAND_IN", "run")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare, of util-linux");
    let small = inside(child.id(), mount.path());
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut running = Running { child, dir: small.join("data"), lines };
    running.wait_for_line("stack | ready after");

    let redis = |command: &str| {
        let url = RunFile::read(&running.dir).expect("run.json").redis.url;
        let address = url.trim_start_matches("redis://");
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream.write_all(command.as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        Some(answer)
    };
    assert_eq!(redis("SET kept 1\r\n").as_deref(), Some("+OK\r\n"));
    let fill = small.join("fill");
    let mut file = fs::File::create(&fill).expect("a file");
    for size in [1 << 16, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    // Redis ends, because it cannot keep its promise that answered writes are on disk.
    let large = format!("SET lost {}\r\n", "x".repeat(8192));
    assert_ne!(redis(&large).as_deref(), Some("+OK\r\n"));
    running.wait_for_line("stack | redis-server died");
    running.wait_for_line("run.json: No space left on device");
    // There is also no room before the file is closed.
    drop(file);
    fs::remove_file(&fill).expect("room");
    running.wait_for_line("stack | run.json is up to date again");
    wait_until("Redis works again", || redis("SET new 1\r\n").as_deref() == Some("+OK\r\n"));
    assert_eq!(redis("GET kept\r\n").as_deref(), Some("$1\r\n"));
    running.signal(Signal::SIGINT);
    running.wait_for_line("stack | stopped");
    assert_eq!(running.child.wait().expect("ended").code(), Some(0));
}
