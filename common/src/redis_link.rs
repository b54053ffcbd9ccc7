//! One connection to one Redis, made again whenever it is needed and missing.

use std::{io, sync::Arc, time::Duration};

use redis::{
    ErrorKind, Pipeline, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    from_redis_value,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use crate::redis_url::{Access, RedisAccess, RedisUrl};
use crate::{
    decision::Entity,
    health::Part,
    keys::Key,
    redis_connect::connect,
    rights::{self, Right},
};

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
    /// It does not know us, or we may not do that.
    #[error("the Redis at {address} denies {command} to the user {user}: {reason}")]
    Denied {
        /// Which Redis.
        address: String,
        /// Who we are there.
        user: String,
        /// What was asked.
        command: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// TLS was asked for and cannot be had, or the other way round. Nothing was sent in the clear instead.
    #[error("the Redis at {address} cannot be trusted: {reason}")]
    Insecure {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// It would lose data, is too old, or does not let us do what we have to.
    #[error("the Redis at {address} cannot be used: {reason}")]
    Unsuitable {
        /// Which Redis.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl LinkError {
    /// Whether it is so until a person mends it: a right, a password, a certificate.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Insecure { .. })
    }
}

/// A connection that is made when it is first needed, and again after it broke.
#[derive(Debug)]
pub struct Link {
    url: RedisUrl,
    patience: Duration,
    connection: Option<MultiplexedConnection>,
    /// The `run_id` of the process behind the connection, once it was asked for.
    run_id: Option<Arc<str>>,
}

impl Link {
    /// A link that waits this long for an answer.
    pub fn new(url: RedisUrl, patience: Duration) -> Self {
        Self { url, patience, connection: None, run_id: None }
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
                self.run_id = None;
                Err(LinkError::Away { address: self.address(), source })
            }
        }
    }

    /// The `run_id` of the server process behind the connection, which every command runs in until the
    /// connection breaks. A server that was started anew has another one.
    ///
    /// # Errors
    ///
    /// As [`Link::ask`].
    pub async fn run_id(&mut self) -> Result<Arc<str>, LinkError> {
        if let (Some(_), Some(run_id)) = (&self.connection, &self.run_id) {
            return Ok(Arc::clone(run_id));
        }
        self.run_id = None;
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info = self.ask("INFO", info).await?;
        let text: String = from_redis_value(info).unwrap_or_default();
        let run_id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        Ok(Arc::clone(self.run_id.insert(run_id.map_or("-", str::trim).into())))
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
            Value::ServerError(_) => accept(&self.url, command, value),
            value => Ok(value),
        }
    }

    /// The error that this line of an answer stands for: a code and a sentence.
    pub(crate) fn error_of(&self, command: &'static str, line: &str) -> LinkError {
        let line = format!("-{}\r\n", line.replace(['\r', '\n'], " "));
        let value = redis::parse_redis_value(line.as_bytes()).unwrap_or(Value::Nil);
        match accept(&self.url, command, value) {
            Err(error) => error,
            Ok(_) => LinkError::Refused { address: self.address(), command, message: line },
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

    /// Checks that we have these rights; where that cannot be found out, says so once.
    ///
    /// # Errors
    ///
    /// [`LinkError::Unsuitable`] if one is missing; otherwise as [`Link::ask`].
    pub async fn check_rights(&mut self, rights: &[Right]) -> Result<(), LinkError> {
        rights::check(self, rights).await
    }

    /// Who we are there.
    pub(crate) fn user(&self) -> &str {
        self.url.user()
    }

    async fn connect(&mut self) -> Result<&mut MultiplexedConnection, LinkError> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.url, self.patience).await?);
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }
}

fn accept(url: &RedisUrl, command: &'static str, value: Value) -> Result<Value, LinkError> {
    let Value::ServerError(error) = value else { return Ok(value) };
    let address = url.to_string();
    let denied = |reason: String| {
        let user = url.user().to_owned();
        LinkError::Denied { address: address.clone(), user, command, reason }
    };
    Err(match error.code() {
        code if code == "NOPERM" || error.details().is_some_and(is_denial_within_script) => {
            denied(format!(
                "{}; deploy/redis/users.acl has the rights that each service needs",
                error.details().unwrap_or("it has no right to")
            ))
        }
        "NOAUTH" => denied(
            "it wants a user name and a password: the name belongs into the URL (redis://order@host:6379), the \
             password into REDIS_PASSWORD or REDIS_PASSWORD_FILE"
                .to_owned(),
        ),
        _ => LinkError::Refused {
            address,
            command,
            message: redis::RedisError::from(error).to_string(),
        },
    })
}

/// Whether a script may be run, but not all that it runs: Redis 7.0 has no code of its own for that.
fn is_denial_within_script(message: &str) -> bool {
    ["The user executing the script can't", "ACL failure in script"]
        .iter()
        .any(|begin| message.starts_with(begin))
}

/// A link that many tasks read through at once.
#[derive(Debug)]
pub struct SharedLink {
    link: Mutex<Link>,
    url: RedisUrl,
}

/// How long a read may take.
const READ_PATIENCE: Duration = Duration::from_secs(3);

impl SharedLink {
    /// A link that connects when it is first used.
    pub fn new(url: RedisUrl) -> Self {
        Self { link: Mutex::new(Link::new(url.clone(), READ_PATIENCE)), url }
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
                address: self.url.to_string(),
                source: io::Error::from(io::ErrorKind::TimedOut).into(),
            }),
        }
    }

    async fn send_patiently(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut connection = self.link.lock().await.connect().await?.clone();
        match connection.req_packed_commands(commands, 0, commands.len()).await {
            Ok(values) => {
                values.into_iter().map(|value| accept(&self.url, "a read", value)).collect()
            }
            Err(source) => {
                self.link.lock().await.connection = None;
                Err(LinkError::Away { address: self.url.to_string(), source })
            }
        }
    }

    /// As [`Link::check_rights`].
    ///
    /// # Errors
    ///
    /// As [`Link::check_rights`].
    pub async fn check_rights(&self, rights: &[Right]) -> Result<(), LinkError> {
        self.link.lock().await.check_rights(rights).await
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
            address: self.url.to_string(),
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
/// The server must not be used, see [`Link::check_server`] and [`Link::check_rights`].
pub(crate) async fn await_server(
    link: &mut Link,
    rights: &[Right],
    part: &Part,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut backoff = Backoff::default();
    loop {
        let usable = match link.check_server().await {
            Ok(()) => link.check_rights(rights).await,
            Err(error) => Err(error),
        };
        match usable {
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
