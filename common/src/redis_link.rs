//! One connection to one Redis, made again whenever it is needed and missing.

use std::{fmt, io, time::Duration};

use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{decision::Entity, health::Part, keys::Key};

/// Where a Redis is, checked to be a URL; its password never shows.
#[derive(Clone)]
pub struct RedisUrl {
    text: String,
    client: redis::Client,
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::str::FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The library's own message may repeat the URL, and with it the password.
        let client = redis::Client::open(text).map_err(|_| {
            "not a URL of a Redis, such as redis://:password@host:6379/0 or redis+unix:///path/to/socket"
                .to_owned()
        })?;
        Ok(Self { text: text.to_owned(), client })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.get_connection_info().addr().fmt(f)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// Why Redis did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection, or it broke, or the answer took too long. Whether a command that was under
    /// way had its effect is not known.
    #[error("the Redis at {address} is away: {source}")]
    Away {
        /// Which Redis.
        address: String,
        /// What happened.
        source: redis::RedisError,
    },
    /// It answered, but not with what was asked for.
    #[error("the Redis at {address} refused {command}: {message}")]
    Refused {
        /// Which Redis.
        address: String,
        /// What was asked.
        command: &'static str,
        /// Its error.
        message: String,
    },
    /// It would lose data, or is too old.
    #[error("the Redis at {address} cannot be used: {reason}")]
    Unsuitable {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// A connection that is made when it is first needed, and again after it broke.
#[derive(Debug)]
pub struct Link {
    url: RedisUrl,
    patience: Duration,
    connection: Option<MultiplexedConnection>,
}

impl Link {
    /// A link that waits this long for an answer.
    pub fn new(url: RedisUrl, patience: Duration) -> Self {
        Self { url, patience, connection: None }
    }

    /// Which Redis, without its password.
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// Sends the commands in one write and gives their answers, errors of single commands among
    /// them as [`Value::ServerError`].
    ///
    /// # Errors
    ///
    /// [`LinkError::Away`]; the next call connects anew.
    pub async fn send(&mut self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let count = commands.len();
        let connection = self.connect().await?;
        match connection.req_packed_commands(commands, 0, count).await {
            Ok(values) => Ok(values),
            Err(source) => {
                self.connection = None;
                Err(LinkError::Away { address: self.address(), source })
            }
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    ///
    /// As [`Link::send`], and [`LinkError::Refused`] if the answer is an error.
    pub async fn ask(
        &mut self,
        name: &'static str,
        command: redis::Cmd,
    ) -> Result<Value, LinkError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let value = self.send(&pipeline).await?.pop().unwrap_or(Value::Nil);
        self.accept(name, value)
    }

    /// Turns an error answer into an error.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`].
    pub fn accept(&self, command: &'static str, value: Value) -> Result<Value, LinkError> {
        match value {
            Value::ServerError(_) => accept(&self.address(), command, value),
            value => Ok(value),
        }
    }

    /// Checks that the server keeps what it is given, and is new enough.
    ///
    /// # Errors
    ///
    /// [`LinkError::Unsuitable`] if not; otherwise as [`Link::ask`].
    pub async fn check_server(&mut self) -> Result<(), LinkError> {
        let info = self.ask("INFO", redis::cmd("INFO")).await?;
        let text = match info {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } => text,
            _ => String::new(),
        };
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let unsuitable = |reason: String| LinkError::Unsuitable { address: self.address(), reason };
        if let Some(policy) = field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
            return Err(unsuitable(format!(
                "its maxmemory-policy is {policy}, which would drop orders when memory runs short; \
                 set it to noeviction"
            )));
        }
        let version = field("redis_version").unwrap_or("7.0");
        let number =
            |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
        let mut parts = version.split('.');
        if (number(parts.next()), number(parts.next())) < (6, 2) {
            return Err(unsuitable(format!(
                "it is version {version}; 6.2 is the oldest that will do"
            )));
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<&mut MultiplexedConnection, LinkError> {
        if self.connection.is_none() {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(Duration::from_secs(2)))
                .set_response_timeout(Some(self.patience));
            let connection =
                self.url.client.get_multiplexed_async_connection_with_config(&config).await;
            self.connection = Some(connection.map_err(|source| match source.kind() {
                ErrorKind::AuthenticationFailed => LinkError::Refused {
                    address: self.address(),
                    command: "AUTH",
                    message: "wrong user name or password".to_owned(),
                },
                _ => LinkError::Away { address: self.address(), source },
            })?);
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }
}

fn accept(address: &str, command: &'static str, value: Value) -> Result<Value, LinkError> {
    match value {
        Value::ServerError(error) => Err(LinkError::Refused {
            address: address.to_owned(),
            command,
            message: redis::RedisError::from(error).to_string(),
        }),
        value => Ok(value),
    }
}

/// A link that many tasks read through at once.
#[derive(Debug)]
pub struct SharedLink {
    link: Mutex<Link>,
    address: String,
}

/// How long a read may take.
const READ_PATIENCE: Duration = Duration::from_secs(3);

impl SharedLink {
    /// A link that connects when it is first used.
    pub fn new(url: RedisUrl) -> Self {
        let address = url.to_string();
        Self { link: Mutex::new(Link::new(url, READ_PATIENCE)), address }
    }

    /// Sends the commands in one write and gives their answers.
    ///
    /// # Errors
    ///
    /// The server is away, or one of the answers is an error.
    pub async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        // Connecting is one at a time: those that wait for it must not wait for ever.
        match tokio::time::timeout(READ_PATIENCE, self.send_patiently(commands)).await {
            Ok(values) => values,
            Err(_) => Err(LinkError::Away {
                address: self.address.clone(),
                source: io::Error::from(io::ErrorKind::TimedOut).into(),
            }),
        }
    }

    async fn send_patiently(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let (mut connection, address) = {
            let mut link = self.link.lock().await;
            (link.connect().await?.clone(), link.address())
        };
        match connection.req_packed_commands(commands, 0, commands.len()).await {
            Ok(values) => {
                values.into_iter().map(|value| accept(&address, "a read", value)).collect()
            }
            Err(source) => {
                self.link.lock().await.connection = None;
                Err(LinkError::Away { address, source })
            }
        }
    }

    /// As [`Link::check_server`].
    ///
    /// # Errors
    ///
    /// As [`Link::check_server`].
    pub async fn check_server(&self) -> Result<(), LinkError> {
        self.link.lock().await.check_server().await
    }

    /// Reads one entity.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::send`]; what is stored is not such an entity.
    pub async fn get<E: Entity>(&self, id: &E::Id) -> Result<Option<E>, LinkError> {
        let mut pipeline = Pipeline::with_capacity(1);
        let key = Key::new(E::kind(), id);
        pipeline.cmd("GET").arg(key.as_str());
        let value = self.send(&pipeline).await?.pop().unwrap_or(Value::Nil);
        self.entity("GET", &key, &value)
    }

    /// Reads the entities with these ids, in their order; those that do not exist are left out.
    ///
    /// # Errors
    ///
    /// As [`SharedLink::get`].
    pub async fn get_all<E: Entity<Id: Sized>>(
        &self,
        ids: impl IntoIterator<Item = E::Id>,
    ) -> Result<Vec<E>, LinkError> {
        let keys: Vec<Key> = ids.into_iter().map(|id| Key::new(E::kind(), &id)).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("MGET");
        for key in &keys {
            pipeline.arg(key.as_str());
        }
        let Some(Value::Array(values)) = self.send(&pipeline).await?.pop() else {
            return Ok(Vec::new());
        };
        let found = keys.iter().zip(&values).map(|(key, value)| self.entity("MGET", key, value));
        found.filter_map(Result::transpose).collect()
    }

    fn entity<E: Entity>(
        &self,
        command: &'static str,
        key: &Key,
        value: &Value,
    ) -> Result<Option<E>, LinkError> {
        let Value::BulkString(bytes) = value else { return Ok(None) };
        let json = bytes.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
        serde_json::from_slice(json).map(Some).map_err(|error| LinkError::Refused {
            address: self.address.clone(),
            command,
            message: format!("what is stored at {key} cannot be read: {error}"),
        })
    }
}

/// Whether an answer is this kind of error.
pub(crate) fn is_error(value: &Value, code: &str) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == code)
}

/// Whether an answer says that the script is not known there.
pub(crate) fn is_noscript(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if redis::RedisError::from(error.clone()).kind()
        == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Waits until the server answers; `false` if the shutdown came first.
///
/// # Errors
///
/// The server must not be used, see [`Link::check_server`].
pub(crate) async fn await_server(
    link: &mut Link,
    part: &Part,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut backoff = Backoff::default();
    loop {
        match link.check_server().await {
            Ok(()) => return Ok(true),
            Err(error @ LinkError::Unsuitable { .. }) => return Err(error.into()),
            Err(error) => part.failed(&error),
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}

/// Waits longer and longer, up to a second, a little different each time.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    pub async fn wait(&mut self) {
        let ceiling = 20u64.saturating_mul(1 << self.failures.min(6)).min(1_000);
        self.failures += 1;
        let jittered = fastrand::u64(ceiling / 2..=ceiling);
        tokio::time::sleep(Duration::from_millis(jittered)).await;
    }
}
