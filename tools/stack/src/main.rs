//! `cargo stack`: the whole system on this machine, without containers, until Ctrl-C.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, error::ErrorKind, parser::ValueSource};
use stack::{
    Appendfsync, Database, Error, Instance, Listen, Logs, Profile, RedisOptions, Service, Stack,
    StackOptions, binaries, ports, probe, run_file::RunFile, service::InstanceCount,
    supervise::Supervisor,
};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code for an invalid usage or configuration (EX_USAGE), as in the services.
const EXIT_USAGE: u8 = 64;
/// The preferred port of the private Redis, so that `redis-cli -p 6390` usually works; with four
/// servers the others use the following ports.
const REDIS_PORT: u16 = 6390;
/// The number of stack messages that wait for a reader of standard output; further ones are
/// dropped.
const WAITING_LINES: usize = 1_000;
/// How long the shutdown waits for the last of them.
const SHUTDOWN_OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs Redis and the five services on this machine, with demo data, until Ctrl-C.
///
/// Other environment variables (LOG_LEVEL, LOG_FORMAT, ORDER_REDIS_URL, …) are passed to the
/// services.
#[derive(Parser)]
#[command(name = "stack", bin_name = "cargo stack", version)]
struct Cli {
    /// Number of instances of a service, for example inventory_service=3; repeat or separate by
    /// commas
    #[arg(long, value_name = "SERVICE=N", value_delimiter = ',')]
    instances: Vec<InstanceCount>,
    /// Port of the gateway on 127.0.0.1; further gateways get the following ports
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Directory of the data, the logs and run.json [default: stack/data in cargo's target
    /// directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// When Redis writes to disk: always, everysec, or no (data are not kept)
    #[arg(long, default_value = "always", value_name = "WHEN")]
    appendfsync: Appendfsync,
    /// Memory limit of Redis, for example 4gb [default: half of this machine's memory; with
    /// --isolated an eighth for each]
    ///
    /// Requests that add data are refused when 90 % of it is used (MAX_MEMORY_PERCENT), all
    /// requests with effects at 95 %.
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    maxmemory: Option<String>,
    /// Start with empty data
    #[arg(long)]
    fresh: bool,
    /// Write the services' logs to files in the data directory instead of showing them
    ///
    /// A file that reaches 16 MiB is rotated: it replaces the previous file with the suffix .1.
    #[arg(long, short)]
    quiet: bool,
    /// Run the service binaries in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Run four Redis servers, each with the database of one topic, instead of one for all
    ///
    /// They listen on ports 6390 (order), 6391 (inventory), 6392 (account) and 6393 (message) if
    /// those are free; the stack prints the actual ports. Each has a separate directory, so a stack
    /// without this flag does not see their data.
    #[arg(long)]
    isolated: bool,
    /// Make each service a separate user of Redis, with the permissions of deploy/redis/users.acl
    ///
    /// Their passwords are generated once, in the directory `users` below the data.
    #[arg(long)]
    acl: bool,
    /// Use TLS for Redis
    ///
    /// The certificates are generated in the directory `tls` below the data, and renewed when they
    /// expire.
    #[arg(long)]
    tls: bool,
    /// All protections: --isolated --acl --tls --auth
    #[arg(long)]
    secure: bool,
    /// Require tokens, signed with a key of the data directory: `cargo orderctl token` prints some
    #[arg(long)]
    auth: bool,
    /// Use this Redis instead of a private one
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with_all =
            ["fresh", "appendfsync", "maxmemory", "isolated", "acl", "tls", "secure"]
    )]
    redis_url: Option<String>,
    /// Publish the demo data if there is none
    #[arg(
        long,
        env = "SEED_DEMO_DATA",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    seed_demo_data: bool,
}

/// Parses a size in Redis' notation: bytes, or a number with a unit.
fn memory_size(text: &str) -> Result<String, &'static str> {
    let number = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let is_unit = ["", "b", "k", "kb", "m", "mb", "g", "gb"].contains(&unit.as_str());
    match number.parse::<u64>() {
        Ok(_) if is_unit => Ok(text.to_owned()),
        _ => Err("expected bytes or a number of kb, mb or gb, such as 4gb; 0 for any number"),
    }
}

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    run(cli).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "stack: {error:#}");
        ExitCode::FAILURE
    })
}

