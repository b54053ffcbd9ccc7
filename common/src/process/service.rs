//! The lifecycle of a service's process: configuration, logs, tasks, signals, orderly shutdown.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use prometheus_client::registry::Registry;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    config_error::ConfigError,
    connection::{health::Health, topology::Sources},
    consumer::{
        self, Reader, Subscription,
        trimmer::{Retention, TRIM_INTERVAL, Trimmer},
    },
    decision::Decider,
    engine::{Engine, EngineHandle, Limits, metrics::EngineMetrics, store_id::StoreIdKeeper},
    http::server,
    logs,
    process::{
        config::{self, CommonConfig},
        operations_port::{self, Operations},
    },
    schema::stream::Topic,
};

/// The time limit for work in progress after a signal to stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for a complete request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
/// The time limit for a command in the engine, after which its caller gets a timeout.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);

/// A service's configuration.
pub trait ServiceConfig: Parser {
    /// The settings that all services share.
    fn common(&self) -> &CommonConfig;
    /// The address of the operations port.
    fn ops_addr(&self) -> SocketAddr;

    /// Checks the configuration as a whole, before anything is bound.
    ///
    /// # Errors
    ///
    /// The settings contradict each other; the process ends with 64.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The topics that the service uses: its own, and those whose streams it reads. Each may have a
    /// Redis of its own, in `<TOPIC>_REDIS_URL`.
    fn topics() -> Vec<Topic>;
}

