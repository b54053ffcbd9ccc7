//! The mapping of topics to Redis servers.

use std::convert::Infallible;

use crate::{
    config_error::ConfigError,
    connection::url::{RedisAccess, RedisUrl},
    schema::stream::Topic,
};

/// The Redis servers of the system, without duplicates, and the server of each topic.
#[derive(Clone, Debug)]
pub struct Sources {
    servers: Vec<RedisUrl>,
    /// The index of each topic's server.
    topics: Vec<(Topic, usize)>,
}

impl Sources {
    /// Builds the topology from a function that returns the server of a topic.
    pub fn new(topics: &[Topic], mut of: impl FnMut(Topic) -> RedisUrl) -> Self {
        match Self::try_new(topics, |topic| Ok::<_, Infallible>(of(topic))) {
            Ok(sources) => sources,
            Err(never) => match never {},
        }
    }

    /// Like [`Self::new`], with a function that can fail.
    ///
    /// # Errors
    ///
    /// The first error of the function.
    pub fn try_new<E>(
        topics: &[Topic],
        mut of: impl FnMut(Topic) -> Result<RedisUrl, E>,
    ) -> Result<Self, E> {
        let mut servers: Vec<RedisUrl> = Vec::new();
        let mut indices = Vec::with_capacity(topics.len());
        for topic in topics.iter().copied() {
            let url = of(topic)?;
            let known = servers.iter().position(|known| *known == url);
            let index = known.unwrap_or_else(|| {
                servers.push(url);
                servers.len() - 1
            });
            indices.push((topic, index));
        }
        Ok(Self { servers, topics: indices })
    }

    /// The same servers, with these credentials.
    ///
    /// # Errors
    ///
    /// See [`RedisAccess::for_servers`] and [`RedisUrl::with`].
    pub fn with(self, access: &RedisAccess) -> Result<Self, ConfigError> {
        let access = access.for_servers(&self.servers)?;
        let servers = self.servers.iter().map(|url| url.with(&access));
        Ok(Self { servers: servers.collect::<Result<_, _>>()?, ..self })
    }

    /// The index of the topic's server.
    ///
    /// # Panics
    ///
    /// If the topology was built without this topic.
    pub fn index(&self, topic: Topic) -> usize {
        let found = self.topics.iter().find(|(known, _)| *known == topic);
        let (_, index) = found.unwrap_or_else(|| {
            panic!("{}: name this topic in ServiceConfig::topics", topic.name())
        });
        *index
    }

    /// The topic's server.
    pub fn of(&self, topic: Topic) -> &RedisUrl {
        &self.servers[self.index(topic)]
    }

    /// All servers.
    pub fn servers(&self) -> &[RedisUrl] {
        &self.servers
    }
}