/// Parses the command line. Every user of the machine can read it, so it must not contain a
/// password.
fn parse() -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let cli = Cli::from_arg_matches(&matches)?;
    let is_flag = matches.value_source("redis_url") == Some(ValueSource::CommandLine);
    match &cli.redis_url {
        Some(url) if is_flag && has_password(url) => Err(Cli::command().error(
            ErrorKind::ValueValidation,
            "no URL with a password is taken from --redis-url: a flag can be read by every user of this \
             machine; set the variable REDIS_URL, or leave the password out and name its file in \
             REDIS_PASSWORD_FILE",
        )),
        _ => Ok(cli),
    }
}

/// Whether the URL of a Redis contains a password: `redis://user:password@host`, or
/// `redis+unix://path?pass=password`.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || query.split('&').any(|pair| pair.starts_with("pass="))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let instances: BTreeMap<_, _> = cli.instances.iter().map(|it| (it.service, it.count)).collect();
    // Checked before minutes of building rather than after.
    for further in 0..instances.get(&Service::Gateway).copied().unwrap_or(1) {
        let Some(port) = u16::try_from(further).ok().and_then(|it| cli.port.checked_add(it)) else {
            let text = format!("gateway {} finds no port after --port {}", further + 1, cli.port);
            let _ = Cli::command().error(ErrorKind::ValueValidation, text).print();
            return Ok(ExitCode::from(EXIT_USAGE));
        };
        if !ports::is_free(port) {
            return Err(hint(Error::PortTaken { port }));
        }
    }
    let binaries = match cli.binaries {
        Some(dir) => dir,
        None => binaries::build(Profile::Release)?,
    };
    let dir = match cli.data_dir {
        Some(dir) => dir,
        // The binaries are in <target directory>/release.
        None => {
            binaries.parent().context("the binaries lie in no target directory")?.join("stack/data")
        }
    };
    let signals = signals().context("cannot listen for signals")?;

    let terminal = io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let options = StackOptions {
        instances,
        redis: RedisOptions {
            listen: Listen::Preferably(REDIS_PORT),
            appendfsync: cli.appendfsync,
            maxmemory: cli.maxmemory,
            fresh: cli.fresh,
            ..RedisOptions::default()
        },
        isolated: cli.isolated || cli.secure,
        acl: cli.acl || cli.secure,
        tls: cli.tls || cli.secure,
        auth: cli.auth || cli.secure,
        redis_url: cli.redis_url,
        binaries: Some(binaries),
        dir: Some(dir.clone()),
        logs: if cli.quiet { Logs::Files } else { Logs::Forward { colour } },
        gateway_port: Some(cli.port),
        seed_demo_data: cli.seed_demo_data,
        env,
        ..StackOptions::default()
    };
    let begun = Instant::now();
    let mut stack = Stack::start(&options).map_err(hint)?;
    let console = Console::start();
    if cli.quiet {
        console.say(&format!("starting; the services' logs are in {}", dir.join("logs").display()));
    }
    let watched = watch(&mut stack, &signals, begun, &console);
    if let Err(error) = &watched {
        console.say(&error.to_string());
    }
    console.say("stopping; Ctrl-C once more kills at once");
    // A closed terminal sends SIGHUP, and its shell may send another one.
    let killed =
        stack.stop_unless(|| signals.try_iter().any(|signal| signal != SignalKind::hangup()))?;
    console.say(&if killed.is_empty() {
        "stopped".to_owned()
    } else {
        format!("stopped; killed {}", killed.join(", "))
    });
    console.end();
    match watched {
        Err(Error::Refused { .. }) => Ok(ExitCode::from(EXIT_USAGE)),
        Err(error) => Err(error.into()),
        Ok(()) if killed.is_empty() => Ok(ExitCode::SUCCESS),
        Ok(()) => Ok(ExitCode::FAILURE),
    }
}

/// Keeps the services running until a signal arrives.
fn watch(
    stack: &mut Stack,
    signals: &Receiver<SignalKind>,
    begun: Instant,
    console: &Console,
) -> Result<(), Error> {
    let mut supervisor = Supervisor::default();
    let mut announced = false;
    while let Err(RecvTimeoutError::Timeout) = signals.recv_timeout(Duration::from_millis(100)) {
        for news in supervisor.tend(stack, Instant::now())? {
            console.say(&news);
        }
        if !announced && stack.instances().iter().all(Instance::is_ready) {
            announced = true;
            console.say(&welcome(stack, begun.elapsed()));
        }
    }
    Ok(())
}

