//! The whole system: one Redis, or one per topic, and any number of instances of the five services,
//! connected to each other.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Error, Profile, RedisOptions, RedisServer, Service, ServiceProcess, binaries,
    databases::{Database, Databases},
    entrance::Entrance,
    gateway_secret, lock, ports, private, probe,
    process::{Output, ServiceCommand},
    run_file::{RunFile, RunningService},
    token_key,
};

/// The time limit for all services to finish their work after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The destination of the services' logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logs {
    /// `logs/<instance>.log` in the stack's directory, where a test can read them.
    #[default]
    Files,
    /// Standard output, with the instance in front of each line.
    Forward {
        /// Whether each service's prefix has its own colour.
        colour: bool,
    },
}

/// The options of a stack. The default suits most tests: one instance of each service in a debug
/// build, a private Redis on a Unix socket, free ports, a temporary directory, no demo data.
#[derive(Clone, Debug, Default)]
pub struct StackOptions {
    /// The number of instances of each service; one by default.
    pub instances: BTreeMap<Service, usize>,
    /// The private Redis; its default data directory is `redis` in the stack's directory.
    pub redis: RedisOptions,
    /// Whether there are four private servers of this kind instead of one, one per topic.
    pub isolated: bool,
    /// Whether each service is a separate user of the private Redis, with the permissions of
    /// `deploy/redis/users.acl` and a generated password.
    pub acl: bool,
    /// Whether the private Redis accepts only TLS, with generated certificates.
    pub tls: bool,
    /// Whether the gateways require tokens, signed with a key that is generated in the directory.
    pub auth: bool,
    /// The URL of a running Redis, instead of private ones.
    pub redis_url: Option<String>,
    /// The build profile of the services.
    pub profile: Profile,
    /// The directory of existing binaries, which are then not built.
    pub binaries: Option<PathBuf>,
    /// The directory for data, logs and `run.json`, instead of a temporary one.
    pub dir: Option<PathBuf>,
    /// The destination of the services' logs.
    pub logs: Logs,
    /// The first gateway's port, instead of a free one; further gateways get the following ports.
    pub gateway_port: Option<u16>,
    /// Whether the first gateway publishes the demo data if there is none.
    pub seed_demo_data: bool,
    /// The limit of each service's private memory in bytes (RLIMIT_DATA).
    pub service_data_limit: Option<u64>,
    /// The environment of all services; the stack's own variables take precedence.
    pub env: BTreeMap<String, String>,
    /// The environment of single services, which takes precedence over everything.
    pub service_env: BTreeMap<Service, BTreeMap<String, String>>,
}

/// An instance of a service, running or killed.
#[derive(Debug)]
pub struct Instance {
    /// The service.
    pub service: Service,
    /// The number of the instance, from 1.
    pub number: usize,
    /// Its HTTP address: the gateway and order_service only.
    pub http: Option<SocketAddr>,
    /// Its operations port.
    pub ops: SocketAddr,
    /// Its process.
    pub process: ServiceProcess,
}

impl Instance {
    /// The name in logs and in consumer groups: `order_service-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Whether the instance reports that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        probe::http_status(self.ops, "/readyz").is_ok_and(|status| status == 200)
    }

    /// Waits until the instance reports that it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if it ends, [`Error::NotReady`] if it is not ready in time.
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), Error> {
        let ready = probe::until(within, || match self.process.expect_running() {
            Ok(()) => self.is_ready().then_some(Ok(())),
            Err(ended) => Some(Err(ended)),
        });
        ready.unwrap_or_else(|| Err(self.process.not_ready(within)))
    }
}

/// The running system. Dropping it kills all processes; the directory of a failing test is kept for
/// its logs.
#[derive(Debug)]
pub struct Stack {
    // The fields are dropped in this order: the services before their Redis, the lock last.
    instances: Vec<Instance>,
    databases: Databases,
    entrance: Entrance,
    token_key: Option<PathBuf>,
    gateway_secret: Option<PathBuf>,
    dir: PathBuf,
    temp_dir: Option<TempDir>,
    _lock: File,
}

