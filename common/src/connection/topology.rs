//! Which Redis has which topic.

use std::convert::Infallible;

use crate::{
    config_error::Fault,
    connection::link::{RedisAccess, RedisUrl},
    contract::events::Topic,
};

/// The Redis servers of the system, each once, and which topic lives where.
#[derive(Clone, Debug)]
pub struct Sources {
    servers: Vec<RedisUrl>,
    places: [usize; Topic::ALL.len()],
}

impl Sources {
    /// Asks for every topic's server.
    pub fn new(mut of: impl FnMut(Topic) -> RedisUrl) -> Self {
        match Self::try_new(|topic| Ok::<_, Infallible>(of(topic))) {
            Ok(sources) => sources,
            Err(never) => match never {},
        }
    }

    /// The same where some may not be known.
    ///
    /// # Errors
    ///
    /// The first that came.
    pub fn try_new<E>(mut of: impl FnMut(Topic) -> Result<RedisUrl, E>) -> Result<Self, E> {
        let mut servers: Vec<RedisUrl> = Vec::new();
        let mut places = [0; Topic::ALL.len()];
        for (place, topic) in places.iter_mut().zip(Topic::ALL) {
            let url = of(topic)?;
            *place = servers.iter().position(|known| *known == url).unwrap_or(servers.len());
            if *place == servers.len() {
                servers.push(url);
            }
        }
        Ok(Self { servers, places })
    }

    /// The same servers, entered with these settings.
    ///
    /// # Errors
    ///
    /// See [`RedisAccess::for_servers`] and [`RedisUrl::with`].
    pub fn with(self, access: &RedisAccess) -> Result<Self, Fault> {
        let access = access.for_servers(&self.servers)?;
        let servers = self.servers.iter().map(|url| url.with(&access));
        Ok(Self { servers: servers.collect::<Result<_, _>>()?, ..self })
    }

    /// The number of the topic's server.
    pub fn index(&self, topic: Topic) -> usize {
        let place = Topic::ALL.iter().position(|known| *known == topic);
        self.places[place.expect("ALL has every topic")]
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
