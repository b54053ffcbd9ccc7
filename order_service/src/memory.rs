//! Watches the memory of the Redis servers that hold none of the sampled streams: the one of messages,
//! where it is a server of its own. What an order leads to is stored there as well.

use std::{sync::Arc, time::Duration};

use common::{
    connection::{
        health::Part,
        link::{Link, LinkError, info_text},
        memory::MemoryFacts,
        topology::Sources,
    },
    process::memory_watch::MemoryWatch,
};
use tokio_util::sync::CancellationToken;

use crate::progress::SAMPLED;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long Redis may take for one.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Looks for as long as the process lives. It is apart from the sampler of the streams, whose samples
/// must not wait for these servers: orders are accepted while they are away.
pub(crate) struct Watch {
    links: Vec<Link>,
    memory: Arc<MemoryWatch>,
    part: Arc<Part>,
}

/// A watch of the servers that the sampler of the streams does not ask.
pub(crate) fn watch(sources: &Sources, memory: Arc<MemoryWatch>, part: Arc<Part>) -> Watch {
    let is_sampled =
        |server: usize| SAMPLED.iter().any(|stream| sources.index(stream.topic()) == server);
    let others = sources.servers().iter().enumerate().filter(|(server, _)| !is_sampled(*server));
    let links = others.map(|(_, url)| Link::new(url.clone(), TIMEOUT).primary_only()).collect();
    Watch { links, memory, part }
}

impl Watch {
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            never = self.look_forever() => match never {},
            () = shutdown.cancelled() => Ok(()),
        }
    }

    async fn look_forever(&mut self) -> std::convert::Infallible {
        loop {
            for link in &mut self.links {
                match used(link).await {
                    Ok(facts) => {
                        self.memory.saw(&link.address(), facts);
                        self.part.answered();
                    }
                    Err(error) => self.part.denied(&error),
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

async fn used(link: &mut Link) -> Result<MemoryFacts, LinkError> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    Ok(MemoryFacts::from_info(&info_text(link.ask("INFO", info).await?)))
}
