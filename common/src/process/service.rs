//! The life of a service's process: configuration, logs, tasks, signals, an orderly end.

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
        trimmer::{Retention, Trimmer},
    },
    contract::streams::topics,
    decision::Decider,
    engine::{Engine, EngineHandle, QUEUE_KIB, metrics::EngineMetrics, store_id::StoreIdKeeper},
    http::server,
    logs,
    process::{
        config::{self, CommonConfig},
        operations_port::{self, Operations},
    },
    schema::stream::Topic,
};

/// How long the work in hand may take after a signal to stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take once it is complete.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a command waits for the engine before its caller is told that it took too long.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);

/// A service's configuration.
pub trait ServiceConfig: Parser {
    /// What all services are told.
    fn common(&self) -> &CommonConfig;
    /// Where the operations port listens.
    fn ops_addr(&self) -> SocketAddr;

    /// Looks at the configuration as a whole, before anything is bound.
    ///
    /// # Errors
    ///
    /// What does not fit together; the process ends with 64.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The topics that the service has to do with: its own, and those whose streams it reads.
    fn topics(&self) -> Vec<Topic> {
        topics::ALL.into()
    }
}

/// A process from its start to its end. `start` wires the service: it spawns tasks on the [`ServiceContext`]
/// and returns; the process then lives until a signal, or until a task ends by itself.
///
/// Exit codes: 0 after SIGTERM, SIGINT or SIGHUP, 1 if a task failed or the work in hand could not be
/// finished in time, 64 for a bad configuration.
pub fn main<C, F, S>(name: &'static str, start: S) -> ExitCode
where
    C: ServiceConfig,
    F: Future<Output = anyhow::Result<()>>,
    S: FnOnce(C, ServiceContext) -> F,
{
    let config = match config::parse::<C>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    if config.common().healthcheck {
        return if operations_port::is_ready(config.ops_addr()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let checked = config.check().and_then(|()| config.common().sources(&config.topics()));
    let sources = match checked {
        Ok(sources) => sources,
        Err(fault) => return fault.tell(),
    };
    let _guard = logs::init(config.common().log_format, &config.common().log_level);
    // One thread: the engine is one task, and Redis is the limit long before it is.
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
    // A terminal that is closed sends it. A handler would undo what nohup asks for.
    let mut hang_up = match ignores_hang_up() {
        true => None,
        false => Some(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?),
    };
    let common = config.common();
    let instance = common.instance_or_default(config.ops_addr());
    let mut context = ServiceContext::new(sources, &instance);
    context.register_metrics(|registry| {
        let help = "Lines for standard output that were dropped because nobody read them";
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
    // It answers to the very end, and is no reason to wait.
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
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(()) = async { hang_up.as_mut()?.recv().await } => Ok(()),
        ended = context.any_task_ends() => ended,
    };
    info!("finishing what is in hand");
    let stopped = context.stop().await;
    operations.abort();
    info!("{name} is done");
    ended_early.and(stopped)
}

/// Whether SIGHUP is ignored since before the process began, as by nohup. It is signal 1: the lowest bit of the
/// mask. Where there is no /proc it counts as not ignored.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|it| it & 1 == 1))
}

type TaskResult = Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>;

/// The name of a task that ended well, or why it did not.
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

/// What a service is made of while it lives.
#[derive(Debug, Clone)]
pub struct ServiceContext {
    /// Which Redis has which topic.
    pub sources: Sources,
    /// What the operations port tells.
    pub health: Arc<Health>,
    /// Cancelled when the process is to end.
    pub shutdown: CancellationToken,
    /// After how long entries that another instance left behind are taken over, in milliseconds.
    pub claim_idle_ms: u64,
    /// How much of each stream stays.
    pub retention: Retention,
    /// How long HTTP connections are kept after an answer.
    pub keep_alive: Duration,
    instance: String,
    tasks: Arc<Mutex<Tasks>>,
    registry: Arc<Mutex<Registry>>,
}

impl ServiceContext {
    /// A life without tasks yet, of this instance of its service.
    pub fn new(sources: Sources, instance: &str) -> Self {
        Self {
            sources,
            health: Arc::default(),
            shutdown: CancellationToken::new(),
            claim_idle_ms: 15_000,
            retention: Retention::default(),
            keep_alive: server::KEEP_ALIVE,
            instance: instance.to_owned(),
            tasks: Arc::default(),
            registry: Arc::default(),
        }
    }

    /// Waits until a task ends, which none should before the shutdown.
    async fn any_task_ends(&self) -> anyhow::Result<()> {
        let ended = std::future::poll_fn(|context| lock(&self.tasks).poll_join_next(context)).await;
        match ended {
            Some(ended) => {
                flatten(ended).and_then(|task| anyhow::bail!("{task} stopped by itself"))
            }
            None => anyhow::bail!("there is nothing to do"),
        }
    }

    /// Ends all tasks; each finishes what it has in hand.
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
            anyhow::bail!("what was in hand did not finish within {STOP_TIMEOUT:?}");
        }
        result
    }

    /// Registers metrics that the service has besides those of the engine.
    pub fn register_metrics(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut lock(&self.registry));
    }

    /// The metrics in Prometheus' text format, until the operations port has them.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &lock(&self.registry))
            .expect("a String takes everything");
        text
    }

    /// Starts a task. It runs until [`ServiceContext::shutdown`]; if it ends earlier, the process does.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        lock(&self.tasks).spawn(async move { (name, task.await) });
    }

    /// Starts the engine with readers for the subscriptions, and gives the door for commands.
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
            self.shutdown.clone(),
        );
        let component = engine.component();
        self.spawn("the engine", engine.run());
        let own = self.sources.of(D::TOPIC);
        let memory = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        for (url, subscriptions) in consumer::by_server(&self.sources, subscriptions) {
            let reader = Reader {
                own: own.clone(),
                url,
                subscriptions,
                instance: self.instance.clone(),
                claim_idle_ms: self.claim_idle_ms,
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
