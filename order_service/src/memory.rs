//! The memory of the Redis servers that have none of the sampled streams: the Redis of messages, if it is
//! a server of its own. Every order leads to messages, so it must have room for them.

use std::{sync::Arc, time::Duration};

use common::{
    connection::{
        error::ConnectionError, health::Component, link::Link, memory::MemoryFacts,
        replies::info_text, topology::Sources,
    },
    process::memory_watch::MemoryWatch,
};
use tokio_util::sync::CancellationToken;

use crate::progress::SAMPLED;

/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit of one sample.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Samples the memory as long as the process runs. The sampler of the streams does not do it, because its
/// samples must not wait for these servers: orders are accepted while they are away.
pub(crate) struct MemorySampler {
    links: Vec<Link>,
    memory: Arc<MemoryWatch>,
    component: Arc<Component>,
}

impl MemorySampler {
    /// A sampler for the servers that the sampler of the streams does not query.
    pub(crate) fn new(
        sources: &Sources,
        memory: Arc<MemoryWatch>,
        component: Arc<Component>,
    ) -> Self {
        let is_sampled =
            |server: usize| SAMPLED.iter().any(|stream| sources.index(stream.topic()) == server);
        let others = sources.servers().iter().enumerate();
        let others = others.filter(|(server, _)| !is_sampled(*server));
        let links =
            others.map(|(_, url)| Link::new(url.clone(), SAMPLE_TIMEOUT).primary_only()).collect();
        Self { links, memory, component }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            never = self.sample_forever() => match never {},
            () = shutdown.cancelled() => Ok(()),
        }
    }

    async fn sample_forever(&mut self) -> std::convert::Infallible {
        loop {
            for link in &mut self.links {
                match used(link).await {
                    Ok(facts) => {
                        self.memory.saw(&link.address(), facts);
                        self.component.answered();
                    }
                    Err(error) => self.component.denied(&error),
                }
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
    }
}

async fn used(link: &mut Link) -> Result<MemoryFacts, ConnectionError> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    Ok(MemoryFacts::from_info(&info_text(link.ask("INFO", info).await?)))
}
