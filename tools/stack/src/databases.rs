//! The Redis servers of a stack: one for all topics, or one for each.

use std::{collections::BTreeMap, fmt, path::Path};

use crate::{
    Error, Listen, RedisOptions, RedisServer, Service, ServiceProcess,
    entrance::Entrance,
    redis::share_of_memory,
    run_file::{RunFile, RunningRedis},
};

/// A topic's database: the entities and streams of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    /// The database of `order_service`.
    Order,
    /// The database of `inventory_service`.
    Inventory,
    /// The database of `account_service`.
    Account,
    /// The database of `msg_service`.
    Message,
}

impl Database {
    /// All databases.
    pub const ALL: [Self; 4] = [Self::Order, Self::Inventory, Self::Account, Self::Message];

    /// The topic: the hash tag of its keys, without braces.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::Account => "account",
            Self::Message => "message",
        }
    }

    /// The variable with its URL, for services.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Order => "ORDER_REDIS_URL",
            Self::Inventory => "INVENTORY_REDIS_URL",
            Self::Account => "ACCOUNT_REDIS_URL",
            Self::Message => "MESSAGE_REDIS_URL",
        }
    }

    /// The distance of its server's port from the first one's, if there are several.
    const fn offset(self) -> u16 {
        match self {
            Self::Order => 0,
            Self::Inventory => 1,
            Self::Account => 2,
            Self::Message => 3,
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.topic())
    }
}

/// The servers with the databases of a stack.
#[derive(Debug)]
pub(crate) enum Databases {
    /// An external server has all of them.
    Given(String),
    /// One private server has all of them.
    Shared(Box<RedisServer>),
    /// Each has a private server.
    Isolated(BTreeMap<Database, RedisServer>),
}

impl Databases {
    /// Starts one server, by default in `redis` below the stack's directory.
    pub(crate) fn shared(mut options: RedisOptions, dir: &Path) -> Result<Self, Error> {
        options.data_dir.get_or_insert_with(|| dir.join("redis"));
        Ok(Self::Shared(Box::new(RedisServer::start(options)?)))
    }

    /// Starts four servers of the same kind, each in a separate directory (`redis-order`, …) and at
    /// a separate address: on consecutive ports, if a port is preferred. Unless the options limit
    /// each one's memory, together they have as much as a single server.
    pub(crate) fn isolated(options: &RedisOptions, dir: &Path) -> Result<Self, Error> {
        let base = options.data_dir.as_deref().unwrap_or(dir);
        let maxmemory = options.maxmemory.clone().unwrap_or_else(|| share_of_memory(8));
        let start = |database: Database| {
            let listen = match options.listen {
                Listen::Port(first) => Listen::Port(first.saturating_add(database.offset())),
                Listen::Preferably(first) => {
                    Listen::Preferably(first.saturating_add(database.offset()))
                }
                other => other,
            };
            let server = RedisServer::start(RedisOptions {
                name: format!("redis-{database}"),
                data_dir: Some(base.join(format!("redis-{database}"))),
                listen,
                // Its users have no permissions for other topics.
                env: with_topic(&options.env, database),
                maxmemory: Some(maxmemory.clone()),
                ..options.clone()
            })?;
            Ok((database, server))
        };
        Database::ALL.into_iter().map(start).collect::<Result<_, _>>().map(Self::Isolated)
    }

    /// The URL of a topic's database.
    pub(crate) fn url(&self, database: Database) -> String {
        match self {
            Self::Given(url) => url.clone(),
            Self::Shared(server) => server.url(),
            Self::Isolated(servers) => servers[&database].url(),
        }
    }

    /// The server of a topic's database, if it is private.
    pub(crate) fn server(&mut self, database: Database) -> Option<&mut RedisServer> {
        match self {
            Self::Given(_) => None,
            Self::Shared(server) => Some(server),
            Self::Isolated(servers) => servers.get_mut(&database),
        }
    }

    /// The private servers.
    pub(crate) fn processes(&mut self) -> Vec<&mut ServiceProcess> {
        match self {
            Self::Given(_) => Vec::new(),
            Self::Shared(server) => vec![server.process_mut()],
            Self::Isolated(servers) => servers.values_mut().map(RedisServer::process_mut).collect(),
        }
    }

    /// The variables with which a service finds the databases. `REDIS_URL` is always set, so that
    /// the stack's own variable does not reach the services.
    pub(crate) fn variables(
        &self,
        service: Service,
        entrance: &Entrance,
    ) -> BTreeMap<&'static str, String> {
        let user = service.redis_user();
        let url = |url: String| entrance.url(&url, user);
        let mut variables = BTreeMap::from([("REDIS_URL", url(self.url(Database::Order)))]);
        if let Self::Isolated(servers) = self {
            let own = servers.iter().map(|(it, server)| (it.variable(), url(server.url())));
            variables.extend(own);
        }
        variables.extend(entrance.variables(user));
        variables
    }

    /// The description in [`RunFile`].
    pub(crate) fn describe(
        &self,
        entrance: &Entrance,
    ) -> (RunningRedis, BTreeMap<String, RunningRedis>) {
        let running = |it: &RedisServer| entrance.describe(&it.url(), it.pid());
        match self {
            Self::Given(url) => {
                (RunningRedis { url: url.clone(), ..RunningRedis::default() }, BTreeMap::new())
            }
            Self::Shared(server) => (running(server), BTreeMap::new()),
            Self::Isolated(servers) => {
                let topics = servers.iter().map(|(it, server)| (it.to_string(), running(server)));
                (running(&servers[&Database::Order]), topics.collect())
            }
        }
    }
}

/// The environment of a server with this topic only; see `deploy/redis/entrypoint.sh`.
fn with_topic(env: &BTreeMap<String, String>, database: Database) -> BTreeMap<String, String> {
    let mut env = env.clone();
    env.insert("REDIS_TOPICS".to_owned(), database.topic().to_owned());
    env
}

impl RunFile {
    /// The Redis of a topic's database.
    #[must_use]
    pub fn redis_of(&self, topic: &str) -> &RunningRedis {
        self.topics.get(topic).unwrap_or(&self.redis)
    }

    /// Every server once, with a name to display: `redis`, or `redis-order` and so on.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, &RunningRedis)> {
        if self.topics.is_empty() {
            return vec![("redis".to_owned(), &self.redis)];
        }
        self.topics.iter().map(|(topic, redis)| (format!("redis-{topic}"), redis)).collect()
    }
}
