//! An instance of the ledger's service, run as in a process.

use std::sync::Arc;

use common::{
    connection::topology::Sources,
    consumer::Subscription,
    contract::streams::{self, topics},
    decision::Decider as _,
    engine::{EngineHandle, SubmitError},
    process::service::ServiceContext,
    schema::stream::Topic,
};
use tokio::task::JoinHandle;

use super::{Answer, Deposit, Ledger, Redis, until};

/// A running instance.
pub(crate) struct Service {
    pub(crate) context: ServiceContext,
    pub(crate) engine: EngineHandle<Ledger>,
    pub(crate) ledger: Ledger,
}

impl Service {
    /// Starts an instance and waits until it is ready.
    pub(crate) async fn start(redis: &Redis, instance: &str) -> Self {
        let service = Self::begin(redis, instance);
        service.ready().await;
        service
    }

    /// Starts an instance without waiting until it is ready.
    pub(crate) fn begin(redis: &Redis, instance: &str) -> Self {
        Self::with(sources(redis, redis), instance, Ledger::default(), |_| {})
    }

    /// Starts an instance with changed settings.
    pub(crate) fn with(
        sources: Sources,
        instance: &str,
        ledger: Ledger,
        settings: impl FnOnce(&mut ServiceContext),
    ) -> Self {
        let mut context = ServiceContext::new(sources, instance);
        settings(&mut context);
        let subscriptions = [streams::ORDER_CREATED, streams::ACCOUNT_WALLET]
            .map(|stream| Subscription { stream, parse: |entry| entry.parse().map(Some) });
        let engine = context.start_engine(ledger.clone(), subscriptions.into());
        Self { context, engine, ledger }
    }

    pub(crate) async fn ready(&self) {
        until("the service is ready", async || self.context.health.ready().is_ok()).await;
    }

    /// Has the reader handle small deposits until it reads many at once, and returns their number.
    pub(crate) async fn warm_up(&self, redis: &Redis) -> usize {
        const DEPOSITS: usize = 64;
        redis.deposit_all((0..DEPOSITS).map(|n| Deposit::new(format!("w{n}"), "warm", 1))).await;
        until("it is warm", async || redis.is_through(streams::ORDER_CREATED).await).await;
        DEPOSITS
    }

    /// The metrics of the operations port.
    pub(crate) fn metrics(&self) -> String {
        self.context.metrics()
    }

    /// Waits until the health reports a failure.
    pub(crate) async fn in_trouble(&self) {
        until("the service is in trouble", async || self.context.health.redis_is_failing()).await;
    }

    pub(crate) async fn ask(&self, deposit: Deposit) -> Result<Answer, SubmitError> {
        self.engine.submit(deposit, None).await
    }

    /// Submits all of them at once, each like a separate handler, and returns their answers.
    pub(crate) async fn ask_all(
        &self,
        deposits: impl IntoIterator<Item = Deposit>,
    ) -> Vec<Result<Answer, SubmitError>> {
        let asked: Vec<_> = deposits.into_iter().map(|deposit| self.ask_aside(deposit)).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.expect("a engine never panics"));
        }
        answers
    }

    /// Submits from a separate task.
    pub(crate) fn ask_aside(&self, deposit: Deposit) -> JoinHandle<Result<Answer, SubmitError>> {
        let engine = self.engine.clone();
        tokio::spawn(async move { engine.submit(deposit, None).await })
    }

    /// Stops the instance like SIGTERM.
    pub(crate) async fn stop(self) -> anyhow::Result<Ledger> {
        let Self { context, engine, ledger } = self;
        drop(engine);
        context.stop().await.map(|()| ledger)
    }
}

/// The ledger's own topic in one Redis, and all others in another or in the same.
pub(crate) fn sources(own: &Redis, others: &Redis) -> Sources {
    Sources::new(&topics::ALL, |topic: Topic| {
        let redis = if topic == Ledger::TOPIC { own } else { others };
        redis.url().parse().expect("a URL")
    })
}

/// A counter for events in other tasks.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<std::sync::atomic::AtomicUsize>);

impl Tally {
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