/// Runs a process from start to end. `start` wires the service: it spawns tasks on the
/// [`ServiceContext`] and returns. The process then runs until it receives a signal or a task ends.
///
/// Exit codes: 0 after SIGTERM, SIGINT or SIGHUP, 1 if a task failed or work in progress did not
/// finish in time, 64 for an invalid configuration.
pub fn main<C, F, S>(name: &'static str, start: S) -> ExitCode
where
    C: ServiceConfig,
    F: Future<Output = anyhow::Result<()>>,
    S: FnOnce(C, ServiceContext) -> F,
{
    let topics = C::topics();
    let (config, urls) = match config::parse_service::<C>(&topics) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    if config.common().healthcheck {
        return if operations_port::is_ready(config.ops_addr()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let checked = config.check().and_then(|()| config.common().sources(&topics, &urls));
    let sources = match checked {
        Ok(sources) => sources,
        Err(error) => return error.report(),
    };
    let _guard = logs::init(config.common().log_format, &config.common().log_level);
    // A single thread: the engine is one task, and Redis reaches its limit long before this thread
    // does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .context("cannot start the run-time")
        .and_then(|runtime| runtime.block_on(live(name, config, sources, start)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{name} ends: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn live<C, F, S>(
    name: &'static str,
    config: C,
    sources: Sources,
    start: S,
) -> anyhow::Result<()>
where
    C: ServiceConfig,
    F: Future<Output = anyhow::Result<()>>,
    S: FnOnce(C, ServiceContext) -> F,
{
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    // A closed terminal sends SIGHUP. With a handler, nohup would have no effect.
    let mut hang_up = match ignores_hang_up() {
        true => None,
        false => Some(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?),
    };
    let common = config.common();
    let instance = common.instance_or_default(config.ops_addr());
    let mut context = ServiceContext::new(sources, &instance);
    context.register_metrics(|registry| {
        let help = "Lines for standard output that were dropped because stdout was not read";
        registry.register("log_lines_dropped", help, logs::dropped_lines());
    });
    context.claim_idle_ms = common.claim_idle_ms;
    context.retention = Retention { entries: common.stream_keep, bytes: common.stream_keep_bytes };
    context.keep_alive = Duration::from_millis(common.keep_alive_ms);
    let life_until_the_end = context.clone();
    let ops_addr = config.ops_addr();
    let Ok(ops_allowed_hosts) =
        common.ops_allowed_hosts.iter().map(|name| name.parse()).collect::<Result<_, Infallible>>();
    let listener = server::listen("OPS_ADDR", ops_addr)?;
    info!(instance, "{name} {} starts", env!("CARGO_PKG_VERSION"));
    start(config, context).await?;
    let context = life_until_the_end;
    let registry = std::mem::take(&mut *lock(&context.registry));
    let operations = Operations { health: Arc::clone(&context.health), registry };
    // The operations port answers until the very end, and the shutdown does not wait for it.
    let operations = operations_port::router(Arc::new(operations));
    let serving = server::serve_operations(
        listener,
        ops_addr,
        ops_allowed_hosts,
        operations,
        context.keep_alive,
    );
    let operations = tokio::spawn(serving);

    let ended_early = tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(()) = async { hang_up.as_mut()?.recv().await } => Ok(()),
        ended = context.any_task_ends() => ended,
    };
    info!("finishing work in progress");
    let stopped = context.stop().await;
    operations.abort();
    info!("{name} has stopped");
    ended_early.and(stopped)
}

/// Whether SIGHUP has been ignored since before the process started, e.g. by nohup. SIGHUP is
/// signal 1, the lowest bit of the mask. Without /proc it counts as not ignored.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|it| it & 1 == 1))
}

type TaskResult = Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>;

/// The name of a task that ended without an error, or the error.
fn flatten(ended: TaskResult) -> anyhow::Result<&'static str> {
    match ended {
        Ok((name, Ok(()))) => Ok(name),
        Ok((name, Err(error))) => Err(error.context(format!("{name} failed"))),
        Err(panic) => Err(anyhow::anyhow!("a task panicked: {panic}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// The context of a running service.
#[derive(Debug, Clone)]
pub struct ServiceContext {
    /// The Redis of each topic.
    pub sources: Sources,
    /// The health that the operations port shows.
    pub health: Arc<Health>,
    /// Cancelled at the shutdown.
    pub shutdown: CancellationToken,
    /// The idle time in milliseconds after which pending entries of other instances are taken over.
    pub claim_idle_ms: u64,
    /// The retention of each stream.
    pub retention: Retention,
    /// The interval between trims of each stream.
    pub trim_interval: Duration,
    /// The sizes of batches and queues.
    pub limits: Limits,
    /// How long idle HTTP connections are kept open.
    pub keep_alive: Duration,
    instance: String,
    tasks: Arc<Mutex<Tasks>>,
    registry: Arc<Mutex<Registry>>,
    #[cfg(feature = "simulation")]
    process: crate::simulation::ProcessId,
}

impl ServiceContext {
    /// A context without tasks, for this instance of the service.
    pub fn new(sources: Sources, instance: &str) -> Self {
        Self {
            sources,
            health: Arc::default(),
            shutdown: CancellationToken::new(),
            claim_idle_ms: 15_000,
            retention: Retention::default(),
            trim_interval: TRIM_INTERVAL,
            limits: Limits::default(),
            keep_alive: server::KEEP_ALIVE,
            instance: instance.to_owned(),
            tasks: Arc::default(),
            registry: Arc::default(),
            #[cfg(feature = "simulation")]
            process: crate::simulation::process(),
        }
    }

    /// Waits until a task ends, which should not happen before the shutdown.
    ///
    /// # Errors
    ///
    /// Always: the error of the task, or that it has ended.
    pub async fn any_task_ends(&self) -> anyhow::Result<()> {
        let ended = std::future::poll_fn(|context| lock(&self.tasks).poll_join_next(context)).await;
        match ended {
            Some(ended) => {
                flatten(ended).and_then(|task| anyhow::bail!("{task} stopped before the shutdown"))
            }
            None => anyhow::bail!("there is nothing to do"),
        }
    }

    /// Ends all tasks; each finishes its work in progress.
    ///
    /// # Errors
    ///
    /// A task failed, or it took longer than [`STOP_TIMEOUT`].
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let mut result = Ok(());
        let finish = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = flatten(ended) {
                    error!("{error:#}");
                    result = Err(error);
                }
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, finish).await.is_err() {
            anyhow::bail!("work in progress did not finish within {STOP_TIMEOUT:?}");
        }
        result
    }

    /// Registers metrics of the service besides those of the engine.
    pub fn register_metrics(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut lock(&self.registry));
    }

    /// The metrics in Prometheus' text format, until the operations port takes them over.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &lock(&self.registry))
            .expect("a String takes everything");
        text
    }

    /// Starts a task. It runs until [`ServiceContext::shutdown`]; if it ends earlier, so does the
    /// process.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let task = async move { (name, task.await) };
        #[cfg(feature = "simulation")]
        let task = crate::simulation::task(self.process, task);
        lock(&self.tasks).spawn(task);
    }

    /// Starts the engine with readers for the subscriptions, and returns the handle for commands.
    pub fn start_engine<D: Decider>(
        &self,
        decider: D,
        subscriptions: Vec<Subscription<D::Input>>,
    ) -> EngineHandle<D> {
        let metrics = Arc::new(EngineMetrics::register(&mut lock(&self.registry)));
        let (engine, queue) = Engine::new(
            decider,
            self.sources.clone(),
            self.instance.clone(),
            Arc::clone(&self.health),
            Arc::clone(&metrics),
            self.limits,
            self.shutdown.clone(),
        );
        let component = engine.component();
        self.spawn("the engine", engine.run());
        let own = self.sources.of(D::TOPIC);
        let memory = Arc::new(Semaphore::new(self.limits.queue_kib as usize));
        for (url, subscriptions) in consumer::by_server(&self.sources, subscriptions) {
            let reader = Reader {
                own: own.clone(),
                url,
                subscriptions,
                instance: self.instance.clone(),
                claim_idle_ms: self.claim_idle_ms,
                limits: self.limits,
                queue: queue.clone(),
                memory: Arc::clone(&memory),
                component: self.health.component("the stream reader"),
                upkeep: self.health.background_component("the upkeep of the streams"),
                shutdown: self.shutdown.clone(),
                metrics: Arc::clone(&metrics),
                engine: Arc::clone(&component),
                provenance: Mutex::default(),
            };
            self.spawn("a stream reader", reader.run());
        }
        let trimmer = Trimmer {
            streams: D::streams(),
            url: own.clone(),
            keep: self.retention,
            interval: self.trim_interval,
            component: self.health.background_component("the trimmer"),
            shutdown: self.shutdown.clone(),
        };
        self.spawn("the trimmer", trimmer.run());
        let keeper = StoreIdKeeper {
            topic: D::TOPIC,
            url: own.clone(),
            component: self.health.component("the store id"),
            shutdown: self.shutdown.clone(),
        };
        self.spawn("the store id", keeper.run());
        EngineHandle::new(queue, component, COMMAND_TIMEOUT)
    }
}