impl Stack {
    /// Builds the services unless the options name their directory, and starts Redis and then the
    /// services, without waiting until they are ready: see [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    ///
    /// [`Error::Build`] for the services, [`Error::DirectoryInUse`] and [`Error::PortTaken`] for what the
    /// options name, [`Error::Certificates`], [`Error::Io`]; and those of [`RedisServer::start`].
    pub fn start(options: &StackOptions) -> Result<Self, Error> {
        let binaries = match &options.binaries {
            Some(dir) => dir.clone(),
            None => binaries::build(options.profile)?,
        };
        let (dir, temp_dir) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temp_dir = tempfile::Builder::new().prefix("stack-").tempdir();
                let temp_dir =
                    temp_dir.map_err(Error::io("make a temporary directory for the stack"))?;
                (temp_dir.path().to_owned(), Some(temp_dir))
            }
        };
        let lock = lock::hold_directory(&dir, "stack")?;
        // Checked before anything runs: a taken gateway port is the most likely error.
        let addresses = instance_addresses(options)?;

        let private = options.redis_url.is_none();
        let (acl, tls) = (options.acl && private, options.tls && private);
        let entrance = Entrance::prepare(&dir, acl, tls)?;
        let mut auth = if options.auth { token_key::variables(&dir)? } else { BTreeMap::new() };
        let gateway_secret =
            if has_gateway_secret(options) { None } else { Some(gateway_secret::make(&dir)?) };
        auth.extend(
            gateway_secret
                .as_ref()
                .map(|path| (gateway_secret::FILE_VARIABLE.to_owned(), path.display().to_string())),
        );
        private::close_stack(&dir)?;
        let redis = entrance.apply(options.redis.clone());
        let databases = match &options.redis_url {
            Some(url) => Databases::Given(url.clone()),
            None if options.isolated => Databases::isolated(&redis, &dir)?,
            None => Databases::shared(redis, &dir)?,
        };
        let log_dir = dir.join("logs");
        if log_dir.exists() {
            fs::remove_dir_all(&log_dir).map_err(Error::io_at("remove", &log_dir))?;
        }
        private::dir(&log_dir)?;

        let mut stack = Self {
            instances: Vec::with_capacity(addresses.len()),
            databases,
            entrance,
            token_key: options.auth.then(|| token_key::key_path(&dir)),
            gateway_secret,
            dir,
            temp_dir,
            _lock: lock,
        };
        for instance in &addresses {
            let output = output(options.logs, instance, &addresses, &log_dir);
            let program = binaries.join(instance.service.name());
            let command = ServiceCommand::new(&instance.name, program, output)
                .data_limit(options.service_data_limit)
                .envs(&options.env)
                .envs(auth.iter().filter(|_| instance.service.has_http()))
                .envs(&stack.databases.variables(instance.service, &stack.entrance))
                .envs(&wiring(options, instance, &addresses))
                .envs(options.service_env.get(&instance.service).into_iter().flatten());
            stack.instances.push(Instance {
                service: instance.service,
                number: instance.number,
                http: instance.http,
                ops: instance.ops,
                process: ServiceProcess::spawn(command)?,
            });
        }
        stack.write_run_file()?;
        Ok(stack)
    }

    /// Waits until every instance reports that it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if one ends, [`Error::NotReady`] if one is not ready in time.
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        self.instances.iter_mut().try_for_each(|instance| {
            instance.wait_ready(deadline.saturating_duration_since(Instant::now()))
        })
    }

    /// The base URL of each gateway: `http://127.0.0.1:5000` and so on.
    #[must_use]
    pub fn gateway_urls(&self) -> Vec<String> {
        let addresses = self.instances_of(Service::Gateway).filter_map(|it| it.http);
        addresses.map(url).collect()
    }

    /// The Redis URL of the services; the first of four if topics are isolated.
    #[must_use]
    pub fn redis_url(&self) -> String {
        self.redis_url_of(Database::Order)
    }

    /// The Redis URL for this topic.
    #[must_use]
    pub fn redis_url_of(&self, database: Database) -> String {
        self.databases.url(database)
    }

    /// The private Redis; none if a URL was given. The first of four if topics are isolated.
    pub fn redis(&mut self) -> Option<&mut RedisServer> {
        self.redis_of(Database::Order)
    }

    /// The private Redis with this topic's database.
    pub fn redis_of(&mut self, database: Database) -> Option<&mut RedisServer> {
        self.databases.server(database)
    }

    /// All instances of all services.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Like [`Self::instances`], with mutable access.
    pub fn instances_mut(&mut self) -> &mut [Instance] {
        &mut self.instances
    }

    /// The instances of one service.
    pub fn instances_of(&self, service: Service) -> impl Iterator<Item = &Instance> {
        let is_of = move |instance: &&Instance| instance.service == service;
        self.instances.iter().filter(is_of)
    }

    /// An instance by its number, from 1; none if it was never started.
    pub fn instance(&mut self, service: Service, number: usize) -> Option<&mut Instance> {
        let is_it = |it: &&mut Instance| it.service == service && it.number == number;
        self.instances.iter_mut().find(is_it)
    }

    /// The directory with data, logs and `run.json`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes `run.json` again after a restart has changed a process id.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the file cannot be written.
    pub fn write_run_file(&self) -> Result<(), Error> {
        self.run_file().write(&self.dir)
    }

    /// The content of `run.json`, with the credentials of the operator for Redis.
    #[must_use]
    pub fn run_file(&self) -> RunFile {
        let services = self.instances.iter().map(|instance| RunningService {
            service: instance.service.to_string(),
            instance: instance.name().to_owned(),
            pid: instance.process.pid(),
            http: instance.http,
            ops: instance.ops,
        });
        let (redis, topics) = self.databases.describe(&self.entrance);
        RunFile {
            stack_pid: std::process::id(),
            redis,
            topics,
            token_key: self.token_key.clone(),
            gateway_secret: self.gateway_secret.clone(),
            services: services.collect(),
        }
    }

    /// Ends the services, then Redis. Processes that are still running after 10 s are killed, and
    /// their names returned.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the operating system refuses a signal.
    pub fn stop(self) -> Result<Vec<String>, Error> {
        self.stop_unless(|| false)
    }

    /// Like [`Self::stop`], but kills at once when `hurry` returns true.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the operating system refuses a signal.
    pub fn stop_unless(mut self, hurry: impl Fn() -> bool) -> Result<Vec<String>, Error> {
        let services = self.instances.iter_mut().map(|it| &mut it.process);
        let mut killed = end_all(services.collect(), &hurry)?;
        killed.extend(end_all(self.databases.processes(), &hurry)?);
        Ok(killed)
    }

    /// Every process of the stack: Redis and the services.
    pub(crate) fn processes(&mut self) -> impl Iterator<Item = &mut ServiceProcess> {
        let services = self.instances.iter_mut().map(|it| &mut it.process);
        self.databases.processes().into_iter().chain(services)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        RunFile::remove(&self.dir);
        if let Some(temp_dir) = &mut self.temp_dir
            && std::thread::panicking()
        {
            temp_dir.disable_cleanup(true);
            let _ = writeln!(io::stderr(), "the stack's logs are kept in {}", self.dir.display());
        }
    }
}