/// A receiver of SIGINT, SIGTERM and SIGHUP. Tokio provides it without unsafe code, unlike the
/// standard library.
fn signals() -> io::Result<Receiver<SignalKind>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let (sender, signals) = mpsc::channel();
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    // With a handler, nohup would have no effect.
    if !ignores_hang_up() {
        kinds.push(SignalKind::hangup());
    }
    for kind in kinds {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        runtime.spawn(async move {
            while signal.recv().await.is_some() && sender.send(kind).is_ok() {}
        });
    }
    drop(guard);
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(signals)
}

/// Whether SIGHUP has been ignored since before the process started, e.g. by nohup. SIGHUP is
/// signal 1, the lowest bit of the mask.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|it| it & 1 == 1))
}

/// The next steps for a new user: the user guide's three orders, with this stack's address and, if
/// required, a token.
fn welcome(stack: &Stack, took: Duration) -> String {
    let gateways = stack.gateway_urls().join(" ");
    let gateway = gateways.split(' ').next().unwrap_or_default();
    let took = took.as_secs_f32();
    let run = stack.run_file();
    let urls = Database::ALL.map(|it| (it, run.redis_of(it.topic()).url.clone()));
    let redis = if urls.iter().all(|(_, url)| *url == urls[0].1) {
        urls[0].1.clone()
    } else {
        // One below the other, aligned with the first.
        urls.map(|(database, url)| format!("{url} ({database})")).join("\n           ")
    };
    let redis =
        entrance(&run).into_iter().fold(redis, |all, line| format!("{all}\n           {line}"));
    let data = stack.dir().display();
    let (token, header) = match run.token_key {
        Some(_) => (how_to_get_a_token(stack.dir()), r#" -H "Authorization: Bearer $token""#),
        None => (String::new(), ""),
    };
    let order = |products: &str, end: &str| {
        format!(
            r#"
  # ends {end}
  curl -X POST{header} -H "Content-Type: application/json" \
    -d '{{"product_ids": [{products}], "customer_id": "101"}}' \
    {gateway}/order
"#
        )
    };
    let orders = [
        order(r#""201", "204""#, "to-be-shipped"),
        order(r#""201", "204", "205""#, "insufficient-fund"),
        order(r#""201", "201", "201", "201", "201", "201""#, "out-of-stock"),
    ];
    let orders = orders.concat();
    format!(
        "ready after {took:.1} s

  gateway  {gateways}
  report   {gateway}/report
  API      {gateway}/openapi.json
  redis    {redis}
  data     {data} (run.json there lists all processes and ports)

{token}Orders to try on fresh demo data (curl -X POST{header} {gateway}/init-data renews it):
{orders}
Ctrl-C stops everything.
"
    )
}

/// The command for a token, which the others use.
fn how_to_get_a_token(dir: &Path) -> String {
    let orderctl = format!("cargo orderctl --stack {}", dir.display());
    format!(
        "Clients need a token. An operator's, valid for an hour:

  token=$({orderctl} token --scope admin)

A customer's: token --customer 101 --scope orders:write,orders:read,report:read

"
    )
}

/// The credentials for a look into Redis.
fn entrance(run: &RunFile) -> Vec<String> {
    let password = run.redis.password_file.as_ref();
    let password =
        password.map(|file| format!("(the operator's password is in {})", file.display()));
    let authority = run.redis.tls_ca.as_ref();
    let authority = authority.map(|file| format!("(redis-cli --tls --cacert {})", file.display()));
    password.into_iter().chain(authority).collect()
}

/// Adds the flag that helps.
fn hint(error: Error) -> anyhow::Error {
    let help = match &error {
        Error::PortTaken { .. } => "stop that program or choose another port with --port",
        Error::DirectoryInUse { .. } => "stop that one or choose another directory with --data-dir",
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}: {help}")
}

/// The stack's own messages among the services' lines. A separate thread writes them, because a
/// stopped terminal or an unread pipe must not block the supervisor, and is no reason to stop.
struct Console {
    lines: SyncSender<String>,
    thread: JoinHandle<()>,
}

impl Console {
    fn start() -> Self {
        let (lines, queue) = mpsc::sync_channel::<String>(WAITING_LINES);
        let thread = std::thread::spawn(move || {
            for text in queue {
                let _ = writeln!(io::stdout().lock(), "stack | {text}");
            }
        });
        Self { lines, thread }
    }

    fn say(&self, text: &str) {
        // If this number of lines is waiting, they are not read.
        let _ = self.lines.try_send(text.to_owned());
    }

    /// Waits for the last lines to be written, with a time limit.
    fn end(self) {
        drop(self.lines);
        probe::until(SHUTDOWN_OUTPUT_TIMEOUT, || self.thread.is_finished().then_some(()));
    }
}