/// Whether the options contain a secret between the gateways and order_service, or a file with it.
fn has_gateway_secret(options: &StackOptions) -> bool {
    let all = std::iter::once(&options.env).chain(options.service_env.values());
    let variables = [gateway_secret::VARIABLE, gateway_secret::FILE_VARIABLE];
    all.into_iter().any(|env| variables.iter().any(|it| env.contains_key(*it)))
}

/// The addresses of an instance.
struct InstanceAddresses {
    service: Service,
    number: usize,
    name: String,
    http: Option<SocketAddr>,
    ops: SocketAddr,
}

fn instance_addresses(options: &StackOptions) -> Result<Vec<InstanceAddresses>, Error> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut addresses = Vec::new();
    for service in Service::ALL {
        let count = options.instances.get(&service).copied().unwrap_or(1);
        for number in 1..=count {
            let http = match (service, options.gateway_port) {
                (Service::Gateway, Some(first)) => Some(ports::nth_after(first, number - 1)?),
                _ => service.has_http().then(ports::free),
            };
            addresses.push(InstanceAddresses {
                service,
                number,
                name: format!("{service}-{number}"),
                http: http.map(address),
                ops: address(ports::free()),
            });
        }
    }
    Ok(addresses)
}

/// The variables by which the instances find each other.
fn wiring(
    options: &StackOptions,
    instance: &InstanceAddresses,
    addresses: &[InstanceAddresses],
) -> BTreeMap<&'static str, String> {
    let mut env = BTreeMap::from([
        ("OPS_ADDR", instance.ops.to_string()),
        ("INSTANCE", instance.name.clone()),
    ]);
    env.extend(instance.http.map(|http| ("HTTP_ADDR", http.to_string())));
    // On loopback, for local use and for tests.
    if instance.service.has_http() && !options.auth && !options.env.contains_key("AUTH_MODE") {
        env.insert("AUTH_MODE", "off".to_owned());
    }
    if instance.service == Service::Gateway {
        // Only one gateway publishes: two that start together would both find nothing and publish
        // twice.
        let seed = options.seed_demo_data && instance.number == 1;
        env.insert("SEED_DEMO_DATA", seed.to_string());
        let orders = addresses.iter().filter(|it| it.service == Service::Order);
        let orders: Vec<_> = orders.filter_map(|it| it.http).map(url).collect();
        if !orders.is_empty() {
            env.insert("ORDER_SERVICE_URL", orders.join(","));
        }
    }
    env
}

/// The prefix `inventory_service-2 | ` for each line, coloured per service, or a file per instance.
fn output(
    logs: Logs,
    instance: &InstanceAddresses,
    addresses: &[InstanceAddresses],
    log_dir: &Path,
) -> Output {
    let name = &instance.name;
    let width = addresses.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let colour = match instance.service {
        Service::Gateway => 36,
        Service::Order => 32,
        Service::Inventory => 33,
        Service::Account => 35,
        Service::Message => 34,
    };
    let prefix = match logs {
        Logs::Files => return Output::File(log_dir.join(name).with_extension("log")),
        Logs::Forward { colour: false } => format!("{name:width$} | "),
        Logs::Forward { colour: true } => format!("\x1b[{colour}m{name:width$} |\x1b[0m "),
    };
    Output::Forward { prefix }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Sends the signal to all processes first, so that they end in parallel.
fn end_all(
    mut processes: Vec<&mut ServiceProcess>,
    hurry: &impl Fn() -> bool,
) -> Result<Vec<String>, Error> {
    for process in &mut processes {
        process.terminate()?;
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut killed = Vec::new();
    for process in processes {
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = probe::until(left, || match process.is_running() {
            false => Some(true),
            true => hurry().then_some(false),
        });
        if ended != Some(true) {
            killed.push(process.name().to_owned());
        }
        // Also forwards the last lines of a process that has already ended.
        process.kill()?;
    }
    Ok(killed)
}
